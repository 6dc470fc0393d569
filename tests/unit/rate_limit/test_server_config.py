from typing import Any

import pytest

from connectplugin_interceptors import ConfigError, Quota, ServerRateLimitPolicy
from connectplugin_interceptors.server.rate_limit.machine import address_key, hint


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"per_second": 0}, r"ServerRateLimitPolicy\.per_second is 0; it must be"),
        ({"burst": 0.5}, r"ServerRateLimitPolicy\.burst is 0\.5; it must be"),
        ({"key": "endpoint"}, r"key is 'endpoint'; it must be 'address', 'method'"),
        ({"tell_quota": 1}, r"tell_quota is 1; it must be bool"),
        ({"methods": ["a.B/C"]}, r"methods is .+ it must be Mapping"),
        ({"methods": {"a.B": None}}, r"got 'a\.B'; it takes 'package\.Service/Method'"),
        ({"methods": {"a.B/C": 5}}, r"methods\['a\.B/C'\] is 5; it must be a Quota"),
    ],
)
def test_what_cannot_work_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    made: dict[str, Any] = {"per_second": 10, **fields}
    with pytest.raises(ConfigError, match=said):
        ServerRateLimitPolicy(**made)


def test_a_quota_is_checked_too() -> None:
    with pytest.raises(ConfigError, match=r"Quota\.per_second is -1; it must be"):
        Quota(per_second=-1)
    assert Quota(per_second=0.1).bucket == 1
    assert Quota(per_second=20).bucket == 20


def test_methods_are_a_copy() -> None:
    given: dict[str, Quota | None] = {"a.B/C": None}
    policy = ServerRateLimitPolicy(per_second=1, methods=given)
    given.clear()
    assert policy.methods == {"a.B/C": None}


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1:5000", "10.0.0.1"),
        ("2001:db8::1:5000", "2001:db8::1"),
        ("127.0.0.1:0", None),
        (None, None),
    ],
)
def test_an_address_counts_without_its_port(address: str | None, key: str | None) -> None:
    assert address_key(address) == key


@pytest.mark.parametrize(
    ("wait", "seconds", "milliseconds"),
    [
        (1e-9, 1, 1),
        (0.0005, 1, 1),
        (0.5, 1, 500),
        (1.0, 1, 1000),
        (1.0000001, 2, 1001),
        (3, 3, 3000),
    ],
)
def test_each_unit_is_rounded_up(wait: float, seconds: int, milliseconds: int) -> None:
    told = hint(wait)
    assert (told.seconds, told.milliseconds) == (seconds, milliseconds)
    assert told.nanoseconds >= wait * 1e9
