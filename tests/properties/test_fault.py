"""How many calls are struck at a time, whatever begins and ends in whatever order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectplugin_interceptors.fault.config import Fault, FaultPolicy
from connectplugin_interceptors.fault.machine import FaultMachine

SHARE = 0.5


class Model(RuleBasedStateMachine):
    """A list of those that are struck, and a limit."""

    @initialize(most=st.sampled_from([None, 1, 3]))
    def begin(self, most: int | None) -> None:
        faults = [
            Fault(share=SHARE, latency=1.0, methods=["a.B/*"]),
            Fault(share=SHARE, truncate_after=2, methods=["a.B/*"]),
        ]
        self.machine = FaultMachine(FaultPolicy(faults=faults, max_active=most))
        self.most = most
        self.active = 0

    @rule(
        method=st.sampled_from(["a.B/C", "x.Y/Z"]),
        streams=st.booleans(),
        rolls=st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=4, max_size=4),
    )
    def a_call_begins(self, method: str, streams: bool, rolls: list[float]) -> None:
        dice = iter(rolls)
        plan = self.machine.plan(method, streams_responses=streams, roll=lambda: next(dice))
        slow, cut = rolls[0] < SHARE, rolls[2] < SHARE and streams
        struck = method == "a.B/C" and (slow or cut)
        room = self.most is None or self.active < self.most
        assert (plan is not None) == (struck and room)
        assert len(list(dice)) == (0 if method == "a.B/C" else 4), "not as many rolls each time"
        if plan is None:
            return
        self.active += 1
        assert plan.latency == (1.0 if slow else 0.0)
        assert (plan.error, plan.truncate_after) == (("disconnect", 2) if cut else (None, None))

    @precondition(lambda self: self.active)
    @rule()
    def a_struck_call_ends(self) -> None:
        self.machine.leave()
        self.active -= 1

    @invariant()
    def the_count_is_right(self) -> None:
        if hasattr(self, "machine"):
            assert self.machine.active == self.active


TestFaults = Model.TestCase
TestFaults.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
