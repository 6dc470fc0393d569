"""One attempt: its deadline and number go on the wire, and the transport's tap is told of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import (
    SMALLEST_TIMEOUT,
    TIMER_GRACE,
    CallContext,
    Ctx,
    context_of,
)
from connectplugin_interceptors.clock import wall_time
from connectplugin_interceptors.deadline.machine import attempt_deadline
from connectplugin_interceptors.errors import DeadlineExceededError, Delivery
from connectplugin_interceptors.events import AttemptEnded, Emit
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.pushback import parse_pushback
from connectplugin_interceptors.shapes import Stream, Unary, close
from connectplugin_interceptors.transport import current_attempt

Q = TypeVar("Q")
R = TypeVar("R")


class AttemptScope:
    """Sets an attempt's deadline; arms no timer for a single response (connectrpc arms one).

    For a stream of responses the header carries what is left of the *call's* deadline, since a
    server that obeyed an attempt's would cut a flowing stream; the attempt's own limit is kept on
    this side, and ends with the first message or the head of the response.
    """

    def __init__(self, *, emit: Emit | None, armed: bool = False) -> None:
        """Make the link.

        Args:
            emit: Who is told when an attempt has ended.
            armed: Whether interceptors of the application's own are inside, which could wait
                without looking at the deadline, or add to headers: then there is a timer around
                them, and each attempt gets headers without what the one before has added.
        """
        self._emit = emit
        self._armed = armed

    def _begin(self, ctx: CallContext) -> float:
        call = ctx.call
        now = call.clock.now()
        deadline = call.deadline
        if deadline is not None and deadline - now < SMALLEST_TIMEOUT:
            raise DeadlineExceededError(
                f"it was over before attempt {ctx.attempt.number} was sent",
                delivery=Delivery.NOT_SENT,
            )
        if self._armed and call.headers is None:
            call.headers = tuple(ctx.request_headers.allitems())
        ctx.deadline = deadline = attempt_deadline(now, call.plan.attempt_limit, deadline)
        ctx.write_timing(deadline, now)
        call.tried = True
        return now

    def _failed(self, ctx: CallContext, started: float, error: BaseException) -> None:
        attempt = ctx.attempt
        verdict = ctx.call.failed(attempt, error)
        if isinstance(error, ConnectError):
            attempt.pushback = parse_pushback(attempt.response_headers, error.details, wall_time())
        if self._emit is not None:
            self._ended(ctx, started, verdict.outcome, verdict.cause)

    def _ended(
        self, ctx: CallContext, started: float, outcome: Outcome, cause: Cause | None
    ) -> None:
        if self._emit is None:
            return
        call, attempt = ctx.call, ctx.attempt
        duration = call.clock.now() - started
        self._emit(
            AttemptEnded(
                call.name,
                call.path,
                attempt.number,
                attempt.kind,
                duration,
                outcome,
                cause,
                "" if attempt.endpoint is None else attempt.endpoint.key,
            )
        )

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Send the attempt and await its response."""
        own = ctx if type(ctx) is CallContext else context_of(ctx)
        started = self._begin(own)
        token = current_attempt.set(own.attempt)
        try:
            if self._armed and own.deadline is not None:
                response = await _within(own, own.deadline - started, call_next(request, own))
            else:
                response = await call_next(request, own)
        except BaseException as error:
            self._failed(own, started, error)
            raise
        finally:
            current_attempt.reset(token)
        if self._emit is not None:
            self._ended(own, started, Outcome.SUCCESS, None)
        return response

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Send the attempt and iterate over its responses."""
        own = context_of(ctx)
        started = self._begin(own)
        responses = call_next(request, own)
        try:
            try:
                yield await self._first(own, responses)
            except StopAsyncIteration:
                pass
            else:
                async for response in responses:
                    yield response
        except BaseException as error:
            # Leaving the stream early is no failure of anybody's.
            self._failed(own, started, error)
            raise
        finally:
            await close(responses)
        if self._emit is not None:
            self._ended(own, started, Outcome.SUCCESS, None)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _first(self, ctx: CallContext, responses: AsyncIterator[R]) -> R:
        """The first response, within the attempt's limit; the tap sees the attempt only here."""
        token = current_attempt.set(ctx.attempt)
        try:
            policy = ctx.call.settings.deadline
            if policy is None or policy.attempt is None:
                return await anext(responses)
            return await self._first_within(ctx, policy.attempt, responses)
        finally:
            current_attempt.reset(token)

    async def _first_within(self, ctx: CallContext, limit: float, responses: AsyncIterator[R]) -> R:
        timer = asyncio.timeout(limit)

        def disarm() -> None:
            if not timer.expired():
                timer.reschedule(None)

        ctx.attempt.on_head = disarm
        try:
            async with timer:
                return await anext(responses)
        except TimeoutError as error:
            if isinstance(error, ConnectError) or not timer.expired():
                raise
            raise ConnectError(
                Code.DEADLINE_EXCEEDED, f"no response within the attempt's limit of {limit:g} s"
            ) from error
        finally:
            ctx.attempt.on_head = None


async def _within(ctx: CallContext, limit: float, waiting: Awaitable[R]) -> R:
    """Await one response within the attempt's limit."""
    timer = asyncio.timeout(limit + TIMER_GRACE)
    try:
        async with timer:
            return await waiting
    except TimeoutError as error:
        if isinstance(error, ConnectError) or not timer.expired():
            raise
        where = "" if ctx.attempt.entered else ", nor was it sent: an interceptor holds it"
        raise ConnectError(
            Code.DEADLINE_EXCEEDED, f"no response within the attempt's limit of {limit:g} s{where}"
        ) from error
