"""JSON Schema out of typed dictionaries, and whether a value is what they say."""

import types
import typing
from collections.abc import Iterator
from typing import Any, Final, Literal, cast

_JSON: Final[dict[Any, str]] = {str: "string", int: "integer", float: "number", bool: "boolean"}


def json_schema(kind: Any, title: str) -> dict[str, Any]:
    """JSON Schema of a typed dictionary, with those that it holds as definitions.

    Args:
        kind: A `TypedDict` of text, numbers, lists, dictionaries, literals, what may be None, and
            others of its kind.
        title: Of the schema.
    """
    definitions: dict[str, Any] = {}
    root = _object(kind, definitions)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **root,
        "$defs": dict(sorted(definitions.items())),
    }


def _object(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {
        "type": "object",
        "description": (kind.__doc__ or "").strip(),
        "properties": {name: _schema(hint, definitions) for name, hint in hints.items()},
        "required": list(hints),
        "additionalProperties": False,
    }


def _schema(kind: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        name = kind.__name__
        if name not in definitions:
            definitions[name] = _object(kind, definitions)
        return {"$ref": f"#/$defs/{name}"}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is list:
        return {"type": "array", "items": _schema(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1], definitions)}
    if origin is types.UnionType:
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        return {"anyOf": [_schema(inner, definitions), {"type": "null"}]}
    return {"type": _JSON[kind]}


def problems(  # noqa: C901  # one case for each kind of type
    value: Any, kind: Any, where: str = ""
) -> Iterator[str]:
    """Where a value is not what a typed dictionary says; nothing if it is.

    Args:
        value: What was read from JSON.
        kind: As `json_schema` takes it, or anything inside of it.
        where: The place of the value, for the texts.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if typing.is_typeddict(kind):
        yield from _problems_of(value, kind, where)
    elif origin is types.UnionType:
        (inner,) = [argument for argument in arguments if argument is not type(None)]
        if value is not None:
            yield from problems(value, inner, where)
    elif origin is Literal:
        if value not in arguments:
            yield f"{where or 'it'} is {value!r}; it must be one of {list(arguments)}"
    elif not _is(value, origin or kind):
        yield f"{where or 'it'} is {value!r}; it must be {getattr(kind, '__name__', kind)}"
    elif origin is list:
        for number, member in enumerate(value):
            yield from problems(member, arguments[0], f"{where}[{number}]")
    elif origin is dict:
        for name, member in value.items():
            yield from problems(member, arguments[1], f"{where}.{name}")


def _problems_of(value: Any, kind: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'it'} is {value!r}; it must be an object"
        return
    found = cast("dict[str, Any]", value)
    hints = typing.get_type_hints(kind)
    for name in found:
        if name not in hints:
            yield f"{where}.{name} is not known"
    for name, hint in hints.items():
        if name not in found:
            yield f"{where}.{name} is missing"
        else:
            yield from problems(found[name], hint, f"{where}.{name}")


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)
