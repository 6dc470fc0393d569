"""Requests from scenario files: a mapping with placeholders, and the message it becomes."""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import yaml
from protobuf import (
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    Message,
    ScalarType,
    message_from_json_value,
)

from connectplugin_chaos.scenario.nodes import Reader, nearest

PLACEHOLDERS: Final = ("op", "key")
"""`{op}` is the operation's number, `{key}` one of the workload's keys, by chance."""

_PLACE: Final = re.compile(r"\{\{|\}\}|\{(\w+)\}")
_OWN_JSON: Final = "google.protobuf."
"""Messages of this package have forms of their own in JSON, which a file uses: `1.5s`."""

Build = Callable[[int, str], Any]
"""Makes a request, given an operation's number and key."""


class _Text:
    """A text with placeholders."""

    def __init__(self, text: str, *, binary: bool = False) -> None:
        self._text = text
        self._binary = binary

    def fill(self, words: Mapping[str, str]) -> str:
        text = _PLACE.sub(lambda m: words[m[1]] if m[1] else m[0][0], self._text)
        return base64.b64encode(text.encode()).decode() if self._binary else text


Template: TypeAlias = (
    "_Text | dict[str, Template] | list[Template] | str | int | float | bool | None"
)


def reader_of(reader: Reader, node: yaml.Node, message: type[Message], of: str) -> Build:
    """How requests are made from a mapping.

    Bytes are written as text (UTF-8), or `!!binary`; everything else as in JSON.

    Raises:
        ScenarioError: A field does not exist, or cannot hold what is written; the text has the
            line.
    """
    template = _message(reader, node, message.desc(), of)

    def build(op: int, key: str) -> Any:
        return message_from_json_value(message, _filled(template, op, key))

    try:
        constant = build(1, "k1")
    except (ValueError, TypeError, OverflowError) as error:
        reader.fail(node, f"{of} is no {message.__name__}: {error}")
    return build if _has_places(template) else lambda _op, _key: constant


def _filled(template: Template, op: int, key: str) -> Any:
    words = {"op": str(op), "key": key}
    match template:
        case _Text():
            return template.fill(words)
        case dict():
            return {name: _filled(value, op, key) for name, value in template.items()}
        case list():
            return [_filled(value, op, key) for value in template]
        case _:
            return template


def _has_places(template: Template) -> bool:
    match template:
        case _Text():
            return True
        case dict():
            return any(map(_has_places, template.values()))
        case list():
            return any(map(_has_places, template))
        case _:
            return False


def _message(reader: Reader, node: yaml.Node, desc: DescMessage, of: str) -> Template:
    if desc.type_name.startswith(_OWN_JSON):
        return _value(reader, node, None, of)
    if not isinstance(node, yaml.MappingNode):
        reader.fail(node, f"{of} must be a mapping of the fields of {desc.type_name}")
    fields = {field.name: field for field in desc.fields}
    spelt = {field.json_name: field.name for field in desc.fields}
    found: dict[str, Template] = {}
    for key, value in node.value:
        name = spelt.get(str(key.value), str(key.value))
        if name not in fields:
            hint = nearest(name, fields) if fields else "; it has no fields"
            reader.fail(key, f"{of}: {desc.type_name} has no field {name!r}{hint}")
        if name in found:
            reader.fail(key, f"{of} has the field {name!r} twice")
        found[name] = _field(reader, value, fields[name].value, f"{of}.{name}")
    return found


def _field(reader: Reader, node: yaml.Node, kind: Any, of: str) -> Template:
    match kind:
        case DescFieldValueMessage():
            return _message(reader, node, kind.message, of)
        case DescFieldValueScalar():
            return _value(reader, node, kind.scalar, of)
        case DescFieldValueList():
            members = reader.items(node, of)
            return [_element(reader, each, kind.element, of) for each in members]
        case DescFieldValueMap():
            if not isinstance(node, yaml.MappingNode):
                reader.fail(node, f"{of} must be a mapping")
            return {
                str(key.value): _element(reader, value, kind.value, f"{of}.{key.value}")
                for key, value in node.value
            }
        case _:
            return _value(reader, node, None, of)


def _element(reader: Reader, node: yaml.Node, element: Any, of: str) -> Template:
    if isinstance(element, DescMessage):
        return _message(reader, node, element, of)
    return _value(reader, node, element if isinstance(element, ScalarType) else None, of)


def _value(reader: Reader, node: yaml.Node, scalar: ScalarType | None, of: str) -> Template:
    value: Any = reader.raw(node)
    if isinstance(value, bytes):
        if scalar is not ScalarType.BYTES:
            reader.fail(node, f"{of} is binary, but its field holds no bytes")
        return base64.b64encode(value).decode()
    if not isinstance(value, str):
        if scalar is ScalarType.BYTES and value is not None:
            reader.fail(node, f"{of} is {value!r}; bytes are written as a text, or as !!binary")
        plain: Template = value
        return plain
    for place in _PLACE.finditer(value):
        if place[1] and place[1] not in PLACEHOLDERS:
            reader.fail(
                node,
                f"{of} has the placeholder {place[0]!r}{nearest(place[1], PLACEHOLDERS)}"
                f" (a brace itself is written twice)",
            )
    if _PLACE.search(value):
        return _Text(value, binary=scalar is ScalarType.BYTES)
    return base64.b64encode(value.encode()).decode() if scalar is ScalarType.BYTES else value
