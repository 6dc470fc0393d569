"""What a method of an interface sends: its parameters, as a request."""

import inspect
from collections import Counter
from functools import partial
from typing import Any

from connectplugin.binding.annotations import Of, admits_none, read, says_none, show
from connectplugin.binding.difference import Differ, did_you_mean
from connectplugin.binding.members import Method
from connectplugin.binding.model import (
    NOT_GIVEN,
    FieldsRequest,
    MessageRequest,
    Parameter,
    Request,
    StreamRequest,
)
from connectplugin.binding.naming import nearest
from connectplugin.binding.schema import Rpc
from connectplugin.binding.values import content_of, list_fields, value_of


def match_request(method: Method, rpc: Rpc, differ: Differ) -> Request | None:
    """Match a method's parameters with the request; None if `differ` was told of something."""
    return _Parameters(method, rpc, differ).match()


class _Parameters:
    def __init__(self, method: Method, rpc: Rpc, differ: Differ) -> None:
        self.rpc, self.differ = rpc, differ
        self.written = method.parameters
        self.scope = method.scope(rpc.types)

    def match(self) -> Request | None:
        usable = [parameter for parameter in self.written if self._is_usable(parameter)]
        if len(usable) < len(self.written):
            return None
        if self.rpc.sends_stream:
            return self._stream()
        if len(self.written) == 1 and self._is_message(self.written[0]):
            only = self.written[0]
            return MessageRequest(only.name, only.default, _is_keyword_only(only))
        parameters = [found for p in self.written if (found := self._field(p)) is not None]
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
        expected = "a parameter is a field of the request, by its name"
        self.differ(parameter.name, found, expected, remedy)
        return False

    def _is_message(self, parameter: inspect.Parameter) -> bool:
        shape = read(parameter.annotation, self.scope)
        if not (isinstance(shape, Of) and shape.type is self.rpc.info.input):
            return False
        # A message that contains itself: then the parameter's name says which of the two is meant.
        field = self.rpc.request_fields.get(parameter.name)
        return field is None or field.kind.python is not self.rpc.info.input

    def _field(self, parameter: inspect.Parameter) -> Parameter | None:
        field = self.rpc.request_fields.get(parameter.name)
        if field is None:
            self._unknown(parameter.name)
            return None
        shape = read(parameter.annotation, self.scope)
        found = f"is annotated `{show(parameter.annotation)}`"
        has = f"{self.rpc.request_name} has `{field.text}`"
        if not field.kind.fits(shape):
            self.differ(parameter.name, found, has, f"Write `{field.text}`.")
            return None
        if says_none(shape) and not field.takes_none:
            self.differ(
                parameter.name,
                found,
                f"{has}, which cannot tell None from {field.kind.zero}",
                f"Make it `optional` in the .proto, or write `{field.text} = {field.kind.zero}`.",
            )
            return None
        default: Any = parameter.default
        # None may be the default of whatever can be unset, as before PEP 484 said otherwise.
        plain = (
            default is NOT_GIVEN or default is Ellipsis or (default is None and field.takes_none)
        )
        if not plain:
            try:
                field.kind.check(default)
            except (TypeError, ValueError) as error:
                self.differ(
                    parameter.name,
                    f"has the default {default!r}",
                    f"{self.rpc.request_name}.{field.proto_name} {error}",
                    "Write a default of that type, or `= ...` for the one of the .proto.",
                )
                return None
        return Parameter(field, default, _is_keyword_only(parameter), admits_none(shape))

    def _unknown(self, name: str) -> None:
        fields = self.rpc.request_fields
        members = self.rpc.request_oneofs.get(name)
        if members is not None:
            remedy = f"It is a oneof: name its members, each `= None`: {', '.join(members)}."
        else:
            remedy = did_you_mean(nearest(name, fields)) or (
                f"Remove it, or take the whole request: `request: {self.rpc.info.input.__name__}`."
            )
        has = f"{self.rpc.request_name} has {list_fields(fields)}"
        self.differ(name, "is no field of the request", has, remedy)

    def _check_oneofs(self, parameters: list[Parameter]) -> None:
        counts = Counter(p.field.oneof for p in parameters if p.field.oneof is not None)
        for parameter in parameters:
            field, default = parameter.field, parameter.default
            if field.oneof is None or counts[field.oneof] == 1 or default in (None, Ellipsis):
                continue
            self.differ(
                field.name,
                "has no default" if default is NOT_GIVEN else f"has the default {default!r}",
                f"of the oneof {field.oneof} of {self.rpc.request_name} at most one may be set",
                f"Write `{field.text} = None`.",
            )

    def _stream(self) -> StreamRequest | None:
        message = self.rpc.info.input
        right = f"AsyncIterable[{message.__name__}]"
        wanted = f"{self.rpc.info.name} takes a stream of {self.rpc.request_name}"
        remedy = f"Write one parameter, `{right}`."
        if len(self.written) != 1:
            names = ", ".join(p.name for p in self.written) or "none"
            self.differ(None, f"has {len(self.written)} parameters ({names})", wanted, remedy)
            return None
        [only] = self.written
        if only.default is not NOT_GIVEN:
            self.differ(only.name, f"has the default {only.default!r}", wanted, "Remove it.")
            return None
        found = f"is annotated `{show(only.annotation)}`"
        content = content_of(read(only.annotation, self.scope))
        if content is None:
            self.differ(only.name, found, wanted, remedy)
            return None
        item = value_of(
            content,
            message,
            self.rpc.request_fields,
            message_name=self.rpc.request_name,
            found=found,
            right=right,
            differ=partial(self.differ, only.name),
        )
        return None if item is None else StreamRequest(only.name, item, _is_keyword_only(only))


def _is_keyword_only(parameter: inspect.Parameter) -> bool:
    return parameter.kind is inspect.Parameter.KEYWORD_ONLY
