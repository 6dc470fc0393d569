"""S2: what a short brown-out costs, and what brings a service back from it.

A single server, 85 % used, is twenty times slower for five seconds; each attempt has one second.
Then it is well again, but the queue is full of requests whose callers have gone. Retries without a
budget keep it full for ever. A budget alone lets it empty; where the server drops what has expired,
or the client's circuit breaker opens, there is no queue to empty.
"""

from connectplugin_interceptors import ClientStack, RetryPolicy
from tests.simulation.brown_out import (
    DEADLINE,
    SINCE,
    UNTIL,
    brown_out,
    brown_out_of_a_real_server,
    per_second,
)
from tests.simulation.fast_time import simulate
from tests.simulation.seeds import every_seed
from tests.simulation.server import FailingServer
from tests.simulation.world import History, World

WITHOUT_BUDGET = ClientStack.bare(
    deadline=DEADLINE, retry_policy=RetryPolicy(max_attempts=3, budget=None)
)
RETRIES_ONLY = ClientStack.bare(deadline=DEADLINE, retry_policy=RetryPolicy())
STANDARD = ClientStack(deadline=DEADLINE)

SOON = UNTIL + 12.0
LATER = UNTIL + 46.0


def told(history: History) -> str:
    moments = [5.0, 12.0, UNTIL, UNTIL + 5.0, UNTIL + 10.0]
    return f"seed {history.seed}: answers per second at {moments}: {per_second(history, moments)}"


def sends_little_more_than_it_is_asked_to(history: History) -> None:
    """At most 1.1 attempts a call and ten more, over any ten seconds, for each client."""
    worst = history.excess(share=0.1)
    assert worst <= 0, f"seed {history.seed}: {worst:.1f} attempts too many within ten seconds"


@every_seed(2)
def test_without_a_budget_it_never_recovers(seed: int) -> None:
    history = brown_out(WITHOUT_BUDGET, seed, seconds=UNTIL + 25, drops_expired=False)
    assert history.goodput(5, 10) > 5 * 70, told(history)
    assert history.recovery(UNTIL, UNTIL + 25) == float("inf"), told(history)
    assert history.goodput(UNTIL + 15, UNTIL + 25) < 10, told(history)
    assert history.excess(share=0.1) > 500, told(history)


@every_seed(3)
def test_a_budget_alone_brings_it_back_in_half_a_minute(seed: int) -> None:
    history = brown_out(RETRIES_ONLY, seed, seconds=LATER, drops_expired=False)
    recovery = history.recovery(UNTIL, LATER)
    assert recovery <= 35, told(history)
    assert recovery > 5, f"{told(history)}; too good: is there still a queue?"
    sends_little_more_than_it_is_asked_to(history)


@every_seed(8)
def test_with_a_budget_and_a_server_that_drops_what_has_expired_it_is_back_at_once(
    seed: int,
) -> None:
    history = brown_out(RETRIES_ONLY, seed, seconds=SOON, drops_expired=True)
    assert history.goodput(SINCE + 2, UNTIL) < 30, told(history)
    assert history.recovery(UNTIL, SOON) <= 1, told(history)
    sends_little_more_than_it_is_asked_to(history)


@every_seed(8)
def test_the_standard_stack_and_such_a_server_are_back_at_once(seed: int) -> None:
    history = brown_out(STANDARD, seed, seconds=SOON, drops_expired=True)
    assert history.recovery(UNTIL, SOON) <= 1, told(history)
    sends_little_more_than_it_is_asked_to(history)


@every_seed(4)
def test_the_standard_stack_comes_back_soon_by_itself(seed: int) -> None:
    """Far below the 35 s of a budget alone: its circuit breaker lets the queue empty."""
    history = brown_out(STANDARD, seed, seconds=UNTIL + 17, drops_expired=False)
    assert history.recovery(UNTIL, UNTIL + 17) <= 5, told(history)
    sends_little_more_than_it_is_asked_to(history)


@every_seed(3)
def test_several_clients_of_one_server_recover_too(seed: int) -> None:
    history = brown_out(STANDARD, seed, seconds=SOON, drops_expired=True, clients=10)
    assert history.recovery(UNTIL, SOON) <= 1, told(history)
    sends_little_more_than_it_is_asked_to(history)


@every_seed(2)
def test_our_server_chain_is_one_that_drops_what_has_expired(seed: int) -> None:
    history = brown_out_of_a_real_server(RETRIES_ONLY, seed, seconds=SOON)
    assert history.recovery(UNTIL, SOON) <= 1, told(history)
    sends_little_more_than_it_is_asked_to(history)


@every_seed(4)
def test_after_ten_seconds_of_an_outage_only_the_reserve_is_left_for_retries(seed: int) -> None:
    """Nothing is earned any more; the reserve is one a second, ten in ten seconds."""
    world = World({"server": FailingServer(after=0.002)}, RETRIES_ONLY, seed, clients=2)
    history = simulate(lambda: world.run(rate=60, seconds=40))
    sends_little_more_than_it_is_asked_to(history)
    worst = history.excess(share=0.0, since=10.0, until=40.0)
    assert worst <= 0, f"seed {seed}: {worst:.1f} attempts too many within ten seconds"
