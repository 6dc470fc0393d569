"""Workloads and checks that are written in Python, and named in a scenario file."""

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast, overload

import yaml

from connectplugin import Client, ConnectPlugin, with_options
from connectplugin.wire import DEFAULT_COOKIE
from connectplugin_chaos.check.judgement import Judgement, Verdict
from connectplugin_chaos.engine.plugins import neighbour_plugin, target_plugin
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.custom import Perform
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.model import History, Ledger
from connectplugin_chaos.scenario.model import Share
from connectplugin_chaos.scenario.nodes import Reader, nearest
from connectplugin_chaos.scenario.policies import METHODS
from connectplugin_chaos.target.catalogue import Catalogue
from connectplugin_chaos.target.locate import TargetError, locate

if TYPE_CHECKING:
    from connectplugin.plugin import Plugin

T = TypeVar("T")

Check = Callable[..., Judgement]


class Plugins:
    """The plugins of a run, as a workload gets them: every call has the workload's deadline.

    Args:
        client: Open while the workload runs.
        limit: Seconds that each call has.
    """

    def __init__(self, client: Client, limit: float) -> None:
        self._client = client
        self._limit = limit

    @overload
    def dispense(self, plugin: ConnectPlugin[T], /) -> T: ...

    @overload
    def dispense(self, plugin: str, interface: type[T], /) -> T: ...

    def dispense(self, plugin: Any, *interface: Any) -> Any:
        """What `connectplugin.Client.dispense` gives."""
        dispense: Callable[..., Any] = self._client.dispense
        return with_options(dispense(plugin, *interface), timeout=self._limit)


class PythonWorkload(Protocol):
    """What `workload: {python: module:Class}` names: a class that is made without arguments.

    One is made for each client of each arm. Operations come in many at a time.

    Attributes:
        kinds: Kinds of operations, and their weights; of the class.
        idempotent: The kinds that may be executed twice.
        changing: The kinds that have effects.
    """

    kinds: Mapping[str, float]
    idempotent: Collection[str]
    changing: Collection[str]

    async def open(self, plugins: Plugins, /) -> None:
        """Dispense what is called."""
        ...

    async def call(self, operation: Planned, /) -> str | None:
        """Make one call of the kind `operation.method`; what is taken down as its reply."""
        ...


class PythonCalls:
    """The calls of a `PythonWorkload`; see `CustomCalls`."""

    def __init__(self, made: type[PythonWorkload], catalogue: Catalogue | None) -> None:
        self._made = made
        self.target = ""
        self.plugins: Mapping[int, Sequence[Plugin]] = {1: [target_plugin, neighbour_plugin]}
        self.cookie: tuple[str, str] | None = DEFAULT_COOKIE
        self.paths: Mapping[str, str] = METHODS
        if catalogue is not None:
            self.paths = catalogue.paths
            self.target = catalogue.name
            self.plugins = {catalogue.version: catalogue.plugins}
            self.cookie = catalogue.cookie
        self.mix = {kind: Share(weight) for kind, weight in made.kinds.items()}
        self.idempotent = frozenset(made.idempotent)
        self.changing = frozenset(made.changing)

    async def bind(self, client: Client, limit: Callable[[str], float], /) -> Perform:
        """How calls are made with a client."""
        workload = self._made()
        await workload.open(Plugins(client, min(map(limit, self.mix))))

        async def perform(planned: Planned, answer: Answer) -> None:
            answer.received.clear()
            answer.reply = await workload.call(planned) or ""

        return perform


def python_calls(reader: Reader, node: yaml.Node, catalogue: Catalogue | None) -> PythonCalls:
    """The workload that a file names.

    Raises:
        ScenarioError: It is no `PythonWorkload`; the text has the line.
    """
    name = reader.read(node, str, "workload.python")
    try:
        found = locate(name, of="workload.python")
    except TargetError as error:
        reader.fail(node, str(error))
    problem = _no_workload(found)
    if problem is not None:
        reader.fail(node, f"workload.python is {name!r}: {problem}")
    return PythonCalls(cast("type[PythonWorkload]", found), catalogue)


