"""Checks of what callers do to servers: cancelled calls, herds, quotas, storms, keys."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.record.model import History, Ledger, Operation


def cancellation(history: History, ledger: Ledger, *, within: float = 0.1) -> Judgement:
    """A call that its caller has cancelled is over: here at once, and soon at the server.

    It ends as a cancellation and as nothing else, no attempt of it begins afterwards, and the
    server's handler is cancelled too, unless it was done.

    Args:
        history: The client's side.
        ledger: The servers'.
        within: Seconds until the call, its attempts and its executions are over.
    """
    runs = ledger.by_operation()
    cancelled = [o for o in history.operations if o.cancelled is not None]
    other = [o.op for o in cancelled if o.error]
    slow = [o.op for o in cancelled if not _over(o, _until(o, within))]
    orphans = [o.op for o in cancelled if any(a.started > _until(o, 0.005) for a in o.attempts)]
    working = [
        o.op
        for o in cancelled
        for run in runs.get(o.op, [])
        if (end := run.cancelled if run.ended is None else run.ended) is None
        or end > _until(o, within)
    ]
    bad = (*other, *slow, *orphans, *working)
    return judge(
        "cancellation",
        cancelled and not bad,
        measured=f"{len(cancelled)} cancelled: {len(other)} ended otherwise, {len(slow)} late,"
        f" {len(orphans)} tried again, {len(working)} worked on by servers",
        bar=f"some; 0, 0, 0, 0 after {within * 1000:g} ms",
        offending=tuple(dict.fromkeys(bad)),
    )


def _until(operation: Operation, within: float) -> float:
    return (operation.cancelled or 0.0) + within


def _over(operation: Operation, until: float) -> bool:
    """Whether the call and all of its attempts were over."""
    ends = [operation.ended, *(attempt.ended for attempt in operation.attempts)]
    return all(end is not None and end <= until for end in ends)


def peak_rate(
    history: History,
    _: Ledger,
    *,
    most: float = 2.0,
    phase: Sequence[str] = ("recovery",),
    base: str = "base",
    window: float = 0.1,
) -> Judgement:
    """After the heal clients do not all come at once.

    Args:
        history: The client's side.
        most: The busiest window's attempts, over the busiest one's of `base`.
        phase: In which they are counted.
        base: The phase before the fault.
        window: Seconds.
    """
    usual = max(_windows(history, [base], window), default=0)
    peak = max(_windows(history, phase, window), default=0)
    return judge(
        "peak_rate",
        usual > 0 and peak <= most * usual,
        measured=f"{peak} attempts in the busiest {window * 1000:g} ms, {usual} in {base}",
        bar=f"<= {most:g} times",
    )


def _windows(history: History, phase: Sequence[str], window: float) -> list[int]:
    spans = [history.phases[name] for name in phase]
    found: Counter[int] = Counter()
    for operation in history.operations:
        for attempt in operation.attempts:
            if any(begin <= attempt.started < end for begin, end in spans):
                found[int(attempt.started // window)] += 1
    return list(found.values())


def quota(
    history: History,
    ledger: Ledger,
    *,
    per_second: float,
    burst: float,
    phase: Sequence[str] = (),
    server: str = "s1",
) -> Judgement:
    """A server executes no more than its rate limit grants.

    Args:
        history: The client's side.
        ledger: The servers'.
        per_second: That the limit gains.
        burst: That it holds.
        phase: In which executions are counted, as one span; by default from 0 to the end.
        server: Whose.
    """
    spans = [history.phases[name] for name in phase] or [(0.0, history.end)]
    begin, end = min(b for b, _ in spans), max(e for _, e in spans)
    done = [e for e in ledger.executions if e.server == server and begin <= e.started < end]
    most = per_second * (end - begin) + burst
    return judge(
        "quota",
        len(done) <= most,
        measured=f"{len(done)} executions in {end - begin:.1f} s",
        bar=f"<= {per_second:g} a second and {burst:g}",
        offending=tuple(e.op for e in done[int(most) :]),
    )


def patience(
    history: History,
    ledger: Ledger,
    *,
    most: float = 1.2,
    phase: Sequence[str] = (),
) -> Judgement:
    """Who is told to come back later does not come back at once: refusals for each call.

    Args:
        history: The client's side.
        ledger: The servers', with what they refused.
        most: Refusals by the servers, for each operation.
        phase: In which both are counted.
    """
    spans = [history.phases[name] for name in phase] or [(0.0, history.end)]
    refused = sum(
        n.kind == "refused" and any(begin <= n.at < end for begin, end in spans)
        for n in ledger.notices
    )
    operations = history.during(phase)
    share = refused / len(operations) if operations else 0.0
    return judge(
        "patience",
        share <= most,
        measured=f"{refused} refusals for {len(operations)} calls",
        bar=f"<= {most:g} for each",
    )


def not_before(
    history: History, _: Ledger, *, delay: float, phase: Sequence[str] = ("fault",)
) -> Judgement:
    """No further attempt of a call begins earlier than the server has asked for.

    Args:
        history: The client's side.
        delay: Seconds that it asks for, whenever it refuses.
        phase: In which nothing else makes calls fail.
    """
    early: list[int] = []
    gaps: list[float] = []
    for operation in history.during(phase):
        for before, after in pairwise(operation.attempts):
            if before.ended is not None and after.kind != "hedge":
                gaps.append(after.started - before.ended)
                if gaps[-1] < delay:
                    early.append(operation.op)
    least = f"{min(gaps) * 1000:.0f} ms" if gaps else "never"
    return judge(
        "not_before",
        gaps and not early,
        measured=f"{len(early)} of {len(gaps)} further attempts too early; the first after {least}",
        bar=f">= {delay * 1000:g} ms",
        offending=tuple(dict.fromkeys(early)),
    )


def storm(
    history: History,
    ledger: Ledger,
    *,
    server: str,
    most: float = 1.2,
    phase: Sequence[str] = ("fault",),
) -> Judgement:
    """What the first tier's calls come to further down: attempts that a server makes for each.

    Args:
        history: The client's side.
        ledger: The servers', with what they have called themselves.
        server: Whose attempts are counted: the last but one of the chain.
        most: For each operation of the client.
        phase: In which both are counted.
    """
    spans = [history.phases[name] for name in phase]
    operations = history.during(phase)
    made = sum(
        n.kind == "outbound"
        and n.endpoint == server
        and any(begin <= n.at < end for begin, end in spans)
        for n in ledger.notices
    )
    factor = made / len(operations) if operations else 0.0
    return judge(
        "storm",
        operations and factor <= most,
        measured=f"{made} attempts by {server} for {len(operations)} calls ({factor:.3g} for each)",
        bar=f"<= {most:g}",
    )


def inherited(history: History, ledger: Ledger, *, slack: float = 0.03) -> Judgement:
    """Each server knows when its caller gives up, and no hop has more time than the one before.

    Args:
        history: The client's side.
        ledger: The servers'.
        slack: Seconds by which a deadline may be later: what a message takes on its way.
    """
    # What begins after the caller has gone was held up on its way; `dead_work` judges that.
    until = {o.op: o.called + o.deadline for o in history.operations}
    runs = [e for e in ledger.executions if 0 <= e.started <= until.get(e.op, -1.0)]
    ignorant = [e.op for e in runs if e.deadline_at is None]
    least: dict[int, float] = {}
    longer: list[int] = []
    for run in sorted(runs, key=lambda e: e.started):
        if run.deadline_at is not None:
            if run.deadline_at > least.get(run.op, float("inf")) + slack:
                longer.append(run.op)
            least[run.op] = min(run.deadline_at, least.get(run.op, float("inf")))
    return judge(
        "inherited",
        runs and not ignorant and not longer,
        measured=f"{len(ignorant)} of {len(runs)} executions without a deadline,"
        f" {len(longer)} with a later one than the hop before",
        bar="0, 0",
        offending=tuple(dict.fromkeys((*ignorant, *longer))),
    )


def sticky(
    _: History, ledger: Ledger, *, most: int = 1, share: float = 1.0, until: float = float("inf")
) -> Judgement:
    """Equal keys meet the same server.

    Args:
        ledger: The servers'.
        most: Servers that a key meets.
        share: Of the keys for which that holds.
        until: Seconds; later executions do not count.
    """
    met: dict[str, set[str]] = {}
    for execution in ledger.executions:
        if 0 <= execution.started < until:
            met.setdefault(execution.key, set()).add(execution.server)
    good = sum(len(servers) <= most for servers in met.values())
    astray = (e.op for e in ledger.executions if len(met.get(e.key, ())) > most)
    used = len({server for servers in met.values() for server in servers})
    held = good / len(met) if met else 0.0
    return judge(
        "sticky",
        held >= share and used > 1,
        measured=f"{good} of {len(met)} keys met {most} server(s), {used} servers in all",
        bar=f">= {share * 100:g} %, and more than one server used",
        offending=tuple(dict.fromkeys(astray)),
    )


def codes(
    history: History,
    _: Ledger,
    *,
    right: Sequence[str],
    phase: Sequence[str] = ("fault",),
    methods: Sequence[str] = (),
) -> Judgement:
    """What fails fails with the codes that it should, and something does fail.

    Args:
        history: The client's side.
        right: Connect codes.
        phase: In which calls are looked at.
        methods: Of the calls; all if there are none.
    """
    failed = [
        o
        for o in history.during(phase)
        if o.outcome != "ok" and o.cancelled is None and (not methods or o.method in methods)
    ]
    wrong = tuple(o.op for o in failed if o.code not in right)
    seen = Counter(o.code or o.error or "nothing" for o in failed)
    told = ", ".join(f"{code} {count}" for code, count in sorted(seen.items())) or "nothing failed"
    return judge(
        "codes",
        failed and not wrong,
        measured=told,
        bar=f"failures, and all {' or '.join(right)}",
        offending=wrong,
    )


def balanced(
    history: History,
    _: Ledger,
    *,
    within: float = 0.1,
    phase: Sequence[str] = ("base",),
) -> Judgement:
    """Each endpoint gets its part of the attempts.

    Args:
        history: The client's side.
        within: Share by which the most and the least may be off the mean.
        phase: In which attempts are counted.
    """
    spans = [history.phases[name] for name in phase]
    met = Counter(
        a.endpoint
        for o in history.operations
        for a in o.attempts
        if any(begin <= a.started < end for begin, end in spans)
    )
    mean = sum(met.values()) / len(met) if met else 0.0
    off = max((abs(count - mean) / mean for count in met.values()), default=1.0)
    told = ", ".join(f"{endpoint} {count}" for endpoint, count in sorted(met.items()))
    return judge(
        "balanced",
        len(met) > 1 and off <= within,
        measured=told or "no attempts",
        bar=f"within {within * 100:g} % of the mean",
    )
