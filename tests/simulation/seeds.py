"""Which seeds a simulation runs with.

Few by default, for CI. `SEEDS=1000` runs so many of each simulation (`make simulate`), and `SEED=7`
only that one, to see again what has failed. The seed is in each test's name and in each message.
"""

import os
from random import Random

import pytest


def every_seed(count: int) -> pytest.MarkDecorator:
    """Run a test with the seeds 0 up to `count`, or as many as SEEDS says.

    Args:
        count: How many seeds CI can afford.
    """
    single, many = os.environ.get("SEED"), os.environ.get("SEEDS")
    seeds = [int(single)] if single else range(int(many) if many else count)
    return pytest.mark.parametrize("seed", seeds, ids=lambda seed: f"seed-{seed}")


def chance(seed: int, purpose: str) -> Random:
    """Random numbers of a seed; each purpose has its own, so that none disturbs another."""
    return Random(f"{seed} {purpose}")  # noqa: S311  # a simulation
