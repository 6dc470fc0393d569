"""S1 and a slow replica: who gets the traffic, and what the callers feel of it."""

from collections.abc import Callable

from connectplugin_interceptors import (
    CircuitBreakerPolicy,
    ClientStack,
    DeadlinePolicy,
    OutlierEjectionPolicy,
    RetryPolicy,
)
from connectplugin_interceptors.balance.config import BalancePolicy
from tests.simulation.fast_time import simulate
from tests.simulation.seeds import chance, every_seed
from tests.simulation.server import FailingServer, QueueServer
from tests.simulation.world import History, Host, World, shares

DEADLINE = DeadlinePolicy(total=10.0, attempt=2.0)
PLENTY = 1_000
"""Workers, so that nothing queues."""


def around(seed: int, name: str, seconds: float) -> Callable[[float], float]:
    """About so many seconds: half of it fixed, the rest by chance."""
    times = chance(seed, name)
    return lambda _: seconds * (0.5 + 0.5 * times.expovariate(1.0))


def share_of_the_broken_one(stack: ClientStack, seed: int, *, seconds: float) -> float:
    """Of eight endpoints one fails each request within a millisecond; the others take 20."""
    broken = FailingServer(after=0.001)
    well = {
        f"well-{number}": QueueServer(around(seed, f"service {number}", 0.02), workers=PLENTY)
        for number in range(7)
    }
    hosts: dict[str, Host] = {"broken": broken, **well}
    simulate(lambda: World(hosts, stack, seed).run(rate=2_000, seconds=seconds))
    counts = shares(hosts)
    return counts["broken"] / counts.total()


def balanced(**policies: object) -> ClientStack:
    """Only what these tests are about."""
    return ClientStack.bare(**{"deadline": DEADLINE, "load_balancing": BalancePolicy(), **policies})


@every_seed(3)
def test_failing_quickly_attracts_those_who_look_at_latency_only(seed: int) -> None:
    """What the penalty is there for: without it the broken endpoint looks like the fastest."""
    stack = balanced(load_balancing=BalancePolicy(penalty=0.0, idle_probe=None))
    assert share_of_the_broken_one(stack, seed, seconds=1.0) > 0.125, f"seed {seed}"


@every_seed(6)
def test_the_penalty_alone_keeps_a_broken_endpoint_below_two_percent(seed: int) -> None:
    share = share_of_the_broken_one(balanced(), seed, seconds=1.5)
    assert 0 < share <= 0.02, f"seed {seed}: {share:.2%}"


@every_seed(6)
def test_a_breaker_keeps_it_below_half_a_percent(seed: int) -> None:
    stack = balanced(circuit_breaker=CircuitBreakerPolicy())
    share = share_of_the_broken_one(stack, seed, seconds=1.5)
    assert 0 < share <= 0.005, f"seed {seed}: {share:.2%}"


@every_seed(2)
def test_ejection_alone_keeps_it_below_half_a_percent(seed: int) -> None:
    """Once it has looked: 50 failures are enough, and the first look comes with the interval."""
    stack = balanced(
        load_balancing=BalancePolicy(policy="round_robin"),
        outlier_ejection=OutlierEjectionPolicy(interval=0.25),
    )
    first = share_of_the_broken_one(stack, seed, seconds=0.25)
    both = share_of_the_broken_one(stack, seed, seconds=1.5)
    later = (both * 1.5 - first * 0.25) / 1.25
    assert later <= 0.005, f"seed {seed}: {later:.2%}"


@every_seed(4)
def test_the_standard_stack_loses_no_call_to_it(seed: int) -> None:
    broken = FailingServer(after=0.001)
    hosts: dict[str, Host] = {
        "broken": broken,
        **{f"well-{n}": QueueServer(around(seed, f"{n}", 0.02), workers=PLENTY) for n in range(7)},
    }
    stack = ClientStack(deadline=DEADLINE)
    history = simulate(lambda: World(hosts, stack, seed).run(rate=500, seconds=3.0))
    assert all(call.good for call in history.calls), f"seed {seed}"
    counts = shares(hosts)
    assert counts["broken"] <= 0.005 * counts.total(), f"seed {seed}: {counts}"


def five(seed: int, slow: float, *, stack: ClientStack, clients: int) -> History:
    """Five replicas of ten workers and 20 ms each, of which one takes `slow` times as long."""
    hosts: dict[str, Host] = {
        f"replica-{number}": QueueServer(
            around(seed, f"{number}", 0.02 * (slow if number == 0 else 1.0)), workers=10
        )
        for number in range(5)
    }
    world = World(hosts, stack, seed, clients)
    return simulate(lambda: world.run(rate=400, seconds=6.0))


@every_seed(4)
def test_one_slow_replica_of_five_hardly_moves_the_99th_percentile(seed: int) -> None:
    stack = ClientStack(deadline=DEADLINE, retry_policy=RetryPolicy())
    before = five(seed, 1.0, stack=stack, clients=3).percentile(0.99, since=2.0)
    after = five(seed, 10.0, stack=stack, clients=3).percentile(0.99, since=2.0)
    assert after < 1.5 * before, f"seed {seed}: {before * 1000:.1f} ms, {after * 1000:.1f} ms"
    taken_in_turn = ClientStack(
        deadline=DEADLINE, load_balancing=BalancePolicy(policy="round_robin")
    )
    if seed == 0:  # the measure is able to tell
        unhelped = five(seed, 10.0, stack=taken_in_turn, clients=3).percentile(0.99, since=2.0)
        assert unhelped > 3 * before
