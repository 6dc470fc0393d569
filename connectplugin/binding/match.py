"""The match of an interface with a service: what each of its methods sends, and what it returns.

It is made once, when a plugin is declared. Every difference found is told, in one error.

What a method sends:

- Each parameter is a field of the request, by name and type. Fields that no parameter names are
  left at their default. None leaves an `optional` field, a message or a member of a oneof unset.
- A single parameter annotated with the request message is that message.
- Where the RPC takes a stream, a single parameter is the async iterable of requests, or of the
  values of their one field.

What it returns is decided by its return annotation (the rules of `_value`): `None` drops the
response, the response message is returned as it is, any other type selects the one field of the
response that has it. Where the annotation cannot be read at run time and has no name that the
response knows, a response with one field yields that field, one without fields yields None, and
any other is returned as it is.
"""

import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from connectplugin.binding.annotations import (
    Anything,
    Missing,
    Nothing,
    Of,
    Shape,
    Unknown,
    admits_none,
    read,
    says_none,
    show,
)
from connectplugin.binding.difference import Difference, did_you_mean, refuse
from connectplugin.binding.fields import Field
from connectplugin.binding.members import Method, interface_class, methods_of
from connectplugin.binding.naming import nearest
from connectplugin.binding.schema import Rpc, Schema

