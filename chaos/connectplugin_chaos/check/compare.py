"""What one arm has over another, under the same calls and the same faults."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from connectplugin_chaos.check import stats
from connectplugin_chaos.check.judgement import Judgement, Verdict, judge
from connectplugin_chaos.record.model import History, Operation
from connectplugin_chaos.scenario.model import Comparison, Metric

_OF: Final[Mapping[Metric, Callable[[Sequence[Operation], float], float]]] = {
    "goodput": lambda calls, seconds: sum(o.good(tolerance=0.0) for o in calls) / seconds,
    "success": lambda calls, _: stats.success(calls),
    "p50": lambda calls, _: stats.percentile(stats.latencies(calls), 0.5),
    "p99": lambda calls, _: stats.percentile(stats.latencies(calls), 0.99),
    "attempts": lambda calls, _: stats.amplification(calls),
}


def measure(history: History, metric: Metric, phase: str = "") -> float:
    """A figure of an arm, in one phase or in all of the run.

    Args:
        history: The arm's.
        metric: Goodput is calls a second, `p50` and `p99` are seconds.
        phase: Empty for all.
    """
    spans = [history.phases[phase]] if phase else list(history.phases.values())
    seconds = sum(end - begin for begin, end in spans)
    return _OF[metric](history.during([phase] if phase else None), seconds)


def ratio(comparison: Comparison, histories: Mapping[str, History]) -> Judgement | None:
    """The ratio of two arms' figures; None if one of them was not run.

    Args:
        comparison: What is asked for.
        histories: By arm; an arm that proves nothing must not be among them.
    """
    if comparison.of not in histories or comparison.over not in histories:
        return None
    above = measure(histories[comparison.of], comparison.metric, comparison.phase)
    below = measure(histories[comparison.over], comparison.metric, comparison.phase)
    found = above / below if below else math.inf if above else 1.0
    where = f" in {comparison.phase}" if comparison.phase else ""
    least, most = comparison.min, comparison.max
    bars = [f">= {least:g}"] if least is not None else []
    bars += [f"<= {most:g}"] if most is not None else []
    return judge(
        f"{comparison.metric}{where}: {comparison.of} / {comparison.over}",
        (least is None or found >= least) and (most is None or found <= most),
        measured=f"{above:.4g} / {below:.4g} = {found:.3g}",
        bar=", ".join(bars),
    )


def compare(
    comparisons: Sequence[Comparison],
    histories: Mapping[str, History],
    unproven: frozenset[str] = frozenset(),
) -> tuple[Judgement, ...]:
    """All comparisons of a scenario whose arms were run.

    Args:
        comparisons: The scenario's.
        histories: By arm.
        unproven: Arms that are inconclusive: then so is what is compared with them.
    """
    found: list[Judgement] = []
    for comparison in comparisons:
        judgement = ratio(comparison, histories)
        if judgement is not None and unproven & {comparison.of, comparison.over}:
            judgement = replace(judgement, verdict=Verdict.INCONCLUSIVE)
        found += [] if judgement is None else [judgement]
    return tuple(found)
