"""The client's link for concurrency: holds a slot of a bulkhead, or of an adaptive limit, per call.

Neither policy's own: which of the two is in force is a method's setting.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias, TypeVar

from connectplugin_interceptors._per_policy import PerPolicy
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.interceptor import AdaptiveLimit
from connectplugin_interceptors.adaptive.machine import Release
from connectplugin_interceptors.admission import verdict_of
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.bulkhead.interceptor import Bulkhead, Full
from connectplugin_interceptors.bulkhead.machine import Place
from connectplugin_interceptors.call import SMALLEST_TIMEOUT, Call, CallContext, Ctx, context_of
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import DeadlineExceededError, Delivery, OverloadedError
from connectplugin_interceptors.events import Emit, Rejected, Waited
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")

ConcurrencyPolicy: TypeAlias = BulkheadPolicy | AdaptiveLimitPolicy

# Looking a member of an enum up costs more than a frame (3.11).
_SUCCESS: Final = Release.SUCCESS
_IGNORE: Final = Release.IGNORE

_NAME: Final = "concurrency"
_TOLD: Final = {
    "queue_full": "and so is the queue",
    "wait_over": "and none came free in time",
    "too_late": "and by what the queue takes none would come free before the deadline",
    "closed": "and closed",
}


class Concurrency(Link):
    """A slot for each call, through all of its attempts and the waits between them.

    Methods with equal policies share their slots. Waiting for one is paid from the call's deadline.
    """

    def __init__(self, *, clock: Clock, emit: Emit | None) -> None:
        self._clock = clock
        self._emit = emit
        self._limiters = PerPolicy[ConcurrencyPolicy, Bulkhead](self._make)

    def limiter(self, policy: ConcurrencyPolicy) -> Bulkhead:
        """The slots of a policy, for those who want to see how full they are."""
        return self._limiters.of(policy)

    def _make(self, policy: ConcurrencyPolicy) -> Bulkhead:
        if isinstance(policy, AdaptiveLimitPolicy):
            return AdaptiveLimit(policy, clock=self._clock)
        return Bulkhead(slots=policy.max_in_flight, queue=policy.max_queue, clock=self._clock)

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Await the call, in a slot."""
        own = context_of(ctx)
        policy = own.call.settings.concurrency
        if policy is None:
            return call_next(request, own)
        return self._single(policy, call_next, request, own, False)

    def intercept_client_stream(
        self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /
    ) -> Awaitable[R]:
        """Await the call, in a slot; how long it takes is up to who sends the requests."""
        own = context_of(ctx)
        policy = own.call.settings.concurrency
        if policy is None:
            return call_next(request, own)
        return self._single(policy, call_next, request, own, True)

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the responses, in a slot until the end."""
        own = context_of(ctx)
        policy = own.call.settings.concurrency
        if policy is None:
            return call_next(request, own)
        return self._stream(policy, call_next, request, own)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _single(
        self,
        policy: ConcurrencyPolicy,
        call_next: Unary[Q, R],
        request: Q,
        ctx: CallContext,
        streams: bool,
    ) -> R:
        limiter = self._limiters.of(policy)
        call = ctx.call
        if not isinstance(limiter, AdaptiveLimit):
            if limiter.take():
                try:
                    return await call_next(request, ctx)
                finally:
                    _at_rest(call, limiter.give)
            place = await self._place(limiter, policy, ctx)
            try:
                return await call_next(request, ctx)
            finally:
                _at_rest(call, lambda: limiter.release(place))
        place = await self._place(limiter, policy, ctx)
        release = _IGNORE
        try:
            if streams:
                limiter.keep(place)
            response = await call_next(request, ctx)
            release = _SUCCESS
        except Exception as error:
            release = _release(ctx, error)
            raise
        finally:
            if call.attempts > 1:
                # It has waited in between: that is no latency of the peer's.
                release = _IGNORE
            _at_rest(call, lambda: limiter.finish(place, release))
        return response

    async def _stream(
        self,
        policy: ConcurrencyPolicy,
        call_next: Stream[Q, R],
        request: Q,
        ctx: CallContext,
    ) -> AsyncIterator[R]:
        limiter = self._limiters.of(policy)
        place = await self._place(limiter, policy, ctx)
        adaptive = limiter if isinstance(limiter, AdaptiveLimit) else None
        try:
            if adaptive is not None:
                adaptive.keep(place)
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
        finally:
            if adaptive is not None:
                _at_rest(ctx.call, lambda: adaptive.finish(place, _IGNORE))
            else:
                _at_rest(ctx.call, lambda: limiter.release(place))

    async def _place(self, limiter: Bulkhead, policy: ConcurrencyPolicy, ctx: CallContext) -> Place:
        try:
            place = limiter.enter()
        except Full as full:
            raise self._refusal(limiter, policy, ctx, full.reason) from None
        if not place.inside:
            await self._wait(limiter, place, policy, ctx)
        return place

    async def _wait(
        self, limiter: Bulkhead, place: Place, policy: ConcurrencyPolicy, ctx: CallContext
    ) -> None:
        call = ctx.call
        started = self._clock.now()
        remaining = call.remaining(started)
        try:
            await limiter.wait(place, policy.max_wait, remaining)
        except Full as full:
            left = call.remaining(self._clock.now())
            if left is not None and left < SMALLEST_TIMEOUT:
                raise DeadlineExceededError(
                    "it was over while the call waited for a slot", delivery=Delivery.NOT_SENT
                ) from None
            raise self._refusal(limiter, policy, ctx, full.reason) from None
        if self._emit is not None:
            waited = self._clock.now() - started
            self._emit(Waited(call.name, call.path, _NAME, waited))

    def _refusal(
        self, limiter: Bulkhead, policy: ConcurrencyPolicy, ctx: CallContext, reason: str
    ) -> OverloadedError:
        call = ctx.call
        if self._emit is not None:
            self._emit(Rejected(call.name, call.path, _NAME, reason, policy.pushback))
        return OverloadedError(
            f"{call.path}: all of this client's {limiter.slots} slots are taken, {_TOLD[reason]}",
            reason=reason,
            retry_after=policy.pushback,
        )

    def __repr__(self) -> str:
        return f"Concurrency({self._limiters!r})"


def _at_rest(call: Call, give_back: Callable[[], None]) -> None:
    """Give the slot back; of a hedged call when the losing attempts too have ended."""
    if call.lingering:
        call.when_at_rest(give_back)
    else:
        give_back()


def _release(ctx: CallContext, error: Exception) -> Release:
    verdict = verdict_of(ctx, error)
    if verdict.cause is Cause.DEADLINE:
        return Release.DROPPED
    return _SUCCESS if verdict.outcome is Outcome.ANSWERED else _IGNORE
