"""What an arm has that its base has not: `stack+hedge` is our stack with the variant `hedge`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Policies of an arm `BASE+NAME`; see `scenario.policies`.

    Attributes:
        client: Fields of `ClientStack`.
        methods: Pattern of a method, and fields for it.
        server: Fields of `ServerStack`, as the file has them: they are sent to the servers.
    """

    client: Mapping[str, Any] = field(default_factory=dict[str, Any])
    methods: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    server: Mapping[str, Any] = field(default_factory=dict[str, Any])


def split(arm: str) -> tuple[str, str]:
    """Base and variant of an arm's name; the variant is empty if there is none."""
    base, _, variant = arm.partition("+")
    return base, variant
