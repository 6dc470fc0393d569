"""A busy machine is no bug, a bug is no busy machine, and a contrast that holds shows nothing."""

from collections.abc import Sequence

from connectplugin_chaos.check.judgement import Verdict
from connectplugin_chaos.check.verdicts import ArmVerdict, judge_arm
from connectplugin_chaos.record.model import Fault, History, Ledger, Notice, Operation
from connectplugin_chaos.scenario.model import Expectation

CALM = [0.001] * 100
QUIET = [(0.0, 0.001)] * 100


def history(*, failing: frozenset[int] = frozenset()) -> History:
    operations = [
        Operation(
            op=n,
            method="read",
            key="",
            idempotent=True,
            due=n / 10,
            called=n / 10,
            ended=n / 10 + 0.01,
            deadline=0.1,
            outcome="info" if n in failing else "ok",
            code="unavailable" if n in failing else "ok",
            error="ConnectError" if n in failing else "",
        )
        for n in range(60)
    ]
    return History(
        scenario="T",
        arm="stack",
        seed=1,
        phases={"base": (0.0, 2.0), "fault": (2.0, 3.0), "recovery": (3.0, 6.0)},
        operations=tuple(operations),
        faults=(Fault(name="down", began=2.0, ended=3.0),),
    )


def judged(
    *,
    failing: frozenset[int] = frozenset(),
    lateness: Sequence[float] = CALM,
    lags: Sequence[tuple[float, float]] = QUIET,
    notices: tuple[Notice, ...] = (),
    negated: bool = False,
    unwatched: frozenset[str] = frozenset(),
    trouble: str = "",
) -> ArmVerdict:
    expectations = (
        Expectation(check="steady_state", arguments={}),
        Expectation(
            check="availability",
            arguments={"success": 1.0, "phase": "recovery"},
            negated=negated,
        ),
    )
    return judge_arm(
        expectations,
        history(failing=failing),
        Ledger(executions=(), notices=notices),
        lateness=lateness,
        lags=lags,
        unwatched=unwatched,
        trouble=trouble,
    )


BROKEN = frozenset({45})


def test_what_holds_passes_and_what_does_not_fails() -> None:
    assert judged().verdict is Verdict.PASS
    failed = judged(failing=BROKEN)
    assert failed.verdict is Verdict.FAIL
    assert failed.judgements[1].evidence == (45,)


def test_a_busy_generator_proves_nothing_either_way() -> None:
    late = [0.001] * 90 + [0.05] * 10
    for failing in (frozenset[int](), BROKEN):
        verdict = judged(failing=failing, lateness=late)
        assert verdict.verdict is Verdict.INCONCLUSIVE
        assert "called late by 50 ms" in verdict.reason


def test_a_busy_server_proves_nothing_unless_the_fault_is_why() -> None:
    notices = tuple(Notice(at=n, kind="lag", endpoint="s1", value=0.2) for n in range(10))
    assert judged(notices=notices).verdict is Verdict.INCONCLUSIVE
    assert judged(notices=notices, unwatched=frozenset({"s1"})).verdict is Verdict.PASS


def test_a_server_that_computes_is_no_busy_machine_once_something_is_broken() -> None:
    def delays(kind: str, begin: float) -> tuple[Notice, ...]:
        return tuple(
            Notice(at=begin + n / 100, kind=kind, endpoint="s1", value=0.05) for n in range(100)
        )

    assert judged(notices=delays("lag", 2.5)).verdict is Verdict.PASS
    for kind, begin in (("lag", 0.5), ("starved", 2.5)):
        busy = judged(notices=delays(kind, begin), failing=BROKEN)
        assert busy.verdict is Verdict.INCONCLUSIVE
        assert "the event loop of s1 was late by 50 ms" in busy.reason


def test_after_a_single_stall_a_failure_is_not_believed_but_a_pass_is() -> None:
    lags = [(0.0, 0.001)] * 500 + [(4.5, 0.4)]
    assert judged(lags=lags).verdict is Verdict.PASS
    failed = judged(lags=lags, failing=BROKEN)
    assert failed.verdict is Verdict.INCONCLUSIVE
    assert "stood still for 400 ms" in failed.reason


def test_no_steady_state_proves_nothing() -> None:
    verdict = judged(failing=frozenset({3}))
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert "no steady state" in verdict.reason


def test_trouble_of_the_harness_is_never_a_failure() -> None:
    assert judged(failing=BROKEN, trouble="toxiproxy died").verdict is Verdict.INCONCLUSIVE
    nothing = judge_arm((), None, Ledger(executions=()), lateness=[], lags=[])
    assert nothing.verdict is Verdict.INCONCLUSIVE


def test_a_contrast_must_break() -> None:
    assert judged(failing=BROKEN, negated=True).verdict is Verdict.PASS
    assert judged(negated=True).verdict is Verdict.NEGATIVE_CONTROL_FAILED
