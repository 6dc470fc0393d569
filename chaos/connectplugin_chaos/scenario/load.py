"""Reading scenario files."""

import inspect
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml
from connectrpc.code import Code

from connectplugin_chaos.arms.names import ADDITIONS, check_arm
from connectplugin_chaos.check.mechanisms import ALL_CHECKS, MECHANISMS
from connectplugin_chaos.check.resources import KINDS
from connectplugin_chaos.engine.soup import MENU
from connectplugin_chaos.engine.verb import Argument, Verb
from connectplugin_chaos.engine.verbs import VERBS
from connectplugin_chaos.load.custom import CustomCalls
from connectplugin_chaos.scenario.comparisons import comparisons
from connectplugin_chaos.scenario.model import (
    Expectation,
    Happening,
    Method,
    Plan,
    Scenario,
    Seconds,
    Soup,
    Tier,
    Topology,
    Workload,
)
from connectplugin_chaos.scenario.nodes import Reader, ScenarioError, nearest
from connectplugin_chaos.scenario.policies import METHODS, read_variant
from connectplugin_chaos.scenario.variants import Variant
from connectplugin_chaos.target.python import python_check
from connectplugin_chaos.target.reading import (
    CUSTOM_KEYS,
    check_expectations,
    check_topology,
    custom_calls,
)

_KEYS: Final = (
    "id", "title", "why", "claim", "tier", "seeds", "topology", "workload", "timeline",
    "warmup", "phases", "short", "arms", "tier_arms", "expect", "variants", "soup",
)  # fmt: skip
_REQUIRED: Final = ("id", "title", "claim", "tier", "workload", "phases", "expect")


def folder() -> Path:
    """Where the scenarios are that come with the harness."""
    beside = Path(__file__).resolve().parents[2] / "scenarios"
    return beside if beside.is_dir() else Path(__file__).resolve().parents[1] / "scenarios"


def load_all(where: Path | None = None) -> dict[str, Scenario]:
    """Every scenario of a folder, by id, in the order of the ids.

    Raises:
        ScenarioError: A file is wrong, or two have the same id.
    """
    found: dict[str, Scenario] = {}
    for path in sorted((where or folder()).glob("*.yaml")):
        scenario = load(path)
        if scenario.id in found:
            msg = f"{path}: the id {scenario.id!r} is taken by {found[scenario.id].path}"
            raise ScenarioError(msg)
        found[scenario.id] = scenario
    return found


def load(path: Path, target: str = "") -> Scenario:
    """One file.

    Args:
        path: Of the file.
        target: The name of the `ServeConfig` to run it against, `module:attribute`; empty for the
            harness's own service.

    Raises:
        ScenarioError: It is wrong; the text has the line, and what may have been meant.
    """
    try:
        text = path.read_text()
    except OSError as error:
        msg = f"{path}: {error.strerror}"
        raise ScenarioError(msg) from None
    return parse(text, str(path), target)


def parse(text: str, path: str, target: str = "") -> Scenario:
    """A scenario from its text; see `load`."""
    reader = Reader(path)
    root = reader.compose(text)
    # Claim and tier sort our own scenarios; a user's stands for itself.
    required = [key for key in _REQUIRED if not (target and key in {"claim", "tier"})]
    keys = reader.fields(root, _KEYS, required=required, of="a scenario")

    def get(name: str, kind: Any, default: Any) -> Any:
        return reader.read(keys[name], kind, name) if name in keys else default

    topology = get("topology", Topology, Topology())
    custom = custom_calls(reader, keys["workload"], target)
    if target:
        check_topology(reader, keys.get("topology"))
    workload = _workload(reader, keys["workload"], custom)
    plan = _plan(reader, keys["phases"], get("warmup", Seconds, Seconds(1.0)), 0.0, ())
    timeline = tuple(
        _happening(reader, node, topology, target)
        for node in (reader.items(keys["timeline"], "timeline") if "timeline" in keys else [])
    )
    _check_heals(reader, keys.get("timeline"), timeline)
    expect = _expectations(reader, keys["expect"], _words(tuple(plan.phases), topology, custom))
    if target:
        check_expectations(reader, expect)
    compared = reader.member(keys["expect"], "compare")
    arms = get("arms", tuple[str, ...], tuple(expect))
    tier_arms = {"smoke": ("stack",)} | get("tier_arms", Mapping[str, tuple[str, ...]], {})
    for name in tier_arms:
        if name not in typing.get_args(Tier):
            known = nearest(name, typing.get_args(Tier))
            reader.fail(keys["tier_arms"], f"tier_arms has no tier {name!r}{known}")
    variants = _variants(reader, keys["variants"], custom) if "variants" in keys else {}
    for arm in {*arms, *expect}.union(*tier_arms.values()):
        if (problem := check_arm(arm, variants)) is not None:
            reader.fail(keys.get("arms", keys["expect"]), problem)
    return Scenario(
        id=get("id", str, ""),
        title=get("title", str, ""),
        why=get("why", tuple[str, ...], ()),
        claim=get("claim", str, ""),
        tier=get("tier", tuple[Tier, ...], ()),
        seeds=get("seeds", tuple[int, ...], (7,)),
        topology=topology,
        workload=workload,
        timeline=timeline,
        plan=plan,
        short=_short(reader, keys["short"], tuple(plan.phases)) if "short" in keys else None,
        arms=arms,
        tier_arms=tier_arms,
        expect=expect,
        compare=comparisons(reader, compared, tuple(plan.phases), variants)
        if compared is not None
        else (),
        variants=variants,
        soup=_soup(reader, keys["soup"], target) if "soup" in keys else None,
        custom=custom,
        path=path,
        text=text,
    )


