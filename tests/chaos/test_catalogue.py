"""What the scenarios that come along ask for: every fault, every policy, every shape."""

from connectplugin_chaos.check.mechanisms import ALL_CHECKS, MECHANISMS
from connectplugin_chaos.engine.soup import MENU, stir
from connectplugin_chaos.engine.verbs import VERBS
from connectplugin_chaos.scenario.load import load_all
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.scenario.policies import CLIENT, SERVER
from connectplugin_chaos.toxiproxy import toxics
from connectplugin_interceptors.settings import POLICY_NAMES

ALL = load_all()

TOXICS = {
    "Latency": {"latency"},
    "Bandwidth": {"bandwidth"},
    "Timeout": {"blackhole"},
    "SlowClose": {"blackhole", "slow_close"},
    "ResetPeer": {"reset"},
    "LimitData": {"truncate"},
    "Slicer": {"slice"},
}
"""The verbs that a toxic is behind."""

CLIENT_POLICIES = {
    "fallback": "fallback.used",
    "deadline": "deadline.expired",
    "throttle": "throttle.rejected",
    "concurrency": "concurrency.rejected",
    "retry_policy": "retry.retried",
    "circuit_breaker": "breaker.opened",
    "rate_limit": "rate_limit.waited",
    "fault": "fault.injected",
    "hedge": "hedge.won",
    "load_balancing": "retry.transparent",
    "wait_for_ready": "ready.waited",
    "outlier_ejection": "balance.ejected",
}
SERVER_POLICIES = {
    "drain": "server.draining",
    "deadline": "server.expired_dropped",
    "rate_limit": "server.rate_limited",
    "adaptive_limit": "server.shed",
    "bulkhead": "server.shed",
    "fault": "fault.injected",
}
"""What shows that a policy has acted. Masking has nothing to do with faults: nothing would show."""


def faults(scenario: Scenario) -> set[str]:
    return {happening.fault for happening in scenario.timeline if happening.fault}


def demanded() -> set[str]:
    """What some arm of ours must have reached."""
    return {
        str(word)
        for scenario in ALL.values()
        for arm, expectations in scenario.expect.items()
        if arm.startswith("stack") and "!" not in arm
        for expectation in expectations
        if expectation.check == "reached" and not expectation.negated
        for word in expectation.arguments["all_of"]
    }


def test_every_fault_and_every_toxic_is_in_a_scenario() -> None:
    used = set[str]().union(*map(faults, ALL.values()))
    assert set(VERBS) <= used
    kinds = {
        name
        for name, kind in vars(toxics).items()
        if isinstance(kind, type) and hasattr(kind, "type")
    }
    assert kinds - {"Toxic"} == set(TOXICS)
    assert all(verbs & used for verbs in TOXICS.values())


def test_every_policy_is_one_that_a_scenario_wants_to_see_at_work() -> None:
    assert set(CLIENT_POLICIES) == set(CLIENT) == {*POLICY_NAMES, "outlier_ejection"}
    assert set(SERVER_POLICIES) == set(SERVER) - {"masking"}
    wanted = demanded()
    assert set(CLIENT_POLICIES.values()) <= wanted
    assert set(SERVER_POLICIES.values()) <= wanted
    assert wanted <= set(MECHANISMS)


def test_every_check_and_every_shape_is_used() -> None:
    checks = {
        expectation.check
        for scenario in ALL.values()
        for expectations in scenario.expect.values()
        for expectation in expectations
    }
    assert checks == set(ALL_CHECKS)
    methods = {method for scenario in ALL.values() for method in scenario.workload.mix}
    assert {"read", "watch", "load", "sync"} <= methods


def test_every_scenario_says_why_it_is_there_and_what_it_proves() -> None:
    for scenario in ALL.values():
        assert all(scenario.why), scenario.id
        assert scenario.claim.endswith("."), scenario.id
        assert "full" in scenario.tier, scenario.id


def test_a_soup_is_the_same_for_the_same_seed_and_breaks_a_server_in_one_way_at_a_time() -> None:
    soup = ALL["D1"].soup
    assert soup is not None
    first = stir(soup, 7, 3)
    assert stir(soup, 7, 3) == first
    assert stir(soup, 8, 3) != first
    assert {h.fault for seed in range(40) for h in stir(soup, seed, 3) if h.fault} == set(MENU)
    until: dict[str, float] = {}
    ends = {h.heal: h.at for h in first if h.heal}
    for happening in (h for h in first if h.fault):
        (place,) = happening.places
        assert soup.begin <= happening.at < ends[happening.name] <= soup.end
        assert happening.at >= until.get(place[1:], 0.0) + 0.5
        until[place[1:]] = ends[happening.name]
        assert place[0] == VERBS[happening.fault].of[0]