def _no_workload(found: Any) -> str | None:
    if not isinstance(found, type):
        return f"it must be a class, and is of type {type(found).__name__}"
    for name in ("open", "call"):
        if not inspect.iscoroutinefunction(getattr(found, name, None)):
            return f"the class lacks `async def {name}`; see connectplugin_chaos.extend"
    kinds: Any = getattr(found, "kinds", None)
    if not isinstance(kinds, Mapping) or not kinds:
        return "its `kinds` must map the kinds of operations to weights, as {'put': 3, 'get': 7}"
    weights: Mapping[Any, Any] = kinds  # pyright: ignore[reportUnknownVariableType]  # anybody's
    for kind, weight in weights.items():
        if not isinstance(kind, str) or not isinstance(weight, int | float) or weight < 0:
            return f"its `kinds` has {kind!r}: {weight!r}; it must map names to weights"
    return _unknown_kind(found, weights)


def _unknown_kind(found: Any, weights: Mapping[Any, Any]) -> str | None:
    for name in ("idempotent", "changing"):
        named: Any = getattr(found, name, None)
        if isinstance(named, str) or not isinstance(named, Collection):
            return f"its `{name}` must be a collection of kinds, which may be empty"
        members: Collection[Any] = named  # pyright: ignore[reportUnknownVariableType]  # anybody's
        for kind in members:
            if kind not in weights:
                return f"its `{name}` has {kind!r}{nearest(str(kind), weights)}"
    return None


def python_check(reader: Reader, node: yaml.Node) -> tuple[str, Check, dict[str, Any]]:
    """The check that a file names: its name, the function, and its arguments.

    `module:function`, or a mapping with it as `check:` and keyword arguments beside.

    Raises:
        ScenarioError: It is no check, or takes other arguments; the text has the line.
    """
    members = {"check": node}
    if isinstance(node, yaml.MappingNode):
        members = {str(key.value): value for key, value in node.value}
    if "check" not in members:
        reader.fail(node, "python lacks 'check: module:function'")
    name = reader.read(members["check"], str, "python")
    try:
        found = locate(name, of="expect.python")
        parameters = inspect.signature(found).parameters.values()
    except TargetError as error:
        reader.fail(node, str(error))
    except (TypeError, ValueError):
        reader.fail(node, f"expect.python is {name!r}, which is no function")
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(places) != 2 or inspect.iscoroutinefunction(found):  # noqa: PLR2004  # history, ledger
        reader.fail(
            node,
            f"expect.python is {name!r}, which must be a plain function of (history, ledger, *,"
            " bars) that returns a Judgement",
        )
    own = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    required = [p.name for p in own.values() if p.default is p.empty]
    if isinstance(node, yaml.MappingNode) or required:
        mapping = node if isinstance(node, yaml.MappingNode) else None
        if mapping is None:
            reader.fail(node, f"the check {name} lacks the key {required[0]!r}")
        reader.fields(
            mapping, ["check", *own], required=["check", *required], of=f"the check {name}"
        )
    arguments = {word: reader.plain(value) for word, value in members.items() if word != "check"}
    return name.partition(":")[2], _guarded(name, found), arguments


def _guarded(name: str, check: Callable[..., Any]) -> Check:
    """A check whose own mistake makes nothing pass, and nothing fail."""

    def run(history: History, ledger: Ledger, **arguments: Any) -> Judgement:
        try:
            found = check(history, ledger, **arguments)
        except Exception as error:  # noqa: BLE001  # anybody's code
            return _unproven(name, f"raised {error!r}")
        if not isinstance(found, Judgement):
            return _unproven(name, f"returned {found!r}, which is no Judgement")
        return found

    return run


def _unproven(name: str, told: str) -> Judgement:
    return Judgement(
        check=name.partition(":")[2],
        verdict=Verdict.INCONCLUSIVE,
        measured=f"the check {name} {told}",
        bar="a Judgement",
    )
