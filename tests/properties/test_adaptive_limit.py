"""What the adaptive limit promises, whatever its calls tell it."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.machine import (
    FEWEST_SAMPLES,
    AdaptiveLimitMachine,
    Reason,
    Release,
)


class Model(RuleBasedStateMachine):
    """Bounded, at most halved in one step, moved only by windows that are long and full enough."""

    @initialize(
        low=st.integers(1, 5),
        more=st.integers(0, 300),
        begin=st.floats(0.0, 1.0),
        window=st.sampled_from([0.1, 1.0, 5.0]),
        start=st.sampled_from([0.0, -3.5, 1e6]),
    )
    def start(self, low: int, more: int, begin: float, window: float, start: float) -> None:
        first = low + int(more * begin)
        self.policy = AdaptiveLimitPolicy(
            min_limit=low, max_limit=low + more, initial_limit=first, window=window
        )
        self.now = start
        self.machine = AdaptiveLimitMachine(self.policy, start)
        assert self.machine.limit == first
        self.since = start
        self.samples = 0
        self.peak = 0

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.5, 2.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_finds_no_slot(self) -> None:
        self.machine.full()

    @rule(
        count=st.sampled_from([1, 10, 60]),
        duration=st.sampled_from([0.0, 1e-4, 0.01, 0.2, 3.0, 100.0]),
        release=st.sampled_from(Release),
        in_flight=st.integers(1, 400),
        apart=st.sampled_from([0.0, 0.02, 0.1]),
    )
    def calls_end(
        self, *, count: int, duration: float, release: Release, in_flight: int, apart: float
    ) -> None:
        for _ in range(count):
            self.now += apart
            before = self.machine.limit
            changed = self.machine.sample(
                now=self.now, duration=duration, release=release, in_flight=in_flight
            )
            after = self.machine.limit
            assert changed == (before != after)
            self.samples += release is not Release.IGNORE
            self.peak = max(self.peak, in_flight)
            if not changed:
                continue
            assert self.samples >= FEWEST_SAMPLES, "moved by hearsay"
            assert self.now - self.since >= self.policy.window - 1e-9, "moved too soon"
            self.since, self.samples = self.now, 0
            if after < before:
                assert after >= math.floor(before / 2), "more than halved"
                assert 2 * self.peak >= before, "lowered while it decided nothing"
            elif self.machine.reason is not Reason.SLOWER:
                assert self.machine.reason is Reason.RAISED
                assert after - before <= 6 * max(1.0, math.log10(before)) + 1

    @rule(duration=st.sampled_from([0.01, 5.0]))
    def a_call_of_no_meaning_ends(self, duration: float) -> None:
        before = repr(self.machine)
        assert not self.machine.sample(
            now=self.now, duration=duration, release=Release.IGNORE, in_flight=1
        )
        assert repr(self.machine) == before

    @invariant()
    def it_stays_within_its_bounds(self) -> None:
        if hasattr(self, "machine"):
            assert self.policy.min_limit <= self.machine.limit <= self.policy.max_limit
            assert self.machine.baseline is None or self.machine.baseline >= 0.0


TestAdaptiveLimit = Model.TestCase
TestAdaptiveLimit.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
