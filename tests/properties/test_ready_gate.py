"""The gate of `wait_for_ready` against everything that can happen to it, in any order."""

from itertools import pairwise

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectplugin_interceptors.ready.machine import (
    LONGEST_INTERVAL,
    MOST_RELEASED,
    MOST_WAITING,
    SHORTEST_INTERVAL,
    SHORTEST_WAIT,
    ReadyGate,
)


class Gate(RuleBasedStateMachine):
    """Calls that join, try, fail, succeed, and leave at any point; time that passes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = ReadyGate()
        self.now = 100.0
        self.asleep = 0
        self.trying = 0
        self.granted = 0
        self.knocked: list[float] = []
        self.closed_at: float | None = None

    @rule(seconds=st.floats(0.0, 1.0))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def a_call_fails_and_joins(self) -> None:
        was_open = self.gate.open
        self.gate.unreachable(self.now)
        if was_open:
            self.closed_at, self.knocked = self.now, []
        self.granted = 0
        assert self.gate.join() is (self.asleep + self.trying < MOST_WAITING)
        self.asleep += 1

    @precondition(lambda self: self.asleep)
    @rule()
    def a_call_asks_for_its_turn(self) -> None:
        wait = self.gate.turn(self.now)
        if wait:
            # Never shorter than a clock can tell, never longer than the pace.
            assert SHORTEST_WAIT <= wait <= LONGEST_INTERVAL
            return
        self.asleep -= 1
        self.trying += 1
        if self.granted:
            self.granted -= 1
        else:
            self.knocked.append(self.now)

    @precondition(lambda self: self.trying)
    @rule(reaches=st.booleans())
    def a_try_ends(self, reaches: bool) -> None:
        self.gate.ended()
        self.trying -= 1
        if reaches:
            self.gate.leave()
            self.granted = self.gate.reachable()
            assert self.granted <= min(self.asleep, MOST_RELEASED)
        else:
            was_open = self.gate.open
            self.gate.unreachable(self.now)
            if was_open:
                self.closed_at, self.knocked = self.now, []
            self.granted = 0
            self.asleep += 1

    @precondition(lambda self: self.asleep)
    @rule()
    def a_sleeper_is_cancelled(self) -> None:
        self.gate.leave()
        self.asleep -= 1

    @precondition(lambda self: self.trying)
    @rule()
    def a_try_is_cancelled(self) -> None:
        self.gate.ended()
        self.gate.leave()
        self.trying -= 1

    @rule()
    def somebody_who_never_waited_gets_through(self) -> None:
        self.granted = self.gate.reachable()

    @invariant()
    def everybody_is_counted(self) -> None:
        assert self.gate.waiting == self.asleep + self.trying
        assert self.gate.trying == self.trying

    @invariant()
    def all_together_knock_at_the_pace(self) -> None:
        if self.closed_at is not None and not self.gate.open:
            knocks = [self.closed_at, *self.knocked]
            for earlier, later in pairwise(knocks):
                assert later - earlier >= SHORTEST_INTERVAL - 1e-9


TestGate = Gate.TestCase
