import math
from typing import Any

import pytest

from connectplugin_interceptors import AdaptiveLimitPolicy, ConfigError


def test_it_begins_at_the_top_so_that_a_cold_server_refuses_nobody() -> None:
    policy = AdaptiveLimitPolicy()
    assert (policy.min_limit, policy.first_limit, policy.max_limit) == (1, 200, 200)
    assert AdaptiveLimitPolicy(initial_limit=7).first_limit == 7


@pytest.mark.parametrize(
    "fields",
    [
        {"min_limit": 0},
        {"max_limit": 0},
        {"initial_limit": 0},
        {"initial_limit": 2.0},
        {"window": 0.0},
        {"window": 31},
        {"window": math.nan},
        {"max_queue": -1},
        {"max_wait": -1},
        {"pushback": 61},
    ],
)
def test_every_number_refuses_nonsense_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigError, match=rf"AdaptiveLimitPolicy\.{name} is .+; it must be"):
        AdaptiveLimitPolicy(**fields)


@pytest.mark.parametrize("fields", [{"min_limit": 201}, {"initial_limit": 201}])
def test_bounds_that_contradict_each_other_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must not be below one another"):
        AdaptiveLimitPolicy(**fields)


def test_a_queue_in_which_nobody_may_wait_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"max_wait is 0 with max_queue=5"):
        AdaptiveLimitPolicy(max_queue=5, max_wait=0)
