import math
from typing import Any

import pytest

from connectplugin_interceptors import ConfigError, RateLimitPolicy


def test_a_bucket_holds_one_second_of_rate_and_at_least_one_token() -> None:
    assert RateLimitPolicy(per_second=100).bucket == 100
    assert RateLimitPolicy(per_second=0.2).bucket == 1
    assert RateLimitPolicy(per_second=100, burst=3).bucket == 3


def test_it_is_a_value() -> None:
    assert RateLimitPolicy(per_second=5) == RateLimitPolicy(per_second=5.0)
    assert hash(RateLimitPolicy(per_second=5)) == hash(RateLimitPolicy(per_second=5.0))


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "1", None, True, 1e-9, 1e12])
def test_per_second_refuses_nonsense(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"RateLimitPolicy\.per_second is .+; it must be"):
        RateLimitPolicy(per_second=value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("burst", 0.5), ("burst", "2"), ("max_wait", -1), ("max_wait", math.nan), ("amount", 0)],
)
def test_every_other_number_refuses_nonsense_by_name(field: str, value: Any) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=rf"RateLimitPolicy\.{field} is .+; it must be"):
        RateLimitPolicy(per_second=10, **wrong)


@pytest.mark.parametrize("value", ["address", None, 3, ["endpoint"]])
def test_a_key_is_one_of_two_words_or_a_function(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"RateLimitPolicy\.key is .+'endpoint', 'method'"):
        RateLimitPolicy(per_second=10, key=value)


def test_an_amount_above_the_bucket_could_never_pass() -> None:
    with pytest.raises(ConfigError, match=r"amount is 5.+raise burst"):
        RateLimitPolicy(per_second=10, burst=4, amount=5)