def _workload(reader: Reader, node: yaml.Node, custom: CustomCalls | None) -> Workload:
    rest, _ = reader.split(node, CUSTOM_KEYS, of="workload")
    workload: Workload = reader.read(rest, Workload, "workload")
    if custom is not None:
        return replace(workload, mix=custom.mix)
    for name in workload.mix:
        if name not in typing.get_args(Method):
            reader.fail(
                node,
                f"workload.mix has no method {name!r}{nearest(name, typing.get_args(Method))}",
            )
    if "peek" in workload.mix and workload.through == "stack":
        reader.fail(node, "workload.mix has 'peek', which wants `through: plugin`")
    return workload


def _variants(reader: Reader, node: yaml.Node, custom: CustomCalls | None) -> dict[str, Variant]:
    if not isinstance(node, yaml.MappingNode):
        reader.fail(node, "variants must be a mapping of names to policies")
    for key, _ in node.value:
        if str(key.value) in ADDITIONS:
            reader.fail(
                key, f"the name {key.value!r} is taken: every scenario has stack+{key.value}"
            )
    paths = METHODS if custom is None else custom.paths
    return {
        str(key.value): read_variant(reader, value, f"variants.{key.value}", paths)
        for key, value in node.value
    }


def _soup(reader: Reader, node: yaml.Node, target: str) -> Soup:
    soup: Soup = reader.read(node, Soup, "soup")
    menu = [verb for verb in MENU if not (target and VERBS[verb].own_service)]
    for verb in soup.verbs:
        if verb not in menu:
            reader.fail(node, f"soup.verbs has no {verb!r}{nearest(verb, menu)}")
    soup = replace(soup, verbs=soup.verbs or tuple(menu))
    if not 0 < soup.shortest <= soup.longest or soup.end - soup.begin <= soup.longest:
        reader.fail(node, "soup must have 0 < shortest <= longest < end - begin")
    return soup


def _short(reader: Reader, node: yaml.Node, phases: Sequence[str]) -> Plan:
    keys = reader.fields(node, ("warmup", "shift", "phases"), required=("phases",), of="short")
    warmup = reader.read(keys["warmup"], Seconds, "warmup") if "warmup" in keys else Seconds(1.0)
    shift = reader.plain(keys["shift"]) if "shift" in keys else 0.0
    if isinstance(shift, bool) or not isinstance(shift, int | float):
        reader.fail(keys["shift"], f"short.shift is {shift!r}; it must be a number of seconds")
    return _plan(reader, keys["phases"], warmup, float(shift), phases)


def _plan(
    reader: Reader, node: yaml.Node, warmup: Seconds, shift: float, same: Sequence[str]
) -> Plan:
    spans = reader.read(node, Mapping[str, tuple[Seconds, ...]], "phases")
    for name, span in spans.items():
        if len(span) != 2 or not 0 <= span[0] < span[1]:  # noqa: PLR2004  # a pair
            reader.fail(
                node, f"phases.{name} is {span!r}; it must be [begin, end] with begin < end"
            )
    if not spans:
        reader.fail(node, "phases must hold one, at least")
    if same and tuple(spans) != tuple(same):
        reader.fail(node, f"the phases here are {list(spans)}, elsewhere {list(same)}")
    phases = {name: (float(span[0]), float(span[1])) for name, span in spans.items()}
    return Plan(warmup=warmup, phases=phases, shift=shift)


def _happening(reader: Reader, node: yaml.Node, topology: Topology, target: str) -> Happening:
    keys = dict[str, yaml.Node]()
    if isinstance(node, yaml.MappingNode):
        keys = {str(key.value): value for key, value in node.value}
    name = str(reader.plain(keys["fault"])) if "fault" in keys else ""
    if name and name not in VERBS:
        reader.fail(keys["fault"], f"there is no fault {name!r}{nearest(name, VERBS)}")
    verb = VERBS[name] if name else None
    own = verb.arguments if verb is not None else dict[str, Argument]()
    # Where it is done is no word of a heal, nor of a verb that is done elsewhere.
    where = [] if verb is None else [verb.of]
    keys = reader.fields(
        node, ["at", "fault", "heal", "as", *where, *own], required=("at",), of=_line_of(verb, name)
    )
    if ("fault" in keys) == ("heal" in keys):
        reader.fail(node, "a line of the timeline has either 'fault' or 'heal'")
    if verb is not None and verb.of == "proxies" and topology.direct:
        reader.fail(
            keys["fault"],
            f"the fault {name!r} is done to proxies, and with `direct: true` no call goes through"
            " one",
        )
    if verb is not None and verb.own_service and target:
        reader.fail(keys["fault"], f"the fault {name!r} is one of the harness's own service")
    places: tuple[str, ...] = ()
    for word in where:
        if word in keys:
            places = reader.read(keys[word], tuple[str, ...], word)
            there = [f"{word[0]}{number + 1}" for number in range(topology.servers)]
            for place in places:
                if place not in there:
                    reader.fail(keys[word], f"{word} has no {place!r}{nearest(place, there)}")
    arguments = _arguments(reader, node, keys, name, verb) if verb is not None else {}
    return Happening(
        at=reader.read(keys["at"], Seconds, "at"),
        fault=name,
        heal=str(reader.plain(keys["heal"])) if "heal" in keys else "",
        name=str(reader.plain(keys["as"])) if "as" in keys else name,
        places=places,
        arguments=arguments,
        line=reader.line(node),
    )


