"""The health services of both dialects, over one book."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin._gen.connectplugin.health.v1.health_pb import (
    HealthCheckRequest,
    HealthCheckResponse,
    ServingStatus,
)
from connectplugin._gen.grpc.health.v1 import health_pb as grpc_pb
from connectplugin.health.machine import Health, HealthBook, HealthState

S = TypeVar("S")

_MAX_WATCHERS: Final = 1000


class HealthBoard:
    """Where a server's health is set, read and watched.

    A plugin's implementation or its host sets it: `server.health.set("kv", HealthState.DEGRADED,
    "cache is cold")`. The server itself is `""`. One broken plugin degrades the server; with all of
    them broken it is not serving.
    """

    def __init__(self) -> None:
        self._book = HealthBook()
        self._changed = asyncio.Event()
        self._watchers = 0

    def add(self, name: str, aliases: Iterable[str] = ()) -> None:
        """Make a plugin known by its name and, for health checks, its services' names."""
        self._book.add(name, aliases)
        self._wake()

    def set(self, name: str, state: HealthState, reason: str = "") -> None:
        """Say how a plugin (by its name or its service's full name) or the server (`""`) is.

        Raises:
            KeyError: There is no plugin of that name; the message lists those there are.
        """
        try:
            news = self._book.set(name, Health(state, reason))
        except KeyError:
            known = ", ".join(map(repr, self._book.names))
            msg = f"no plugin is called {name!r}; there are {known}"
            raise KeyError(msg) from None
        if news:
            self._wake()

    def close(self, reason: str) -> None:
        """Nothing serves any more; every watch says so and ends."""
        if self._book.close(reason):
            self._wake()

    def get(self, name: str = "") -> Health | None:
        """How the named one is; None if there is none of that name."""
        return self._book.get(name)

    @property
    def names(self) -> list[str]:
        """All names that can be asked for."""
        return self._book.names

    @property
    def unhealthy(self) -> list[str]:
        """The plugins that are not serving."""
        return self._book.unhealthy()

    async def watch(self, name: str = "") -> AsyncGenerator[Health | None, None]:
        """The state as it is, then each change of it; ends when the server stops.

        Level-triggered: who reads slowly gets the latest state, not all that lay between.

        Raises:
            ConnectError: `resource_exhausted` with more than 1,000 watches at a time.
        """
        if self._watchers >= _MAX_WATCHERS:
            msg = f"there are {_MAX_WATCHERS} health watches already; poll with Check instead"
            raise ConnectError(Code.RESOURCE_EXHAUSTED, msg)
        self._watchers += 1
        try:
            told = False
            last: Health | None = None
            while True:
                changed, now = self._changed, self._book.get(name)
                if not told or now != last:
                    told, last = True, now
                    yield now
                # What changed while the consumer was busy is read anew, whatever it was.
                elif self._book.closed:
                    return
                else:
                    await changed.wait()
        finally:
            self._watchers -= 1

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def __repr__(self) -> str:
        return f"<HealthBoard {self._book.get('')!r}>"


class HealthService:
    """`connectplugin.health.v1.HealthService`."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    async def check(self, request: HealthCheckRequest, _ctx: Any, /) -> HealthCheckResponse:
        """The status now; `not_found` for a name that nobody has."""
        health = _known(self._board, request.service)
        return HealthCheckResponse(status=_status(health))

    async def watch(
        self, request: HealthCheckRequest, _ctx: Any, /
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status as it is, then each change."""
        async for status in _statuses(self._board, request.service, _status):
            yield HealthCheckResponse(status=status)


class GrpcHealthService:
    """`grpc.health.v1.Health`."""

    def __init__(self, board: HealthBoard) -> None:
        self._board = board

    async def check(
        self, request: grpc_pb.HealthCheckRequest, _ctx: Any, /
    ) -> grpc_pb.HealthCheckResponse:
        """The status now; `not_found` for a name that nobody has."""
        health = _known(self._board, request.service)
        return grpc_pb.HealthCheckResponse(status=_grpc_status(health))

    async def watch(
        self, request: grpc_pb.HealthCheckRequest, _ctx: Any, /
    ) -> AsyncIterator[grpc_pb.HealthCheckResponse]:
        """The status as it is, then each change."""
        async for status in _statuses(self._board, request.service, _grpc_status):
            yield grpc_pb.HealthCheckResponse(status=status)


def _known(board: HealthBoard, name: str) -> Health:
    health = board.get(name)
    if health is None:
        raise ConnectError(Code.NOT_FOUND, f"no plugin or service is called {name!r}")
    return health


async def _statuses(
    board: HealthBoard, name: str, spell: Callable[[Health | None], S]
) -> AsyncIterator[S]:
    """What a watch sends: healthy and degraded are one status on the wire, and told once."""
    last: S | None = None
    async with aclosing(board.watch(name)) as watch:
        async for health in watch:
            status = spell(health)
            if status != last:
                last = status
                yield status


def _status(health: Health | None) -> ServingStatus:
    if health is None:
        return ServingStatus.SERVICE_UNKNOWN
    return ServingStatus.SERVING if health.state.serving else ServingStatus.NOT_SERVING


def _grpc_status(health: Health | None) -> grpc_pb.HealthCheckResponse.ServingStatus:
    statuses = grpc_pb.HealthCheckResponse.ServingStatus
    if health is None:
        return statuses.SERVICE_UNKNOWN
    return statuses.SERVING if health.state.serving else statuses.NOT_SERVING
