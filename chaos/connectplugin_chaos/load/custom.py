"""Calls that a scenario brings along, instead of those of the harness's own service."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from connectplugin import Client
from connectplugin.plugin import Plugin
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.scenario.model import Share

Perform = Callable[[Planned, Answer], Coroutine[Any, Any, None]]
"""Makes a call; it raises what the caller of an application would see."""


class CustomCalls(Protocol):
    """Kinds of calls, and how they are made with a `connectplugin.Client`."""

    @property
    def target(self) -> str:
        """The name of the `ServeConfig` that is served; empty for the harness's own service."""
        ...

    @property
    def plugins(self) -> Mapping[int, Iterable[Plugin]]:
        """What the client knows to use, by application version."""
        ...

    @property
    def cookie(self) -> tuple[str, str] | None:
        """What the server wants to see in the handshake."""
        ...

    @property
    def mix(self) -> Mapping[str, Share]:
        """The kinds of calls, and their shares."""
        ...

    @property
    def idempotent(self) -> frozenset[str]:
        """The kinds that may be executed twice."""
        ...

    @property
    def changing(self) -> frozenset[str]:
        """The kinds that have effects: an acknowledged one must have been executed."""
        ...

    @property
    def paths(self) -> Mapping[str, str]:
        """The methods that a policy can be for, `package.Service/Method` by name."""
        ...

    async def bind(self, client: Client, limit: Callable[[str], float], /) -> Perform:
        """How calls are made with a client.

        Args:
            client: Open, for as long as calls are made.
            limit: Seconds that an operation of a kind has.
        """
        ...
