"""The result of a match: plain data, from which facade and adapter are compiled."""

import inspect
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from connectplugin.binding.fields import Field
from connectplugin.binding.members import Method
from connectplugin.binding.schema import Rpc

NOT_GIVEN: Final[Any] = inspect.Parameter.empty
"""The default of a parameter that has none."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message whose content nobody looks at: in Python it is None."""


@dataclass(frozen=True, slots=True)
class AsMessage:
    """A message that is passed on as it is."""


@dataclass(frozen=True, slots=True)
class AsField:
    """A message that stands for the value of one of its fields.

    Attributes:
        field: Which one.
        none: Whether the annotation admits None for "not set".
    """

    field: Field
    none: bool


Value: TypeAlias = Dropped | AsMessage | AsField


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that is a field of the request.

    Attributes:
        field: Which one.
        default: As the interface has it: `NOT_GIVEN` for none; `...` leaves the field at its
            default in the `.proto`.
        keyword_only: As the interface has it.
        none: Whether the annotation admits None.
    """

    field: Field
    default: Any
    keyword_only: bool
    none: bool


@dataclass(frozen=True, slots=True)
class FieldsRequest:
    """The request is built from parameters."""

    parameters: tuple[Parameter, ...]


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """The request is the one parameter."""

    name: str
    default: Any
    keyword_only: bool


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The one parameter is an async iterable of requests, or of what stands for them."""

    name: str
    item: Value
    keyword_only: bool


Request: TypeAlias = FieldsRequest | MessageRequest | StreamRequest


@dataclass(frozen=True, slots=True)
class Match:
    """A method of an interface with the RPC that it calls.

    Attributes:
        method: As the interface declares it.
        rpc: The RPC of that name.
        request: How its parameters become a request.
        response: How a response, or each of a stream, becomes what it returns.
    """

    method: Method
    rpc: Rpc
    request: Request
    response: Value
