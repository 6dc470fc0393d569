import math
from typing import Any

import pytest

from connectplugin_interceptors import ConfigError, ThrottlePolicy


def test_the_defaults_are_those_of_the_book() -> None:
    policy = ThrottlePolicy()
    assert (policy.multiplier, policy.window, policy.max_rejection) == (2.0, 120.0, 0.8)


@pytest.mark.parametrize(
    "fields",
    [
        {"multiplier": 0.9},
        {"multiplier": math.inf},
        {"window": 0.5},
        {"window": "120"},
        {"max_rejection": 0.0},
        {"max_rejection": 1.0},
    ],
)
def test_every_number_refuses_nonsense_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigError, match=rf"ThrottlePolicy\.{name} is .+; it must be"):
        ThrottlePolicy(**fields)
