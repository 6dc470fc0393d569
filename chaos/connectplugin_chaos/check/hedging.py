"""I15: hedges are few, only where a call may be executed twice, and the loser stops at once."""

from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.record.model import Execution, History, Ledger, Operation


def hedging(
    history: History, ledger: Ledger, *, extra: float = 0.05, within: float = 0.1
) -> Judgement:
    """Hedges are few and safe, and what has lost is over soon, on both sides.

    Args:
        history: The client's side.
        ledger: The servers'.
        extra: Hedges for each call, at most.
        within: Seconds from the end of a call until the last of its attempts, and the last of its
            executions, is over: answered, or cancelled and known to be so by the server.
    """
    operations = history.during()
    hedges = {o.op: sum(a.kind == "hedge" for a in o.attempts) for o in operations}
    share = sum(hedges.values()) / len(operations) if operations else 0.0
    hedged = [o for o in operations if hedges[o.op]]
    unsafe = [o.op for o in hedged if not o.idempotent]
    runs = ledger.by_operation()
    lost = [o.op for o in hedged if _runs_on(o, runs.get(o.op, []), within)]
    spent = [o.op for o in hedged] if share > extra else []
    return judge(
        "hedging",
        share <= extra and not unsafe and not lost,
        measured=f"{share * 100:.3g} % hedges over {len(operations)} calls, {len(unsafe)} of calls"
        f" that must not be executed twice, {len(lost)} losers not over in time",
        bar=f"<= {extra * 100:g} %, 0, 0 after {within * 1000:g} ms",
        offending=(*unsafe, *lost, *spent),
    )


def _runs_on(operation: Operation, runs: list[Execution], within: float) -> bool:
    if operation.ended is None:
        return False  # it has not been decided; that it never ends is another check's
    until = operation.ended + within
    over = [a.ended for a in operation.attempts]
    over += [run.cancelled if run.ended is None else run.ended for run in runs]
    return any(at is None or at > until for at in over)
