"""The JSON Schema for editors: it takes every scenario there is, and no misspelt word."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from connectplugin_chaos import cli
from connectplugin_chaos.scenario import load
from connectplugin_chaos.scenario.schema import schema

KV = Path(__file__).parents[2] / "examples" / "kv" / "chaos.yaml"
FILES = [*sorted(load.folder().glob("*.yaml")), KV]
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
WHOLE = schema()
KNOWN: dict[str, Callable[[Any, Any], bool]] = {
    "$ref": lambda value, given: fits(value, WHOLE["$defs"][given.rpartition("/")[2]]),
    "anyOf": lambda value, given: any(fits(value, one) for one in given),
    "const": lambda value, given: value == given,
    "enum": lambda value, given: value in given,
    "items": lambda value, given: all(fits(each, given) for each in array(value)),
    "maxItems": lambda value, given: len(array(value)) <= given,
    "maximum": lambda value, given: not isinstance(value, int | float) or value <= given,
    "minItems": lambda value, given: not isinstance(value, list) or len(array(value)) >= given,
    "minProperties": lambda value, given: len(members(value)) >= given,
    "minimum": lambda value, given: not isinstance(value, int | float) or value >= given,
    "pattern": lambda value, given: not isinstance(value, str) or bool(re.search(given, value)),
    "propertyNames": lambda value, given: all(fits(name, given) for name in members(value)),
    "required": lambda value, given: not members(value) or all(n in value for n in given),
    "type": lambda value, given: is_of(value, [given] if isinstance(given, str) else given),
}
"""JSON Schema, as far as it is used there."""

SAID = {"title", "description", "$schema", "$defs"}
MEMBERS = {"properties", "patternProperties", "additionalProperties"}


def fits(value: Any, wanted: dict[str, Any]) -> bool:
    unknown = set(wanted) - set(KNOWN) - SAID - MEMBERS
    assert not unknown
    checked = all(KNOWN[word](value, given) for word, given in wanted.items() if word in KNOWN)
    return checked and all(fits_member(name, each, wanted) for name, each in members(value).items())


def fits_member(name: str, value: Any, wanted: dict[str, Any]) -> bool:
    by_pattern = [s for p, s in wanted.get("patternProperties", {}).items() if re.search(p, name)]
    known = wanted.get("properties", {}).get(name, *by_pattern[:1] or [None])
    if known is None:
        known = wanted.get("additionalProperties", True)
    return known if isinstance(known, bool) else fits(value, known)


def is_of(value: Any, names: list[str]) -> bool:
    if isinstance(value, bool):
        return "boolean" in names
    return isinstance(value, tuple(TYPES[name] for name in names))


def array(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  # JSON


def members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  # JSON


def document(text: str) -> Any:
    # What a file says is what an editor sees: tuples of JSON's types, with keys that are texts.
    return json.loads(json.dumps(yaml.safe_load(text)))


def test_it_is_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_fits(path: Path) -> None:
    assert fits(document(path.read_text()), WHOLE)


C1 = (load.folder() / "c1.yaml").read_text()
EXAMPLE = KV.read_text()


@pytest.mark.parametrize(
    ("text", "right", "wrong"),
    [
        (C1, "title:", "titel:"),
        (C1, "deadline: 500ms", "deadlien: 500ms"),
        (C1, "rate: 140/s", "rate: fast"),
        (C1, "fault: freeze", "fault: freze"),
        (C1, "stream: upstream", "stream: up"),
        (C1, "at: 4s", "at: early"),
        (C1, "heal: stall", "heel: stall"),
        (C1, "most: 1.1", "max: 1.1"),
        (C1, "- dead_work:", "- dead_wrok:"),
        (C1, "- reached: [breaker.opened", "- reached: [breaker.open"),
        (C1, "\n  naive:", "\n  nave:"),
        (C1, "servers: 1", "servers: one"),
        (C1, "tier: [smoke", "tier: [smoky"),
        (C1, "base: [0s, 4s]", "base: [0s]"),
        (EXAMPLE, "weight: 4}", "wieght: 4}"),
        (EXAMPLE, "method: Put", "methud: Put"),
        (EXAMPLE, "[not_found]", "[notfound]"),
        (EXAMPLE, "take: 1", "take: 0"),
        (EXAMPLE, "p: 30%", "p: often"),
    ],
)
def test_a_misspelt_word_does_not(text: str, right: str, wrong: str) -> None:
    assert right in text
    assert not fits(document(text.replace(right, wrong, 1)), WHOLE)


def test_it_knows_the_keys_that_the_reader_knows() -> None:
    made = schema()
    assert set(made["properties"]) == set(load._KEYS)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # they must not part
    topology = made["properties"]["topology"]["properties"]
    assert topology["servers"]["description"].startswith("How many, each behind a proxy")
    assert made["$defs"]["check"]["anyOf"][1]["properties"]["at_most_once"]["description"]
