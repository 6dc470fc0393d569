"""What stands for a message in Python, by an annotation.

- `None`: nothing; the message is dropped.
- The message's class, `Any` or `object`: the message as it is.
- Any other type: the one field that has it. That field is chosen when the plugin is declared, so a
  message that gains fields later still works.
- A name that cannot be read at run time, and is not that of the message or of a type in it: the one
  field, if there is one; None, if the message has no fields; otherwise the message as it is.
"""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping
from typing import Any, Final, TypeAlias

from connectplugin.binding.annotations import (
    Anything,
    Missing,
    Nothing,
    Of,
    OneOf,
    Shape,
    Unknown,
    admits_none,
    says_none,
)
from connectplugin.binding.fields import Field
from connectplugin.binding.model import AsField, AsMessage, Dropped, Value

STREAMS: Final = (AsyncIterable, AsyncIterator, AsyncGenerator)
"""What a stream may be annotated with."""

_Differ: TypeAlias = Callable[[str, str, str], None]
"""Takes what was found, what is expected and what would be right."""


def value_of(  # the message, its annotation, and how to speak of both
    shape: Shape,
    message: type[Any],
    fields: Mapping[str, Field],
    *,
    message_name: str,
    found: str,
    right: str,
    differ: _Differ,
) -> Value | None:
    """Choose what stands for a message; None if nothing can, which `differ` is then told.

    Args:
        shape: The annotation.
        message: The message's class.
        fields: Its fields.
        message_name: Its name in the `.proto`.
        found: How the annotation was written, for the error.
        right: A form that would be right, for the error.
        differ: Takes the difference.
    """
    match shape:
        case Nothing():
            return Dropped()
        case Anything() | Missing():
            return AsMessage()
        case Of(kind) if kind is message:
            return AsMessage()
        case Unknown():
            return _fallback(list(fields.values()))
        case OneOf(members) if all(isinstance(member, Unknown | Nothing) for member in members):
            return _fallback(list(fields.values()))
        case _:
            pass
    possible = [field for field in fields.values() if field.kind.fits(shape)]
    match possible:
        case [field]:
            if not says_none(shape) or field.takes_none:
                return AsField(field, admits_none(shape))
            differ(
                found,
                f"{message_name} has `{field.text}`, which is never None",
                "Make it `optional` in the .proto, or remove `None`.",
            )
        case []:
            differ(
                found,
                f"{message_name} has {list_fields(fields)}, {'none' if fields else 'nothing'} "
                f"of that type",
                f"Write `{right}`.",
            )
        case _:
            candidates = " and ".join(f"`{field.text}`" for field in possible)
            differ(
                found,
                f"{message_name} has {candidates} of that type",
                f"Write `{message.__name__}` there, and take the field from it.",
            )
    return None


def list_fields(fields: Mapping[str, Field]) -> str:
    """The fields of a message, for an error."""
    return ", ".join(f"`{field.text}`" for field in fields.values()) or "no fields"


def content_of(shape: Shape) -> Shape | None:
    """What the stream of that annotation holds; None if it is no stream."""
    match shape:
        case Unknown() | Missing() | Anything():
            return Anything()
        case Of(kind, arguments) if kind in STREAMS:
            return arguments[0] if arguments else Anything()
        case _:
            return None


def _fallback(fields: list[Field]) -> Value:
    match fields:
        case []:
            return Dropped()
        case [field]:
            return AsField(field, none=True)
        case _:
            return AsMessage()
