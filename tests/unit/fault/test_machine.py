"""What is struck, how often, and how faults combine."""

from collections.abc import Callable
from random import Random

import pytest
from connectrpc.code import Code
from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors.fault.config import Fault, FaultPolicy
from connectplugin_interceptors.fault.machine import FaultMachine, Plan


def planned(
    *faults: Fault, streams: bool = True, roll: Callable[[], float] = lambda: 0.5
) -> Plan | None:
    machine = FaultMachine(FaultPolicy(faults=faults))
    return machine.plan("a.B/C", streams_responses=streams, roll=roll)


@pytest.mark.parametrize(("share", "rolled", "struck"), [(0.5, 0.49, True), (0.5, 0.5, False)])
def test_the_dice_decide(share: float, rolled: float, *, struck: bool) -> None:
    plan = planned(Fault(share=share, latency=1.0), roll=lambda: rolled)
    assert (plan is not None) == struck


def test_none_and_all_are_none_and_all() -> None:
    for rolled in (0.0, 0.5, 1.0 - 2**-53):
        roll = iter([rolled] * 4).__next__
        assert planned(Fault(share=0.0, latency=1.0), roll=roll) is None
        assert planned(Fault(share=1.0, latency=1.0), roll=roll) is not None


@pytest.mark.parametrize(
    ("methods", "struck"),
    [([], True), (["a.B/C"], True), (["a.B/*"], True), (["a.B/D", "a.BB/*", "x.Y/C"], False)],
)
def test_methods_are_named_by_pattern(methods: list[str], *, struck: bool) -> None:
    assert (planned(Fault(latency=1, methods=methods)) is not None) == struck


def test_a_fault_of_another_method_does_not_hide_those_behind_it() -> None:
    plan = planned(Fault(error="drop", methods=["x.Y/Z"]), Fault(error=Code.ABORTED))
    assert plan is not None
    assert plan.error is Code.ABORTED


def test_latencies_add_up_and_the_first_end_is_the_end() -> None:
    plan = planned(
        Fault(latency=1.0),
        Fault(latency=(2.0, 4.0)),
        Fault(error=Code.ABORTED, latency=0.5),
        Fault(error="drop", latency=100.0),
    )
    assert plan == Plan(1.0 + 3.0 + 0.5, Code.ABORTED, after_reply=False, truncate_after=None)


def test_only_streams_of_responses_can_be_cut() -> None:
    fault = Fault(truncate_after=3)
    assert planned(fault, streams=False) is None
    plan = planned(fault, streams=True)
    assert plan == Plan(0.0, "disconnect", after_reply=False, truncate_after=3)
    assert planned(Fault(truncate_after=3, error=Code.INTERNAL)) == Plan(
        0.0, Code.INTERNAL, after_reply=False, truncate_after=3
    )


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Fault(latency=1), "latency"),
        (Fault(error="drop"), "drop"),
        (Fault(error=Code.NOT_FOUND), "not_found"),
        (Fault(truncate_after=1), "disconnect"),
    ],
)
def test_a_plan_has_a_word_for_events(fault: Fault, name: str) -> None:
    plan = planned(fault)
    assert plan is not None
    assert plan.name == name


def test_no_more_calls_than_may_be_are_struck_at_a_time() -> None:
    machine = FaultMachine(FaultPolicy(faults=[Fault(latency=1)], max_active=2))

    def plan() -> Plan | None:
        return machine.plan("a.B/C", streams_responses=False, roll=lambda: 0.0)

    assert [plan() is not None for _ in range(4)] == [True, True, False, False]
    machine.leave()
    assert [plan() is not None for _ in range(2)] == [True, False]
    assert machine.active == 2
    assert repr(machine) == "<Faults 1, 2 active>"
    machine.leave()
    machine.leave()
    assert machine.active == 0


@given(st.integers(), st.lists(st.floats(0, 1), min_size=1, max_size=3))
def test_one_more_fault_behind_changes_no_choice_of_those_in_front(
    seed: int, shares: list[float]
) -> None:
    """Each call rolls as often, whether it was struck or not: so a seed stays comparable."""

    def choices(faults: list[Fault]) -> list[bool]:
        machine = FaultMachine(FaultPolicy(faults=faults))
        rolled: list[float] = []
        rng = Random(seed)  # noqa: S311  # reproducible

        def roll() -> float:
            rolled.append(rng.random())
            return rolled[-1]

        result: list[bool] = []
        for _ in range(20):
            before = len(rolled)
            result.append(machine.plan("a.B/C", streams_responses=True, roll=roll) is not None)
            assert len(rolled) - before == 2 * len(faults)
        return result

    faults = [Fault(share=share, error=Code.ABORTED) for share in shares]
    assert choices(faults) == choices([Fault(share=each.share, latency=1.0) for each in faults])


@given(share=st.sampled_from([0.1, 0.5, 0.9]), seed=st.integers(0, 100))
def test_the_share_is_the_share(share: float, seed: int) -> None:
    machine = FaultMachine(FaultPolicy(faults=[Fault(share=share, latency=1)]))
    roll = Random(seed).random  # noqa: S311  # reproducible
    struck = sum(
        machine.plan("a.B/C", streams_responses=False, roll=roll) is not None for _ in range(1000)
    )
    assert abs(struck / 1000 - share) < 0.06
