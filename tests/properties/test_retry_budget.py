"""The budget against the plainest model there is: a list of what happened when."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors._window import BucketWindow

SLACK = 1e-6
BUCKETS = 10


class BudgetModel(RuleBasedStateMachine):
    """Withdrawals in the window before a withdrawal never exceed what the window allows."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.successes: list[float] = []
        self.withdrawals: list[float] = []

    @initialize(
        ratio=st.sampled_from([0.0, 0.1, 0.29, 1.0]),
        window=st.sampled_from([0.1, 1.0, 7.3, 10.0]),
        reserve=st.sampled_from([0.0, 0.35, 1.0, 12.0]),
        start=st.sampled_from([0.0, -5.5, 123456.789]),
    )
    def begin(self, ratio: float, window: float, reserve: float, start: float) -> None:
        self.ratio, self.window, self.reserve, self.now = ratio, window, reserve, start
        self.budget = RetryBudget(ratio=ratio, window=window, reserve=reserve)

    def within(self, events: list[float], seconds: float) -> int:
        return sum(at > self.now - seconds for at in events)

    @rule(part=st.floats(min_value=0.0, max_value=0.3))
    def time_passes(self, part: float) -> None:
        self.now += part * self.window

    @rule(buckets=st.integers(1, 12))
    def time_comes_to_a_bucket_s_edge(self, buckets: int) -> None:
        width = self.window / BUCKETS
        self.now = (self.now // width + buckets) * width

    @rule(windows=st.integers(1, 10**6))
    def time_leaps(self, windows: int) -> None:
        self.now += windows * self.window

    @rule(count=st.integers(1, 40))
    def calls_succeed(self, count: int) -> None:
        for _ in range(count):
            self.budget.deposit(self.now)
            self.successes.append(self.now)

    @rule(reserve=st.booleans(), count=st.integers(1, 15))
    def attempts_are_paid(self, *, reserve: bool, count: int) -> None:
        for _ in range(count):
            before = self.budget.balance(self.now, reserve=reserve)
            granted = self.budget.withdraw(self.now, reserve=reserve)
            assert granted == (before >= 1 - SLACK)
            after = self.budget.balance(self.now, reserve=reserve)
            assert after == before - 1 if granted else after == before
            if granted:
                self.withdrawals.append(self.now)
                self.the_window_is_kept(reserve=reserve)

    def the_window_is_kept(self, *, reserve: bool) -> None:
        allowed = self.ratio * self.within(self.successes, self.window + SLACK)
        if reserve:
            allowed += self.reserve * self.window
        assert self.within(self.withdrawals, self.window - SLACK) <= allowed + SLACK

    @invariant()
    def no_more_is_forgotten_than_a_bucket(self) -> None:
        """Nor is it stingy: successes pay for nine buckets, withdrawals weigh eleven at most."""
        if not hasattr(self, "budget"):
            return
        width = self.window / BUCKETS
        earned = self.ratio * self.within(self.successes, self.window - width - SLACK)
        spent = self.within(self.withdrawals, self.window + width + SLACK)
        least = earned + self.reserve * self.window - spent
        assert self.budget.balance(self.now) >= least - SLACK


TestBudget = BudgetModel.TestCase
TestBudget.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


class WindowModel(RuleBasedStateMachine):
    """Counts in buckets equal those of a list whose times are rounded down to the bucket."""

    @initialize(
        width=st.sampled_from([0.25, 1.0, 3.0]),
        buckets=st.integers(1, 11),
        start=st.sampled_from([0.0, -7.5, 1e6]),
    )
    def begin(self, width: float, buckets: int, start: float) -> None:
        self.width, self.buckets, self.now = width, buckets, start
        self.window = BucketWindow(width=width, buckets=buckets)
        self.events: list[tuple[float, bool]] = []

    @rule(eighths=st.integers(0, 40))
    def time_passes(self, eighths: int) -> None:
        self.now += eighths * self.width / 8

    @rule(buckets=st.integers(1, 10**9))
    def time_leaps(self, buckets: int) -> None:
        self.now += buckets * self.width

    @rule(bad=st.booleans(), count=st.integers(1, 3))
    def events_happen(self, *, bad: bool, count: int) -> None:
        for _ in range(count):
            self.window.add(self.now, bad=bad)
            self.events.append((self.now // self.width, bad))

    @rule()
    def it_is_read(self) -> None:
        oldest = self.now // self.width - self.buckets + 1
        kept = [bad for bucket, bad in self.events if bucket >= oldest]
        assert self.window.counts(self.now) == (sum(kept), len(kept))


TestWindow = WindowModel.TestCase
TestWindow.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
