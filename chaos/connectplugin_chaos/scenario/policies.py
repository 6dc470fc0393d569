"""Policies by the names of the stacks' fields, as `variants` of a scenario give them.

A policy is a mapping of its own fields; `null` turns it off, `{}` turns it on as it comes. What is
left out keeps its default. The policy itself says which values make sense.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import yaml
from connectrpc.code import Code

from connectplugin_chaos._gen.chaos_target.v1 import target_pb as pb
from connectplugin_chaos.scenario.nodes import Reader
from connectplugin_chaos.scenario.variants import Variant
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fault.config import Fault, FaultPolicy
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryBudgetPolicy, RetryPolicy
from connectplugin_interceptors.server.deadline.config import ServerDeadlinePolicy
from connectplugin_interceptors.server.drain.config import DrainPolicy
from connectplugin_interceptors.server.masking.config import MaskingPolicy
from connectplugin_interceptors.server.rate_limit.config import ServerRateLimitPolicy
from connectplugin_interceptors.throttle.config import ThrottlePolicy

CLIENT: Final[Mapping[str, type[Any]]] = {
    "fallback": FallbackPolicy,
    "deadline": DeadlinePolicy,
    "throttle": ThrottlePolicy,
    "concurrency": BulkheadPolicy,
    "retry_policy": RetryPolicy,
    "circuit_breaker": CircuitBreakerPolicy,
    "rate_limit": RateLimitPolicy,
    "fault": FaultPolicy,
    "hedge": HedgePolicy,
    "load_balancing": BalancePolicy,
    "outlier_ejection": OutlierEjectionPolicy,
    "wait_for_ready": bool,
}
"""The fields of `ClientStack`; `concurrency: {adaptive: {...}}` is the other kind of limit."""

SERVER: Final[Mapping[str, type[Any]]] = {
    "masking": MaskingPolicy,
    "drain": DrainPolicy,
    "deadline": ServerDeadlinePolicy,
    "rate_limit": ServerRateLimitPolicy,
    "adaptive_limit": AdaptiveLimitPolicy,
    "bulkhead": BulkheadPolicy,
    "fault": FaultPolicy,
}
"""The fields of `ServerStack`."""

_PARTS: Final[Mapping[str, type[Any]]] = {"budget": RetryBudgetPolicy, "faults": Fault}
"""Fields that are mappings, or lists of them, themselves."""


def read_policies(
    reader: Reader, node: yaml.Node, kinds: Mapping[str, type[Any]], of: str
) -> dict[str, Any]:
    """A mapping of policies, in the words of a stack's fields.

    Args:
        reader: Of the file.
        node: The mapping.
        kinds: `CLIENT` or `SERVER`.
        of: Where it stands, for messages.

    Raises:
        ScenarioError: A name is unknown, or a policy refuses a value.
    """
    fields = reader.fields(node, kinds, of=of)
    return {name: _value(reader, value, kinds[name], name) for name, value in fields.items()}


def _value(reader: Reader, node: yaml.Node, kind: type[Any], name: str) -> Any:
    if kind is bool:
        return reader.read(node, bool, name)
    if not isinstance(node, yaml.MappingNode):
        value = reader.plain(node)
        if value is not None:
            reader.fail(node, f"{name} is {value!r}; it must be a mapping of its fields, or null")
        return None
    if name == "concurrency" and [key.value for key, _ in node.value] == ["adaptive"]:
        return _policy(reader, node.value[0][1], AdaptiveLimitPolicy, name)
    return _policy(reader, node, kind, name)


def _policy(reader: Reader, node: yaml.Node, kind: type[Any], name: str) -> Any:
    declared = [field.name for field in dataclasses.fields(kind)]
    found = reader.fields(node, declared, of=name)
    given = {word: _field(reader, value, word) for word, value in found.items()}
    if kind is FallbackPolicy and "value" in given:
        given["value"] = pb.ReadResponse(value=str(given["value"]))
    if kind is BalancePolicy and given.get("policy") == "consistent_hash":
        given["key"] = key_of
    if kind is RateLimitPolicy and given.get("key") == "client":
        given["key"] = everyone
    try:
        return kind(**given)
    except (ConfigError, TypeError, ValueError) as error:
        reader.fail(node, f"{name}: {error}")


def _field(reader: Reader, node: yaml.Node, word: str) -> Any:
    part = _PARTS.get(word)
    if part is not None and isinstance(node, yaml.MappingNode):
        return _policy(reader, node, part, word)
    if part is not None and isinstance(node, yaml.SequenceNode):
        return [_policy(reader, member, part, word) for member in node.value]
    value = reader.plain(node)
    codes = {code.value: code for code in Code}
    if word == "codes":
        return frozenset(codes.get(code, code) for code in value)
    if word == "error":
        return codes.get(value, value)
    return tuple(value) if word == "latency" and isinstance(value, list) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]  # as the file has it


def key_of(request: Any, _context: object) -> str:
    """By what consistent hashing picks: the request's key, or nothing of a stream of requests."""
    return getattr(request, "key", "")


def everyone(_context: object) -> str:
    """One bucket for all calls of a client, whatever endpoint they go to."""
    return "all"


METHODS: Final[Mapping[str, str]] = {
    name: f"chaos_target.v1.TargetService/{name.capitalize()}"
    for name in ("read", "write", "pay", "append", "watch", "load", "sync")
}
"""The words of a workload's mix, as patterns of `ClientStack.for_method`."""


def read_variant(
    reader: Reader, node: yaml.Node, of: str, paths: Mapping[str, str] = METHODS
) -> Variant:
    """One variant.

    Args:
        reader: Of the file.
        node: The mapping.
        of: Where it stands, for messages.
        paths: The methods that it may name, as patterns of `ClientStack.for_method`.

    Raises:
        ScenarioError: A word in it is unknown, or a policy refuses a value.
    """
    fields = reader.fields(node, ("client", "methods", "server"), of=of)
    methods: list[tuple[str, Mapping[str, Any]]] = []
    if "methods" in fields:
        for name, value in reader.fields(fields["methods"], paths, of="methods").items():
            methods.append((paths[name], read_policies(reader, value, CLIENT, name)))
    client = read_policies(reader, fields["client"], CLIENT, "client") if "client" in fields else {}
    server: dict[str, Any] = {}
    if "server" in fields:
        read_policies(reader, fields["server"], SERVER, "server")
        server = reader.plain(fields["server"])
    return Variant(client=client, methods=tuple(methods), server=server)


def server_policies(plain: Mapping[str, Any]) -> dict[str, Any]:
    """What a server makes of `Variant.server` that came as JSON, which is YAML too."""
    reader = Reader("server policies")
    text = yaml.safe_dump(dict(plain), default_flow_style=True)
    return read_policies(reader, reader.compose(text), SERVER, "server")
