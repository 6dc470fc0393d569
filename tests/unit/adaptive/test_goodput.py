"""Part 5: adaptive concurrency keeps goodput at 90 % of the capacity under three times the load.

Five workers of 50 ms: a capacity of 100 calls a second; clients wait 1 s.
"""

import pytest

from connectplugin_interceptors.adaptive.machine import Reason
from tests.unit.adaptive.queueing import Server

SEEDS = range(6)
CAPACITY = 100.0


def overloaded(now: float) -> float:
    """Half of the capacity, from 20 s on three times of it."""
    return 50.0 if now < 20 else 300.0


@pytest.mark.parametrize("seed", SEEDS)
def test_three_times_the_load_leaves_nine_tenths_of_the_capacity(seed: int) -> None:
    server = Server(seed, overloaded).run(80)
    assert server.goodput(20, 80) >= 0.9 * CAPACITY
    late = sorted(duration for at, duration in server.durations if at > 40)
    assert late[len(late) // 2] < 0.7


@pytest.mark.parametrize("seed", SEEDS)
def test_even_where_expired_work_is_not_dropped(seed: int) -> None:
    server = Server(seed, overloaded, drops=False).run(80)
    assert server.goodput(30, 80) >= 0.9 * CAPACITY


@pytest.mark.parametrize("seed", SEEDS)
def test_so_it_does_from_a_cold_start(seed: int) -> None:
    server = Server(seed, lambda _: 300.0).run(60)
    assert server.goodput(10, 60) >= 0.9 * CAPACITY


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_without_it_the_server_works_for_nobody(seed: int) -> None:
    """The negative control: were it not for the limit, the figures above would mean nothing."""
    server = Server(seed, overloaded, limited=False, drops=False).run(60)
    assert server.goodput(30, 60) < 0.1 * CAPACITY


@pytest.mark.parametrize("seed", SEEDS)
def test_under_the_capacity_nearly_nobody_is_refused(seed: int) -> None:
    server = Server(seed, lambda _: 80.0).run(60)
    assert sum(server.refused.values()) <= 0.01 * 80 * 60


@pytest.mark.parametrize("seed", SEEDS)
def test_it_comes_back_within_seconds_once_the_load_is_gone(seed: int) -> None:
    server = Server(seed, lambda now: 300.0 if 20 < now < 40 else 60.0).run(80)
    refused = sum(n for second, n in server.refused.items() if second >= 45)
    assert refused <= 0.02 * 60 * 35


@pytest.mark.parametrize("seed", SEEDS)
def test_work_that_has_become_slower_is_not_taken_for_a_queue(seed: int) -> None:
    """Guards against Envoy's pinned minimum (#46532): slower by five, capacity still there."""
    server = Server(
        seed, lambda _: 110.0, service=lambda now: 0.05 if now < 20 else 0.25, workers=40
    ).run(100)
    served = server.goodput(20, 100)
    assert served >= 0.9 * 110.0


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_it_does_not_grow_without_end(seed: int) -> None:
    """Guards against Gradient2's endless growth (concurrency-limits #134, #137)."""
    server = Server(seed, lambda _: 300.0).run(300)
    assert server.limit.limit <= 110
    late = sorted(duration for at, duration in server.durations if at > 200)
    assert late[int(len(late) * 0.99)] < 1.0


def test_few_calls_never_move_it() -> None:
    server = Server(1, lambda _: 20.0, service=lambda now: 0.01 if now < 30 else 0.15).run(90)
    assert server.limit.limit == 200
    assert server.limit.reason is Reason.KEPT
