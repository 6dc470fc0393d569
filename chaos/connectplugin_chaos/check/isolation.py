"""I11: what a fault does not touch does not feel it."""

from collections.abc import Sequence

from connectplugin_chaos.check import stats
from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.record.model import History, Ledger, Operation


def isolation(
    history: History,
    _: Ledger,
    *,
    methods: Sequence[str] = (),
    endpoints: Sequence[str] = (),
    phase: Sequence[str] = ("fault",),
    base: str = "base",
    success: float = 0.999,
    ratio: float = 1.2,
    slack: float = 0.0,
) -> Judgement:
    """The calls that have nothing to do with the fault go on as before it.

    Those are the calls of some methods, or the calls that went to some endpoints and to no other.
    What was refused on this side went nowhere, so it counts among the latter: an endpoint that is
    well was kept from it.

    Args:
        history: The client's side.
        methods: Of the calls; all if there are none.
        endpoints: Where all attempts of a call went; anywhere if there are none.
        phase: In which they are looked at.
        base: The phase that they are compared with.
        success: Share that comes back well.
        ratio: Of the 99th percentile of what users feel, to that of `base`.
        slack: Seconds that are allowed on top.
    """

    def untouched(operation: Operation) -> bool:
        there = not endpoints or all(a.endpoint in endpoints for a in operation.attempts)
        return there and (not methods or operation.method in methods)

    before = [o for o in history.during([base]) if untouched(o)]
    beside = [o for o in history.during(phase) if untouched(o)]
    share = stats.success(beside)
    usual = stats.percentile(stats.latencies(before), 0.99)
    tail = stats.percentile(stats.latencies(beside), 0.99)
    most = ratio * usual + slack
    failed = [o.op for o in beside if not o.good()]
    slow = [o.op for o in beside if o.good() and o.ended is not None and o.ended - o.due > most]
    offending = (failed if share < success else []) + (slow if tail > most else [])
    return judge(
        "isolation",
        before and beside and share >= success and tail <= most,
        measured=f"{share * 100:.4g} % of {len(beside)}, p99 {tail * 1000:.0f} ms; before the fault"
        f" {usual * 1000:.0f} ms of {len(before)}",
        bar=f">= {success * 100:.4g} %, p99 <= {most * 1000:.0f} ms",
        offending=tuple(offending),
    )
