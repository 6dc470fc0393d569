"""Every check has a clean history that passes, and one with a planted bug that it names."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from connectplugin_chaos.check.judgement import Judgement, Verdict
from connectplugin_chaos.check.mechanisms import ALL_CHECKS
from connectplugin_chaos.record.model import (
    Attempt,
    Execution,
    Fault,
    History,
    Ledger,
    Notice,
    Operation,
)

METHODS = ("read", "write", "pay", "append", "watch")


def attempt(at: float, *, number: int = 1, endpoint: str = "p1", took: float = 0.05) -> Attempt:
    kind = "initial" if number == 1 else "retry"
    return Attempt(
        number=number, kind=kind, endpoint=endpoint, started=at, ended=at + took, code="ok"
    )


def operation(op: int, due: float) -> Operation:
    method = METHODS[op % len(METHODS)]
    failed = 4.2 <= due < 6.0
    return Operation(
        op=op,
        method=method,
        key=f"k{op}",
        idempotent=method != "append",
        due=due,
        called=due,
        ended=due + (0.001 if failed else 0.05),
        deadline=0.5,
        outcome="fail" if failed else "ok",
        code="unavailable" if failed else "ok",
        error="CircuitOpenError" if failed else "",
        reply=f"receipt-{op}" if method == "pay" and not failed else "",
        sent=3 if method == "watch" else 0,
        received=(0, 1, 2) if method == "watch" and not failed else (),
        attempts=() if failed else (attempt(due, endpoint=f"p{op % 3 + 1}"),),
    )


def executed(o: Operation, *, late: float = 0.01, effect: bool = True) -> Execution:
    return Execution(
        op=o.op,
        method=o.method,
        key=o.key,
        server="s1",
        started=o.called + late,
        ended=o.called + late + 0.03,
        deadline_at=o.called + 0.5,
        effect=effect and o.method in {"write", "append", "pay"},
        reply=f"receipt-{o.op}" if o.method == "pay" else "",
    )


def clean() -> tuple[History, Ledger]:
    """10 s at 10 a second: a fault from 4 to 6, in which a circuit opens."""
    operations = tuple(operation(n, n / 10) for n in range(100))
    executions = [executed(o) for o in operations if o.outcome == "ok"]
    final: dict[str, tuple[int, ...]] = {e.key: (e.op,) for e in executions if e.effect}
    moves = [(4.2, "open"), (5.5, "half_open"), (5.55, "open"), (6.1, "half_open"), (6.2, "closed")]
    history = History(
        scenario="T",
        arm="stack",
        seed=7,
        phases={"base": (0.0, 4.0), "fault": (4.0, 6.0), "recovery": (6.0, 10.0)},
        operations=operations,
        notices=tuple(
            Notice(at=at, kind="circuit", endpoint="p9", detail=state) for at, state in moves
        ),
        faults=(Fault(name="freeze", began=4.0, ended=6.0),),
        end=10.1,
    )
    return history, Ledger(executions=tuple(executions), final=final)


def change(history: History, op: int, **fields: Any) -> History:
    return replace(
        history,
        operations=tuple(replace(o, **fields) if o.op == op else o for o in history.operations),
    )


def of(history: History, method: str) -> Operation:
    """An operation of a method, in the recovery."""
    return next(o for o in history.operations if o.due > 7 and o.method == method)


Planted = tuple[History, Ledger, set[int]]
Bug = Callable[[History, Ledger], Planted]


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
    return h, replace(g, notices=(Notice(at=7.0, kind="crash", detail="KeyError: 'x'"),)), set()


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
    ("quick_refusals", {}, slow_refusal),
    ("reached", {"all_of": ["breaker.opened"]}, idle),
]


def check(name: str, history: History, ledger: Ledger, **arguments: Any) -> Judgement:
    return ALL_CHECKS[name](history, ledger, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "bug"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_tells_the_bug_from_the_clean_history(
    name: str, arguments: dict[str, Any], bug: Bug
) -> None:
    history, ledger = clean()
    good = check(name, history, ledger, **arguments)
    assert good.verdict is Verdict.PASS, good
    bad_history, bad_ledger, offending = bug(history, ledger)
    bad = check(name, bad_history, bad_ledger, **arguments)
    assert bad.verdict is Verdict.FAIL, bad
    assert offending <= set(bad.evidence), bad


def test_every_check_has_a_planted_bug() -> None:
    assert {name for name, _, _ in CASES} == set(ALL_CHECKS)
