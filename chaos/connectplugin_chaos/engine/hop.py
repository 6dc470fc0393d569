"""A server that calls the next one before it answers: what makes storms through several tiers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, Self, TypeVar

from connectplugin_chaos.engine.target_service import LedgerFile, TargetImpl
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.model import Arrivals, Seconds, Workload
from connectplugin_chaos.scenario.variants import split
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.shapes import Stream, Unary

Q = TypeVar("Q")
R = TypeVar("R")


class Outbound(Recorder):
    """Takes each attempt down in the server's ledger; it knows no operations.

    Args:
        ledger: The server's.
    """

    def __init__(self, ledger: LedgerFile) -> None:
        super().__init__(0.0, {})
        self._ledger = ledger

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Note the attempt."""
        self._ledger.write("outbound", detail=ctx.method.name)
        return await call_next(request, ctx)

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Note the attempt."""
        self._ledger.write("outbound", detail=ctx.method.name)
        async for message in call_next(request, ctx):
            yield message

    intercept_bidi_stream: Any = intercept_server_stream


class Hop:
    """The way from a server to the next one, when there is one.

    Args:
        impl: Whose calls go on.
        ledger: Where attempts are taken down.
    """

    def __init__(self, impl: TargetImpl, ledger: LedgerFile) -> None:
        self._impl = impl
        self._ledger = ledger
        self._open = AsyncExitStack()

    async def aim(self, command: Mapping[str, Any]) -> None:
        """Call the server that a command names, from now on; see `Target.chain`."""
        # Late: only the servers of a chain are clients too.
        from connectplugin_chaos.arms.arms import make  # noqa: PLC0415

        workload = Workload(arrivals=Arrivals(), deadline=Seconds(command["deadline"]))
        arm = make(split(command["arm"])[0])
        opened = arm.open([command["url"]], Outbound(self._ledger), workload, seed=7)
        call = await self._open.enter_async_context(opened)

        async def forward(method: str, op: int, key: str) -> None:
            await call(Planned(op=op, due=0.0, method=method, key=key), Answer())

        self._impl.forward = forward

    async def __aenter__(self) -> Self:
        """Nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._open.aclose()
