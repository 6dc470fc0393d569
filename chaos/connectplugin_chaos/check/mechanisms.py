"""Checks of the policies' own behaviour: breakers, load on an endpoint, and reachability.

A scenario that passes although the mechanism it is about was never used has proven nothing: so
`reached` fails.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from connectplugin_chaos.check import invariants
from connectplugin_chaos.check.callers import (
    balanced,
    cancellation,
    codes,
    inherited,
    not_before,
    patience,
    peak_rate,
    quota,
    sticky,
    storm,
)
from connectplugin_chaos.check.hedging import hedging
from connectplugin_chaos.check.invariants import Check
from connectplugin_chaos.check.isolation import isolation
from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.check.resources import memory, resources
from connectplugin_chaos.record.model import History, Ledger


def breaker(
    history: History,
    _: Ledger,
    *,
    opens_within: float = 1.0,
    closes_within: float = 6.0,
    transitions: int = 0,
) -> Judgement:
    """I8: the circuit opens soon after the fault begins, closes soon after its end, does not flap.

    `transitions` is how often it may open; by default once for each fault and once for each probe
    interval of it.
    """
    moves = [n for n in history.notices if n.kind == "circuit"]
    opened = [n.at for n in moves if n.detail == "open"]
    begin = min((f.began for f in history.faults), default=0.0)
    healed = history.healed
    told: list[str] = []
    if not opened:
        told.append("never opened")
    elif opened[0] - begin > opens_within:
        told.append(f"opened after {opened[0] - begin:.2f} s")
    states: dict[str, str] = {n.endpoint: n.detail for n in moves}
    stuck = sorted(endpoint for endpoint, state in states.items() if state != "closed")
    if stuck:
        told.append(f"in the end {states[stuck[0]]}")
    closed = [n.at for n in moves if n.detail == "closed" and n.at >= healed]
    if closed and max(closed) - healed > closes_within:
        told.append(f"closed {max(closed) - healed:.2f} s after the heal")
    allowed = transitions or 2 * len(history.faults) + int(healed - begin) + 1
    per_endpoint = max(
        (sum(n.endpoint == e and n.detail == "open" for n in moves) for e in states), default=0
    )
    if per_endpoint > allowed:
        told.append(f"opened {per_endpoint} times")
    late = (
        tuple(o.op for o in history.operations if o.due >= healed + closes_within and not o.good())
        if told
        else ()
    )
    when = f"opened {opened[0] - begin:.2f} s into the fault" if opened else "not used"
    return judge(
        "breaker",
        not told,
        measured="; ".join(told) or f"{when}, {len(opened)} times in all",
        bar=f"opens <= {opens_within:g} s, closes <= {closes_within:g} s, opens <= {allowed} times",
        offending=late,
    )


def open_means_quiet(
    history: History, _: Ledger, *, probes: int = 1, tolerance: float = 0.05
) -> Judgement:
    """I8: while a circuit is open, nothing goes to its endpoint but probes."""
    opened: dict[str, float] = {}
    spans: list[tuple[str, float, float]] = []
    for notice in (n for n in history.notices if n.kind == "circuit"):
        if notice.detail == "open":
            opened[notice.endpoint] = notice.at
        elif notice.endpoint in opened:
            spans.append((notice.endpoint, opened.pop(notice.endpoint), notice.at))
    spans += [(endpoint, at, history.end) for endpoint, at in opened.items()]
    loud = tuple(
        o.op
        for o in history.operations
        for a in o.attempts
        if any(
            (not a.endpoint or a.endpoint == endpoint) and begin + tolerance < a.started < end
            for endpoint, begin, end in spans
        )
    )
    allowed = probes * len(spans)
    return judge(
        "open_means_quiet",
        len(loud) <= allowed,
        measured=f"{len(loud)} attempts in {len(spans)} open intervals",
        bar=f"<= {allowed}",
        offending=loud,
    )


def load_share(
    history: History,
    _: Ledger,
    *,
    endpoint: str,
    most: float = 1.0,
    least: float = 0.0,
    phase: Sequence[str] = ("fault",),
    after: float = 1.0,
) -> Judgement:
    """The share of all attempts that one endpoint gets, `after` seconds into the phases.

    Too little is an endpoint that is well, and is not used: what went elsewhere offends.
    """
    spans = [(begin + after, end) for begin, end in (history.phases[name] for name in phase)]
    attempts = [
        (o.op, a)
        for o in history.operations
        for a in o.attempts
        if any(begin <= a.started < end for begin, end in spans)
    ]
    there = tuple(op for op, a in attempts if a.endpoint == endpoint)
    share = len(there) / len(attempts) if attempts else 1.0
    return judge(
        "load_share",
        least <= share <= most,
        measured=f"{len(there)} of {len(attempts)} attempts ({share * 100:.3g} %)",
        bar=(f">= {least * 100:g} %, " if least else "") + f"<= {most * 100:g} %",
        offending=there
        if share > most
        else tuple(op for op, a in attempts if a.endpoint != endpoint),
    )


def quick_refusals(history: History, _: Ledger, *, p99: float = 0.02) -> Judgement:
    """What this side refuses it refuses at once."""
    took = {
        o.op: o.ended - o.called
        for o in history.operations
        if o.ended is not None and o.error in _REFUSALS and not o.attempts
    }
    ordered = sorted(took.values())
    tail = ordered[int(0.99 * (len(ordered) - 1))] if ordered else 0.0
    slow = tuple(op for op, seconds in took.items() if seconds > p99)
    return judge(
        "quick_refusals",
        tail <= p99,
        measured=f"p99 {tail * 1000:.1f} ms of {len(took)} refusals",
        bar=f"<= {p99 * 1000:g} ms",
        offending=slow,
    )


_REFUSALS: Final = frozenset(
    {"CircuitOpenError", "OverloadedError", "NoEndpointError", "RateLimitedError"}
)


def _attempted(kind: str) -> Callable[[History, Ledger], int]:
    def count(history: History, _: Ledger) -> int:
        return sum(a.kind == kind for o in history.operations for a in o.attempts)

    return count


def _noticed(kind: str, *details: str) -> Callable[[History, Ledger], int]:
    def count(history: History, ledger: Ledger) -> int:
        return sum(
            n.kind == kind and n.detail in details for n in (*history.notices, *ledger.notices)
        )

    return count


def _at_servers(kind: str) -> Callable[[History, Ledger], int]:
    return lambda _, ledger: sum(n.kind == kind for n in ledger.notices)


def _won(history: History, _: Ledger) -> int:
    return sum(
        a.kind == "hedge" and a.code == "ok" and o.outcome == "ok"
        for o in history.operations
        for a in o.attempts
    )


def _kind(kind: str) -> Callable[[History, Ledger], int]:
    return lambda history, _: history.seen(kind)


def _late(history: History, _: Ledger) -> int:
    return sum(o.code == "deadline_exceeded" for o in history.operations)


MECHANISMS: Final[Mapping[str, Callable[[History, Ledger], int]]] = {
    "retry.retried": _attempted("retry"),
    "retry.transparent": _attempted("transparent"),
    "retry.budget_empty": _noticed("retry_stopped", "budget"),
    "hedge.started": _attempted("hedge"),
    "hedge.won": _won,
    "hedge.suppressed": _kind("hedge_suppressed"),
    "fallback.used": _kind("fallback"),
    "fault.injected": _kind("fault_injected"),
    "throttle.rejected": _noticed("rejected", "throttle"),
    "concurrency.rejected": _noticed("rejected", "concurrency"),
    "rate_limit.rejected": _noticed("rejected", "rate_limit"),
    "rate_limit.waited": _noticed("waited", "rate_limit"),
    "ready.waited": _noticed("waited", "ready"),
    "breaker.opened": _noticed("circuit", "open"),
    "breaker.closed": _noticed("circuit", "closed"),
    # With several endpoints the balancer refuses, when all circuits are open.
    "breaker.rejected": _noticed("rejected", "circuit_breaker", "load_balancing"),
    "balance.ejected": _noticed("endpoint", "ejected"),
    "deadline.expired": _late,
    "server.expired_dropped": _noticed("refused", "expired"),
    "server.shed": _noticed("refused", "overloaded"),
    "server.draining": _noticed("refused", "draining"),
    "server.rate_limited": _noticed("refused", "rate_limited"),
    # A call has met a fault of the application: an error, a malformed answer, a push-back.
    "app.struck": _at_servers("struck"),
    "server.no_files": _at_servers("no_files"),
}
"""What `reached` can ask for."""


def reached(history: History, ledger: Ledger, *, all_of: Sequence[str]) -> Judgement:
    """R: the mechanisms that the scenario is about were used."""
    counts = {name: MECHANISMS[name](history, ledger) for name in all_of}
    idle = [name for name, count in counts.items() if not count]
    return judge(
        "reached",
        not idle,
        measured=", ".join(f"{name} {count}" for name, count in counts.items()),
        bar="each at least once",
    )


ALL_CHECKS: Final[Mapping[str, Check]] = {
    **invariants.CHECKS,
    **{
        check.__name__: check
        for check in (
            breaker,
            open_means_quiet,
            load_share,
            quick_refusals,
            isolation,
            resources,
            memory,
            hedging,
            cancellation,
            peak_rate,
            quota,
            patience,
            not_before,
            storm,
            inherited,
            sticky,
            codes,
            balanced,
            reached,
        )
    },
}
"""Every check that a scenario file can name."""
