"""What is wrong between an interface, a service and an implementation: all of it in one error."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from connectplugin_interceptors.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where two sides do not fit.

    Attributes:
        where: The method, and the parameter if it is about one: `get(): parameter 'kye'`.
        found: What is written there.
        expected: What the other side has.
        remedy: What would be right, the nearest names included.
    """

    where: str
    found: str
    expected: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.expected}. {self.remedy}"


class PluginDefinitionError(ConfigError):
    """A plugin cannot be declared, or an implementation cannot be bound, as written.

    Attributes:
        differences: Everything that was found, in the order of the interface's methods; empty if
            the error is about something else (a name, a version, the generated code).
    """

    def __init__(self, message: str, differences: Sequence[Difference] = ()) -> None:
        self.differences = tuple(differences)
        super().__init__("\n  ".join([message, *map(str, self.differences)]))


Differ: TypeAlias = Callable[[str | None, str, str, str], None]
"""Takes a parameter's name or None, what was found, what is expected, what would be right."""


def refuse(headline: str, differences: Sequence[Difference]) -> None:
    """Raise one error for all differences, if there are any."""
    if differences:
        count = f"{len(differences)} difference{'s' if len(differences) > 1 else ''}"
        raise PluginDefinitionError(f"{headline}: {count}", differences)


def did_you_mean(names: Sequence[str]) -> str:
    """`Did you mean 'key' or 'keys'?`, or nothing."""
    return f"Did you mean {' or '.join(map(repr, names))}?" if names else ""
