"""The shells of the server's deadline: one before the body is read, one around the handler."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.inbound import InboundCall, inbound, stream_started
from connectplugin_interceptors.server.answer import expired, refuse_unprocessed
from connectplugin_interceptors.server.cut import cut_off
from connectplugin_interceptors.server.deadline.config import ServerDeadlinePolicy
from connectplugin_interceptors.server.deadline.machine import limit
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


class ServerDeadline:
    """A metadata interceptor: knows the call's deadline, and drops the call if it is over."""

    def __init__(self, policy: ServerDeadlinePolicy | None, *, clock: Clock) -> None:
        self._maximum = None if policy is None else policy.maximum
        self._request = None if policy is None else policy.request
        self._clock = clock

    async def on_start(self, ctx: Ctx) -> InboundCall:
        """Set the deadline that the handler and its outbound calls live by."""
        milliseconds = ctx.timeout_ms
        given = limit(
            asked=None if milliseconds is None else milliseconds / 1000.0,
            maximum=self._maximum,
            streams_responses=ctx.method.stream_type
            in {StreamType.SERVER_STREAM, StreamType.BIDI_STREAM},
        )
        deadline = None if given.seconds is None else self._clock.now() + given.seconds
        call = InboundCall(self._clock, deadline, own_timer=given.own_timer)
        # The request's own task and context: it ends with the request, so nothing is reset.
        inbound.set(call)
        if given.seconds is not None and given.seconds <= 0.0:
            call.end()
            raise expired(ctx)
        if milliseconds is None and self._request is not None:
            # With a deadline of the client's, connectrpc has a timer that covers this too.
            loop = asyncio.get_running_loop()
            call.arrival = loop.call_later(self._request, _give_up_on, call)
        return call

    async def on_end(self, token: InboundCall, ctx: Ctx, error: Exception | None, /) -> None:
        """Let nobody inherit from this call any more."""
        slow = token.given_up
        token.end()
        if slow and error is not None:
            refuse_unprocessed(ctx, "expired")
            msg = f"the request did not arrive within {self._request:g} s"
            raise ConnectError(Code.DEADLINE_EXCEEDED, msg) from None
        if not isinstance(error, ConnectError):
            return
        left = token.remaining()
        if left is None or left > 0.0:
            return
        if not token.started and error.code is Code.DEADLINE_EXCEEDED:
            # Time ran out in a queue, or while the body was read.
            refuse_unprocessed(ctx, "expired")
        elif _is_own_cancellation(error):
            # A connectrpc client inside the handler has wrapped the cancellation that was meant
            # for the handler: the caller must not read that somebody cancelled the call.
            raise ConnectError(Code.DEADLINE_EXCEEDED, "Request timed out") from None

    def __repr__(self) -> str:
        return f"ServerDeadline(maximum={self._maximum!r})"


class HandlerDeadline:
    """The innermost link: the last check before the handler, and the timer around it.

    A handler that exits (`sys.exit` in a library, `argparse`) has failed, and no more: let through,
    `SystemExit` would end the event loop under all other calls.
    """

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Run the handler within the limit that only the server knows of."""
        call = inbound.get()
        left = None if call is None else _enter(call, ctx)
        try:
            if call is None or left is None or not call.own_timer:
                return await call_next(request, ctx)
            return await _within(left, call_next(request, ctx))
        except SystemExit as exit_:
            raise _exited(exit_) from exit_

    async def intercept_client_stream(
        self, call_next: Unary[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> R:
        """As a unary call; reading the requests is the handler's time too."""
        return await self.intercept_unary(call_next, request, ctx)

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Only the check: the server sets streams of responses no limit of its own."""
        if (call := inbound.get()) is not None:
            _enter(call, ctx)
        if (tell := stream_started.get()) is not None:
            tell(ctx)
        try:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
        except SystemExit as exit_:
            raise _exited(exit_) from exit_

    def intercept_bidi_stream(
        self, call_next: Stream[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """As a server stream."""
        return self.intercept_server_stream(call_next, request, ctx)

    def __repr__(self) -> str:
        return "HandlerDeadline()"


async def _within(seconds: float, waiting: Awaitable[R]) -> R:
    timer = asyncio.timeout(seconds)
    try:
        async with timer:
            return await waiting
    except TimeoutError:
        if not timer.expired():
            raise
        msg = "the server's limit of time for this call is over"
        raise ConnectError(Code.DEADLINE_EXCEEDED, msg) from None


def _exited(error: SystemExit) -> RuntimeError:
    return RuntimeError(f"the handler has called sys.exit({error.code!r})")


def _enter(call: InboundCall, ctx: Ctx) -> float | None:
    left = call.remaining()
    if left is not None and left <= 0.0:
        raise expired(ctx)
    call.start()
    return left


def _give_up_on(call: InboundCall) -> None:
    """The request is not there yet."""
    if not call.started and not call.ended and call.task is not None:
        call.given_up = True
        cut_off(call.task, "the request did not arrive")


def _is_own_cancellation(error: ConnectError) -> bool:
    return error.code is Code.CANCELED and isinstance(error.__cause__, asyncio.CancelledError)
