"""Planted bugs: each changes the clean history, and says which operations offend."""

from dataclasses import replace
from typing import Any

from connectplugin_chaos.record.model import History, Ledger, Notice, Operation
from tests.chaos.clean import HEDGED, Bug, Planted, attempt, change, executed, hedged, held, of
from tests.chaos.planted_callers import CALLERS


def unsteady(h: History, g: Ledger) -> Planted:
    return change(h, 3, outcome="info", code="unavailable", error="ConnectError"), g, {3}


def retried_append(h: History, g: Ledger) -> Planted:
    o = of(h, "append")
    return h, replace(g, executions=(*g.executions, executed(o, late=0.2))), {o.op}


def ack_without_execution(h: History, g: Ledger) -> Planted:
    o = of(h, "write")
    left = tuple(e for e in g.executions if e.op != o.op)
    return h, replace(g, executions=left), {o.op}


def ack_without_effect(h: History, g: Ledger) -> Planted:
    o = of(h, "append")
    assert g.final is not None
    left = {key: ops for key, ops in g.final.items() if o.op not in ops}
    return h, replace(g, final=left), {o.op}


def dishonest(h: History, g: Ledger) -> Planted:
    o = next(o for o in h.operations if o.outcome == "fail")
    return h, replace(g, executions=(*g.executions, executed(o))), {o.op}


def paid_twice(h: History, g: Ledger) -> Planted:
    o = of(h, "pay")
    return h, replace(g, executions=(*g.executions, executed(o, late=0.2))), {o.op}


def other_receipt(h: History, g: Ledger) -> Planted:
    o = of(h, "pay")
    again = replace(executed(o, late=0.2, effect=False), reply="another")
    return h, replace(g, executions=(*g.executions, again)), {o.op}


def unbudgeted(h: History, g: Ledger) -> Planted:
    offending: set[int] = set()
    for o in h.operations:
        if o.due >= 6.0 and o.op % 2:
            h = change(h, o.op, attempts=(attempt(o.due), attempt(o.due + 0.1, number=2)))
            offending.add(o.op)
    return h, g, offending


