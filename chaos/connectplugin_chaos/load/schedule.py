"""The schedule: which operation is due when. All of it comes from the seed."""

import random
from dataclasses import dataclass

from connectplugin_chaos.scenario.model import Plan, Workload

IDEMPOTENT = frozenset({"read", "write", "pay", "watch", "load", "sync"})
"""As target.proto says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An operation that will be called, whatever became of the ones before."""

    op: int
    due: float
    method: str
    key: str


def schedule(seed: int, workload: Workload, plan: Plan) -> tuple[Planned, ...]:
    """The operations of a run, from the warm-up on; the same seed gives the same.

    Args:
        seed: Any number.
        workload: Rates and shares.
        plan: How long it takes.
    """
    chance = random.Random(seed)  # noqa: S311  # reproducible
    methods = sorted(workload.mix)
    weights = [workload.mix[method] for method in methods]
    arrivals = workload.arrivals
    found: list[Planned] = []
    at = -plan.warmup
    while True:
        rate = float(arrivals.rate)
        for step in arrivals.steps:
            if step.at + plan.shift <= at:
                rate = float(step.rate)
        at += chance.expovariate(rate) if arrivals.process == "poisson" else 1.0 / rate
        if at >= plan.end:
            return tuple(found)
        op = len(found) + 1
        (method,) = chance.choices(methods, weights)
        found.append(Planned(op=op, due=at, method=method, key=f"k{op}"))
