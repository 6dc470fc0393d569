"""The adaptive limit against the formula of its own docstring, written down once more."""

import math
from collections import deque
from dataclasses import dataclass
from statistics import StatisticsError, correlation

from hypothesis import given, settings
from hypothesis import strategies as st

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.machine import (
    FEWEST_SAMPLES,
    AdaptiveLimitMachine,
    Reason,
    Release,
)


@dataclass(frozen=True)
class Seen:
    """One window: fifty calls that all took as long."""

    duration: float
    in_flight: int
    limited: bool
    dropped: int


windows = st.builds(
    Seen,
    duration=st.sampled_from([0.01, 0.02, 0.1, 0.11, 0.115, 0.12, 0.2, 0.5, 3.0]),
    in_flight=st.sampled_from([1, 10, 40, 50, 100, 150, 400]),
    limited=st.booleans(),
    dropped=st.sampled_from([0, 0, 0, 0, 4, 5]),
)


class Formula:
    """Vegas with its guards, in the order in which the docstring has them."""

    def __init__(self, policy: AdaptiveLimitPolicy) -> None:
        self.policy = policy
        self.limit = float(policy.first_limit)
        self.baseline: float | None = None
        self.reason = Reason.INITIAL
        self.windows = 0
        self.past: deque[tuple[Seen, float]] = deque(maxlen=50)
        self.cut: tuple[float, float] | None = None

    def window(self, seen: Seen, length: float) -> None:
        throughput = (FEWEST_SAMPLES - seen.dropped) / length
        self.past.append((seen, throughput))
        self.windows += 1
        overrun = seen.dropped >= FEWEST_SAMPLES / 10
        limit, cut, self.cut = self.limit, self.cut, None
        if cut is not None and seen.limited and not overrun:
            before, latency = cut
            if seen.duration > latency * math.sqrt(limit / before):
                self.reason, self.limit, self.baseline = Reason.SLOWER, before, seen.duration
                return
        baseline = seen.duration if self.baseline is None else self.baseline
        self.reason, wanted = self._decide(seen, throughput, baseline, overrun=overrun)
        self.limit = min(self.policy.max_limit, max(self.policy.min_limit, wanted))
        if self.limit <= 0.75 * limit and not overrun:
            self.cut = limit, seen.duration
        age = 10.0
        if seen.duration < baseline:
            age = 3.0
        elif self.reason in {Reason.QUEUE, Reason.DROPPED}:
            age = 50.0
        # Windows whose cut was taken back have set the baseline, and are no part of its mean.
        self.baseline = baseline + (seen.duration - baseline) / min(age, self.windows)

    def _decide(
        self, seen: Seen, throughput: float, baseline: float, *, overrun: bool
    ) -> tuple[Reason, float]:
        limit = self.limit
        step = max(1.0, math.log10(limit))
        queue = limit * max(0.0, 1 - baseline / seen.duration)
        needed = throughput * min(past.duration for past, _ in self.past)
        if seen.in_flight < limit / 2:
            return Reason.KEPT, limit
        if overrun:
            return Reason.DROPPED, limit / 2
        if queue > 6 * step:
            lower = max(limit / 2, limit - max(step, queue - 3 * step), needed)
            return Reason.QUEUE, min(limit, lower)
        if seen.limited and seen.duration >= baseline and self._drifts():
            return Reason.DRIFT, min(limit, max(limit - step, needed))
        if queue < 3 * step:
            higher = limit + (6 * step if queue <= step else step)
            return Reason.RAISED, max(limit, min(higher, 5.0 * seen.in_flight))
        return Reason.KEPT, limit

    def _drifts(self) -> bool:
        if len(self.past) < 10:
            return False
        in_flight = [past.in_flight for past, _ in self.past]

        def goes_with(other: list[float]) -> float:
            try:
                return correlation(in_flight, other)
            except StatisticsError:  # one of them does not vary
                return 0.0

        slower = goes_with([past.duration for past, _ in self.past])
        return slower > 0.5 and goes_with([throughput for _, throughput in self.past]) < 0.3


@given(
    first=st.sampled_from([1, 9, 80, 100, 300]),
    start=st.sampled_from([0.0, 1000.0]),
    seen=st.lists(windows, min_size=1, max_size=30),
)
@settings(max_examples=200, deadline=None)
def test_window_by_window_it_is_the_formula(first: int, start: float, seen: list[Seen]) -> None:
    policy = AdaptiveLimitPolicy(max_limit=400, initial_limit=first)
    machine, formula = AdaptiveLimitMachine(policy, start), Formula(policy)
    now = start
    for one in seen:
        begun = now
        # The last call ends the window, and none began before the window did.
        length = 1.25 * max(1.0, 2.0 * (machine.baseline or 0.0), one.duration)
        if one.limited:
            machine.full()
        for number in range(FEWEST_SAMPLES):
            part = (number + 1) / FEWEST_SAMPLES
            now = begun + one.duration + (length - one.duration) * part
            machine.sample(
                now=now,
                duration=one.duration,
                release=Release.DROPPED if number < one.dropped else Release.SUCCESS,
                in_flight=one.in_flight if number == 7 else 1,
            )
        formula.window(one, now - begun)
        assert machine.reason is formula.reason
        assert machine.baseline is not None
        assert formula.baseline is not None
        assert math.isclose(machine.baseline, formula.baseline, rel_tol=1e-9)
        # It shows whole calls; at the very edge the two may round to different sides.
        assert machine.limit in {int(formula.limit - 1e-6), int(formula.limit + 1e-6)}
