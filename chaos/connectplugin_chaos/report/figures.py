"""The figures of an arm, out of history and ledger alone: anybody can compute them again."""

from connectplugin_chaos.check import stats
from connectplugin_chaos.check.judgement import Judgement
from connectplugin_chaos.check.verdicts import generator_lags
from connectplugin_chaos.record.model import History, Ledger, Operation
from connectplugin_chaos.report.model import (
    ComparisonEntry,
    JudgementEntry,
    Metrics,
    OffenderEntry,
)


def figures(history: History, ledger: Ledger) -> Metrics:
    """What `report.json` has under `metrics`."""
    operations = history.during()
    took = stats.durations(operations)
    over = [o.ended - o.called - o.deadline for o in operations if o.ended is not None]
    seconds = max(history.phases.values(), key=lambda span: span[1])[1]
    late = [o.called - o.due for o in operations]
    lags = [lag for at, lag in generator_lags(history) if at >= 0]
    return {
        "ops": len(operations),
        "ok": sum(o.good() for o in operations),
        "goodput": round(sum(o.good(tolerance=0.0) for o in operations) / seconds, 2),
        "success_by_phase": {
            name: round(stats.success(history.during([name])), 5) for name in history.phases
        },
        "amplification_by_phase": {
            name: round(stats.amplification(history.during([name])), 4) for name in history.phases
        },
        "amplification": round(stats.amplification(operations), 4),
        "p50": round(stats.percentile(took, 0.5), 5),
        "p99": round(stats.percentile(took, 0.99), 5),
        "p999": round(stats.percentile(took, 0.999), 5),
        "recovery_s": stats.recovery(history, to=0.99),
        "duplicates": len(stats.duplicates(history, ledger)),
        "executions": len(ledger.executions),
        "dead_work": len(stats.dead_work(history, ledger)),
        "deadline_overrun_max_ms": round(max(over, default=0.0) * 1000, 2),
        "gen_lateness_p99_ms": round(stats.percentile(late, 0.99) * 1000, 2),
        "gen_lag_p99_ms": round(stats.percentile(lags, 0.99) * 1000, 2),
        "gen_lag_max_ms": round(max(lags, default=0.0) * 1000, 2),
        "circuit_opened": sum(n.kind == "circuit" and n.detail == "open" for n in history.notices),
        "codes": _codes(history),
    }


def _codes(history: History) -> dict[str, int]:
    found: dict[str, int] = {}
    for operation in history.during():
        name = operation.code or operation.error or "never ended"
        found[name] = found.get(name, 0) + 1
    return dict(sorted(found.items()))


def judgement(found: Judgement, history: History) -> JudgementEntry:
    """One judgement, with the attempts of the operations that offend."""
    by_number = {o.op: o for o in history.operations}
    return {
        "check": found.check,
        "verdict": found.verdict.word,
        "measured": found.measured,
        "bar": found.bar,
        "offending": found.offending,
        "evidence": [_offender(by_number[op]) for op in found.evidence if op in by_number],
    }


def _offender(operation: Operation) -> OffenderEntry:
    return {
        "op": operation.op,
        "method": operation.method,
        "called": round(operation.called, 4),
        "ended": _rounded(operation.ended),
        "deadline": operation.deadline,
        "code": operation.code or operation.error,
        "attempts": [
            {
                "number": attempt.number,
                "kind": attempt.kind,
                "endpoint": attempt.endpoint,
                "started": round(attempt.started, 4),
                "ended": _rounded(attempt.ended),
                "code": attempt.code,
            }
            for attempt in operation.attempts
        ],
    }


def _rounded(at: float | None) -> float | None:
    return None if at is None else round(at, 4)


def comparison(found: Judgement) -> ComparisonEntry:
    """One ratio of two arms."""
    return {
        "check": found.check,
        "verdict": found.verdict.word,
        "measured": found.measured,
        "bar": found.bar,
    }
