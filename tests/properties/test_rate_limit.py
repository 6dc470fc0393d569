"""The rate limit against the plainest model there is: exact tokens, and a list of who waits."""

from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
)

from connectplugin_interceptors.rate_limit.machine import ROUNDING, RateLimitMachine, Turn

SLACK = 1e-5


class Model(RuleBasedStateMachine):
    """Three keys, exact tokens in each; what is let in never exceeds rate * time + burst."""

    waiting = Bundle("waiting")

    @initialize(
        per_second=st.sampled_from([0.3, 1.0, 3.0, 10.0, 1000.0]),
        burst=st.sampled_from([1.0, 2.0, 5.5, 20.0]),
        start=st.sampled_from([0.0, -7.25, 654_321.125]),
    )
    def begin(self, per_second: float, burst: float, start: float) -> None:
        self.rate, self.burst = per_second, burst
        self.now = start
        self.machine = RateLimitMachine(per_second=per_second, burst=burst)
        self.tokens = dict.fromkeys("abc", self.burst)
        self.queues: dict[str, deque[tuple[Turn, float]]] = {key: deque() for key in "abc"}
        self.admitted: dict[str, list[tuple[float, float]]] = {key: [] for key in "abc"}

    def advance(self, seconds: float) -> None:
        before = self.now
        self.now += seconds
        gained = self.rate * (self.now - before)
        for key, tokens in self.tokens.items():
            self.tokens[key] = min(self.burst, tokens + gained)

    @rule(seconds=st.floats(0.0, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(tokens=st.integers(1, 5))
    def time_for_whole_tokens_passes(self, tokens: int) -> None:
        self.advance(float(tokens / self.rate))

    def close_to(self, key: str, amount: float) -> bool:
        """Whether rounding may decide."""
        return abs(self.tokens[key] - amount) <= self.rate * SLACK

    def charge(self, key: str, amount: float) -> None:
        self.tokens[key] -= amount
        self.admitted[key].append((self.now, amount))

    @rule(key=st.sampled_from("abc"), amount=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def it_asks_and_does_not_wait(self, key: str, amount: float) -> None:
        wait = self.machine.admit(key, amount, self.now)
        if amount > self.burst:
            assert wait == float("inf")
            return
        owed = sum(each for _, each in self.queues[key])
        short = owed + amount - self.tokens[key]
        if wait == 0.0:
            assert not self.queues[key], "it passed somebody who waits"
            assert short <= self.rate * SLACK
            self.charge(key, amount)
        else:
            assert self.queues[key] or short > -self.rate * SLACK
            assert abs(wait - max(short / self.rate, ROUNDING)) < SLACK

    @rule(target=waiting, key=st.sampled_from("abc"), amount=st.sampled_from([0.5, 1.0, 2.0, 5.0]))
    def it_waits(self, key: str, amount: float) -> tuple[str, Turn, float] | None:
        wait = self.machine.admit(key, amount, self.now)
        if wait == 0.0:
            self.charge(key, amount)
            return None
        if wait == float("inf"):
            return None
        turn = self.machine.enqueue(key, amount)
        self.queues[key].append((turn, amount))
        return key, turn, amount

    @rule(who=waiting)
    def it_asks_for_its_turn(self, who: tuple[str, Turn, float] | None) -> None:
        if who is None or (who[1], who[2]) not in self.queues[who[0]]:
            return
        key, turn, amount = who
        wait = self.machine.take(turn, self.now)
        if self.queues[key][0][0] is not turn:
            assert wait is None
            return
        assert wait is not None
        if not self.close_to(key, amount):
            assert (wait == 0.0) == (self.tokens[key] >= amount)
        if wait == 0.0:
            self.queues[key].popleft()
            self.charge(key, amount)
        else:
            missing = (amount - self.tokens[key]) / self.rate
            assert abs(wait - missing) < SLACK

    @rule(who=consumes(waiting), twice=st.booleans())
    def it_is_cancelled(self, who: tuple[str, Turn, float] | None, *, twice: bool) -> None:
        if who is None:
            return
        key, turn, amount = who
        self.machine.leave(turn)
        if twice:
            self.machine.leave(turn)
        if (turn, amount) in self.queues[key]:
            self.queues[key].remove((turn, amount))

    @rule(key=st.sampled_from("abc"))
    def the_head_waits_exactly_as_long_as_it_is_told(self, key: str) -> None:
        if not self.queues[key]:
            return
        turn, amount = self.queues[key][0]
        wait = self.machine.take(turn, self.now)
        assert wait is not None
        if wait:
            self.advance(wait)
            assert self.machine.take(turn, self.now) == 0.0
        self.queues[key].popleft()
        self.charge(key, amount)

    @invariant()
    def no_more_is_let_in_than_rate_times_time_plus_burst(self) -> None:
        for admitted in getattr(self, "admitted", {}).values():
            for first in range(max(0, len(admitted) - 8), len(admitted)):
                since = admitted[first][0]
                total = sum(amount for _, amount in admitted[first:])
                allowed = self.burst + self.rate * (self.now - since + SLACK)
                assert total <= allowed

    @invariant()
    def the_quota_told_is_the_quota(self) -> None:
        if not hasattr(self, "machine"):
            return
        for key, tokens in self.tokens.items():
            quota = self.machine.quota(key, self.now)
            assert abs(quota.remaining - int(tokens)) <= 1
            full_in = (self.burst - max(tokens, 0.0)) / self.rate
            assert abs(quota.full_in - full_in) < SLACK


TestRateLimit = Model.TestCase
TestRateLimit.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


class Keys(RuleBasedStateMachine):
    """Never more keys than there may be; a full bucket goes before one that is not."""

    MOST = 5

    def __init__(self) -> None:
        super().__init__()
        self.machine = RateLimitMachine(per_second=10.0, burst=4.0, most_keys=self.MOST)
        self.now = 100.0
        self.turns: dict[str, list[Turn]] = {}

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.1, 0.3, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    def known(self) -> set[str]:
        """Whose bucket must be there: it is not full, or somebody waits for it."""
        return set(self.turns) | {
            f"k{number}"
            for number in range(12)
            if self.machine.quota(f"k{number}", self.now).full_in > 0
        }

    @rule(number=st.integers(0, 11), amount=st.sampled_from([1.0, 4.0]))
    def a_key_asks(self, number: int, amount: float) -> None:
        key = f"k{number}"
        before = self.known()
        quotas = {each: self.machine.quota(each, self.now).full_in for each in before}
        wait = self.machine.admit(key, amount, self.now)
        forgotten = {each for each in before - self.known() if each != key}
        assert len(forgotten) <= 1
        for each in forgotten:
            assert len(before) >= self.MOST, "one that is not full went while there was room"
            spared = [quotas[other] for other in before if other not in self.turns]
            assert quotas[each] <= min(spared) + 1e-9, "a fuller one was there"
            assert each not in self.turns, "somebody waits for it"
        if 0.0 < wait < float("inf"):
            self.turns.setdefault(key, []).append(self.machine.enqueue(key, amount))

    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        if not self.turns:
            return
        key = data.draw(st.sampled_from(sorted(self.turns)))
        self.machine.leave(self.turns[key].pop(0))
        if not self.turns[key]:
            del self.turns[key]

    @invariant()
    def they_are_bounded(self) -> None:
        assert self.machine.keys <= self.MOST


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
