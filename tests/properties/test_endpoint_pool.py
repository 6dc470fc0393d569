"""The pool of endpoints against what must hold whatever happens, in whatever order."""

from dataclasses import dataclass, field
from math import floor, inf
from random import Random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from connectplugin_interceptors import BalancePolicy, EndpointPool, OutlierEjectionPolicy
from connectplugin_interceptors.balance.endpoint import Endpoint, EndpointState
from connectplugin_interceptors.balance.machine import Nobody
from connectplugin_interceptors.outcome import Outcome

URLS = [f"http://host-{number}" for number in range(8)]
POLICIES = [
    BalancePolicy(),
    BalancePolicy(idle_probe=None, panic_threshold=0),
    BalancePolicy(policy="round_robin"),
    BalancePolicy(policy="consistent_hash", key=lambda _request, _ctx: ""),
    None,
]
EJECTION = OutlierEjectionPolicy(failure_calls=2, failure_hosts=2, success_rate_calls=3)

subsets = st.lists(st.sampled_from(URLS), unique=True)


@dataclass
class Live:
    """A call that is out."""

    endpoint: Endpoint
    started: float
    tried: list[Endpoint] = field(default_factory=list[Endpoint])


class Pool(RuleBasedStateMachine):
    """Calls come and end in any order; endpoints come, go, fall ill; circuits open and close."""

    calls = Bundle("calls")

    @initialize(
        urls=subsets,
        connecting=st.booleans(),
        policy=st.sampled_from(POLICIES),
        seed=st.integers(0, 1_000),
    )
    def begin(
        self, urls: list[str], connecting: bool, policy: BalancePolicy | None, seed: int
    ) -> None:
        self.now = 50.0
        self.policy = policy
        self.draw = Random(seed).random  # noqa: S311
        self.pool = EndpointPool(urls, connecting=connecting)
        self.members = set(urls)
        self.live: list[Live] = []
        self.open: set[str] = set()
        self.released: list[Endpoint] = []
        self.known: set[Endpoint] = set(self.pool.endpoints)
        self.pool.on_released(self.released.append)

    def blocked(self, endpoint: Endpoint) -> float:
        return 1.0 if endpoint.key in self.open else 0.0

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.5, 3.0, 11.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(urls=subsets)
    def the_set_changes(self, urls: list[str]) -> None:
        self.pool.update(urls)
        self.members = set(urls)
        self.known |= set(self.pool.endpoints)

    @rule(urls=subsets)
    def circuits_change(self, urls: list[str]) -> None:
        self.open = set(urls)

    @rule(url=st.sampled_from(URLS), healthy=st.booleans())
    def health_changes(self, url: str, healthy: bool) -> None:
        endpoint = self.pool.get(url)
        if endpoint is not None:
            self.pool.set_health(endpoint, healthy=healthy, now=self.now)

    @rule(url=st.sampled_from(URLS), connected=st.booleans())
    def handshakes_change(self, url: str, connected: bool) -> None:
        endpoint = self.pool.get(url)
        if endpoint is None:
            return
        if connected:
            self.pool.connected(endpoint, self.now)
        else:
            self.pool.disconnected(endpoint)

    def ejected(self) -> int:
        return sum(endpoint.ejected_until is not None for endpoint in self.pool.endpoints)

    def pick(self, tried: list[Endpoint], *, probe: bool) -> Live | None:
        before = self.ejected()
        found = self.pool.pick(
            self.policy,
            self.now,
            self.draw,
            tried=tried,
            blocked=self.blocked,
            key="some key",
            probe=probe,
            ejection=EJECTION,
        )
        cap = max(1, floor(0.1 * len(self.members) + 1e-9))
        assert self.ejected() <= max(before, cap)
        if isinstance(found, Nobody):
            connected = [e for e in self.pool.endpoints if not e.connecting]
            pickable = connected or self.pool.endpoints
            assert all(endpoint.key in self.open for endpoint in pickable)
            assert found.retry_after == (1.0 if pickable else None)
            return None
        assert found.key in self.members
        assert found.key not in self.open
        assert not found.draining
        if found in tried:
            assert not self.pool.untried(tried, self.blocked)
        call = Live(found, self.now, [*tried, found])
        self.live.append(call)
        return call

    @rule(target=calls)
    def a_call_begins(self) -> object:
        return self.target(self.pick([], probe=True))

    @rule(target=calls, call=calls)
    def a_call_makes_another_attempt(self, call: Live) -> object:
        return self.target(self.pick(call.tried, probe=False))

    def target(self, call: Live | None) -> object:
        nothing: Any = multiple()  # pyright: ignore[reportUnknownVariableType]  # Hypothesis's
        return nothing if call is None else call

    @rule(call=calls)
    def a_stream_has_its_first_response(self, call: Live) -> None:
        if call in self.live:
            self.pool.responded(call.endpoint, self.policy, started=call.started, now=self.now)

    @rule(
        call=consumes(calls),
        outcome=st.sampled_from(Outcome),
        hint=st.sampled_from([None, 0.0, 2.0, 1e9]),
        responded=st.booleans(),
    )
    def a_call_ends(
        self, call: Live, outcome: Outcome, hint: float | None, responded: bool
    ) -> None:
        if call not in self.live:
            return
        self.live.remove(call)
        self.pool.settle(
            call.endpoint,
            self.policy,
            outcome,
            started=call.started,
            now=self.now,
            responded=responded,
            hint=hint,
        )

    @invariant()
    def what_is_pending_is_what_is_out(self) -> None:
        for endpoint in self.known:
            assert endpoint.pending == sum(call.endpoint is endpoint for call in self.live)

    @invariant()
    def the_set_is_what_it_was_told_to_be(self) -> None:
        assert {endpoint.key for endpoint in self.pool.endpoints} == self.members
        assert not any(endpoint.draining for endpoint in self.pool.endpoints)

    @invariant()
    def who_has_left_is_let_go_exactly_when_its_calls_are_over(self) -> None:
        gone = self.known - set(self.pool.endpoints)
        for endpoint in gone:
            assert endpoint.state is EndpointState.DRAINING
            assert (endpoint in self.pool.draining) is (endpoint.pending > 0)
            assert self.released.count(endpoint) == (endpoint.pending == 0)

    @invariant()
    def estimates_are_sane(self) -> None:
        for endpoint in self.known:
            assert 0 < endpoint.rtt(self.now, 10.0, 0.03) < inf


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