STREAMS: Final = (AsyncIterable, AsyncIterator, AsyncGenerator)
NOT_GIVEN: Final = inspect.Parameter.empty


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
        default: What is sent when the caller leaves it out; `NOT_GIVEN` if the caller may not; None
            also where the interface writes `= ...`.
        keyword_only: As in the interface.
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
    default: Any = NOT_GIVEN
    keyword_only: bool = False


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The one parameter is an async iterable of requests, or of what stands for them."""

    name: str
    item: Value
    keyword_only: bool = False


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


def match_interface(interface: Any, schema: Schema) -> dict[str, Match]:
    """Match every method of an interface with an RPC of the service, by name.

    The service may have more methods.

    Raises:
        PluginDefinitionError: It is no Protocol, or differs from the service; lists all
            differences.
    """
    protocol = interface_class(interface)
    differences: list[Difference] = []
    matches: dict[str, Match] = {}
    for method in methods_of(protocol, differences):
        rpc = schema.rpcs.get(method.name)
        if rpc is None:
            differences.append(_unknown_method(method, schema))
            continue
        found = _Matcher(method, rpc, differences).match()
        if found is not None:
            matches[method.name] = found
    if not matches and not differences:
        differences.append(
            Difference(
                where=protocol.__name__,
                found="has no methods",
                expected=f"{schema.name} has {', '.join(schema.rpcs)}",
                remedy="Declare at least one of them.",
            )
        )
    refuse(f"{protocol.__qualname__} does not match {schema.name}", differences)
    return matches


def _unknown_method(method: Method, schema: Schema) -> Difference:
    near = nearest(method.name, schema.rpcs)
    return Difference(
        where=f"{method.name}()",
        found=f"the interface has `{method.written}`",
        expected=f"{schema.name} has no method of that name, but {', '.join(schema.rpcs)}",
        remedy=did_you_mean(near) or "Add it to the service, or leave it out here.",
    )


class _Matcher:
    """Matches one method; what is wrong goes to the shared list."""

    def __init__(self, method: Method, rpc: Rpc, differences: list[Difference]) -> None:
        self.method, self.rpc, self.differences = method, rpc, differences
        self.scope = method.scope(rpc.types)

    def match(self) -> Match | None:
        before = len(self.differences)
        request = self._request()
        response = self._response()
        if request is None or response is None or len(self.differences) > before:
            return None
        return Match(self.method, self.rpc, request, response)

    # What it sends

    def _request(self) -> Request | None:
        usable = [p for p in self.method.parameters if self._is_usable(p)]
        if len(usable) < len(self.method.parameters):
            return None
        if self.rpc.sends_stream:
            return self._stream_request(usable)
        if len(usable) == 1 and self._is_message(usable[0]):
            only = usable[0]
            return MessageRequest(only.name, only.default, _keyword_only(only))
        parameters = [found for p in usable if (found := self._parameter(p)) is not None]
        self._check_oneofs(parameters)
        return FieldsRequest(tuple(parameters))

    def _is_usable(self, parameter: inspect.Parameter) -> bool:
        match parameter.kind:
            case inspect.Parameter.POSITIONAL_ONLY:
                found, remedy = "is positional-only", "Remove the `/`."
            case inspect.Parameter.VAR_POSITIONAL:
                found, remedy = f"is *{parameter.name}", "Name each field as a parameter."
            case inspect.Parameter.VAR_KEYWORD:
                found, remedy = f"is **{parameter.name}", "Name each field as a parameter."
            case _:
                return True
        self._differ(parameter.name, found, "parameters are fields of the request, by name", remedy)
        return False

    def _is_message(self, parameter: inspect.Parameter) -> bool:
        shape = read(parameter.annotation, self.scope)
        if not (isinstance(shape, Of) and shape.type is self.rpc.info.input):
            return False
        # A message that contains itself: then the parameter's name says which of the two is meant.
        field = self.rpc.request_fields.get(parameter.name)
        return field is None or field.kind.python is not self.rpc.info.input

    def _parameter(self, parameter: inspect.Parameter) -> Parameter | None:
        field = self.rpc.request_fields.get(parameter.name)
        if field is None:
            self._unknown_parameter(parameter)
            return None
        shape = read(parameter.annotation, self.scope)
        has = f"{self.rpc.request_name} has `{field.text}`"
        if not field.kind.fits(shape):
            self._differ(
                parameter.name,
                f"is annotated `{show(parameter.annotation)}`",
                has,
                f"Write `{field.text}`.",
            )
            return None
        if says_none(shape) and not field.takes_none:
            self._differ(
                parameter.name,
                f"is annotated `{show(parameter.annotation)}`",
                f"{has}, which cannot tell None from {field.kind.text}()",
                f"Make it `optional` in the .proto, or write `{field.text}` with a default.",
            )
            return None
        default: Any = parameter.default
        if default is Ellipsis:
            default = None
        elif default is not NOT_GIVEN and not self._is_valid_default(parameter, field):
            return None
        return Parameter(field, default, _keyword_only(parameter), admits_none(shape))

    def _is_valid_default(self, parameter: inspect.Parameter, field: Field) -> bool:
        if parameter.default is None and field.takes_none:
            return True
        try:
            field.kind.check(parameter.default)
        except (TypeError, ValueError) as error:
            self._differ(
                parameter.name,
                f"has the default {parameter.default!r}",
                f"{self.rpc.request_name}.{field.proto_name} {error}",
                f"Write a default that `{field.text}` takes, or `= ...` for the one of the .proto.",
            )
            return False
        return True

    def _unknown_parameter(self, parameter: inspect.Parameter) -> None:
        name, fields = parameter.name, self.rpc.request_fields
        has = ", ".join(f"`{field.text}`" for field in fields.values()) or "no fields"
        members = self.rpc.request_oneofs.get(name)
        message = self.rpc.info.input.__name__
        remedy = did_you_mean(nearest(name, fields)) or (
            f"Remove it, or take the whole request: `request: {message}`."
        )
        if members is not None:
            remedy = f"It is a oneof: name its members, each `= None`: {', '.join(members)}."
        self._differ(
            name, "is no field of the request", f"{self.rpc.request_name} has {has}", remedy
        )

    def _check_oneofs(self, parameters: list[Parameter]) -> None:
        counts = Counter(p.field.oneof for p in parameters if p.field.oneof is not None)
        for parameter in parameters:
            oneof = parameter.field.oneof
            if oneof is not None and counts[oneof] > 1 and parameter.default is not None:
                self._differ(
                    parameter.field.name,
                    "must be given by the caller"
                    if parameter.default is NOT_GIVEN
                    else f"has the default {parameter.default!r}",
                    f"at most one member of the oneof {oneof} of {self.rpc.request_name} may be set",
                    f"Write `{parameter.field.text} = None`.",
                )

    def _stream_request(self, parameters: list[inspect.Parameter]) -> StreamRequest | None:
        message = self.rpc.info.input.__name__
        wanted = f"{self.rpc.info.name} takes a stream of {self.rpc.request_name}"
        remedy = f"Write one parameter, `AsyncIterable[{message}]`."
        if len(parameters) != 1:
            names = ", ".join(p.name for p in parameters) or "none"
            self._differ(None, f"has {len(parameters)} parameters ({names})", wanted, remedy)
            return None
        only = parameters[0]
        if only.default is not NOT_GIVEN:
            self._differ(only.name, f"has the default {only.default!r}", wanted, "Remove it.")
            return None
        shape = read(only.annotation, self.scope)
        item: Shape
        match shape:
            case Unknown() | Missing() | Anything():
                item = Anything()
            case Of(kind, arguments) if kind in STREAMS:
                item = arguments[0] if arguments else Anything()
            case _:
                found = f"is annotated `{show(only.annotation)}`"
                self._differ(only.name, found, wanted, remedy)
                return None
        value = self._value(
            item,
            f"AsyncIterable[{message}]",
            show(only.annotation),
            self.rpc.info.input,
            only.name,
        )
        return None if value is None else StreamRequest(only.name, value, _keyword_only(only))

    # What it returns

    def _response(self) -> Value | None:
        annotation: Any = self.method.signature.return_annotation
        shape = read(annotation, self.scope)
        if isinstance(shape, Missing):
            self._differ(
                None,
                f"`{self.method.written}` has no return annotation",
                "it decides what of the response is returned",
                f"Write `-> None`, `-> {self.rpc.info.output.__name__}`, or a field's type.",
            )
            return None
        content = self._streamed(shape) if self.rpc.receives_stream else self._awaited(shape)
        if content is None:
            self._wrong_shape()
            return None
        return self._value(content, self._right(), show(annotation), self.rpc.info.output, None)

    def _streamed(self, shape: Shape) -> Shape | None:
        """What the stream holds; None if it is no stream."""
        if self.method.is_async:
            return None
        match shape:
            case Of(kind, arguments) if kind in STREAMS:
                return arguments[0] if arguments else Anything()
            case Anything() | Unknown():
                return Anything()
            case _:
                return None

    def _awaited(self, shape: Shape) -> Shape | None:
        """What the coroutine returns; None if it is none, or a stream."""
        match shape:
            case Of(kind) if kind in STREAMS:
                return None
            case Of(kind, arguments) if not self.method.is_async:
                # `def get(self) -> Awaitable[bytes]` says the same as `async def`.
                if kind is Awaitable and len(arguments) == 1:
                    return arguments[0]
                if kind is Coroutine and len(arguments) == 3:  # noqa: PLR2004  # yields, sent, returns
                    return arguments[2]
                return None
            case _:
                return shape if self.method.is_async else None

    def _right(self) -> str:
        parameters = ", ".join(["self", *self.method.signature.parameters])
        result = _possible_results(self.rpc)
        if self.rpc.receives_stream:
            return f"def {self.method.name}({parameters}) -> AsyncIterator[{result}]"
        return f"async def {self.method.name}({parameters}) -> {result}"

    def _wrong_shape(self) -> None:
        if self.rpc.receives_stream:
            expected = f"{self.rpc.info.name} answers with a stream"
            remedy = f"Write `{self._right()}`"
            remedy += ", without `async`: the call itself is not awaited." * self.method.is_async
        else:
            expected = f"{self.rpc.info.name} answers with one message, which is awaited"
            remedy = f"Write `{self._right()}`"
        self._differ(None, f"`{self.method.written}`", expected, f"{remedy.removesuffix('.')}.")

    def _value(
        self, shape: Shape, right: str, written: str, message: type[Any], parameter: str | None
    ) -> Value | None:
        """What stands for a message, by the annotation of it."""
        outgoing = parameter is not None
        fields = self.rpc.request_fields if outgoing else self.rpc.response_fields
        match shape:
            case Nothing():
                return Dropped()
            case Of(kind) if kind is message:
                return AsMessage()
            case Anything() | Missing():
                return AsMessage()
            case Unknown():
                return _fallback(fields)
            case _:
                pass
        possible = [field for field in fields.values() if field.kind.fits(shape)]
        name = self.rpc.request_name if outgoing else self.rpc.response_name
        has = ", ".join(f"`{field.text}`" for field in fields.values()) or "no fields"
        found = f"is annotated `{written}`" if outgoing else f"returns `{written}`"
        match possible:
            case [field]:
                if says_none(shape) and not field.takes_none:
                    self._differ(
                        parameter,
                        found,
                        f"{name} has `{field.text}`, which is never None",
                        "Make it `optional` in the .proto, or remove `None`.",
                    )
                    return None
                return AsField(field, admits_none(shape))
            case []:
                self._differ(
                    parameter, found, f"{name} has {has}, none of that type", f"Write `{right}`."
                )
            case _:
                candidates = " and ".join(f"`{field.text}`" for field in possible)
                remedy = f"Write `{message.__name__}` there, and take the field from it."
                self._differ(parameter, found, f"{name} has {candidates} of that type", remedy)
        return None

    def _differ(self, parameter: str | None, found: str, expected: str, remedy: str) -> None:
        where = f"{self.method.name}()"
        if parameter is not None:
            where += f": parameter {parameter!r}"
        self.differences.append(Difference(where, found, expected, remedy))


def _fallback(fields: dict[str, Field]) -> Value:
    match list(fields.values()):
        case []:
            return Dropped()
        case [field]:
            return AsField(field, none=True)
        case _:
            return AsMessage()


def _possible_results(rpc: Rpc) -> str:
    match list(rpc.response_fields.values()):
        case []:
            return "None"
        case [field]:
            return field.kind.text
        case _:
            return rpc.info.output.__name__


def _keyword_only(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY
