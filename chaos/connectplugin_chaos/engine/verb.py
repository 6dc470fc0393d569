"""What a fault verb is: what it is done to, what it takes, how it begins and ends."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from connectplugin_chaos.scenario.model import Share

Place: TypeAlias = Literal["proxies", "servers"]

Streams: TypeAlias = Literal["upstream", "downstream", "both"]

CodeName: TypeAlias = Literal[
    "canceled", "unknown", "invalid_argument", "deadline_exceeded", "not_found", "already_exists",
    "permission_denied", "resource_exhausted", "failed_precondition", "aborted", "out_of_range",
    "unimplemented", "internal", "unavailable", "data_loss", "unauthenticated",
]  # fmt: skip
"""Connect's codes, as a scenario file spells them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """What a verb takes.

    Attributes:
        kind: A type that scenario files are read into: `Seconds`, `Share`, `int`, a `Literal`, ...
        required: Whether it has no default.
        least: Of a number.
        most: Of a number.
    """

    kind: Any
    required: bool = False
    least: float | None = None
    most: float | None = None

    def problem(self, value: Any) -> str | None:
        """What is wrong with a value of the right kind; None if nothing is."""
        if self.least is not None and value < self.least:
            return f"it must be at least {self.least:g}"
        if self.most is not None and value > self.most:
            return f"it must be at most {self.most:g}"
        return None


Arguments: TypeAlias = Mapping[str, Argument]


def _nothing_wrong(_: Mapping[str, Any]) -> str | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A fault.

    Attributes:
        of: What it is done to.
        make: The fault as a context: it begins, and at the end it is gone.
        arguments: By name.
        problem: What is wrong with arguments that are right one by one; None if nothing is.
        own_service: Whether only the harness's own service can do it.
    """

    of: Place
    make: Callable[..., AbstractAsyncContextManager[None]]
    arguments: Arguments = field(default_factory=dict[str, Argument])
    problem: Callable[[Mapping[str, Any]], str | None] = _nothing_wrong
    own_service: bool = False


STREAM: Arguments = {"stream": Argument(kind=Streams)}
"""Which direction; most verbs have a default."""

CHANCE: Arguments = {
    "p": Argument(kind=Share, most=1.0),
    "seed": Argument(kind=int),
    "methods": Argument(kind=tuple[str, ...]),
}
"""Which calls: a share of them, by coins from a seed, and of which methods; by default all."""
