"""The JSON Schema of scenario files, for editors: `connectplugin-chaos schema > schema.json`.

It is made from what reads the files: dataclasses, verbs, checks. It knows the words and their
types; what holds between them (phases and places that exist, heals that belong to a fault) is told
when a file is read.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from connectplugin_chaos.arms.names import BASELINES
from connectplugin_chaos.check.mechanisms import ALL_CHECKS, MECHANISMS
from connectplugin_chaos.engine.verb import CodeName, Verb
from connectplugin_chaos.engine.verbs import VERBS
from connectplugin_chaos.scenario.model import (
    Comparison,
    Rate,
    Seconds,
    Share,
    Soup,
    Tier,
    Topology,
    Workload,
)
from connectplugin_chaos.scenario.policies import CLIENT, SERVER

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_TIME: Final[Schema] = {
    "description": "A time: 500ms, 3s, 2m, or a number of seconds.",
    "anyOf": [
        {"type": "number", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*(ms|s|m)$"},
    ],
}
_SHARE: Final[Schema] = {
    "description": "A share: 99 %, as 99% or 0.99.",
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?%$"}],
}
_RATE: Final[Schema] = {
    "description": "A rate: 140/s, or a number.",
    "anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?/s$"}],
}
_BAR: Final[Schema] = {
    "description": "A number, with its unit: 3s, 99%, 50/s; `end` is without a limit.",
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?\s*(ms|s|m|%|/s)|end)$"},
    ],
}
_PLAIN: Final[Mapping[Any, Schema]] = {
    Seconds: _TIME,
    Share: _SHARE,
    Rate: _RATE,
    float: {"type": "number"},
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    str: {"type": ["string", "number"]},  # a text that looks like a number needs no quotes
}
_WORDS: Final = frozenset(
    {"phase", "base", "all_of", "methods", "endpoint", "endpoints", "of", "server", "right"}
)
"""Arguments of checks that are words, or lists of them; all others are numbers."""


def schema() -> Schema:
    """The whole."""
    warmup_and_phases: Mapping[str, Schema] = {"warmup": _TIME, "phases": _PHASES}
    return {
        "$schema": DIALECT,
        "title": "A scenario of connectplugin-chaos",
        **_object(
            {
                "id": _PLAIN[str],
                "title": {"type": "string", "description": "What it shows, in a sentence."},
                "why": {"type": "array", "items": {"type": "string"}},
                "claim": {"type": "string", "description": "The sentence that it proves."},
                "tier": schema_of(tuple[Tier, ...]),
                "seeds": schema_of(tuple[int, ...]),
                "topology": schema_of(Topology),
                "workload": _workload(),
                "timeline": {"type": "array", "items": {"anyOf": _timeline()}, "minItems": 1},
                **warmup_and_phases,
                "short": _object(
                    {**warmup_and_phases, "shift": {"type": "number"}}, required=["phases"]
                ),
                "arms": {"type": "array", "items": _ARM},
                "tier_arms": {
                    "type": "object",
                    "propertyNames": schema_of(Tier),
                    "additionalProperties": {"type": "array", "items": _ARM},
                },
                "expect": _expect(),
                "variants": {"type": "object", "additionalProperties": _variant()},
                "soup": schema_of(Soup),
            },
            required=["id", "title", "workload", "phases", "expect"],
        ),
        "$defs": {"check": {"anyOf": _checks()}},
    }


_PHASES: Final[Schema] = {
    "type": "object",
    "description": "Begin and end of each phase: `base: [0s, 3s]`.",
    "additionalProperties": {"type": "array", "items": _TIME, "minItems": 2, "maxItems": 2},
    "minProperties": 1,
}
_ARM: Final[Schema] = {
    "type": "string",
    "description": f"{', '.join(BASELINES)}, stack, stack-LAYER, stack+VARIANT, stack!SABOTAGE",
    "pattern": rf"^({'|'.join(BASELINES)}|stack)([-+!][\w-]+)?$",
}


def schema_of(kind: Any) -> Schema:
    """Of a type that `Reader.read` reads."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (dict, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(part) for part in arguments]}
    return {"type": "null"} if kind is type(None) else _PLAIN[kind]


def _dataclass(kind: type[Any]) -> Schema:
    hints = typing.get_type_hints(kind)
    told = _attributes(inspect.getdoc(kind) or "")
    properties: dict[str, Schema] = {}
    required: list[str] = []
    for field in dataclasses.fields(kind):
        properties[field.name] = schema_of(hints[field.name])
        if field.name in told:
            properties[field.name] = {**properties[field.name], "description": told[field.name]}
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    return _object(properties, required=required)


