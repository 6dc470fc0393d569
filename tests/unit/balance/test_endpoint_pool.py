"""The pool and the pick, step by step: time and chance are arguments."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import Any

import pytest

from connectplugin_interceptors import BalancePolicy, ConfigError, EndpointPool
from connectplugin_interceptors.balance.endpoint import Address, Endpoint, EndpointState
from connectplugin_interceptors.balance.machine import Nobody
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy

P2C = BalancePolicy()
TURNS = BalancePolicy(policy="round_robin")


def urls(count: int) -> list[str]:
    return [f"http://host-{number}" for number in range(count)]


class Driver:
    """A pool with a clock that is turned by hand, and calls that end when told."""

    def __init__(self, count: int, policy: BalancePolicy | None = P2C, seed: int = 1) -> None:
        self.pool = EndpointPool(urls(count))
        self.policy = policy
        self.now = 100.0
        self.draw: Callable[[], float] = Random(seed).random  # noqa: S311
        self.open: dict[str, float] = {}

    def pick(self, **options: Any) -> Endpoint:
        found = self.pool.pick(self.policy, self.now, self.draw, **options)
        assert isinstance(found, Endpoint), found
        return found

    def settle(
        self, endpoint: Endpoint, took: float, outcome: Outcome = Outcome.SUCCESS, **told: Any
    ) -> None:
        started = self.now
        self.now += took
        self.pool.settle(endpoint, self.policy, outcome, started=started, now=self.now, **told)

    def call(self, took: float = 0.01, outcome: Outcome = Outcome.SUCCESS, **told: Any) -> str:
        endpoint = self.pick()
        self.settle(endpoint, took, outcome, **told)
        return endpoint.key

    def learn(self, *times: float) -> None:
        """Give each endpoint its first call, of so many seconds."""
        for endpoint, took in zip(self.pool.endpoints, times, strict=True):
            found = self.pick()
            assert found is endpoint  # newcomers first, in their order
            self.settle(found, took)

    def blocked(self, endpoint: Endpoint) -> float:
        return max(0.0, self.open.get(endpoint.key, 0.0) - self.now)


class TestTheSet:
    def test_a_snapshot_adds_and_removes_and_keeps_what_stays(self) -> None:
        pool = EndpointPool(["http://a", "http://b"])
        a, b = pool.endpoints
        pool.update(["http://b", "http://c"])
        assert [endpoint.key for endpoint in pool.endpoints] == ["http://b", "http://c"]
        assert pool.endpoints[0] is b
        assert a.state is EndpointState.DRAINING
        assert pool.get("http://c") is pool.endpoints[1]
        assert pool.get("http://a") is None

    def test_who_is_gone_is_let_go_when_its_last_call_is_over(self) -> None:
        driver = Driver(1)
        released: list[Endpoint] = []
        driver.pool.on_released(released.append)
        endpoint = driver.pick()
        driver.pool.update([])
        assert driver.pool.draining == (endpoint,)
        assert not released
        driver.settle(endpoint, 1.0)
        assert released == [endpoint]
        assert not driver.pool.draining

    def test_who_is_gone_without_calls_is_let_go_at_once(self) -> None:
        pool = EndpointPool(["http://a"])
        released: list[str] = []
        pool.on_released(lambda endpoint: released.append(endpoint.key))
        pool.update(["http://b"])
        assert released == ["http://a"]

    def test_who_comes_back_while_it_drains_is_the_same(self) -> None:
        driver = Driver(1)
        endpoint = driver.pick()
        driver.pool.update([])
        driver.pool.update(urls(1))
        assert driver.pool.endpoints == (endpoint,)
        assert endpoint.state is EndpointState.READY
        driver.settle(endpoint, 0.1)
        assert driver.pool.draining == ()

    def test_another_address_under_the_same_key_is_another_endpoint(self) -> None:
        pool = EndpointPool([Address("pod-1", "http://10.0.0.1")])
        (before,) = pool.endpoints
        pool.update([Address("pod-1", "http://10.0.0.2")])
        (after,) = pool.endpoints
        assert after is not before
        assert after.url == "http://10.0.0.2"
        assert before.draining

    def test_a_bad_snapshot_changes_nothing(self) -> None:
        pool = EndpointPool(["http://a"])
        for bad in (["http://b", "http://b"], ["10.0.0.1:80"], [7]):
            with pytest.raises(ConfigError):
                pool.update(bad)  # type: ignore[arg-type]
        assert [endpoint.key for endpoint in pool.endpoints] == ["http://a"]

    def test_a_fixed_set_cannot_change(self) -> None:
        pool = EndpointPool(["http://a"], fixed=True)
        assert pool.sole is pool.endpoints[0]
        with pytest.raises(RuntimeError, match="fixed"):
            pool.update([])

    def test_of_an_empty_set_nobody_can_be_had(self) -> None:
        assert EndpointPool().pick(P2C, 0.0, lambda: 0.5) == Nobody(None)


class TestThePick:
    def test_each_newcomer_gets_a_first_call(self) -> None:
        driver = Driver(5)
        assert [driver.call() for _ in range(5)] == urls(5)

    def test_the_faster_of_two_is_taken(self) -> None:
        driver = Driver(2)
        driver.learn(0.01, 0.03)
        assert {driver.call() for _ in range(20)} == {"http://host-0"}

    def test_calls_in_flight_make_an_endpoint_less_likely(self) -> None:
        driver = Driver(2)
        driver.learn(0.01, 0.025)
        assert [driver.pick().key[-1] for _ in range(5)] == ["0", "0", "1", "0", "0"]

    def test_among_equals_all_get_their_share(self) -> None:
        driver = Driver(10)
        driver.learn(*[0.01] * 10)
        counts = Counter(driver.call() for _ in range(2_000))
        assert set(counts) == set(urls(10))
        assert max(counts.values()) < 450

    def test_a_slow_answer_counts_at_once_and_a_fast_one_with_time(self) -> None:
        endpoint = Endpoint(Address("a", "http://a"))
        endpoint.observe(0.01, 0.0, 10.0)
        endpoint.observe(0.5, 1.0, 10.0)
        assert endpoint.rtt(1.0, 10.0, 0.03) == 0.5
        endpoint.observe(0.01, 2.0, 10.0)
        assert 0.4 < endpoint.rtt(2.0, 10.0, 0.03) < 0.5
        assert endpoint.rtt(62.0, 10.0, 0.03) < 0.01

    def test_a_failure_counts_as_the_penalty_however_fast_it_was(self) -> None:
        driver = Driver(2)
        driver.learn(0.02, 0.02)
        failed = driver.pick()
        driver.settle(failed, 0.001, Outcome.FAILURE)
        assert failed.rtt(driver.now, 10.0, 0.03) == 5.0
        assert failed.key not in {driver.call() for _ in range(20)}

    @pytest.mark.parametrize(("hint", "counts"), [(0.2, 0.2), (60.0, 60.0), (9_999.0, 300.0)])
    def test_a_servers_word_counts_instead_of_the_penalty(self, hint: float, counts: float) -> None:
        driver = Driver(1)
        endpoint = driver.pick()
        driver.settle(endpoint, 0.001, Outcome.FAILURE, hint=hint)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == counts

    def test_a_refusal_of_the_server_is_no_failure_and_still_avoided(self) -> None:
        driver = Driver(1)
        endpoint = driver.pick()
        driver.settle(endpoint, 0.001, Outcome.REFUSED)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == 5.0
        assert (endpoint.succeeded, endpoint.failed) == (0, 0)

    def test_who_sheds_more_than_its_peers_is_no_outlier(self) -> None:
        driver = Driver(6)
        rules = OutlierEjectionPolicy()
        driver.learn(*[0.01] * 6)
        driver.pick(ejection=rules)  # the first interval begins
        busy = driver.pool.endpoints[0]
        for endpoint in driver.pool.endpoints * 200:
            endpoint.pending += 1
            driver.settle(endpoint, 0.0, Outcome.REFUSED if endpoint is busy else Outcome.SUCCESS)
        driver.now += rules.interval
        driver.pick(ejection=rules)
        assert all(endpoint.state is EndpointState.READY for endpoint in driver.pool.endpoints)

    def test_the_applications_own_error_is_an_answer(self) -> None:
        driver = Driver(1)
        endpoint = driver.pick()
        driver.settle(endpoint, 0.02, Outcome.ANSWERED)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == pytest.approx(0.02)
        assert (endpoint.succeeded, endpoint.failed) == (1, 0)

    def test_a_cancelled_call_teaches_nothing(self) -> None:
        driver = Driver(1)
        driver.learn(0.02)
        endpoint = driver.pick()
        before = endpoint.rtt(driver.now, 10.0, 0.03)
        driver.settle(endpoint, 0.0, Outcome.NEUTRAL)
        assert endpoint.pending == 0
        assert endpoint.rtt(driver.now, 10.0, 0.03) == before
        assert (endpoint.succeeded, endpoint.failed) == (1, 0)

    @pytest.mark.parametrize("policy", [P2C, TURNS, None])
    def test_who_was_tried_is_avoided_and_used_again_when_nobody_is_left(
        self, policy: BalancePolicy | None
    ) -> None:
        driver = Driver(4, policy)
        tried: list[Endpoint] = []
        for _ in range(4):
            found = driver.pick(tried=tried, probe=False)
            assert found not in tried
            tried.append(found)
        assert not driver.pool.untried(tried, None)
        assert driver.pick(tried=tried, probe=False) in tried

    @pytest.mark.parametrize("policy", [P2C, TURNS, None])
    def test_an_open_circuit_is_passed_over(self, policy: BalancePolicy | None) -> None:
        driver = Driver(40, policy)
        driver.open = dict.fromkeys(urls(40)[:39], 1000000000.0)
        for _ in range(50):
            found = driver.pick(blocked=driver.blocked)
            assert found.key == "http://host-39"
            driver.settle(found, 0.01)

    def test_if_all_circuits_are_open_the_shortest_wait_is_told(self) -> None:
        driver = Driver(3)
        driver.open = {url: 103.0 + number for number, url in enumerate(urls(3))}
        found = driver.pool.pick(P2C, driver.now, driver.draw, blocked=driver.blocked)
        assert found == Nobody(3.0)

    def test_if_only_a_person_can_close_them_no_wait_is_told(self) -> None:
        driver = Driver(2)
        found = driver.pool.pick(P2C, driver.now, driver.draw, blocked=lambda _: float("inf"))
        assert found == Nobody(None)

    def test_nobody_can_be_had_leaves_nothing_pending(self) -> None:
        driver = Driver(2)
        driver.pool.pick(P2C, driver.now, driver.draw, blocked=lambda _: 1.0)
        assert [endpoint.pending for endpoint in driver.pool.endpoints] == [0, 0]


class TestComingBack:
    """A penalty of 5 s would keep an endpoint away for some 70 s."""

    def failed(self, driver: Driver) -> Endpoint:
        driver.learn(*[0.02] * len(driver.pool.endpoints))
        endpoint = driver.pick()
        driver.settle(endpoint, 0.001, Outcome.FAILURE)
        return endpoint

    def asked_within(self, driver: Driver, endpoint: Endpoint, seconds: float) -> Sequence[float]:
        end, asked = driver.now + seconds, list[float]()
        while driver.now < end:
            at = driver.now
            if driver.call(0.02) == endpoint.key:
                asked.append(at)
        return asked

    def test_after_a_second_one_call_looks_and_success_brings_all_back(self) -> None:
        driver = Driver(3)
        endpoint = self.failed(driver)
        at = driver.now
        asked = self.asked_within(driver, endpoint, 2.0)
        assert asked[0] - at == pytest.approx(1.0, abs=0.1)
        assert endpoint.rtt(driver.now, 10.0, 0.03) < 0.03
        assert len(self.asked_within(driver, endpoint, 5.0)) > 20

    def test_any_answer_to_what_was_sent_later_takes_the_penalty_back(self) -> None:
        # Guards against the penalty that outlived the outage: an endpoint that failed once or
        # twice, too little for its circuit to open, was avoided for ten seconds and more.
        driver = Driver(1)
        driver.learn(0.02)
        driver.call(0.001, Outcome.FAILURE)
        (endpoint,) = driver.pool.endpoints
        assert endpoint.rtt(driver.now, 10.0, 0.03) == pytest.approx(5.0)
        driver.now += 0.1
        driver.call(0.02)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == pytest.approx(0.02)

    def test_failures_do_not_add_up(self) -> None:
        driver = Driver(1)
        for _ in range(10):
            driver.call(0.001, Outcome.FAILURE)
        (endpoint,) = driver.pool.endpoints
        assert endpoint.rtt(driver.now, 10.0, 0.03) == 5.0
        assert endpoint.rtt(driver.now + 10.0, 10.0, 0.03) == pytest.approx(5.0 / math.e)

    def test_who_has_shaken_hands_is_somebody_else(self) -> None:
        driver = Driver(3)
        endpoint = self.failed(driver)
        driver.pool.disconnected(endpoint)
        assert endpoint.key not in {driver.call() for _ in range(50)}
        driver.pool.connected(endpoint, driver.now)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == 0.03
        assert driver.call(0.05) == endpoint.key
        assert endpoint.rtt(driver.now, 10.0, 0.03) == pytest.approx(0.05)

    def test_while_it_fails_it_is_asked_less_and_less(self) -> None:
        driver = Driver(3)
        endpoint = self.failed(driver)
        asked = [driver.now]
        end = driver.now + 60.0
        while driver.now < end:
            found = driver.pick()
            down = found is endpoint
            if down:
                asked.append(driver.now)
            driver.settle(found, 0.02, Outcome.FAILURE if down else Outcome.SUCCESS)
        pauses = [later - earlier for earlier, later in pairwise(asked)]
        assert pauses == pytest.approx([1, 2, 4, 8, 10, 10, 10, 10], abs=0.1)

    def test_the_answer_of_a_call_that_began_before_says_nothing(self) -> None:
        driver = Driver(3)
        driver.learn(0.02, 0.02, 0.02)
        early = driver.pick()
        began = driver.now
        driver.pool.settle(early, P2C, Outcome.FAILURE, started=began, now=began + 0.001)
        early.pending += 1  # another one of before
        driver.now += 20.0
        driver.pool.settle(early, P2C, Outcome.SUCCESS, started=began, now=driver.now)
        assert early.rtt(driver.now, 10.0, 0.03) > 0.5

    def test_a_call_that_is_repeated_is_no_probe(self) -> None:
        driver = Driver(3)
        endpoint = self.failed(driver)
        driver.now += 30.0
        for _ in range(20):
            found = driver.pick(probe=False)
            assert found is not endpoint
            driver.settle(found, 0.02)
        assert driver.pick() is endpoint

    def test_it_is_probed_as_soon_as_its_circuit_lets_it(self) -> None:
        driver = Driver(3)
        driver.learn(0.02, 0.02, 0.02)
        endpoint = driver.pick()
        driver.settle(endpoint, 0.001, Outcome.FAILURE)
        driver.open[endpoint.key] = driver.now + 1.0
        reopens = driver.now + 1.0
        while (found := driver.pick(blocked=driver.blocked)) is not endpoint:
            assert driver.now <= reopens + 0.1
            driver.settle(found, 0.02)
        assert driver.now >= reopens
        driver.settle(endpoint, 0.02)
        assert endpoint.rtt(driver.now, 10.0, 0.03) == pytest.approx(0.02)

    def test_one_that_was_merely_slow_is_looked_at_too(self) -> None:
        driver = Driver(2)
        driver.learn(0.02, 2.0)
        slow = driver.pool.endpoints[1]
        at = driver.now
        asked = self.asked_within(driver, slow, 15.0)
        assert asked[0] - at == pytest.approx(8.0, abs=2.1)
        assert slow.rtt(driver.now, 10.0, 0.03) < 0.03

    def test_without_idle_probes_it_waits_until_its_penalty_has_faded(self) -> None:
        policy = BalancePolicy(idle_probe=None)
        driver = Driver(2, policy)
        endpoint = self.failed(driver)
        assert not self.asked_within(driver, endpoint, 40.0)
        assert self.asked_within(driver, endpoint, 40.0)


class TestHealth:
    def test_the_unhealthy_get_no_traffic_and_are_tried_by_one_call_when_well(self) -> None:
        driver = Driver(3)
        driver.learn(0.02, 0.02, 0.02)
        sick = driver.pool.endpoints[0]
        driver.pool.set_health(sick, healthy=False, now=driver.now)
        assert sick.state is EndpointState.UNHEALTHY
        assert sick.key not in {driver.call() for _ in range(100)}
        sick.observe(5.0, driver.now, 10.0)
        driver.pool.set_health(sick, healthy=True, now=driver.now)
        assert driver.call(0.02) == sick.key
        assert sick.rtt(driver.now, 10.0, 0.03) == pytest.approx(0.02)

    def test_below_half_all_are_used_as_if_they_were_well(self) -> None:
        driver = Driver(4)
        driver.learn(*[0.02] * 4)
        for number, endpoint in enumerate(driver.pool.endpoints[:3], 1):
            driver.pool.set_health(endpoint, healthy=False, now=driver.now)
            assert driver.pool.panic is (number == 3)
        assert {driver.call() for _ in range(100)} == set(urls(4))
        driver.pool.set_health(driver.pool.endpoints[0], healthy=True, now=driver.now)
        assert not driver.pool.panic

    def test_the_sick_are_the_last_resort_when_all_circuits_are_open(self) -> None:
        driver = Driver(3)
        driver.learn(*[0.02] * 3)
        driver.pool.set_health(driver.pool.endpoints[0], healthy=False, now=driver.now)
        driver.open = dict.fromkeys(urls(3)[1:], 1e9)
        assert driver.pick(blocked=driver.blocked).key == "http://host-0"

    def test_who_has_not_shaken_hands_is_not_picked_while_another_has(self) -> None:
        pool = EndpointPool(urls(3), connecting=True)
        draw = Random(1).random  # noqa: S311
        assert isinstance(pool.pick(P2C, 0.0, draw), Endpoint)  # and shakes hands itself
        pool.connected(pool.endpoints[1], 1.0)
        for _ in range(20):
            assert pool.pick(P2C, 2.0, draw) is pool.endpoints[1]
        assert not pool.panic
        pool.disconnected(pool.endpoints[1])
        pool.connected(pool.endpoints[2], 3.0)
        assert pool.pick(P2C, 4.0, draw) is pool.endpoints[2]

    def test_moves_are_told_once(self) -> None:
        pool = EndpointPool(urls(2))
        pool.set_health(pool.endpoints[0], healthy=False, now=0.0)
        (move,) = pool.moves()
        assert (move.before, move.after) == (EndpointState.READY, EndpointState.UNHEALTHY)
        assert pool.moves() == ()
