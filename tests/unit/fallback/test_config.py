from typing import Any

import pytest
from connectrpc.code import Code

from connectplugin_interceptors import ConfigError, FallbackPolicy


async def call(_request: Any, _error: Any) -> int:
    return 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "FallbackPolicy has neither value nor call"),
        ({"value": 1, "call": call}, "FallbackPolicy has both value and call"),
        ({"call": 1}, r"FallbackPolicy\.call is 1; it must be an async function"),
        ({"value": 1, "on": Code.ABORTED}, r"FallbackPolicy\.on is .+; it must be a collection"),
        ({"value": 1, "on": []}, r"FallbackPolicy\.on is \[\]; it must be"),
        ({"value": 1, "on": ["aborted"]}, r"FallbackPolicy\.on is \['aborted'\]; it must be"),
        ({"value": 1, "on": 14}, r"FallbackPolicy\.on is 14; it must be"),
    ],
)
def test_what_cannot_work_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FallbackPolicy(**fields)


def test_codes_are_kept_as_a_set() -> None:
    first = FallbackPolicy(value=1, on=[Code.ABORTED, Code.NOT_FOUND])
    assert first == FallbackPolicy(value=1, on={Code.NOT_FOUND, Code.ABORTED})
    assert hash(first) is not None
