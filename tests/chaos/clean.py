"""A clean history of ten seconds: the planted bugs are changes of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from connectplugin_chaos.record.model import (
    Attempt,
    Execution,
    Fault,
    History,
    Ledger,
    Notice,
    Operation,
)

Planted = tuple[History, Ledger, set[int]]
Bug = Callable[[History, Ledger], Planted]

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
        server=f"s{o.op % 2 + 1}",
        started=o.called + late,
        ended=o.called + late + 0.03,
        deadline_at=o.called + 0.5,
        effect=effect and o.method in {"write", "append", "pay"},
        reply=f"receipt-{o.op}" if o.method == "pay" else "",
    )


HELD = {"fds": 40.0, "tasks": 20.0, "connections": 12.0, "rss": 100.0 * (1 << 20)}


def held(process: str, **changed: float) -> list[Notice]:
    """What a process holds, every half second; with `changed`, from 7 s on."""
    return [
        Notice(
            at=n / 2,
            kind="resource",
            endpoint=process,
            detail=what,
            # What is in flight comes and goes.
            value=changed.get(what, value) if n >= 14 else value - n % 2,
        )
        for n in range(20)
        for what, value in HELD.items()
    ]


PATIENT = 91
"""The operation that was told to come back later, and did: a write."""


def patient(o: Operation) -> Operation:
    """It was refused, and tried again when the server had said."""
    refused = replace(attempt(o.called, endpoint="p3", took=0.01), code="unavailable")
    again = attempt(o.called + 0.33, number=2, endpoint="p3")
    return replace(o, ended=o.called + 0.38, attempts=(refused, again))


def hedged(o: Operation) -> Operation:
    """It was slow, so a second attempt was made, which has won."""
    lost = replace(attempt(o.called), ended=o.called + 0.051, code="CancelledError")
    won = replace(attempt(o.called + 0.02, endpoint="p2"), kind="hedge", ended=o.called + 0.05)
    return replace(o, attempts=(lost, won))


HEDGED = 85
"""The operation that was hedged: a read."""

CANCELLED = 95
"""The operation that its caller has cancelled: a read."""


def cancelled(o: Operation) -> Operation:
    """Its caller gave up while it was worked on."""
    at = o.called + 0.02
    over = (replace(attempt(o.called), ended=at + 0.001, code="CancelledError"),)
    return replace(
        o, cancelled=at, ended=at + 0.001, outcome="info", code="canceled", attempts=over
    )


def clean() -> tuple[History, Ledger]:
    """10 s at 10 a second: a fault from 4 to 6, in which a circuit opens."""
    operations = tuple(operation(n, n / 10) for n in range(100))
    operations = tuple(hedged(o) if o.op == HEDGED else o for o in operations)
    operations = tuple(patient(o) if o.op == PATIENT else o for o in operations)
    operations = tuple(cancelled(o) if o.op == CANCELLED else o for o in operations)
    executions = [executed(o) for o in operations if o.outcome == "ok"]
    given_up = operations[CANCELLED]
    executions.append(replace(executed(given_up), ended=None, cancelled=given_up.called + 0.025))
    cut = operations[HEDGED].called + 0.055
    executions.append(replace(executed(operations[HEDGED]), ended=None, cancelled=cut))
    final: dict[str, tuple[int, ...]] = {e.key: (e.op,) for e in executions if e.effect}
    moves = [(4.2, "open"), (5.5, "half_open"), (5.55, "open"), (6.1, "half_open"), (6.2, "closed")]
    history = History(
        scenario="T",
        arm="stack",
        seed=7,
        phases={"base": (0.0, 4.0), "fault": (4.0, 6.0), "recovery": (6.0, 10.0)},
        operations=operations,
        notices=(
            *(Notice(at=at, kind="circuit", endpoint="p9", detail=state) for at, state in moves),
            *held("client"),
        ),
        faults=(Fault(name="freeze", began=4.0, ended=6.0),),
        end=10.1,
    )
    onward = [Notice(at=e.started, kind="outbound", endpoint="s1") for e in executions]
    notices = (*held("s1"), *onward)
    return history, Ledger(executions=tuple(executions), notices=notices, final=final)


def change(history: History, op: int, **fields: Any) -> History:
    return replace(
        history,
        operations=tuple(replace(o, **fields) if o.op == op else o for o in history.operations),
    )


def of(history: History, method: str) -> Operation:
    """An operation of a method, in the recovery."""
    return next(o for o in history.operations if o.due > 7 and o.method == method)
