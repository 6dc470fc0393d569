"""What a breaker's policy refuses, and that it says why."""

import math
from typing import Any, get_args

import pytest

from connectplugin_interceptors import (
    CircuitBreakerPolicy,
    ClientStack,
    ConfigError,
    DeadlinePolicy,
)
from connectplugin_interceptors.circuit_breaker.config import Scope


def test_defaults_are_those_of_the_reference() -> None:
    policy = CircuitBreakerPolicy()
    assert (policy.failure_threshold, policy.success_threshold, policy.probes) == (5, 1, 1)
    assert (policy.failure_rate, policy.minimum_calls, policy.window) == (0.5, 20, 10.0)
    assert (policy.timeout, policy.max_timeout, policy.jitter) == (1.0, 5.0, 0.5)
    assert (policy.lease, policy.max_hint, policy.min_blame_timeout) == (10.0, 300.0, 0.0)
    assert policy.slow_call_duration is policy.slow_call_rate is None
    assert policy.scope == "service"
    assert not policy.dry_run


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("failure_threshold", 0),
        ("failure_threshold", 2.5),
        ("failure_threshold", True),
        ("failure_rate", 0),
        ("failure_rate", 1.1),
        ("failure_rate", math.nan),
        ("minimum_calls", 0),
        ("window", 0.05),
        ("window", math.inf),
        ("timeout", 0),
        ("max_timeout", -1),
        ("jitter", 1.5),
        ("success_threshold", 0),
        ("probes", 0),
        ("lease", 0),
        ("slow_call_duration", 0),
        ("slow_call_rate", 0),
        ("min_blame_timeout", -0.1),
        ("max_hint", "5 minutes"),
        ("scope", "host"),
        ("dry_run", None),
    ],
)
def test_a_value_out_of_bounds_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        CircuitBreakerPolicy(**{field: value})
    assert f"CircuitBreakerPolicy.{field} is {value!r}" in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"timeout": 6.0}, "above max_timeout"),
        ({"slow_call_duration": 1.0}, "one means nothing without the other"),
        ({"slow_call_rate": 0.5}, "one means nothing without the other"),
        ({"failure_threshold": None, "failure_rate": None}, "circuit_breaker=None"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        CircuitBreakerPolicy(**fields)


def test_a_breaker_that_forgets_sooner_than_an_attempt_ends_is_refused() -> None:
    """Reference 1.12: else attempts that hang would never be counted together."""
    slow = DeadlinePolicy(total=60.0, attempt=20.0)
    with pytest.raises(ConfigError, match=r"window and circuit_breaker\.lease") as raised:
        ClientStack(deadline=slow)
    assert "CircuitBreakerPolicy(window=20.0, lease=20.0)" in str(raised.value)
    with pytest.raises(ConfigError, match=r"circuit_breaker\.lease must"):
        ClientStack(deadline=slow, circuit_breaker=CircuitBreakerPolicy(window=20.0))
    with pytest.raises(ConfigError, match=r"for_method\('kv\.v1.KVService/Get'\)"):
        ClientStack().for_method("kv.v1.KVService/Get", deadline=slow)


@pytest.mark.parametrize(
    "policies",
    [
        {"circuit_breaker": CircuitBreakerPolicy(window=20.0, lease=20.0)},
        {"circuit_breaker": None},
        {"deadline": DeadlinePolicy(total=60.0, attempt=None)},
        {"deadline": None},
    ],
    ids=["long enough", "no breaker", "no limit of an attempt", "no deadline"],
)
def test_what_fits_an_attempt_is_taken(policies: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"deadline": DeadlinePolicy(total=60.0, attempt=20.0), **policies}
    ClientStack(**fields)


def test_the_breaker_stands_between_retry_and_the_rate_limit() -> None:
    described = ClientStack().describe()
    order = [described.index(part) for part in ("retry", "circuit breaker", "rate limit")]
    assert order == sorted(order)
    assert "circuit breaker        off" in ClientStack.bare().describe()


def test_what_of_an_endpoint_a_circuit_guards() -> None:
    parts = [CircuitBreakerPolicy(scope=scope).part("a.b.C/D") for scope in get_args(Scope)]
    assert parts == ["a.b.C/*", "a.b.C/D", ""]