def _attributes(text: str) -> dict[str, str]:
    """What a docstring's section `Attributes` says of each."""
    _, _, section = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        depth = len(line) - len(line.lstrip())
        if depth == 4 and ": " in line:  # noqa: PLR2004  # how far the names stand in
            name, _, found[name] = line.strip().partition(": ")
        elif name and depth > 4:  # noqa: PLR2004
            found[name] += f" {line.strip()}"
        else:
            name = ""
    return found


def _object(properties: Mapping[str, Schema], *, required: list[str] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required or [],
        "additionalProperties": False,
    }


def _workload() -> Schema:
    found = schema_of(Workload)
    request = {"type": "object", "description": "The fields of the message; {op} and {key} vary."}
    line = _object(
        {
            "method": {"type": "string", "description": "Put, KVService/Put, or the full path."},
            "name": {"type": "string"},
            "weight": {"type": "number", "minimum": 0},
            "accept": schema_of(tuple[CodeName, ...]),
            "take": {"type": "integer", "minimum": 1},
            "interval": _TIME,
            "request": request,
            "requests": {"type": "array", "items": request},
        },
        required=["method"],
    )
    found["properties"] |= {
        "calls": {
            "type": "array",
            "description": "With --target: what is called of the plugin.",
            "items": line,
            "minItems": 1,
        },
        "python": {"type": "string", "description": "module:Class, a workload in Python."},
    }
    return found


def _timeline() -> list[Schema]:
    heal = _object({"at": _TIME, "heal": {"type": "string"}}, required=["at", "heal"])
    return [heal, *(_fault(name, verb) for name, verb in VERBS.items())]


def _fault(name: str, verb: Verb) -> Schema:
    arguments: dict[str, Schema] = {}
    for word, argument in verb.arguments.items():
        arguments[word] = dict(schema_of(argument.kind))
        if argument.kind is int:
            bounds = {"minimum": argument.least, "maximum": argument.most}
            arguments[word] |= {key: value for key, value in bounds.items() if value is not None}
    required = [word for word, argument in verb.arguments.items() if argument.required]
    return _object(
        {
            "at": _TIME,
            "fault": {"const": name},
            "as": {"type": "string", "description": "The name that its heal calls it by."},
            verb.of: {"type": "array", "items": {"type": "string", "pattern": "^[ps][0-9]+$"}},
            **arguments,
        },
        required=["at", "fault", *required],
    )


def _expect() -> Schema:
    comparison = _object({"ratio": schema_of(Comparison)}, required=["ratio"])
    checks = {"type": "array", "items": {"$ref": "#/$defs/check"}}
    return {
        "type": "object",
        "properties": {"compare": {"type": "array", "items": comparison}},
        "patternProperties": {_ARM["pattern"]: checks},
        "additionalProperties": False,
    }


def _checks() -> list[Schema]:
    inner = {"$ref": "#/$defs/check"}
    python = {
        "anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"check": {"type": "string"}}, "required": ["check"]},
        ]
    }
    return [
        *(_check(name, check) for name, check in ALL_CHECKS.items()),
        _object({"not": inner}, required=["not"]),
        _object({"python": python}, required=["python"]),
    ]


def _check(name: str, check: Callable[..., Any]) -> Schema:
    parameters = inspect.signature(check).parameters.values()
    own = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
    bars = {word: _words(word) if word in _WORDS else _BAR for word in own}
    value = _object(bars, required=[p.name for p in own.values() if p.default is p.empty])
    value["description"] = (inspect.getdoc(check) or "").partition("\n")[0]
    if len(own) == 1:
        (only,) = bars.values()
        value = {"anyOf": [value, {"type": "array", "items": only.get("items", only)}]}
    return _object({name: value}, required=[name])


def _words(name: str) -> Schema:
    word: Schema = {"type": ["string", "number"]}
    if name == "all_of":
        word = {"enum": list(MECHANISMS)}
    return {"anyOf": [word, {"type": "array", "items": word}], "items": word}


def _variant() -> Schema:
    def policies(names: Mapping[str, Any]) -> Mapping[str, Schema]:
        return {name: {"type": ["object", "boolean", "null"]} for name in names}

    client = _object(policies(CLIENT))
    return _object(
        {
            "client": client,
            "methods": {"type": "object", "additionalProperties": client},
            "server": _object(policies(SERVER)),
        }
    )
