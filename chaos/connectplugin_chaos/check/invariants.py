"""The invariants: each a pure function of history and ledger, with its bars as keywords.

The names are those of the scenario files. Shares are fractions of 1, times are seconds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from connectplugin_chaos.check import stats
from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.record.model import History, Ledger, Operation

Check = Callable[..., Judgement]


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def steady_state(
    history: History,
    _: Ledger,
    *,
    phase: str = "base",
    success: float = 0.999,
    p99: float | None = None,
) -> Judgement:
    """All is well before anything is broken; otherwise the run says nothing."""
    first = min((fault.began for fault in history.faults), default=float("inf"))
    # A call that was under way when the fault began is no sign of an unsteady state.
    operations = [o for o in history.during([phase]) if o.due + o.deadline < first]
    share = stats.success(operations)
    tail = stats.percentile(stats.latencies(operations), 0.99)
    good = bool(operations) and share >= success and (p99 is None or tail <= p99)
    bar = f">= {_percent(success)}" + ("" if p99 is None else f", p99 <= {_ms(p99)}")
    bad = tuple(o.op for o in operations if not o.good())
    measured = f"{_percent(share)} of {len(operations)}, p99 {_ms(tail)}"
    return judge("steady_state", good, measured=measured, bar=bar, offending=bad)


def at_most_once(history: History, ledger: Ledger) -> Judgement:
    """I1: what is not idempotent is executed at most once."""
    twice = tuple(stats.duplicates(history, ledger))
    risky = sum(not o.idempotent for o in history.operations)
    measured = f"{len(twice)} of {risky} non-idempotent operations executed twice or more"
    return judge("at_most_once", not twice, measured=measured, bar="0", offending=twice)


def no_lost_ack(history: History, ledger: Ledger) -> Judgement:
    """I2: what was acknowledged was executed, and its effect is there in the end."""
    runs = ledger.by_operation()
    final = ledger.final
    there = set[int]() if final is None else {op for ops in final.values() for op in ops}
    writes = [
        o for o in history.operations if o.outcome == "ok" and (o.method in _EFFECTS or o.changes)
    ]
    lost = tuple(
        o.op for o in writes if o.op not in runs or (final is not None and o.op not in there)
    )
    asked = "" if final is not None else " (the final state was not read)"
    measured = f"{len(lost)} of {len(writes)} acknowledged writes lost{asked}"
    return judge("no_lost_ack", not lost, measured=measured, bar="0", offending=lost)


_EFFECTS: Final = frozenset({"write", "append"})


def honest_failure(history: History, ledger: Ledger) -> Judgement:
    """I3: what is told to be not executed was not."""
    runs = ledger.by_operation()
    failed = [o for o in history.operations if o.outcome == "fail"]
    lied = tuple(o.op for o in failed if o.op in runs)
    measured = f"{len(lied)} of {len(failed)} 'not sent' were executed"
    return judge("honest_failure", not lied, measured=measured, bar="0", offending=lied)


def effectively_once(history: History, ledger: Ledger) -> Judgement:
    """I4: with the same key there is one effect, and one answer."""
    effects: dict[str, list[int]] = {}
    replies: dict[str, set[str]] = {}
    for execution in ledger.executions:
        if execution.method == "pay":
            if execution.effect:
                effects.setdefault(execution.key, []).append(execution.op)
            if execution.reply:
                replies.setdefault(execution.key, set()).add(execution.reply)
    for operation in history.operations:
        if operation.method == "pay" and operation.outcome == "ok":
            replies.setdefault(operation.key, set()).add(operation.reply)
    bad_keys = {k for k, ops in effects.items() if len(ops) > 1}
    bad_keys |= {k for k, told in replies.items() if len(told) > 1}
    bad = tuple(o.op for o in history.operations if o.method == "pay" and o.key in bad_keys)
    measured = f"{len(bad_keys)} of {len(effects)} keys with another effect or answer"
    return judge("effectively_once", not bad_keys, measured=measured, bar="0", offending=bad)


def amplification(
    history: History, _: Ledger, *, most: float = 1.1, phase: Sequence[str] = ()
) -> Judgement:
    """I5: attempts for each operation."""
    operations = history.during(phase)
    factor = stats.amplification(operations)
    many = tuple(o.op for o in sorted(operations, key=lambda o: -len(o.attempts)))
    where = f" in {', '.join(phase)}" if phase else ""
    return judge(
        "amplification",
        factor <= most,
        measured=f"{factor:.3f} attempts a call over {len(operations)} calls{where}",
        bar=f"<= {most:g}",
        offending=many,
    )


def deadline(
    history: History, _: Ledger, *, epsilon_p999: float = 0.05, epsilon_max: float = 0.15
) -> Judgement:
    """I6: every call is over when it should be."""
    over = {
        o.op: o.ended - o.called - o.deadline for o in history.operations if o.ended is not None
    }
    tail = stats.percentile(list(over.values()), 0.999)
    most = max(over.values(), default=0.0)
    late = [op for op, by in sorted(over.items(), key=lambda item: -item[1]) if by > epsilon_p999]
    return judge(
        "deadline",
        tail <= epsilon_p999 and most <= epsilon_max,
        measured=f"p99.9 {_ms(tail)}, at most {_ms(most)} past the deadline",
        bar=f"<= {_ms(epsilon_p999)}, <= {_ms(epsilon_max)}",
        offending=tuple(late),
    )


def dead_work(history: History, ledger: Ledger, *, most: float = 0.05) -> Judgement:
    """I7: what the servers begin is still wanted."""
    dead = stats.dead_work(history, ledger)
    total = len(ledger.executions)
    share = len(dead) / total if total else 0.0
    return judge(
        "dead_work",
        share <= most,
        measured=f"{len(dead)} of {total} executions began after the deadline ({_percent(share)})",
        bar=f"<= {_percent(most)}",
        offending=tuple(dead),
    )


def recovery(
    history: History, _: Ledger, *, to: float = 0.99, within: float = 3.0, goal: float | None = None
) -> Judgement:
    """I9: all is well again soon after the last fault is gone.

    `goal` is told beside the bar, and judges nothing: what it would take if no circuit were open.
    """
    seconds = stats.recovery(history, to=to)
    bad = tuple(o.op for o in history.operations if o.due >= history.healed and not o.good())
    measured = "never, in the time observed" if seconds is None else f"{seconds:.2f} s"
    return judge(
        "recovery",
        seconds is not None and seconds <= within,
        measured=f"{measured} until 3 windows of 1 s with {_percent(to)}",
        bar=("at all" if within == float("inf") else f"<= {within:g} s")
        + ("" if goal is None else f" (goal {goal:g} s)"),
        offending=bad,
    )


def availability(
    history: History,
    _: Ledger,
    *,
    success: float,
    phase: Sequence[str] = (),
    after: float = 0.0,
    methods: Sequence[str] = (),
    p99: float | None = None,
) -> Judgement:
    """The share of calls that come back well, `after` seconds into the phases."""
    names = phase or tuple(history.phases)
    begins = [history.phases[name] for name in names]
    operations = [
        o
        for o in history.operations
        if any(begin + after <= o.due < end for begin, end in begins)
        and o.due >= 0
        and (not methods or o.method in methods)
    ]
    share = stats.success(operations)
    tail = stats.percentile(stats.latencies([o for o in operations if o.good()]), 0.99)
    bad = tuple(o.op for o in operations if not o.good())
    bar = f">= {_percent(success)}" + ("" if p99 is None else f", p99 <= {_ms(p99)}")
    return judge(
        "availability",
        bool(operations) and share >= success and (p99 is None or tail <= p99),
        measured=f"{_percent(share)} of {len(operations)}, p99 {_ms(tail)}",
        bar=bar,
        offending=bad,
    )


def goodput(
    history: History,
    _: Ledger,
    *,
    capacity: float,
    least: float = 0.9,
    phase: Sequence[str] = ("fault",),
) -> Judgement:
    """I10: calls that come back in time each second, against what the servers can do."""
    spans = [history.phases[name] for name in phase]
    seconds = sum(end - begin for begin, end in spans)
    good = sum(o.good(tolerance=0.0) for o in history.during(phase))
    rate = good / seconds if seconds else 0.0
    return judge(
        "goodput",
        rate >= least * capacity,
        measured=f"{rate:.1f} a second of {capacity:g}",
        bar=f">= {_percent(least)}",
    )


def liveness(history: History, ledger: Ledger) -> Judgement:
    """I13: every call ends, no task is lost, no server writes a traceback."""
    hung = tuple(o.op for o in history.operations if o.ended is None)
    crashes = [n for n in (*history.notices, *ledger.notices) if n.kind == "crash"]
    said = f": {crashes[0].detail[:120]}" if crashes else ""
    return judge(
        "liveness",
        not hung and not crashes,
        measured=f"{len(hung)} calls never ended, {len(crashes)} unhandled errors{said}",
        bar="0, 0",
        offending=hung,
    )


def taxonomy(history: History, _: Ledger) -> Judgement:
    """I14: callers get Connect's errors and ours, and nothing else."""
    raw = [o for o in history.operations if o.error and not o.code]
    return judge(
        "taxonomy",
        not raw,
        measured=f"{len(raw)} calls raised {', '.join(sorted({o.error for o in raw})) or 'others'}",
        bar="0",
        offending=tuple(o.op for o in raw),
    )


def streams(history: History, _: Ledger) -> Judgement:
    """I17: what arrives is a prefix of what was sent; a stream that was cut does not end well."""
    bad = tuple(o.op for o in history.operations if o.sent and not _whole(o))
    count = sum(bool(o.sent) for o in history.operations)
    measured = f"{len(bad)} of {count} streams with a gap, a duplicate or a silent end"
    return judge("streams", not bad, measured=measured, bar="0", offending=bad)


def _whole(operation: Operation) -> bool:
    prefix = operation.received == tuple(range(len(operation.received)))
    complete = operation.outcome != "ok" or len(operation.received) == operation.sent
    return prefix and complete


CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check
    for check in (
        steady_state,
        at_most_once,
        no_lost_ack,
        honest_failure,
        effectively_once,
        amplification,
        deadline,
        dead_work,
        recovery,
        availability,
        goodput,
        liveness,
        taxonomy,
        streams,
    )
}
"""By the names of the scenario files; those of `mechanisms` come beside."""
