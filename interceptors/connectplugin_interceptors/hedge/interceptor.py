"""The shell of hedging: attempts in tasks of their own, of which the first to answer wins.

A loser is cancelled and awaited, but not by the caller: whatever it still does when it is cancelled
(an interceptor's `finally`, say) must not hold the answer back. `Hedge.aclose` waits for the last.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from connectrpc.code import Code
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
from connectplugin_interceptors.errors import Delivery, note_retry_after
from connectplugin_interceptors.events import Emit, HedgeStarted, HedgeSuppressed, RetryStopped
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.hedge.machine import (
    HedgedCall,
    LatencyEstimator,
    Meaning,
    StopReason,
    meaning,
)
from connectplugin_interceptors.outcome import Cause, Outcome, Verdict
from connectplugin_interceptors.pushback import NO_PUSHBACK
from connectplugin_interceptors.retry.config import RetryBudgetPolicy
from connectplugin_interceptors.shapes import Stream, Unary, close
from connectplugin_interceptors.streams import awaited, within

Q = TypeVar("Q")
R = TypeVar("R")

CLOSE_GRACE: Final = 1.0
"""Seconds that closing the client waits for attempts that were cancelled."""

_PATIENCE: Final = 0.1
"""Seconds that a caller who is cancelled waits for the attempts to end: nearly all do at once."""

_SHORTEST_WAIT: Final = 0.001
"""Seconds; a clock may be coarser than what is left, and would not have moved when asked again."""

_OVERTIME: Final = 0.01
"""Seconds after the deadline; an attempt that is still out ignores its own."""


class _Begun(Generic[R]):
    """A stream of which the first message has come; or which has ended without one."""

    __slots__ = ("ended", "first", "responses")

    def __init__(self, responses: AsyncIterator[R], first: Sequence[R]) -> None:
        self.responses = responses
        self.first = first
        self.ended = not first


class _Flight(Generic[R]):
    """An attempt that is out."""

    __slots__ = ("context", "ctx", "started", "task")

    def __init__(self, ctx: CallContext, start: "Start[R]", started: float) -> None:
        self.ctx = ctx
        self.started = started
        self.context = copy_context()
        self.task = asyncio.get_running_loop().create_task(
            start(ctx), context=self.context, name=f"{ctx.call.path} attempt {ctx.attempt.number}"
        )


class _Race(Generic[R]):
    """One call and its attempts; `error` is the first attempt's, once it has failed."""

    __slots__ = ("began", "call", "error", "flights", "own", "plan", "policy", "start", "verdict")

    def __init__(
        self, own: CallContext, policy: HedgePolicy, plan: HedgedCall, start: "Start[R]", now: float
    ) -> None:
        self.own = own
        self.call = own.call
        self.policy = policy
        self.plan = plan
        self.start = start
        self.began = now
        self.flights: list[_Flight[R]] = []
        self.error: ConnectError | None = None
        self.verdict: Verdict | None = None


Start: TypeAlias = Callable[[CallContext], Coroutine[Any, Any, R]]