def _line_of(verb: Verb | None, name: str) -> str:
    return "the timeline" if verb is None else f"the fault {name!r}"


def _arguments(
    reader: Reader, node: yaml.Node, keys: Mapping[str, yaml.Node], name: str, verb: Verb
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for word, argument in verb.arguments.items():
        if word in keys:
            value = reader.read(keys[word], argument.kind, f"{name}.{word}")
            if (problem := argument.problem(value)) is not None:
                reader.fail(keys[word], f"{name}.{word} is {value!r}; {problem}")
            found[word] = value
        elif argument.required:
            reader.fail(node, f"the fault {name!r} lacks {word!r}")
    if (problem := verb.problem(found)) is not None:
        reader.fail(node, problem)
    return found


def _check_heals(reader: Reader, node: yaml.Node | None, timeline: Sequence[Happening]) -> None:
    begun: list[str] = []
    for happening in sorted(timeline, key=lambda happening: happening.at):
        if happening.fault:
            begun.append(happening.name)
        elif happening.heal not in begun:
            problem = f"heal: nothing is called {happening.heal!r}{nearest(happening.heal, begun)}"
            raise ScenarioError(f"{reader.path}:{happening.line}: {problem}")
    if node is not None and not timeline:
        reader.fail(node, "the timeline is empty; leave it out")


Words: TypeAlias = Mapping[str, Sequence[str]]
"""The words that an argument of a check can be or hold; of all others the value is a number."""


def _words(phases: Sequence[str], topology: Topology, custom: CustomCalls | None) -> Words:
    places = [f"p{number + 1}" for number in range(topology.servers)]
    return {
        "phase": phases,
        "base": phases,
        "all_of": tuple(MECHANISMS),
        "methods": typing.get_args(Method) if custom is None else tuple(custom.mix),
        "endpoint": places,
        "endpoints": places,
        "of": KINDS,
        "server": [f"s{number + 1}" for number in range(topology.servers)],
        "right": [code.value for code in Code],
    }


def _expectations(
    reader: Reader, node: yaml.Node, words: Words
) -> dict[str, tuple[Expectation, ...]]:
    if not isinstance(node, yaml.MappingNode):
        reader.fail(node, "expect must be a mapping of arms to lists of checks")
    found: dict[str, tuple[Expectation, ...]] = {}
    for key, value in node.value:
        if key.value == "compare":
            continue  # no arm
        members = reader.items(value, f"expect.{key.value}")
        found[str(key.value)] = tuple(_expectation(reader, member, words) for member in members)
    return found


def _expectation(reader: Reader, node: yaml.Node, words: Words) -> Expectation:
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
        reader.fail(node, "a check is one name with its bars, such as `recovery: {within: 3s}`")
    ((key, value),) = node.value
    name = str(key.value)
    if name == "python":
        told, function, bars = python_check(reader, value)
        return Expectation(check=told, arguments=bars, line=reader.line(key), function=function)
    if name == "not":
        inner = _expectation(reader, value, words)
        return replace(inner, negated=True, line=reader.line(key))
    if name not in ALL_CHECKS:
        reader.fail(key, f"there is no check {name!r}{nearest(name, ALL_CHECKS)}")
    parameters = inspect.signature(ALL_CHECKS[name]).parameters.values()
    own = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    if isinstance(value, yaml.SequenceNode) and len(own) == 1:
        (only,) = own
        arguments = {only: reader.plain(value)}
    else:
        required = [p.name for p in own.values() if p.default is p.empty]
        keys = reader.fields(value, own, required=required, of=f"the check {name}")
        arguments = {word: reader.plain(item) for word, item in keys.items()}
    _check_words(reader, value, arguments, words)
    return Expectation(check=name, arguments=arguments, line=reader.line(key))


def _check_words(
    reader: Reader, node: yaml.Node, arguments: Mapping[str, Any], known: Words
) -> None:
    for argument, value in arguments.items():
        if argument in known:
            for word in [value] if isinstance(value, str | int | float) else value:
                if word not in known[argument]:
                    problem = f"there is no {word!r}{nearest(str(word), known[argument])}"
                    reader.fail(node, f"{argument}: {problem}")
        elif not isinstance(value, int | float):
            reader.fail(node, f"{argument} is {value!r}; it must be a number, such as 3s or 99%")
