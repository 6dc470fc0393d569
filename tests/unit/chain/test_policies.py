"""The table of plans: one for each method, whoever makes its MethodInfo, and bounded."""

from typing import Any

import pytest
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType

from connectplugin_interceptors import ConfigError, DeadlinePolicy, RetryPolicy
from connectplugin_interceptors.options import call_options
from connectplugin_interceptors.patterns import check_pattern
from connectplugin_interceptors.policies import PolicyTable, effective
from connectplugin_interceptors.settings import Settings
from kv.v1.kv_pb import GetRequest, GetResponse


def method(
    name: str = "Get",
    level: IdempotencyLevel = IdempotencyLevel.NO_SIDE_EFFECTS,
    shape: StreamType = StreamType.UNARY,
) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=name,
        service_name="kv.v1.KVService",
        input=GetRequest,
        output=GetResponse,
        idempotency_level=level,
        stream_type=shape,
    )


def test_every_call_of_a_method_finds_the_same_plan() -> None:
    # Generated clients make a MethodInfo per call: found by identity, no plan was ever found again.
    table = PolicyTable(Settings(), ())
    assert table.plan(method()) is table.plan(method())
    options = call_options({"wait_for_ready": True})
    changed = table.changed(method(), table.plan(method()), options)
    assert changed.settings.wait_for_ready
    assert table.changed(method(), table.plan(method()), options) is changed


def test_methods_of_one_name_that_differ_are_told_apart() -> None:
    table = PolicyTable(Settings(), ())
    assert table.plan(method()).idempotent
    assert not table.plan(method(level=IdempotencyLevel.UNKNOWN)).idempotent
    assert table.plan(method(shape=StreamType.BIDI_STREAM)).streams_responses
    assert not table.plan(method()).streams_responses


def test_a_table_does_not_grow_for_ever() -> None:
    table = PolicyTable(Settings(), ())
    plan = table.plan(method())
    for number in range(5000):
        table.plan(method(f"Get{number}"))
        table.changed(method(), plan, call_options({"retry_policy": None}))
    remembered: list[dict[Any, Any]] = [v for v in vars(table).values() if isinstance(v, dict)]
    assert len(remembered) == 2
    assert max(map(len, remembered)) <= 1024


def test_a_methods_own_entry_beats_its_services_and_a_later_one_an_earlier() -> None:
    one, two, three = (RetryPolicy(max_attempts=most) for most in (1, 2, 3))
    overrides: list[tuple[str, dict[str, Any]]] = [
        ("kv.v1.KVService/Get", {"retry_policy": one}),
        ("kv.v1.KVService/*", {"retry_policy": two, "deadline": None}),
        ("kv.v1.KVService/Get", {"retry_policy": three}),
        ("other.v1.Service/*", {"wait_for_ready": True}),
    ]
    settings = effective(Settings(), overrides, "kv.v1.KVService", "Get")
    assert settings.retry_policy is three
    assert settings.deadline is None
    assert not settings.wait_for_ready
    assert effective(Settings(), overrides, "kv.v1.KVService", "Put").retry_policy is two
    assert effective(Settings(), overrides, "a.B", "Get").deadline == DeadlinePolicy()


@pytest.mark.parametrize(
    "pattern", ["", "Get", "/Get", "kv.v1.KVService/", "a/b/c", "*/Get", "kv.*/Get", "a.B/G*"]
)
def test_patterns_that_match_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match=r"it takes 'package\.Service/Method'"):
        check_pattern(pattern)
