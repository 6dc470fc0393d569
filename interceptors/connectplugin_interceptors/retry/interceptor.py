"""The shell of retrying: makes attempts until one succeeds or the machine says to stop.

Waiting for readiness (`wait_for_ready`) is here too, because it repeats attempts in the same way:
only it is not paid from the budget and does not count, since nothing was sent.
"""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from connectrpc.errors import ConnectError

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors.admission import verdict_of
from connectplugin_interceptors.call import (
    Attempt,
    AttemptKind,
    Call,
    CallContext,
    Ctx,
    context_of,
)
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import (
    Delivery,
    RejectedError,
    note_retry_after,
    note_throttle_failure,
)
from connectplugin_interceptors.events import Emit, RetryScheduled, RetryStopped
from connectplugin_interceptors.outcome import UNREACHED, Cause, Verdict
from connectplugin_interceptors.pushback import NO_PUSHBACK
from connectplugin_interceptors.ready.room import Place, WaitingRoom
from connectplugin_interceptors.retry.config import RetryBudgetPolicy
from connectplugin_interceptors.retry.machine import (
    Decision,
    FailedAttempt,
    GiveUp,
    GiveUpReason,
    decide,
)
from connectplugin_interceptors.shapes import Stream, Unary, close
from connectplugin_interceptors.streams import RequestReplay

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # `rng` is one, handed in

Q = TypeVar("Q")
R = TypeVar("R")


class _Progress:
    """What one call's attempts have come to so far."""

    __slots__ = ("answered", "counted", "error", "place", "replay")

    def __init__(self, replay: RequestReplay[Any] | None) -> None:
        self.replay = replay
        self.error: ConnectError | None = None
        self.place = Place()
        self.answered = False
        self.counted = 1  # a transparent retry repeats the attempt before, and counts with it


