"""Measuring side by side: the arms of a comparison take turns, so that noise hits them alike."""

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median


@dataclass(frozen=True)
class Arm:
    """One side of a comparison.

    Attributes:
        name: What the table calls it.
        run: Performs so many operations, one after the other.
    """

    name: str
    run: Callable[[int], Awaitable[None]]


@dataclass
class Sample:
    """What one arm's turns took.

    Attributes:
        cpu: Seconds of this process's CPU time per operation, all threads, one entry per turn.
        wall: Seconds per operation by the clock.
    """

    name: str
    cpu: list[float] = field(default_factory=list[float])
    wall: list[float] = field(default_factory=list[float])

    @property
    def best(self) -> float:
        """CPU seconds per operation of the least disturbed turn."""
        return min(self.cpu)

    @property
    def middle(self) -> float:
        """Median CPU seconds per operation."""
        return median(self.cpu)


async def side_by_side(
    arms: Sequence[Arm], *, turns: int, batch: int, seed: int = 1
) -> dict[str, Sample]:
    """Let the arms take turns, in an order that is shuffled anew for each round.

    Args:
        arms: What to compare.
        turns: How many turns each arm gets.
        batch: Operations per turn.
        seed: Of the shuffling.
    """
    samples = {arm.name: Sample(arm.name) for arm in arms}
    rng = Random(seed)  # noqa: S311  # an order of turns
    for arm in arms:
        await arm.run(max(1, batch // 4))  # caches, connections, specialised bytecode
    order = list(arms)
    for _ in range(turns):
        rng.shuffle(order)
        for arm in order:
            gc.collect()
            wall, cpu = time.perf_counter(), time.process_time()
            await arm.run(batch)
            spent, passed = time.process_time() - cpu, time.perf_counter() - wall
            samples[arm.name].cpu.append(spent / batch)
            samples[arm.name].wall.append(passed / batch)
    return samples


def ratios(sample: Sample, base: Sample) -> tuple[float, float]:
    """How many times the CPU time of another arm: of the best turns, and the median by rounds."""
    by_round = [mine / other for mine, other in zip(sample.cpu, base.cpu, strict=True)]
    return sample.best / base.best, median(by_round)


def wall_ratio(sample: Sample, base: Sample) -> float:
    """The same by the clock, of the best turns: what a caller waits."""
    return min(sample.wall) / min(base.wall)