def overrun(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    return change(h, o.op, ended=o.called + 0.7), g, {o.op}


def undropped(h: History, g: Ledger) -> Planted:
    late = {e.op for e in g.executions[:10]}
    runs = tuple(replace(e, started=e.started + 0.6) if e.op in late else e for e in g.executions)
    return h, replace(g, executions=runs), late


def degraded(h: History, g: Ledger) -> Planted:
    hit = {65, 72, 79, 86, 93}
    for op in hit:
        h = change(h, op, outcome="info", code="unavailable", error="ConnectError")
    return h, g, hit


def collapsed(h: History, g: Ledger) -> Planted:
    for o in h.operations:
        if o.due >= 6.0:
            h = change(h, o.op, ended=o.called + 0.6)
    return h, g, set()


def hung(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    return change(h, o.op, ended=None, outcome="info", code=""), g, {o.op}


def lost_task(h: History, g: Ledger) -> Planted:
    crash = Notice(at=7.0, kind="crash", detail="Task exception was never retrieved")
    return replace(h, notices=(*h.notices, crash)), g, set()


def server_traceback(h: History, g: Ledger) -> Planted:
    crash = Notice(at=7.0, kind="crash", detail="KeyError: 'x'")
    return h, replace(g, notices=(*g.notices, crash)), set()


def raw_error(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    return change(h, o.op, outcome="info", code="", error="OSError"), g, {o.op}


def received(numbers: tuple[int, ...]) -> Bug:
    def plant(h: History, g: Ledger) -> Planted:
        o = of(h, "watch")
        return change(h, o.op, received=numbers), g, {o.op}

    return plant


def moves(*changes: tuple[float, str]) -> Bug:
    def plant(h: History, g: Ledger) -> Planted:
        notices = tuple(Notice(at=a, kind="circuit", endpoint="p9", detail=d) for a, d in changes)
        return replace(h, notices=notices), g, set()

    return plant


def unlimited_probes(h: History, g: Ledger) -> Planted:
    hit = [o for o in h.operations if 4.4 <= o.due < 5.0]
    for o in hit:
        h = change(h, o.op, attempts=(attempt(o.due, endpoint="p9"),))
    return h, g, {o.op for o in hit}


def all_to_one(h: History, g: Ledger) -> Planted:
    hit = [o for o in h.operations if o.due >= 7.0]
    for o in hit:
        h = change(h, o.op, attempts=(attempt(o.due, endpoint="p1"),))
    return h, g, {o.op for o in hit[:20]}


def slow_refusal(h: History, g: Ledger) -> Planted:
    hit = [o for o in h.operations if o.error == "CircuitOpenError"]
    for o in hit:
        h = change(h, o.op, ended=o.called + 0.4)
    return h, g, {o.op for o in hit}


def idle(h: History, g: Ledger) -> Planted:
    return replace(h, notices=()), g, set()


def in_recovery(h: History, method: str) -> list[Operation]:
    return [o for o in h.operations if o.due >= 6.0 and o.method == method]


def shared_pool(h: History, g: Ledger) -> Planted:
    hit = in_recovery(h, "watch")
    for o in hit[1::2]:
        h = change(h, o.op, outcome="fail", code="unavailable", error="OverloadedError")
    return h, g, {o.op for o in hit[1::2]}


def slowed_down(h: History, g: Ledger) -> Planted:
    hit = in_recovery(h, "watch")
    for o in hit:
        h = change(h, o.op, ended=o.called + 0.07)
    return h, g, {o.op for o in hit}


def kept_from_the_healthy(h: History, g: Ledger) -> Planted:
    hit = [o for o in in_recovery(h, "read") if o.op != HEDGED]
    for o in hit:
        h = change(h, o.op, attempts=(), outcome="fail", code="unavailable")
    return h, g, {o.op for o in hit}


def no_calls(h: History, g: Ledger) -> Planted:
    return replace(h, operations=tuple(o for o in h.operations if o.method != "watch")), g, set()


def leaked(process: str, **more: float) -> Bug:
    def plant(h: History, g: Ledger) -> Planted:
        notices = [n for n in h.notices if n.kind != "resource"]
        in_client = held("client", **more if process == "client" else {})
        in_server = held("s1", **more if process == "s1" else {})
        return (
            replace(h, notices=(*notices, *in_client)),
            replace(g, notices=tuple(in_server)),
            set(),
        )

    return plant


def unsampled(h: History, g: Ledger) -> Planted:
    notices = tuple(n for n in h.notices if n.kind != "resource")
    return replace(h, notices=notices), replace(g, notices=()), set()


def unsampled_after(h: History, g: Ledger) -> Planted:
    return replace(h, notices=tuple(n for n in h.notices if n.at < 6.5)), g, set()


def loser_runs_on(h: History, g: Ledger) -> Planted:
    runs = tuple(
        replace(e, ended=e.started + 0.3) if e.cancelled is not None else e for e in g.executions
    )
    return h, replace(g, executions=runs), {HEDGED}


def loser_never_told(h: History, g: Ledger) -> Planted:
    runs = tuple(replace(e, cancelled=None) for e in g.executions)
    return h, replace(g, executions=runs), {HEDGED}


def loser_kept_here(h: History, g: Ledger) -> Planted:
    o = h.operations[HEDGED]
    lost, won = o.attempts
    return change(h, HEDGED, attempts=(replace(lost, ended=None), won)), g, {HEDGED}


def hedged_append(h: History, g: Ledger) -> Planted:
    o = of(h, "append")
    return replace(h, operations=tuple(hedged(x) if x == o else x for x in h.operations)), g, {o.op}


def hedged_too_often(h: History, g: Ledger) -> Planted:
    hit = {o.op for o in h.operations if o.method == "read" and o.outcome == "ok"}
    operations = tuple(hedged(o) if o.op in hit else o for o in h.operations)
    return replace(h, operations=operations), g, hit


CASES: list[tuple[str, dict[str, Any], Bug]] = [
    ("steady_state", {}, unsteady),
    ("at_most_once", {}, retried_append),
    ("no_lost_ack", {}, ack_without_execution),
    ("no_lost_ack", {}, ack_without_effect),
    ("honest_failure", {}, dishonest),
    ("effectively_once", {}, paid_twice),
    ("effectively_once", {}, other_receipt),
    ("amplification", {"phase": ["recovery"]}, unbudgeted),
    ("deadline", {}, overrun),
    ("dead_work", {}, undropped),
    ("recovery", {"within": 1.0}, degraded),
    ("availability", {"phase": ["recovery"], "success": 0.99}, degraded),
    ("goodput", {"capacity": 10.0, "phase": ["recovery"]}, collapsed),
    ("liveness", {}, hung),
    ("liveness", {}, lost_task),
    ("liveness", {}, server_traceback),
    ("taxonomy", {}, raw_error),
    ("streams", {}, received((0, 2))),
    ("streams", {}, received((0, 1, 1))),
    ("streams", {}, received((0, 1))),
    ("breaker", {}, moves((4.2, "open"))),
    ("breaker", {}, moves()),
    ("breaker", {}, moves((5.8, "open"), (6.2, "closed"))),
    ("breaker", {"closes_within": 1.0}, moves((4.2, "open"), (8.0, "closed"))),
    ("breaker", {}, moves(*[(4.2 + n / 10, "open") for n in range(12)], (6.2, "closed"))),
    ("open_means_quiet", {}, unlimited_probes),
    ("load_share", {"endpoint": "p1", "most": 0.5, "phase": ["recovery"]}, all_to_one),
    ("load_share", {"endpoint": "p2", "least": 0.1, "phase": ["recovery"]}, all_to_one),
    ("quick_refusals", {}, slow_refusal),
    ("isolation", {"methods": ["watch"], "phase": ["recovery"]}, shared_pool),
    ("isolation", {"methods": ["watch"], "phase": ["recovery"]}, slowed_down),
    ("isolation", {"methods": ["watch"], "phase": ["recovery"]}, no_calls),
    ("isolation", {"endpoints": ["p1", "p2"], "phase": ["recovery"]}, kept_from_the_healthy),
    ("resources", {"within": 1.0}, leaked("client", fds=45)),
    ("resources", {"within": 1.0}, leaked("s1", tasks=23)),
    ("resources", {"within": 1.0, "of": ["connections"]}, leaked("client", connections=14)),
    ("resources", {"within": 1.0}, leaked("s1", rss=112.0 * (1 << 20))),
    ("resources", {"within": 1.0}, unsampled),
    ("resources", {"within": 1.0}, unsampled_after),
    ("memory", {}, leaked("client", rss=121.0 * (1 << 20))),
    ("memory", {}, unsampled),
    ("hedging", {}, loser_runs_on),
    ("hedging", {}, loser_never_told),
    ("hedging", {}, loser_kept_here),
    ("hedging", {}, hedged_append),
    ("hedging", {}, hedged_too_often),
    ("reached", {"all_of": ["breaker.opened"]}, idle),
    *CALLERS,
]