class Retry:
    """Repeats attempts; one budget and one gate for all calls of the client."""

    def __init__(self, *, clock: Clock, rng: "Random", emit: Emit | None) -> None:
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._room = WaitingRoom(emit)
        self._budgets: dict[tuple[RetryBudgetPolicy, str], RetryBudget] = {}
        self._last: tuple[RetryBudgetPolicy, str, RetryBudget] | None = None

    def budget(self, policy: RetryBudgetPolicy, service: str) -> RetryBudget:
        """The account of one service; methods with equal budget policies share it."""
        # Hashing a dataclass costs more than all else here, and nearly always it is the last one.
        last = self._last
        if last is not None and last[0] is policy and last[1] is service:
            return last[2]
        key = (policy, service)
        found = self._budgets.get(key)
        if found is None:
            found = RetryBudget(ratio=policy.ratio, window=policy.window, reserve=policy.reserve)
            self._budgets[key] = found
        self._last = (policy, service, found)
        return found

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Make attempts of a unary call."""
        own = ctx if type(ctx) is CallContext else context_of(ctx)
        call = own.call
        if call.plan.retry_policy is None and not call.settings.wait_for_ready:
            return await call_next(request, own)
        try:
            response = await call_next(request, own)
        except ConnectError as error:
            progress = _Progress(None)
            first = error
        else:
            self._succeeded(call)
            return response
        try:
            own = await self._next(own, first, progress)
            return await self._repeat(call_next, lambda: request, own, progress)
        finally:
            self._room.leave(progress.place)

    async def intercept_client_stream(
        self, call_next: Unary[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> R:
        """Make attempts of a client-stream call, as long as nothing was sent."""
        own = context_of(ctx)
        replay = _replay(own, request)
        progress = _Progress(replay)
        try:
            return await self._repeat(call_next, replay.attempt, own, progress)
        finally:
            self._room.leave(progress.place)
            await replay.aclose()

    async def _repeat(
        self,
        call_next: Unary[Any, R],
        request: Callable[[], Any],
        own: CallContext,
        progress: _Progress,
    ) -> R:
        while True:
            try:
                response = await call_next(request(), own)
            except ConnectError as error:
                failed = error
            else:
                self._succeeded(own.call)
                return response
            own = await self._next(own, failed, progress)

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Make attempts of a server-stream call, until the first response has come."""
        own = context_of(ctx)
        settings = own.call.settings
        if own.call.plan.retry_policy is None and not settings.wait_for_ready:
            return call_next(request, own)
        return self._stream(call_next, lambda: request, own, None)

    def intercept_bidi_stream(
        self, call_next: Stream[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Make attempts of a bidi call, as long as nothing was sent."""
        own = context_of(ctx)
        replay = _replay(own, request)
        return self._stream(call_next, replay.attempt, own, replay)

    async def _stream(
        self,
        call_next: Stream[Any, R],
        request: Callable[[], Any],
        own: CallContext,
        replay: RequestReplay[Any] | None,
    ) -> AsyncIterator[R]:
        progress = _Progress(replay)
        try:
            while True:
                responses = call_next(request(), own)
                try:
                    async for response in responses:
                        if not progress.answered:
                            self._answered(progress)
                        yield response
                except ConnectError as error:
                    failed = error
                else:
                    self._succeeded(own.call)
                    return
                finally:
                    await close(responses)
                own = await self._next(own, failed, progress)
        finally:
            self._room.leave(progress.place)
            if replay is not None:
                await replay.aclose()

    def _answered(self, progress: _Progress) -> None:
        """The first response of a stream: from here on nothing can be repeated."""
        progress.answered = True
        self._room.reachable()
        self._room.leave(progress.place)
        if progress.replay is not None:
            progress.replay.commit()

    def _succeeded(self, call: Call) -> None:
        account = call.plan.account or self._account(call)
        if account is not None:
            account.deposit(self._clock.now())
        self._room.reachable()

    def _account(self, call: Call) -> RetryBudget | None:
        """What retries of the call are paid from; kept in the method's plan."""
        policy = call.plan.retry_policy
        if policy is None or policy.budget is None:
            return None
        account = self.budget(policy.budget, call.method.service_name)
        call.plan.account = account
        return account

    async def _next(
        self, own: CallContext, error: ConnectError, progress: _Progress
    ) -> CallContext:
        """Wait, and return the context of the attempt that follows; or raise the call's error."""
        call, attempt = own.call, own.attempt
        if call.plan.retry_policy is None and not call.settings.wait_for_ready:
            raise error
        verdict = verdict_of(own, error)
        waits = call.settings.wait_for_ready and _untouched(progress)
        if verdict.cause is Cause.REJECTED:
            if waits and _unready(error):
                return await self._wait(own, error, progress)
            # A second attempt that is refused here says less than the first one's error.
            raise progress.error or error
        progress.error = error
        if progress.answered:
            self._stopped(call, GiveUpReason.STREAM_STARTED, verdict)
            raise error
        if verdict.cause not in UNREACHED:
            self._room.reachable()
        elif waits and not attempt.untried:
            return await self._wait(own, error, progress)
        # What was reached may still refuse; the place among the waiting is given back all the same.
        self._room.leave(progress.place)
        again = self._decide(call, attempt, verdict, progress)
        if isinstance(again, GiveUp):
            _note(error, again)
            self._stopped(call, again.reason, verdict)
            raise error
        progress.counted += again.kind is not AttemptKind.TRANSPARENT
        number = progress.counted
        if self._emit is not None:
            self._emit(
                RetryScheduled(call.name, call.path, number, again.kind, again.delay, verdict.cause)
            )
        if again.delay > 0:
            await self._clock.sleep(again.delay)
        call.attempts += 1
        return own.following(Attempt(number, again.kind))

    async def _wait(
        self, own: CallContext, error: ConnectError, progress: _Progress
    ) -> CallContext:
        """Wait until the call may try again."""
        try:
            await self._room.turn(own.call, error, progress.place)
        except RejectedError:
            # A refusal says "never sent"; an attempt before this one may have been.
            if progress.error is None or own.call.known_delivery is Delivery.NOT_SENT:
                raise
            raise progress.error from None
        return _ready(own)

    def _decide(
        self,
        call: Call,
        attempt: Attempt,
        verdict: Verdict,
        progress: _Progress,
    ) -> Decision:
        policy = call.plan.retry_policy
        if policy is None:
            return GiveUp(GiveUpReason.MAX_ATTEMPTS)
        now = self._clock.now()
        replay = progress.replay
        # A stream of requests may be begun anew only if no part of it was sent, or processed.
        committed = replay is not None and not (
            verdict.delivery is Delivery.NOT_SENT and replay.can_replay
        )
        failed = FailedAttempt(
            verdict=verdict,
            number=progress.counted,
            idempotent=call.idempotent,
            committed=committed,
            pushback=attempt.pushback or NO_PUSHBACK,
            remaining=call.remaining(now),
            untried=attempt.untried,
        )
        budget = None
        if policy.budget is not None:
            budget = self.budget(policy.budget, call.method.service_name)
        return decide(policy, failed, rnd=self._rng.random(), now=now, budget=budget)

    def _stopped(self, call: Call, reason: GiveUpReason, verdict: Verdict) -> None:
        if self._emit is not None and call.plan.hedge is None:  # the hedge tells it itself
            self._emit(
                RetryStopped(call.name, call.path, call.attempts, reason.value, verdict.cause)
            )

    def __repr__(self) -> str:
        return f"<Retry {self._room!r}>"


def _replay(own: CallContext, request: AsyncIterator[Q]) -> RequestReplay[Q]:
    """The caller's requests: in the open even if they are sent once only.

    So that what the caller's generator raises is raised by the call, and it is closed at its end.
    """
    own.call.requests = replay = RequestReplay(request)
    settings = own.call.settings
    if own.call.plan.retry_policy is None and not settings.wait_for_ready:
        replay.commit()
    return replay


def _ready(own: CallContext) -> CallContext:
    """The context of an attempt after a wait: of all endpoints, since any may be back."""
    own.call.visited = ()
    return own.following(Attempt(own.attempt.number, AttemptKind.READY))


def _unready(error: ConnectError) -> bool:
    """Whether a refusal says that there is nobody to send to right now."""
    return isinstance(error, RejectedError) and error.unready


def _note(error: ConnectError, again: GiveUp) -> None:
    """Write onto the error what the server has said about trying again."""
    note_retry_after(error, again.retry_after)
    if again.throttle_failure:
        note_throttle_failure(error)


def _untouched(progress: _Progress) -> bool:
    """Whether the requests could be sent from their beginning."""
    return progress.replay is None or progress.replay.can_replay
