"""The breaker against the plainest model there is: lists of what happened when, and numbers.

Times are multiples of 1/16 s, so that no float rounds, and the model can be exact.
"""

import math
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.machine import (
    BreakerMachine,
    CircuitState,
    Permit,
)
from connectplugin_interceptors.outcome import Outcome

CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
HALF_OPEN, ISOLATED = CircuitState.HALF_OPEN, CircuitState.ISOLATED

quarters = st.integers(0, 12).map(lambda number: number / 4)


@dataclass(eq=False)
class Live:
    """A permit, and what the model knows of it."""

    permit: Permit
    generation: int
    started: float
    responded: float | None = None
    released: bool = False


class BreakerModel(RuleBasedStateMachine):
    permits = Bundle[Live]("permits")

    @initialize(
        threshold=st.sampled_from([None, 1, 2, 5]),
        minimum=st.sampled_from([1, 4, 20]),
        successes=st.integers(1, 3),
        probes=st.integers(1, 3),
        slow=st.sampled_from([None, 0.5]),
        blame=st.sampled_from([0.0, 0.75]),
        start=st.sampled_from([0.0, -3.25, 1000.5]),
    )
    def begin(
        self,
        *,
        threshold: int | None,
        minimum: int,
        successes: int,
        probes: int,
        slow: float | None,
        blame: float,
        start: float,
    ) -> None:
        self.policy = CircuitBreakerPolicy(
            failure_threshold=threshold,
            minimum_calls=minimum,
            success_threshold=successes,
            probes=probes,
            slow_call_duration=slow,
            slow_call_rate=None if slow is None else 0.5,
            min_blame_timeout=blame,
            timeout=1.0,
            max_timeout=6.0,
            jitter=0.5,
            lease=4.0,
            max_hint=8.0,
        )
        self.machine = BreakerMachine(self.policy)
        self.now = start
        self.generation = 0
        self.trips = 0
        self.told = CLOSED
        self.probing = set[int]()  # the generations that were half open
        self.close()

    # What should be ------------------------------------------------------------------------------

    def close(self) -> None:
        self.state = CLOSED
        self.generation += 1
        self.trips = 0
        self.run = 0
        self.counted: list[tuple[float, bool, bool]] = []  # when, failed, slow

    def trip(self, hint: float, rnd: float) -> None:
        self.state = OPEN
        self.generation += 1
        self.trips += 1
        shortest = {1: 1.0, 2: 2.0}.get(self.trips, 4.0)  # 4 to 6: the jitter is within the cap
        self.until = self.now + max(shortest * (1 + 0.5 * rnd), min(hint, 8.0))

    def half_open(self) -> None:
        self.state = HALF_OPEN
        self.generation += 1
        self.probing.add(self.generation)
        self.since = self.now
        self.good = 0
        self.paused = -math.inf
        self.leases: dict[Live, float] = {}

    def held(self) -> list[float]:
        return [lapses for lapses in self.leases.values() if self.now < lapses]

    def wait(self) -> float:
        """What `peek` should say."""
        if self.state is ISOLATED:
            return math.inf
        if self.state is OPEN:
            return max(0.0, self.until - self.now)
        if self.state is HALF_OPEN and self.now < self.paused:
            return self.paused - self.now
        if self.state is HALF_OPEN and len(self.held()) >= self.policy.probes:
            return min(1.0, min(self.held()) - self.now)
        return 0.0

    def share(self, column: int) -> bool:
        """Whether half of at least the minimum, over the ten buckets that end now, are bad."""
        first = math.floor(self.now) - 9
        within = [row for row in self.counted if math.floor(row[0]) >= first]
        bad = sum(1 for row in within if row[column])
        return len(within) >= self.policy.minimum_calls and bad * 2 >= len(within)

    def count(self, live: Live, outcome: Outcome, *, hint: float, rnd: float) -> None:
        if outcome not in {Outcome.SUCCESS, Outcome.FAILURE}:
            return
        failed = outcome is Outcome.FAILURE
        slow = self.slow(live)
        self.run = self.run + 1 if failed else 0
        self.counted.append((self.now, failed, slow))
        threshold = self.policy.failure_threshold
        tripped = failed and ((threshold is not None and self.run >= threshold) or self.share(1))
        if tripped or (slow and self.share(2)):
            self.trip(hint, rnd)

    def slow(self, live: Live) -> bool:
        limit = self.policy.slow_call_duration
        ended = self.now if live.responded is None else live.responded
        return limit is not None and ended - live.started >= limit

    # What happens --------------------------------------------------------------------------------

    @rule(target=permits)
    def a_call_asks(self) -> Live | MultipleResults[Live]:
        expected = self.wait()
        got = self.machine.acquire(self.now)
        if expected > 0:
            assert got == expected
            return multiple()
        assert isinstance(got, Permit)
        if self.state is OPEN:
            self.half_open()
        live = Live(got, self.generation, self.now)
        if self.state is HALF_OPEN:
            self.leases[live] = self.now + 4.0
        return live

    @rule(
        live=permits,  # not consumed: a call may be given back twice
        outcome=st.sampled_from(Outcome),
        expired=st.booleans(),
        hint=st.sampled_from([0.0, 3.0, 100.0]),
        rnd=st.sampled_from([0.0, 0.25, 0.75]),
    )
    def a_call_ends(
        self, *, live: Live, outcome: Outcome, expired: bool, hint: float, rnd: float
    ) -> None:
        expired = expired and outcome is Outcome.FAILURE
        self.machine.release(live.permit, outcome, self.now, expired=expired, hint=hint, rnd=rnd)
        if live.released:
            return
        live.released = True
        if live.generation != self.generation:
            return
        if expired and self.now - live.started < self.policy.min_blame_timeout:
            outcome = Outcome.NEUTRAL
        if self.state is CLOSED:
            self.count(live, outcome, hint=hint, rnd=rnd)
        else:
            self.probed(live, outcome, hint=hint, rnd=rnd)

    def probed(self, live: Live, outcome: Outcome, *, hint: float, rnd: float) -> None:
        assert self.state is HALF_OPEN
        self.leases.pop(live, None)
        success = outcome is Outcome.SUCCESS
        if outcome is Outcome.FAILURE or (success and self.slow(live)):
            self.trip(hint, rnd)
        elif success:
            self.good += 1
            if self.good >= self.policy.success_threshold:
                self.close()
        elif outcome is not Outcome.NEUTRAL and self.now - self.since >= 4.0:
            self.close()
        elif outcome is Outcome.REFUSED:
            self.paused = max(self.paused, self.now + max(0.0625, min(hint, 6.0)))

    @rule(live=permits)
    def a_stream_responds(self, live: Live) -> None:
        self.machine.responded(live.permit, self.now)
        if live.released:
            return
        if live.generation in self.probing:
            live.released = True
            if live.generation == self.generation:
                self.probed(live, Outcome.SUCCESS, hint=0.0, rnd=0.0)
        else:
            live.responded = self.now

    @rule(live=consumes(permits))
    def a_call_never_comes_back(self, live: Live) -> None:
        del live

    @rule(seconds=quarters)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def the_time_that_was_told_passes(self) -> None:
        if math.isfinite(wait := self.wait()):
            self.now += wait
            assert self.state is HALF_OPEN or self.machine.peek(self.now) == 0

    @rule(seconds=st.sampled_from([9.75, 10.0, 3600.0]))
    def much_time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def health_is_good(self) -> None:
        self.machine.probe_now(self.now)
        if self.state is OPEN:
            self.half_open()

    @rule()
    def somebody_isolates(self) -> None:
        self.machine.isolate()
        if self.state is not ISOLATED:
            self.state = ISOLATED
            self.generation += 1

    @rule(rnd=st.sampled_from([0.0, 0.5]))
    def somebody_opens(self, rnd: float) -> None:
        self.machine.force_open(self.now, rnd=rnd)
        if self.state is not ISOLATED:
            self.trip(0.0, rnd)

    @rule()
    def somebody_resets(self) -> None:
        self.machine.reset()
        self.close()

    # What always holds ---------------------------------------------------------------------------

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        if not hasattr(self, "machine"):
            return
        assert self.machine.state is self.state
        assert self.machine.peek(self.now) == self.wait()
        assert repr(self.machine)

    @invariant()
    def its_probes_are_live_and_within_the_limit(self) -> None:
        if not hasattr(self, "machine") or self.state is not HALF_OPEN:
            return
        assert len(self.held()) <= self.policy.probes

    @invariant()
    def every_move_begins_where_the_last_one_ended(self) -> None:
        if not hasattr(self, "machine"):
            return
        for move in self.machine.moves:
            assert move.before is self.told
            assert move.after is not move.before
            self.told = move.after
        self.machine.moves.clear()
        assert self.told is self.machine.state


BreakerModel.TestCase.settings = settings(max_examples=100, deadline=None)
TestBreaker = BreakerModel.TestCase
