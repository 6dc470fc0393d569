"""A hedged call against what must hold in whatever order its attempts fail."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from connectplugin_interceptors.hedge.machine import HedgedCall, Meaning, StopReason
from connectplugin_interceptors.pushback import FORBIDDEN, NO_PUSHBACK, Pushback

PUSHBACKS = st.sampled_from([NO_PUSHBACK, FORBIDDEN, Pushback(0.0), Pushback(0.7), Pushback(60.0)])
FAILURES = st.sampled_from([Meaning.REPEATABLE, Meaning.UNSENT, Meaning.USELESS])


class Call(RuleBasedStateMachine):
    """The shell's part: starts what is due, and tells of failures."""

    @initialize(
        limit=st.integers(2, 5),
        delay=st.sampled_from([None, 0.001, 0.1, 3.0]),
        deadline=st.sampled_from([None, 1.0, 10.0]),
    )
    def begin(self, limit: int, delay: float | None, deadline: float | None) -> None:
        self.now = 0.0
        self.plan = HedgedCall(limit=limit, delay=delay, deadline=deadline)
        self.plan.begun(self.now)
        self.out = 1
        self.paid = 1
        self.unsent = 0
        self.made = 1

    @rule(seconds=st.sampled_from([0.0, 0.0005, 0.05, 0.2, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.plan.due(self.now))
    @rule(affordable=st.booleans())
    def the_next_attempt_is_due(self, affordable: bool) -> None:
        if not self.plan.free:
            if not affordable:
                self.plan.stop(StopReason.BUDGET)
                return
            self.paid += 1
        self.plan.begun(self.now)
        self.made += 1
        self.out += 1

    @precondition(lambda self: self.out)
    @rule(what=FAILURES, pushback=PUSHBACKS)
    def an_attempt_fails(self, what: Meaning, pushback: Pushback) -> None:
        self.out -= 1
        self.unsent += what is Meaning.UNSENT
        before = self.plan.stopped
        self.plan.failed(what, pushback, self.now)
        if before is not None:
            assert self.plan.stopped is before
        if pushback.forbidden:
            assert self.plan.stopped is not None

    @invariant()
    def no_more_are_made_than_are_allowed(self) -> None:
        assert self.plan.started == self.paid <= self.plan.limit
        assert self.made <= self.plan.limit + self.unsent

    @invariant()
    def what_is_planned_fits_the_deadline(self) -> None:
        plan = self.plan
        if plan.next_at is not None:
            assert plan.stopped is None
            assert plan.deadline is None or plan.next_at + 0.001 <= plan.deadline
            assert plan.started < plan.limit or plan.free

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        # With nobody out the call ends, unless a failure has planned the next attempt.
        if not self.out and not self.plan.after_failure:
            assert self.plan.next_at is None or self.plan.delay is not None
        if self.plan.after_failure:
            assert self.plan.next_at is not None


TestCall = Call.TestCase
TestCall.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
