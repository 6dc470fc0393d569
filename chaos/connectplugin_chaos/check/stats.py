"""Figures out of a history: exact percentiles, shares, windows; no estimates."""

import math
from collections.abc import Sequence

from connectplugin_chaos.record.model import History, Ledger, Operation


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed; 0 without values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]


def success(operations: Sequence[Operation]) -> float:
    """The share that came back well and in time; 1 without operations.

    What its own caller has cancelled is neither.
    """
    wanted = [operation for operation in operations if operation.cancelled is None]
    if not wanted:
        return 1.0
    return sum(operation.good() for operation in wanted) / len(wanted)


def amplification(operations: Sequence[Operation]) -> float:
    """Attempts for each operation; 0 without operations."""
    if not operations:
        return 0.0
    return sum(len(operation.attempts) for operation in operations) / len(operations)


def durations(operations: Sequence[Operation]) -> list[float]:
    """From call to end, of those that have ended."""
    return [o.ended - o.called for o in operations if o.ended is not None]


def latencies(operations: Sequence[Operation]) -> list[float]:
    """What a user feels: from the time that it was due to the end."""
    return [o.ended - o.due for o in operations if o.ended is not None]


def windows(history: History, begin: float, width: float = 1.0) -> list[tuple[float, float]]:
    """Begin and success of each whole window from `begin` to the last due operation."""
    last = max((o.due for o in history.operations), default=0.0)
    found: list[tuple[float, float]] = []
    at = begin
    # One that ends a moment after the last arrival is whole: Poisson arrivals do not end sharply.
    while at + width <= last + width / 10:
        inside = [o for o in history.operations if at <= o.due < at + width]
        found.append((at, success(inside)))
        at += width
    return found


def recovery(history: History, *, to: float, windows_in_a_row: int = 3) -> float | None:
    """Seconds from the heal until the success stays at `to` for some windows; None if never."""
    healed = history.healed
    step = 0.25
    last = max((o.due for o in history.operations), default=0.0)
    at = healed
    while at + windows_in_a_row <= last + 0.1:
        spans = [(at + n, at + n + 1.0) for n in range(windows_in_a_row)]
        rows = [[o for o in history.operations if a <= o.due < b] for a, b in spans]
        if all(row and success(row) >= to for row in rows):
            return at - healed
        at += step
    return None


def duplicates(history: History, ledger: Ledger) -> list[int]:
    """The operations that were executed more than once and must not be."""
    risky = {o.op for o in history.operations if not o.idempotent}
    return sorted(op for op, runs in ledger.by_operation().items() if op in risky and len(runs) > 1)


def dead_work(history: History, ledger: Ledger) -> list[int]:
    """The executions (by operation) that began after their caller had given up."""
    until = {o.op: o.called + o.deadline for o in history.operations}
    return [e.op for e in ledger.executions if e.op in until and e.started > until[e.op]]
