"""Reading the calls that a scenario brings along: `workload.calls`, `workload.python`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from connectrpc.code import Code
from connectrpc.method import StreamType

from connectplugin_chaos.engine.verb import CodeName
from connectplugin_chaos.load.custom import CustomCalls
from connectplugin_chaos.scenario.model import Expectation, Seconds, Share
from connectplugin_chaos.scenario.nodes import Reader, ScenarioError
from connectplugin_chaos.target.calls import Call, PluginCalls
from connectplugin_chaos.target.catalogue import Catalogue
from connectplugin_chaos.target.messages import Build, reader_of
from connectplugin_chaos.target.python import PythonCalls, python_calls

CUSTOM_KEYS: Final = ("calls", "python")
"""Of a workload; one of them at most."""

_OWN_KEYS: Final = ("messages", "interval", "padding", "slow_readers", "stream_deadline")
_OWN_TOPOLOGY: Final = ("workers", "service_time", "queue", "chain", "keep_alive")
_OWN_CHECKS: Final[Mapping[str, str]] = {
    "effectively_once": "it compares the receipts that the harness's own service gives",
    "streams": "it counts the numbers that are in the messages of the harness's own service",
}
_SENDS: Final = (StreamType.CLIENT_STREAM, StreamType.BIDI_STREAM)
_RECEIVES: Final = (StreamType.SERVER_STREAM, StreamType.BIDI_STREAM)


_AT_ONCE: Final = Seconds(0.0)


@dataclass(frozen=True, kw_only=True)
class _Line:
    """What a line of `workload.calls` says, but for its requests."""

    method: str
    name: str = ""
    weight: float = 1.0
    accept: tuple[CodeName, ...] = ()
    take: int | None = None
    interval: Seconds = _AT_ONCE


def custom_calls(reader: Reader, workload: yaml.Node, target: str) -> CustomCalls | None:
    """The calls of a workload; None if they are those of the harness's own service.

    Args:
        reader: Of the file.
        workload: The value of `workload`.
        target: The name of the `ServeConfig` to serve; empty for the harness's own service.

    Raises:
        ScenarioError: They are wrong, or do not fit the target.
    """
    calls, python = (reader.member(workload, key) for key in CUSTOM_KEYS)
    if calls is not None and python is not None:
        reader.fail(python, "workload has either calls or python")
    if calls is None and python is None:
        if target:
            reader.fail(
                workload,
                "with --target the workload needs `calls:`, a list of methods and requests, or"
                " `python: module:Class`; `mix:` is for the harness's own service",
            )
        return None
    for key in _OWN_KEYS if python is None else ():
        if (node := reader.member(workload, key)) is not None:
            reader.fail(node, f"workload.{key} is for the harness's own service, not for calls")
    catalogue = Catalogue(target) if target else None
    if python is not None:
        return _python(reader, workload, python, catalogue)
    if calls is None or catalogue is None:
        return reader.fail(workload, "workload.calls needs a plugin: --target module:attribute")
    if (node := reader.member(workload, "mix")) is not None:
        reader.fail(node, "workload has calls, each with a `weight:`; `mix:` says nothing then")
    return PluginCalls(catalogue, _lines(reader, calls, catalogue))


def check_topology(reader: Reader, node: yaml.Node | None) -> None:
    """Refuse what a plugin of somebody's own decides for itself.

    Raises:
        ScenarioError: There is such a key.
    """
    if node is None:
        return
    for key in _OWN_TOPOLOGY:
        if (value := reader.member(node, key)) is not None:
            reader.fail(value, f"topology.{key} is for the harness's own service, not for a target")


def check_expectations(reader: Reader, expect: Mapping[str, Sequence[Expectation]]) -> None:
    """Refuse checks that read what only the harness's own service writes down.

    Raises:
        ScenarioError: There is one.
    """
    for expectation in (each for checks in expect.values() for each in checks):
        why = _OWN_CHECKS.get(expectation.check) if expectation.function is None else None
        if why is not None:
            raise ScenarioError(
                f"{reader.path}:{expectation.line}: the check {expectation.check!r} cannot judge a"
                f" target: {why}; write one in Python (`python: module:function`)"
            )


def _python(
    reader: Reader, workload: yaml.Node, node: yaml.Node, catalogue: Catalogue | None
) -> PythonCalls:
    made = python_calls(reader, node, catalogue)
    if (mix := reader.member(workload, "mix")) is not None:
        given: dict[str, Share] = reader.read(mix, dict[str, Share], "workload.mix")
        reader.fields(mix, made.mix, of="workload.mix")
        made.mix = given
    return made


def _lines(reader: Reader, node: yaml.Node, catalogue: Catalogue) -> list[Call]:
    found: dict[str, Call] = {}
    for member in reader.items(node, "workload.calls"):
        call = _line(reader, member, catalogue)
        if call.name in found:
            reader.fail(
                member, f"two lines of workload.calls are called {call.name!r}: give one a `name:`"
            )
        found[call.name] = call
    if not sum(call.weight for call in found.values()):
        reader.fail(node, "workload.calls must hold a call with a weight")
    return list(found.values())


def _line(reader: Reader, node: yaml.Node, catalogue: Catalogue) -> Call:
    rest, own = reader.split(node, ("request", "requests"), of="a line of workload.calls")
    line: _Line = reader.read(rest, _Line, "a line of workload.calls")
    method = catalogue.find(line.method)
    if isinstance(method, str):
        reader.fail(node, method)
    shape = method.info.stream_type
    for key, kinds in (("take", _RECEIVES), ("interval", _SENDS)):
        value: Any = getattr(line, key)
        if value and shape not in kinds:
            reader.fail(node, f"{key} means nothing for {method.path}, which has no such stream")
    if line.take is not None and line.take < 1:
        reader.fail(node, f"take is {line.take}; it must be at least 1")
    if "requests" in own and shape not in _SENDS:
        reader.fail(node, f"{method.path} takes one request: `request:`, a mapping")
    if len(own) != 1:
        known = ", ".join(field.name for field in method.info.input.desc().fields) or "none"
        told = "both" if own else "neither"
        reader.fail(
            node, f"{method.path} has {told} of request and requests; the fields are: {known}"
        )
    return Call(
        name=line.name or method.info.name,
        method=method,
        requests=_requests(reader, own, method.info.input),
        weight=line.weight,
        accept=frozenset(map(Code, line.accept)),
        take=line.take,
        interval=float(line.interval),
    )


def _requests(reader: Reader, own: dict[str, yaml.Node], message: Any) -> tuple[Build, ...]:
    if "request" in own:
        return (reader_of(reader, own["request"], message, "request"),)
    members = reader.items(own["requests"], "requests")
    return tuple(
        reader_of(reader, member, message, f"requests[{number}]")
        for number, member in enumerate(members)
    )
