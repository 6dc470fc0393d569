"""`journal.json`: what was done and when, in the words of the Chaos Toolkit's journal."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectplugin_chaos.record.model import History
from connectplugin_chaos.report.model import ArmEntry, RunEntry

_PASSED = {"pass": "completed", "inconclusive": "aborted"}


def experiment(
    identity: str, title: str, arm: ArmEntry, history: History | None, attempt: int
) -> dict[str, Any]:
    """One arm of one scenario.

    Args:
        identity: Of the scenario.
        title: Of the scenario.
        arm: As in `report.json`.
        history: None if nothing was run.
        attempt: Which try of the arm it was.
    """
    before = [j["verdict"] for j in arm["invariants"] if j["check"] == "steady_state"]
    after = [j["verdict"] for j in arm["invariants"] if j["check"] == "recovery"]
    return {
        "experiment": {"title": f"{identity}: {title}", "arm": arm["name"]},
        "attempt": attempt,
        "status": _PASSED.get(arm["verdict"], "failed"),
        "deviated": arm["verdict"] not in _PASSED,
        "reason": arm["reason"],
        "steady_states": {"before": _one(before), "after": _one(after)},
        "run": [] if history is None else _activities(history),
        "folder": arm["folder"],
    }


def _one(verdicts: Sequence[str]) -> dict[str, bool] | None:
    return {"steady_state_met": verdicts[0] == "pass"} if verdicts else None


def _activities(history: History) -> list[dict[str, Any]]:
    zero = datetime.fromisoformat(history.zero) if history.zero else None

    def when(at: float) -> str | None:
        return None if zero is None else (zero + timedelta(seconds=at)).isoformat()

    found = [
        {
            "activity": {"type": "action", "name": fault.name},
            "start": when(fault.began),
            "end": None if fault.ended is None else when(fault.ended),
            "duration": None if fault.ended is None else round(fault.ended - fault.began, 3),
            "status": "failed" if fault.ended is None else "succeeded",
        }
        for fault in history.faults
    ]
    load = {
        "activity": {"type": "action", "name": "load"},
        "start": when(min((o.due for o in history.operations), default=0.0)),
        "end": when(history.end),
        "duration": round(history.end, 3),
        "status": "succeeded",
    }
    return [load, *found]


def journal(
    run: RunEntry, started: datetime, experiments: Sequence[dict[str, Any]], verdict: str
) -> dict[str, Any]:
    """The whole of it.

    Args:
        run: As in `report.json`.
        started: When the run began.
        experiments: Every try of every arm, in order.
        verdict: Of all.
    """
    ended = datetime.now(UTC)
    return {
        "schema": 1,
        "id": run["id"],
        "platform": f"{run['machine']} {run['kernel']}, Python {run['python']}",
        "start": started.isoformat(),
        "end": ended.isoformat(),
        "duration": round((ended - started).total_seconds(), 3),
        "status": _PASSED.get(verdict, "failed"),
        "deviated": verdict not in _PASSED,
        "experiments": list(experiments),
    }
