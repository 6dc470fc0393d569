"""What the plots show, out of a history: rates by the second, states of the circuits."""

from collections.abc import Callable
from typing import TypeAlias

from connectplugin_chaos.check import stats
from connectplugin_chaos.record.model import History, Operation

Points: TypeAlias = list[tuple[float, float]]

Spans: TypeAlias = list[tuple[float, float, str]]
"""Begin, end, and the state in between."""

_MIDDLE = 0.5


def last_due(history: History) -> float:
    """When the last operation was due."""
    return max((o.due for o in history.operations), default=0.0)


def success(history: History, begin: float) -> Points:
    """Percent of the calls of each second that came back well."""
    return [(at + _MIDDLE, 100 * good) for at, good in stats.windows(history, begin)]


def per_second(history: History, begin: float, when: Callable[[Operation], list[float]]) -> Points:
    """How often something happened in each second.

    Args:
        history: An arm's.
        begin: Where the seconds begin.
        when: The times at which it happened in an operation.
    """
    counts: dict[int, int] = {}
    for operation in history.operations:
        for at in when(operation):
            second = int(at - begin)
            counts[second] = counts.get(second, 0) + 1
    last = int(last_due(history) + 0.1 - begin)
    return [(begin + n + _MIDDLE, float(counts.get(n, 0))) for n in range(last)]


def sent(operation: Operation) -> list[float]:
    """When its attempts began."""
    return [attempt.started for attempt in operation.attempts]


def answered(operation: Operation) -> list[float]:
    """When it came back well, and within its deadline."""
    return [operation.ended] if operation.good(0.0) and operation.ended is not None else []


def percentiles(history: History, begin: float, share: float) -> Points:
    """Milliseconds that a share of the calls of each second did not exceed."""
    found: Points = []
    for at, _ in stats.windows(history, begin):
        inside = [o for o in history.operations if at <= o.due < at + 1]
        if took := stats.durations(inside):
            found.append((at + _MIDDLE, 1000 * stats.percentile(took, share)))
    return found


def circuits(history: History, begin: float, end: float) -> dict[str, Spans]:
    """The states of each endpoint's circuit, and when the balancer kept away from it."""
    moves: dict[str, list[tuple[float, str]]] = {}
    for notice in history.notices:
        if notice.kind == "circuit":
            moves.setdefault(notice.endpoint, []).append((notice.at, notice.detail))
        elif notice.kind == "endpoint":
            state = "ejected" if notice.detail in {"ejected", "unhealthy"} else "closed"
            moves.setdefault(f"{notice.endpoint} out", []).append((notice.at, state))
    found: dict[str, Spans] = {}
    for name in sorted(moves):
        states = [(begin, "closed"), *moves[name], (end, "")]
        spans = [(at, states[n + 1][0], state) for n, (at, state) in enumerate(states[:-1])]
        if any(state != "closed" for _, _, state in spans):
            found[name] = spans
    return found
