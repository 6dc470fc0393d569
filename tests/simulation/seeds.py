"""Which seeds a simulation runs with.

Few by default, for CI: some dozens in all. `SEEDS=1000` runs about so many in all, each simulation
its share (`make simulate`); `SEED=7` only that one, to see again what has failed. The seed is in
each test's name and in each message.
"""

import os
from math import ceil
from random import Random

import pytest

_IN_CI = 60
"""Runs of all simulations together, about."""


def every_seed(count: int) -> pytest.MarkDecorator:
    """Run a test with the seeds from 0 on.

    Args:
        count: How many of them CI can afford; with `SEEDS` more in proportion.
    """
    single, many = os.environ.get("SEED"), os.environ.get("SEEDS")
    if single:
        seeds = [int(single)]
    else:
        seeds = list(range(ceil(count * int(many) / _IN_CI) if many else count))
    return pytest.mark.parametrize("seed", seeds, ids=lambda seed: f"seed-{seed}")


def chance(seed: int, purpose: str) -> Random:
    """Random numbers of a seed; each purpose has its own, so that none disturbs another."""
    return Random(f"{seed} {purpose}")  # noqa: S311  # a simulation
