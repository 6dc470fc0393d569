"""Planted bugs of what callers do to servers, and servers to each other."""

from dataclasses import replace
from typing import Any

from connectplugin_chaos.record.model import History, Ledger, Notice
from tests.chaos.clean import (
    CANCELLED,
    Bug,
    Planted,
    attempt,
    cancelled,
    change,
    executed,
    of,
)


def nobody_cancelled(h: History, g: Ledger) -> Planted:
    return change(h, CANCELLED, cancelled=None), g, set()


def cancelled_late(h: History, g: Ledger) -> Planted:
    o = h.operations[CANCELLED]
    return change(h, o.op, ended=o.called + 0.2), g, {o.op}


def cancelled_attempt_left(h: History, g: Ledger) -> Planted:
    o = h.operations[CANCELLED]
    left = replace(o.attempts[0], ended=None)
    return change(h, o.op, attempts=(left,)), g, {o.op}


def cancelled_with_an_error(h: History, g: Ledger) -> Planted:
    return change(h, CANCELLED, error="ConnectError"), g, {CANCELLED}


def orphan_retry(h: History, g: Ledger) -> Planted:
    o = h.operations[CANCELLED]
    late = attempt(o.called + 0.03, number=2, took=0.01)
    return change(h, o.op, attempts=(*o.attempts, late)), g, {o.op}


def cancelled_for_nothing(h: History, g: Ledger) -> Planted:
    runs = tuple(
        replace(e, cancelled=None, ended=e.started + 0.3) if e.op == CANCELLED else e
        for e in g.executions
    )
    return h, replace(g, executions=runs), {CANCELLED}


def handler_forgotten(h: History, g: Ledger) -> Planted:
    runs = tuple(replace(e, cancelled=None) if e.op == CANCELLED else e for e in g.executions)
    return h, replace(g, executions=runs), {CANCELLED}


def herd(h: History, g: Ledger) -> Planted:
    crowd = tuple(attempt(6.31, number=n) for n in range(9))
    return change(h, 63, attempts=crowd), g, set()


def over_quota(h: History, g: Ledger) -> Planted:
    hit = {o.op for o in h.operations if 7 <= o.due < 9 and o.outcome == "ok"}
    more = tuple(replace(e, server="s1") if e.op in hit else e for e in g.executions)
    return h, replace(g, executions=more), set()


def hammered(h: History, g: Ledger) -> Planted:
    refused = [Notice(at=6 + n / 30, kind="refused", detail="rate_limited") for n in range(90)]
    return h, replace(g, notices=(*g.notices, *refused)), set()


def at_once(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    again = (attempt(o.due), attempt(o.due + 0.06, number=2))
    return change(h, o.op, attempts=again), g, {o.op}


def stormed(h: History, g: Ledger) -> Planted:
    return h, replace(g, notices=(*g.notices, *g.notices)), set()


def no_deadline(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    runs = tuple(replace(e, deadline_at=None) if e.op == o.op else e for e in g.executions)
    return h, replace(g, executions=runs), {o.op}


def longer_deadline(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    onward = replace(executed(o, late=0.02), server="s3", deadline_at=o.called + 0.6)
    return h, replace(g, executions=(*g.executions, onward)), {o.op}


def astray(h: History, g: Ledger) -> Planted:
    o = of(h, "read")
    elsewhere = replace(executed(o), server="s3")
    return h, replace(g, executions=(*g.executions, elsewhere)), {o.op}


def one_server(h: History, g: Ledger) -> Planted:
    runs = tuple(replace(e, server="s1") for e in g.executions)
    return h, replace(g, executions=runs), set()


def wrong_code(h: History, g: Ledger) -> Planted:
    o = next(o for o in h.operations if o.outcome == "fail")
    return change(h, o.op, code="unknown"), g, {o.op}


def nothing_failed(h: History, g: Ledger) -> Planted:
    return replace(h, operations=tuple(map(cancelled, h.operations))), g, set()


def uneven(h: History, g: Ledger) -> Planted:
    for o in h.operations[:20]:
        h = change(h, o.op, attempts=(attempt(o.due, endpoint="p1"),))
    return h, g, set()


CALLERS: list[tuple[str, dict[str, Any], Bug]] = [
    ("cancellation", {}, nobody_cancelled),
    ("cancellation", {}, cancelled_late),
    ("cancellation", {}, cancelled_attempt_left),
    ("cancellation", {}, cancelled_with_an_error),
    ("cancellation", {}, orphan_retry),
    ("cancellation", {}, cancelled_for_nothing),
    ("cancellation", {}, handler_forgotten),
    ("peak_rate", {}, herd),
    ("quota", {"per_second": 5.0, "burst": 1.0, "phase": ["recovery"]}, over_quota),
    ("patience", {"phase": ["recovery"]}, hammered),
    ("not_before", {"delay": 0.3, "phase": ["recovery"]}, at_once),
    ("storm", {"server": "s1", "phase": ["recovery"]}, stormed),
    ("inherited", {}, no_deadline),
    ("inherited", {}, longer_deadline),
    ("sticky", {}, astray),
    ("sticky", {}, one_server),
    ("codes", {"right": ["unavailable"]}, wrong_code),
    ("codes", {"right": ["unavailable"]}, nothing_failed),
    ("balanced", {}, uneven),
]
