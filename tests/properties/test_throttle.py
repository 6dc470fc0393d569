"""The throttle against the formula, over a list of what happened when."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectplugin_interceptors.throttle.config import ThrottlePolicy
from connectplugin_interceptors.throttle.machine import ThrottleMachine

BUCKETS = 40


class Model(RuleBasedStateMachine):
    """Refusals are those of the formula, whoever is in flight, late or cancelled."""

    @initialize(
        multiplier=st.sampled_from([1.0, 1.5, 2.0, 5.0]),
        window=st.sampled_from([1.0, 120.0]),
        most=st.sampled_from([0.5, 0.8, 0.99]),
    )
    def begin(self, multiplier: float, window: float, most: float) -> None:
        self.policy = ThrottlePolicy(multiplier=multiplier, window=window, max_rejection=most)
        self.machine = ThrottleMachine(self.policy)
        self.width = window / BUCKETS
        self.tick = 0
        # The bucket in which each happened.
        self.requests: list[int] = []
        self.accepts: list[int] = []
        self.dismissed: list[int] = []
        self.pending = 0

    @property
    def now(self) -> float:
        return (self.tick + 0.5) * self.width

    @rule(buckets=st.sampled_from([0, 1, 3, 20, 41, 1000]))
    def time_passes(self, buckets: int) -> None:
        self.tick += buckets

    def within(self, events: list[int]) -> int:
        return sum(at > self.tick - BUCKETS for at in events)

    def expected(self) -> float:
        requests = self.within(self.requests) - self.within(self.dismissed) - self.pending
        if requests <= 0:
            return 0.0
        over = requests - self.policy.multiplier * self.within(self.accepts)
        return min(self.policy.max_rejection, max(0.0, over / (requests + 1)))

    @rule(rnd=st.floats(0.0, 1.0, exclude_max=True), count=st.integers(1, 20))
    def calls_begin(self, rnd: float, count: int) -> None:
        for _ in range(count):
            share = self.expected()
            sent = self.machine.request(self.now, rnd)
            assert sent == (rnd >= share)
            self.requests.append(self.tick)
            self.pending += sent

    @rule(how=st.sampled_from(["accept", "refuse", "dismiss"]), count=st.integers(1, 20))
    def calls_end(self, how: str, count: int) -> None:
        for _ in range(min(count, self.pending)):
            self.pending -= 1
            match how:
                case "accept":
                    self.machine.accept(self.now)
                    self.accepts.append(self.tick)
                case "refuse":
                    self.machine.refuse()
                case _:
                    self.machine.dismiss(self.now)
                    self.dismissed.append(self.tick)

    @rule()
    def it_shows_what_it_knows(self) -> None:
        self.machine.request(self.now, 1.0)
        self.machine.dismiss(self.now)
        self.requests.append(self.tick)
        self.dismissed.append(self.tick)
        shown = f"{self.within(self.accepts)} accepted of {self.within(self.requests)}"
        self.machine.rejection(self.now)
        assert repr(self.machine) == f"<Throttle {shown}>"

    @invariant()
    def it_is_the_formula(self) -> None:
        if hasattr(self, "machine"):
            assert abs(self.machine.rejection(self.now) - self.expected()) < 1e-9


TestThrottle = Model.TestCase
TestThrottle.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
