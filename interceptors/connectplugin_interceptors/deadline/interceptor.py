"""The chain's entry: makes the `Call`, sets its deadline, and says how it ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import (
    TIMER_GRACE,
    Attempt,
    AttemptKind,
    Call,
    CallContext,
    Ctx,
)
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.deadline.machine import call_deadline
from connectplugin_interceptors.errors import (
    DeadlineExceededError,
    Delivery,
    RejectedError,
    note_delivery,
)
from connectplugin_interceptors.events import CallEnded, Emit
from connectplugin_interceptors.inbound import inbound, inherited_deadline
from connectplugin_interceptors.options import marked
from connectplugin_interceptors.outcome import Outcome, Verdict, classify, noted_verdict
from connectplugin_interceptors.policies import PolicyTable
from connectplugin_interceptors.shapes import Stream, Unary, closing

_GRACE: Final = 2 * TIMER_GRACE

# Looking a member of an enum up takes longer than a link of the chain (3.11).
_INITIAL: Final = AttemptKind.INITIAL

Q = TypeVar("Q")
R = TypeVar("R")


class CallScope:
    """Begins and ends a logical call.

    Below it the context is a `CallContext`. Waiting anywhere is paid from the deadline because
    every part reads what is left of it. connectrpc's timer enforces it while an attempt is out; a
    timer of our own is armed only where a user's interceptors could wait without looking at it.

    Attributes:
        table: The policies of each method.
    """

    def __init__(
        self,
        *,
        name: str,
        table: PolicyTable,
        clock: Clock,
        emit: Emit | None,
        observed: bool,
        armed: bool,
    ) -> None:
        self._name = name
        self.table = table
        self._clock = clock
        self._emit = emit
        self._observed = observed
        self._armed = armed

    def _begin(self, ctx: Ctx) -> CallContext:
        now = self._clock.now()
        method = ctx.method
        plan = self.table.plan(method)
        timeout = None
        options = marked(ctx)
        if options is not None:
            timeout = options.timeout
            plan = self.table.changed(method, plan, options)
        caller_ms = ctx.timeout_ms
        deadline = call_deadline(
            now,
            plan.limit,
            timeout,
            None if caller_ms is None else now + caller_ms / 1000.0,
            None if inbound.get() is None else inherited_deadline(self._clock),
        )
        call = Call(self._name, method, plan, self._clock, now, deadline, self._observed)
        # The first attempt uses the caller's own header set, which connectrpc made for this call.
        return CallContext(ctx, ctx.request_headers, call, Attempt(1, _INITIAL), deadline)

    def _failed(self, call: Call, error: Exception) -> Exception:
        """The error that the caller sees."""
        result = error
        if isinstance(error, ConnectError) and error is not call.request_error:
            known = call.known_delivery
            if error.code is Code.DEADLINE_EXCEEDED and not isinstance(error, RejectedError):
                result = self._expired(call, error, known)
            note_delivery(result, known)
        if self._emit is not None:
            self._ended(call, _verdict(error).outcome, error)
        return result

    def _expired(self, call: Call, error: ConnectError, known: Delivery) -> ConnectError:
        if isinstance(error.__cause__, ConnectionError):
            # connectrpc calls it a deadline; but the time for connecting is none of the caller's.
            result = ConnectError(Code.UNAVAILABLE, f"{call.path}: {error.__cause__}")
            result.__cause__ = error.__cause__
            return result
        elapsed = self._clock.now() - call.started
        attempts = "1 attempt" if call.attempts == 1 else f"{call.attempts} attempts"
        told = f" ({error.message})" if error.message else ""
        message = f"{call.path}: deadline exceeded after {elapsed:.3f} s and {attempts}{told}"
        return DeadlineExceededError(message, delivery=known, details=error.details)

    def _ended(self, call: Call, outcome: Outcome, error: BaseException | None = None) -> None:
        if self._emit is None:
            return
        self._emit(
            CallEnded(
                call.name,
                call.path,
                self._clock.now() - call.started,
                call.attempts,
                outcome,
                None if error is None else _verdict(error).cause,
                Delivery.ANSWERED if error is None else call.known_delivery,
            )
        )

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the call within its deadline."""
        own = self._begin(ctx)
        try:
            if self._armed and own.deadline is not None:
                response = await self._bounded(own, call_next(request, own))
            else:
                response = await call_next(request, own)
        except Exception as error:
            failed = self._failed(own.call, error)
            if failed is error:
                raise
            raise failed from failed.__cause__ or error
        except BaseException as error:
            self._ended(own.call, Outcome.NEUTRAL, error)
            raise
        if self._emit is not None:
            self._ended(own.call, Outcome.SUCCESS)
        return response

    intercept_client_stream: Any = intercept_unary

    async def _bounded(self, own: CallContext, waiting: Awaitable[R]) -> R:
        """Await, with a timer for whatever waits without looking at the deadline.

        A little late, so that the attempt's own timer ends an attempt that is out: that one tells
        an attempt that has expired from one that was cancelled.
        """
        remaining = (own.deadline or 0.0) - self._clock.now()
        timer = asyncio.timeout(remaining + _GRACE)
        try:
            async with timer:
                return await waiting
        except TimeoutError as error:
            if isinstance(error, ConnectError) or not timer.expired():
                raise
            raise DeadlineExceededError(
                "in an interceptor of the application's own",
                delivery=own.call.known_delivery,
            ) from error

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the responses within the deadline."""
        own = self._begin(ctx)
        try:
            async with closing(call_next(request, own)) as responses:
                if self._armed and own.deadline is not None:
                    while True:
                        try:
                            response = await self._bounded(own, anext(responses))
                        except StopAsyncIteration:
                            break
                        yield response
                else:
                    async for response in responses:
                        yield response
        except Exception as error:
            failed = self._failed(own.call, error)
            if failed is error:
                raise
            raise failed from failed.__cause__ or error
        except BaseException as error:
            self._ended(own.call, Outcome.NEUTRAL, error)
            raise
        if self._emit is not None:
            self._ended(own.call, Outcome.SUCCESS)

    intercept_bidi_stream: Any = intercept_server_stream

    def __repr__(self) -> str:
        return f"CallScope({self._name!r})"


def _verdict(error: BaseException) -> Verdict:
    """What an error means: as its attempt was judged, or by itself if it is of no attempt."""
    noted = noted_verdict(error)
    return classify(error) if noted is None else noted