class Hedge(Link):
    """Races attempts; one for all calls of a client.

    Args:
        clock: Where time comes from.
        budget: Finds the account of a budget policy and a service: the one that retries use.
        emit: Where events go.
    """

    only_for: ClassVar[str | None] = "hedge"

    def __init__(
        self,
        *,
        clock: Clock,
        budget: Callable[[RetryBudgetPolicy, str], RetryBudget],
        emit: Emit | None,
    ) -> None:
        self._clock = clock
        self._budget = budget
        self._emit = emit
        self._latencies: dict[str, LatencyEstimator] = {}
        self._losers: set[asyncio.Task[Any]] = set()

    @property
    def losers(self) -> int:
        """Attempts of calls that are over, which have not ended yet."""
        return len(self._losers)

    def latencies(self, path: str) -> LatencyEstimator:
        """What was learned of a method."""
        found = self._latencies.get(path)
        if found is None:
            found = self._latencies[path] = LatencyEstimator()
        return found

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Race attempts of a call that may be executed twice; leave all others alone."""
        own = context_of(ctx)
        policy = own.call.plan.hedge
        if policy is None:
            return call_next(request, own)
        return self._unary(call_next, request, own, policy)

    def intercept_client_stream(
        self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /
    ) -> Awaitable[R]:
        """Requests that come as a stream can be sent once only."""
        return call_next(request, ctx)

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Race attempts until one of them has brought a first message."""
        own = context_of(ctx)
        policy = own.call.plan.hedge
        if policy is None:
            return call_next(request, own)
        return self._stream(call_next, request, own, policy)

    def intercept_bidi_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Requests that come as a stream can be sent once only."""
        return call_next(request, ctx)

    async def _unary(
        self, call_next: Unary[Q, R], request: Q, own: CallContext, policy: HedgePolicy
    ) -> R:
        async def start(ctx: CallContext) -> R:
            return await call_next(request, ctx)

        winner = await self._run(own, policy, start)
        return winner.task.result()

    async def _stream(
        self, call_next: Stream[Q, R], request: Q, own: CallContext, policy: HedgePolicy
    ) -> AsyncIterator[R]:
        async def start(ctx: CallContext) -> "_Begun[R]":
            responses = call_next(request, ctx)
            try:
                return _Begun(responses, (await anext(responses),))
            except StopAsyncIteration:
                return _Begun(responses, ())
            except BaseException:
                await close(responses)
                raise

        winner = await self._run(own, policy, start)
        begun = winner.task.result()
        if begun.ended:
            return
        responses = begun.responses
        try:
            yield begun.first[0]
            while True:
                try:
                    # The stream goes on in the context in which it began.
                    response: R = await within(winner.context, awaited(responses.__anext__))
                except StopAsyncIteration:
                    return
                yield response
        finally:
            await within(winner.context, close(responses))

    async def _run(self, own: CallContext, policy: HedgePolicy, start: Start[R]) -> _Flight[R]:
        """Race; returns the winner, which has succeeded. All others are sent away."""
        now = self._clock.now()
        delay = self._learned(own.call.path, policy) if policy.delay is None else policy.delay
        plan = HedgedCall(limit=1 + policy.max_hedges, delay=delay, deadline=own.call.deadline)
        race = _Race(own, policy, plan, start, now)
        self._launch(race, own, now)
        try:
            while True:
                winner = await self._step(race)
                if winner is not None:
                    self._succeeded(race, winner)
                    return winner
        except asyncio.CancelledError:
            tasks = [flight.task for flight in race.flights]
            self._send_away(race)
            if tasks:
                await asyncio.wait(tasks, timeout=_PATIENCE)
            raise
        finally:
            self._send_away(race)

    async def _step(self, race: _Race[R]) -> _Flight[R] | None:
        """Wait for what comes next, and deal with it; returns the winner, if there is one now.

        Raises:
            Exception: The call has failed.
        """
        plan, now = race.plan, self._clock.now()
        if plan.due(now):
            self._next(race, now)
        if not race.flights and not plan.after_failure:
            raise self._lost(race)
        done = await self._wait(race, now)
        now = self._clock.now()
        for flight in done:
            task = flight.task
            if not task.cancelled() and task.exception() is None:
                race.flights.remove(flight)
                return flight
        for flight in done:
            self._failed(race, flight, now)
        deadline = race.call.deadline
        if race.flights and deadline is not None and now >= deadline + _OVERTIME:
            # Whatever is still out ignores its own deadline.
            late = ConnectError(Code.DEADLINE_EXCEEDED, "no attempt has ended in time")
            self._uncertain(race)
            raise race.error or late
        return None

    async def _wait(self, race: _Race[R], now: float) -> list[_Flight[R]]:
        """The attempts that have ended, in the order in which they were started."""
        until, deadline = race.plan.next_at, race.call.deadline
        if deadline is not None:
            until = deadline + _OVERTIME if until is None else min(until, deadline + _OVERTIME)
        if not race.flights:
            await self._clock.sleep(max(0.0, (until or now) - now))
            return []
        done, _ = await asyncio.wait(
            [flight.task for flight in race.flights],
            timeout=None if until is None else max(_SHORTEST_WAIT, until - now),
            return_when=asyncio.FIRST_COMPLETED,
        )
        return [flight for flight in race.flights if flight.task in done]

    def _launch(self, race: _Race[R], ctx: CallContext, now: float) -> None:
        race.plan.begun(now)
        race.flights.append(_Flight(ctx, race.start, now))

    def _next(self, race: _Race[R], now: float) -> None:
        """Start the attempt that is due, if it can be paid."""
        call, plan, verdict = race.call, race.plan, race.verdict
        follows = verdict if plan.after_failure else None
        kind = AttemptKind.TRANSPARENT if plan.free else AttemptKind.HEDGE
        number = plan.started if plan.free else plan.started + 1
        if not plan.free and not self._pay(race, now):
            plan.stop(StopReason.BUDGET)
            if self._emit is not None and race.flights:
                reason = StopReason.BUDGET.value
                self._emit(HedgeSuppressed(call.name, call.path, number, reason))
            return
        if self._emit is not None:
            cause = None if follows is None else follows.cause
            self._emit(HedgeStarted(call.name, call.path, number, now - race.began, cause))
        call.attempts += 1
        self._launch(race, race.own.following(Attempt(number, kind)), now)

    def _pay(self, race: _Race[R], now: float) -> bool:
        policy = race.policy.budget
        if policy is None:
            return True
        return self._budget(policy, race.call.method.service_name).withdraw(now, reserve=False)

    def _failed(self, race: _Race[R], flight: _Flight[R], now: float) -> None:
        """Take a failure down; raises it if it is the call's answer."""
        race.flights.remove(flight)
        if flight.task.cancelled():
            # Not by this side: something that it has awaited was cancelled.
            self._uncertain(race)
            raise asyncio.CancelledError
        error = flight.task.exception()
        if not isinstance(error, ConnectError):
            self._uncertain(race)
            raise error or RuntimeError("an attempt ended without a result")
        attempt = flight.ctx.attempt
        verdict = race.verdict = verdict_of(flight.ctx, error)
        pushback = attempt.pushback or NO_PUSHBACK
        what = meaning(verdict, pushback=pushback, untried=attempt.untried)
        if what is Meaning.FINAL:
            if verdict.outcome is Outcome.ANSWERED:
                self.latencies(race.call.path).observe(now - flight.started)
            if not race.flights:
                self._stopped(race, StopReason.NON_RETRYABLE, verdict)
            self._uncertain(race)
            raise error
        race.own.attempt.untried = attempt.untried
        if flight.ctx is race.own:
            race.error = error
            note_retry_after(error, pushback.delay)
        race.plan.failed(what, pushback, now)

    def _lost(self, race: _Race[R]) -> ConnectError:
        """All attempts have failed: the error of the first."""
        if race.error is None or race.verdict is None:
            msg = "a race without attempts"
            raise RuntimeError(msg)
        if race.verdict.cause is not Cause.REJECTED or race.call.attempts > 1:
            self._stopped(race, race.plan.stopped or StopReason.NON_RETRYABLE, race.verdict)
        return race.error

    def _stopped(self, race: _Race[R], reason: StopReason, verdict: Verdict) -> None:
        call = race.call
        if self._emit is not None:
            self._emit(
                RetryStopped(call.name, call.path, call.attempts, reason.value, verdict.cause)
            )

    def _uncertain(self, race: _Race[R]) -> None:
        """The call fails while attempts are out: nobody knows what becomes of them."""
        call = race.call
        for flight in race.flights:
            if flight.ctx.attempt.entered or not call.observed:
                known = call.delivery or Delivery.MAYBE
                call.delivery = known.worst(Delivery.MAYBE)

    def _succeeded(self, race: _Race[R], winner: _Flight[R]) -> None:
        call, now = race.call, self._clock.now()
        policy = race.policy.budget
        if policy is not None:
            self._budget(policy, call.method.service_name).deposit(now)
        known = self.latencies(call.path)
        known.observe(now - winner.started)
        for loser in race.flights:
            known.observe(now - loser.started)  # at least so long

    def _learned(self, path: str, policy: HedgePolicy) -> float | None:
        known = self._latencies.get(path)
        if known is None or known.count < policy.min_samples:
            return None
        learned = known.quantile(policy.percentile)
        return None if learned is None else max(learned, policy.min_delay)

    def _send_away(self, race: _Race[R]) -> None:
        """Cancel what is still out, and see to it that it is awaited."""
        flights, race.flights = race.flights, []
        for flight in flights:
            flight.task.cancel()
            self._losers.add(flight.task)
            race.call.attempt_lingers()
            flight.task.add_done_callback(partial(self._left, race.call))

    def _left(self, call: Call, task: asyncio.Task[Any]) -> None:
        self._gone(task)
        call.attempt_left()

    def _gone(self, task: asyncio.Task[Any]) -> None:
        self._losers.discard(task)
        if task.cancelled() or task.exception() is not None:  # retrieved: nobody wants it
            return
        result = task.result()
        if isinstance(result, _Begun):
            # It won too, a moment too late: its stream may be open.
            closing = asyncio.get_running_loop().create_task(_close_begun(result))
            self._losers.add(closing)
            closing.add_done_callback(self._gone)

    async def aclose(self) -> None:
        """Wait for the attempts that were cancelled, 1 s at most."""
        if self._losers:
            await asyncio.wait(self._losers, timeout=CLOSE_GRACE)

    def __repr__(self) -> str:
        return f"<Hedge losers={len(self._losers)}>"


async def close_chain(chain: Iterable[object]) -> None:
    """Wait for what a chain has left behind; whoever made the chain calls this when closing."""
    for link in chain:
        if isinstance(link, Hedge):
            await link.aclose()


async def _close_begun(begun: Any) -> None:
    await close(begun.responses)
