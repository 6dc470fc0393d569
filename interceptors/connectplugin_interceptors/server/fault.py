"""Fault injection around a server's handlers; the policy and its machine are the client's too."""

import asyncio
from collections.abc import AsyncIterator
from random import Random  # noqa: TID251  # for policies without a seed
from typing import NoReturn, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.fault.config import FaultError, FaultPolicy
from connectplugin_interceptors.fault.interceptor import Dice
from connectplugin_interceptors.server.answer import refuse_unprocessed
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


class ServerFaultInjection:
    """The server's link, around the handler: what it does looks like the handler's doing.

    `"refuse"` refuses the call as unprocessed, `"disconnect"` answers `unavailable` (an interceptor
    cannot cut the connection), `"drop"` is a handler that hangs.
    """

    def __init__(self, policy: FaultPolicy, *, clock: Clock) -> None:
        self._clock = clock
        self._dice = Dice(policy, Random())  # noqa: S311  # chance, no secret

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Run the handler, or do what has become of it."""
        plan = self._dice.plan(_path(ctx), streams_responses=False)
        if plan is None:
            return await call_next(request, ctx)
        try:
            await self._clock.sleep(plan.latency)
            if plan.error is None:
                return await call_next(request, ctx)
            if plan.after_reply:
                await call_next(request, ctx)
            await _fail(plan.error, ctx)
        finally:
            self._dice.leave()

    async def intercept_client_stream(
        self, call_next: Unary[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> R:
        """As a unary call."""
        return await self.intercept_unary(call_next, request, ctx)

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the handler's responses, as far as they come."""
        plan = self._dice.plan(_path(ctx), streams_responses=_streams(ctx))
        if plan is None:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
            return
        try:
            await self._clock.sleep(plan.latency)
            left = plan.truncate_after
            if left != 0 and (plan.error is None or plan.after_reply or left is not None):
                async with closing(call_next(request, ctx)) as responses:
                    async for response in responses:
                        if plan.after_reply:
                            continue
                        yield response
                        if left is not None and (left := left - 1) == 0:
                            break
            if plan.error is not None:
                await _fail(plan.error, ctx)
        finally:
            self._dice.leave()

    def intercept_bidi_stream(
        self, call_next: Stream[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """As a server stream."""
        return self.intercept_server_stream(call_next, request, ctx)

    def __repr__(self) -> str:
        return f"ServerFaultInjection({self._dice!r})"


async def _fail(error: FaultError, ctx: Ctx) -> NoReturn:
    match error:
        case "drop":
            await asyncio.get_running_loop().create_future()
            raise AssertionError  # pragma: no cover  # nobody resolves it
        case "refuse":
            refuse_unprocessed(ctx, "fault")
            raise ConnectError(Code.UNAVAILABLE, "refused (injected)")
        case "disconnect":
            raise ConnectError(Code.UNAVAILABLE, "disconnected (injected)")
        case code:
            raise ConnectError(code, f"{code.value} (injected)")


def _path(ctx: Ctx) -> str:
    return f"{ctx.method.service_name}/{ctx.method.name}"


def _streams(ctx: Ctx) -> bool:
    return ctx.method.stream_type in {StreamType.SERVER_STREAM, StreamType.BIDI_STREAM}
