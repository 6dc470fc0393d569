"""Reading YAML into dataclasses, strictly: a mistake is told with its line and what was meant."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import yaml

from connectplugin_chaos.scenario.model import Rate, Seconds, Share

_SECONDS: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m)?")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}


class ScenarioError(Exception):
    """A scenario file is wrong; the text has file and line."""


class Reader:
    """Reads one file.

    Args:
        path: For messages.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def fail(self, node: yaml.Node, text: str) -> typing.NoReturn:
        """Raise for a place in the file."""
        raise ScenarioError(f"{self.path}:{self.line(node)}: {text}")

    def line(self, node: yaml.Node) -> int:
        """Of a node, counted from 1."""
        return node.start_mark.line + 1

    def compose(self, text: str) -> yaml.MappingNode:
        """The file's nodes.

        Raises:
            ScenarioError: It is no YAML, or no mapping.
        """
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = mark.line + 1 if mark is not None else 1
            raise ScenarioError(f"{self.path}:{line}: no YAML: {error.problem}") from None
        if not isinstance(node, yaml.MappingNode):
            raise ScenarioError(f"{self.path}:1: a scenario is a mapping of keys to values")
        return node

    def fields(
        self, node: yaml.Node, known: Iterable[str], *, required: Iterable[str] = (), of: str
    ) -> dict[str, yaml.Node]:
        """The keys of a mapping, each known and there once."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{of} must be a mapping of keys to values")
        names = list(known)
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name not in names:
                self.fail(key, f"{of} has no key {name!r}{nearest(name, names)}")
            if name in found:
                self.fail(key, f"{of} has the key {name!r} twice")
            found[name] = value
        for name in required:
            if name not in found:
                self.fail(node, f"{of} lacks the key {name!r}")
        return found

    def member(self, node: yaml.Node, name: str) -> yaml.Node | None:
        """The value of a key of a mapping; None if it is not there."""
        if not isinstance(node, yaml.MappingNode):
            return None
        return next((value for key, value in node.value if key.value == name), None)

    def split(
        self, node: yaml.Node, names: Iterable[str], *, of: str
    ) -> tuple[yaml.MappingNode, dict[str, yaml.Node]]:
        """A mapping without some of its keys, and the values of these."""
        if not isinstance(node, yaml.MappingNode):
            self.fail(node, f"{of} must be a mapping of keys to values")
        taken = set(names)
        found = {key.value: value for key, value in node.value if key.value in taken}
        rest = [(key, value) for key, value in node.value if key.value not in taken]
        return yaml.MappingNode(node.tag, rest, node.start_mark, node.end_mark), found

    def items(self, node: yaml.Node, of: str) -> list[yaml.Node]:
        """The members of a list."""
        if not isinstance(node, yaml.SequenceNode):
            self.fail(node, f"{of} must be a list")
        return list(node.value)

    def plain(self, node: yaml.Node) -> Any:
        """A value as YAML has it, with units understood: `500ms`, `99%`, `140/s`."""
        if isinstance(node, yaml.SequenceNode):
            return [self.plain(member) for member in node.value]
        if isinstance(node, yaml.MappingNode):
            return {str(key.value): self.plain(value) for key, value in node.value}
        value = yaml.SafeLoader("").construct_object(node)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped
        return measure(value) if isinstance(value, str) else value  # pyright: ignore[reportUnknownVariableType]  # any scalar

    def raw(self, node: yaml.Node) -> Any:
        """A scalar as YAML has it, without units; what looks like a date is a text.

        Lists and mappings of them too.
        """
        if isinstance(node, yaml.SequenceNode):
            return [self.raw(member) for member in node.value]
        if isinstance(node, yaml.MappingNode):
            return {str(key.value): self.raw(value) for key, value in node.value}
        if node.tag == "tag:yaml.org,2002:timestamp":
            return str(node.value)
        return yaml.SafeLoader("").construct_object(node)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]  # untyped

    def read(self, node: yaml.Node, kind: Any, of: str) -> Any:
        """A value of a type: of a dataclass its fields are read, and so on."""
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            return self._dataclass(node, kind, of)
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if origin is tuple:
            members = self.items(node, of)
            return tuple(self.read(member, arguments[0], of) for member in members)
        if origin in (dict, Mapping):
            if not isinstance(node, yaml.MappingNode):
                self.fail(node, f"{of} must be a mapping of keys to values")
            return {
                str(key.value): self.read(value, arguments[1], f"{of}.{key.value}")
                for key, value in node.value
            }
        if origin in (types.UnionType, typing.Union):
            value = self.plain(node)
            if value is None:
                return None
            (inner,) = [part for part in arguments if part is not type(None)]
            return self.read(node, inner, of)
        return self._scalar(node, kind, origin, arguments, of)

    def _dataclass(self, node: yaml.Node, kind: type[Any], of: str) -> Any:
        hints = typing.get_type_hints(kind)
        declared = dataclasses.fields(kind)
        required = [
            field.name
            for field in declared
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        ]
        found = self.fields(node, [field.name for field in declared], required=required, of=of)
        values = {
            name: self.read(value, hints[name], f"{of}.{name}") for name, value in found.items()
        }
        return kind(**values)

    def _scalar(self, node: yaml.Node, kind: Any, origin: Any, choices: Any, of: str) -> Any:
        value = self.plain(node)
        if origin is Literal:
            if value not in choices:
                self.fail(node, f"{of} is {value!r}{nearest(str(value), choices)}")
            return value
        if kind in (Seconds, Rate, Share, float):
            if isinstance(value, bool) or not isinstance(value, int | float):
                self.fail(node, f"{of} is {value!r}; it must be {_WANTED[kind]}")
            if value < 0:
                self.fail(node, f"{of} is {value!r}; it must not be negative")
            return float(value)
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind is bool and isinstance(value, bool):
            return value
        if kind is str and isinstance(node, yaml.ScalarNode):
            return str(node.value)
        return self.fail(node, f"{of} is {value!r}; it must be {_WANTED.get(kind, kind)}")


_WANTED: Final[dict[Any, str]] = {
    Seconds: "a time, such as 500ms or 3s",
    Rate: "a rate, such as 140/s",
    Share: "a share, such as 99%",
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a text",
}


def measure(text: str) -> Any:
    """A number with a unit as a number: `500ms` is 0.5, `99%` is 0.99, `end` is infinite."""
    if text == "end":
        return math.inf
    if text.endswith("%") and _is_number(text[:-1]):
        return float(text[:-1]) / 100
    if text.endswith("/s") and _is_number(text[:-2]):
        return float(text[:-2])
    found = _SECONDS.fullmatch(text)
    return float(found[1]) * _UNITS[found[2]] if found and found[2] else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def nearest(name: str, known: Iterable[str]) -> str:
    """What may have been meant, for the end of a message."""
    words = [str(word) for word in known]
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; there are: {', '.join(words)}"
