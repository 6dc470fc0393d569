"""The schedule: which operation is due when. All of it comes from the seed."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from connectplugin_chaos.scenario.model import Plan, Workload

IDEMPOTENT = frozenset({"read", "write", "pay", "watch", "load", "sync", "peek"})
"""As target.proto says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An operation that will be called, whatever became of the ones before.

    Attributes:
        op: Its number, from 1 on.
        due: Seconds.
        method: What is called.
        key: With which key.
        patience: Seconds after which its caller cancels; None for never.
        pause: Seconds that its consumer takes for each message of a stream.
    """

    op: int
    due: float
    method: str
    key: str
    patience: float | None = None
    pause: float = 0.0


def schedule(seed: int, workload: Workload, plan: Plan) -> tuple[Planned, ...]:
    """The operations of a run, from the warm-up on; the same seed gives the same.

    Args:
        seed: Any number.
        workload: Rates and shares.
        plan: How long it takes.
    """
    chance = random.Random(seed)  # noqa: S311  # reproducible
    # Of its own, so that who cancels changes nothing about what is due when.
    whims = random.Random(seed + 1)  # noqa: S311  # reproducible
    methods = sorted(workload.mix)
    weights = [workload.mix[method] for method in methods]
    found: list[Planned] = []
    # With jitter they do not come in order.
    for number, due in enumerate(sorted(_arrivals(chance, workload, plan)), 1):
        (method,) = chance.choices(methods, weights)
        key = number if workload.keys is None else 1 + whims.randrange(workload.keys)
        patience, pause = _whims(whims, workload, method, due - plan.shift)
        found.append(
            Planned(
                op=number, due=due, method=method, key=f"k{key}", patience=patience, pause=pause
            )
        )
    return tuple(found)


def _arrivals(chance: random.Random, workload: Workload, plan: Plan) -> Iterator[float]:
    arrivals = workload.arrivals
    at = -plan.warmup
    while True:
        rate, until = float(arrivals.rate), math.inf
        for step in arrivals.steps:
            if step.at + plan.shift <= at:
                rate = float(step.rate)
            else:
                until = min(until, step.at + plan.shift)
        if rate:
            at += chance.expovariate(rate) if arrivals.process == "poisson" else 1.0 / rate
        else:
            at = until
        if at >= plan.end:
            return
        if rate:
            jitter = chance.uniform(-1, 1) * arrivals.jitter if arrivals.jitter else 0.0
            yield at + jitter


def _whims(
    whims: random.Random, workload: Workload, method: str, due: float
) -> tuple[float | None, float]:
    """When the caller loses patience, and how slowly it reads."""
    patience, pause = None, 0.0
    cancel, slow = workload.cancel, workload.slow_readers
    if cancel is not None and whims.random() < cancel.share:
        patience = whims.uniform(0.0, cancel.within)
    if slow is not None and method == "watch" and whims.random() < slow.share:
        pause = float(slow.pause) if due >= slow.since else 0.0
    return patience, pause
