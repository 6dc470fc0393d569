"""From an arm's history to its verdict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from connectplugin_chaos.check.gate import busy, stalled
from connectplugin_chaos.check.judgement import Judgement, Verdict, worst
from connectplugin_chaos.check.mechanisms import ALL_CHECKS
from connectplugin_chaos.record.model import History, Ledger, Notice
from connectplugin_chaos.scenario.model import Expectation, Scenario

_LIST_ARGUMENTS = frozenset({"all_of", "methods", "endpoints", "of", "right"})


@dataclass(frozen=True, kw_only=True)
class ArmVerdict:
    """An arm's judgements, and what they come to.

    Attributes:
        judgements: One for each expectation.
        verdict: Of all.
        reason: Why it is inconclusive; empty if it is not.
    """

    judgements: tuple[Judgement, ...]
    verdict: Verdict
    reason: str = ""


def apply(expectation: Expectation, history: History, ledger: Ledger) -> Judgement:
    """One expectation."""
    arguments = {
        name: _listed(name, expectation.check, value)
        for name, value in expectation.arguments.items()
    }
    function = expectation.function or ALL_CHECKS[expectation.check]
    found: Judgement = function(history, ledger, **arguments)
    if not expectation.negated or found.verdict is Verdict.INCONCLUSIVE:
        return found
    broke = found.verdict is Verdict.FAIL
    return replace(
        found,
        check=f"not {found.check}",
        verdict=Verdict.PASS if broke else Verdict.NEGATIVE_CONTROL_FAILED,
        bar=f"not: {found.bar}",
        evidence=(),
        offending=0,
    )


def _listed(name: str, check: str, value: object) -> object:
    """One word where several may stand is a list of one."""
    several = name in _LIST_ARGUMENTS or (name == "phase" and check != "steady_state")
    return [value] if several and isinstance(value, str) else value


_STOPPING = frozenset({"stop", "kill", "term", "block_loop", "hog_cpu", "restart"})


def stopped_servers(scenario: Scenario) -> frozenset[str]:
    """The servers whose event loop a fault stops: their delays say nothing of the machine."""
    every = [f"s{number + 1}" for number in range(scenario.topology.servers)]
    if scenario.soup is not None:
        return frozenset(every)
    return frozenset(
        name
        for happening in scenario.timeline
        if happening.fault in _STOPPING
        for name in happening.places or every
    )


def generator_lags(history: History) -> list[tuple[float, float]]:
    """Times and delays of the event loop of the generator."""
    return [(n.at, n.value) for n in history.notices if n.kind == "lag"]


def judge_records(
    scenario: Scenario, arm: str, records: tuple[History, Ledger] | None, *, trouble: str = ""
) -> ArmVerdict:
    """What a scenario expects of an arm, judged by its records alone.

    Args:
        scenario: What was asked for.
        arm: Its name.
        records: None if nothing was run.
        trouble: Why nothing is proven, if so.
    """
    history, ledger = records or (None, Ledger(executions=()))
    return judge_arm(
        scenario.expect.get(arm, ()),
        history,
        ledger,
        lateness=[] if history is None else [o.called - o.due for o in history.during()],
        lags=[] if history is None else generator_lags(history),
        unwatched=stopped_servers(scenario),
        trouble=trouble,
    )


def judge_arm(
    expectations: Sequence[Expectation],
    history: History | None,
    ledger: Ledger,
    *,
    lateness: Sequence[float],
    lags: Sequence[tuple[float, float]],
    unwatched: frozenset[str] = frozenset(),
    trouble: str = "",
) -> ArmVerdict:
    """All expectations of an arm.

    Args:
        expectations: Of the scenario.
        history: None if nothing was run.
        ledger: The servers'.
        lateness: Of the generator; see `gate`.
        lags: Of the generator.
        unwatched: Servers that a fault has stopped, so that their delays say nothing.
        trouble: Why nothing was proven, if so.
    """
    if history is None:
        return ArmVerdict(
            judgements=(), verdict=Verdict.INCONCLUSIVE, reason=trouble or "nothing was run"
        )
    judgements = tuple(apply(expectation, history, ledger) for expectation in expectations)
    unsteady = [
        j for j in judgements if j.check == "steady_state" and j.verdict is not Verdict.PASS
    ]
    if unsteady:
        judgements = tuple(
            replace(j, verdict=Verdict.INCONCLUSIVE) if j in unsteady else j for j in judgements
        )
    watched: list[Notice] = [n for n in ledger.notices if n.endpoint not in unwatched]
    verdict = worst(*(judgement.verdict for judgement in judgements))
    calm = min((end for _, end in history.phases.values()), default=float("inf"))
    reason = trouble or busy(lateness, lags, watched, calm=calm)
    if not reason and unsteady:
        reason = f"no steady state before the fault: {unsteady[0].measured}"
    if not reason and verdict in {Verdict.FAIL, Verdict.NEGATIVE_CONTROL_FAILED}:
        reason = stalled(lags, watched)
    if reason:
        verdict = Verdict.INCONCLUSIVE
    return ArmVerdict(judgements=judgements, verdict=verdict, reason=reason)
