"""Checks an implementation against an interface that a service was matched with.

The interface says what is sent; an implementation must be callable that way: each method there,
asynchronous, with the interface's parameter names, and with no other parameter that needs a value.
Annotations are compared where both sides have one that means something at run time.
"""

import functools
import inspect
from collections.abc import AsyncIterable, Awaitable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

from connectplugin.binding.annotations import (
    Anything,
    Missing,
    Nothing,
    Of,
    OneOf,
    Scope,
    Shape,
    Unknown,
    read,
    scope_of,
    show,
    signature,
)
from connectplugin.binding.difference import Difference, did_you_mean, refuse
from connectplugin.binding.match import (
    STREAMS,
    AsField,
    AsMessage,
    Dropped,
    FieldsRequest,
    Match,
    Value,
)
from connectplugin.binding.naming import nearest
from connectplugin.binding.schema import Rpc, Schema

_AWAITABLES: Final = (Awaitable, Coroutine)


@dataclass(frozen=True, slots=True)
class Handler:
    """A method of an implementation, as far as it can be looked into.

    Attributes:
        match: What of the interface it implements.
        parameters: By their names; None where the callable does not tell.
        scope: Where its annotations are looked up.
    """

    match: Match
    parameters: dict[str, inspect.Parameter] | None
    scope: Scope

    def shape(self, parameter: str) -> Shape:
        """The annotation of a parameter."""
        found = (self.parameters or {}).get(parameter)
        return Missing() if found is None else read(found.annotation, self.scope)

    def default(self, parameter: str) -> Any:
        """The default of a parameter, or `inspect.Parameter.empty`."""
        found = (self.parameters or {}).get(parameter)
        return inspect.Parameter.empty if found is None else found.default


def check_implementation(
    impl: object, interface: str, matches: dict[str, Match]
) -> dict[str, Handler]:
    """Check that an object implements all methods of an interface.

    Raises:
        PluginDefinitionError: It does not; lists all differences.
    """
    differences: list[Difference] = []
    if isinstance(impl, type):
        differences.append(
            Difference(
                where=impl.__qualname__,
                found="is a class",
                expected="an instance answers the calls",
                remedy=f"Write `bind({impl.__qualname__}(...))`.",
            )
        )
        refuse(f"{impl.__qualname__} cannot be bound as {interface}", differences)
    handlers = {name: _Checker(impl, match, differences).check() for name, match in matches.items()}
    refuse(f"{type(impl).__qualname__} does not implement {interface}", differences)
    return handlers


def check_service(impl: object, schema: Schema) -> None:
    """Check that an object implements the generated service: all methods, asynchronous.

    Raises:
        PluginDefinitionError: It does not; lists all differences.
    """
    service = schema.service.__name__
    owner = type(impl).__qualname__
    differences: list[Difference] = []
    for name, rpc in schema.rpcs.items():
        function = getattr(impl, name, None)
        if not callable(function):
            near = nearest(name, _public(impl))
            remedy = did_you_mean(near) or f"Write it, or make {service} a base of {owner}."
            found = "is missing" if function is None else "cannot be called"
            differences.append(Difference(f"{name}()", found, f"{service} has it", remedy))
            continue
        problem = _asynchrony(function, rpc)
        if problem is not None:
            differences.append(
                Difference(f"{name}()", problem[0], f"{service} has it asynchronous", problem[1])
            )
    refuse(f"{owner} does not implement {schema.name}", differences)


class _Checker:
    """Checks one method; what is wrong goes to the shared list."""

    def __init__(self, impl: object, match: Match, differences: list[Difference]) -> None:
        self.impl, self.match, self.differences = impl, match, differences
        self.handler = Handler(match, None, Scope())

    def check(self) -> Handler:
        name = self.match.method.name
        function = getattr(self.impl, name, None)
        if not callable(function):
            near = did_you_mean(nearest(name, _public(self.impl)))
            found = "is missing" if function is None else f"is {type(function).__qualname__}"
            self._differ(None, found, f"Write `{self.match.method.written}`. {near}".rstrip())
            return self.handler
        problem = _asynchrony(function, self.match.rpc)
        if problem is not None:
            self._differ(None, *problem)
        try:
            declared = signature(function)
        except (TypeError, ValueError):
            return self.handler  # written in C, say: it cannot be asked
        plain = _plain(function)
        scope = scope_of(plain, None, self.match.rpc.types)
        self.handler = Handler(self.match, dict(declared.parameters), scope)
        self._check_parameters(declared)
        self._check_result(declared.return_annotation, scope)
        return self.handler

    def _check_parameters(self, declared: inspect.Signature) -> None:
        request = self.match.request
        if isinstance(request, FieldsRequest):
            self._check_fields(declared, request)
            return
        # The one parameter is passed by position, so that its name does not matter.
        try:
            declared.bind(None)
        except TypeError as error:
            self._differ(None, f"cannot be called with one argument ({error})", self._as_written())

    def _check_fields(self, declared: inspect.Signature, request: FieldsRequest) -> None:
        parameters = dict(declared.parameters)
        kinds = {p.kind for p in parameters.values()}
        wanted = {p.field.name: p for p in request.parameters}
        for name, parameter in wanted.items():
            found = parameters.get(name)
            if found is not None and found.kind is inspect.Parameter.POSITIONAL_ONLY:
                self._differ(name, "is positional-only", "Remove the `/`: it is passed by name.")
            elif found is None or found.kind in _VARIADIC:
                if inspect.Parameter.VAR_KEYWORD not in kinds:
                    others = [p for p in parameters if p not in wanted]
                    near = did_you_mean(nearest(name, others)) or self._as_written()
                    self._differ(name, "is missing", near)
            else:
                self._check_type(name, found, parameter.field.kind.gives, parameter.field.text)
        for name, found in parameters.items():
            if name in wanted or found.kind in _VARIADIC:
                continue
            if found.default is inspect.Parameter.empty:
                self._differ(name, "is not in the interface", "Give it a default, or remove it.")

    def _check_type(self, name: str, found: inspect.Parameter, gives: Any, text: str) -> None:
        if not gives(read(found.annotation, self.handler.scope)):
            written = f"is annotated `{show(found.annotation)}`"
            self._differ(name, written, f"It is given `{text}`.")

    def _check_result(self, annotation: object, scope: Scope) -> None:
        shape = read(annotation, scope)
        if self.match.rpc.receives_stream:
            content = _content(shape, STREAMS)
        else:
            content = shape
            if isinstance(shape, Of) and shape.type in _AWAITABLES:
                content = shape.arguments[-1] if shape.arguments else Anything()
        if content is None or not _takes(self.match.response, self.match.rpc, content):
            self._differ(None, f"returns `{show(annotation)}`", self._as_written())

    def _as_written(self) -> str:
        return f"Write `{self.match.method.written}`."

    def _differ(self, parameter: str | None, found: str, remedy: str) -> None:
        where = f"{self.match.method.name}()"
        if parameter is not None:
            where += f": parameter {parameter!r}"
        expected = f"the interface has `{self.match.method.written}`"
        self.differences.append(Difference(where, found, expected, remedy))


_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _content(shape: Shape, containers: tuple[Any, ...]) -> Shape | None:
    """What a stream of that annotation holds; None if it is no stream."""
    match shape:
        case Unknown() | Missing() | Anything():
            return Anything()
        case Of(kind, arguments) if kind in containers:
            return arguments[0] if arguments else Anything()
        case Of(kind) if issubclass(kind, AsyncIterable):
            return Anything()  # a class of the author's own
        case _:
            return None


def _takes(value: Value, rpc: Rpc, shape: Shape) -> bool:
    """Whether what a handler of that annotation returns can stand for the response."""
    match shape:
        case Unknown() | Missing() | Anything():
            return True
        case OneOf(members):
            return any(_takes(value, rpc, member) for member in members)
        case _:
            pass
    match value:
        case Dropped():
            return True  # whatever it returns is dropped
        case AsMessage():
            return isinstance(shape, Of) and issubclass(rpc.info.output, shape.type)
        case AsField(field, none):
            if isinstance(shape, Nothing):
                return none
            return field.kind.takes(shape)


def _asynchrony(function: Any, rpc: Rpc) -> tuple[str, str] | None:
    """What is wrong with how a handler is defined, and what would be right; None if nothing is."""
    plain = _plain(function)
    wrapped = inspect.unwrap(plain)
    coroutine = any(inspect.iscoroutinefunction(f) for f in (function, plain, wrapped))
    generator = any(inspect.isasyncgenfunction(f) for f in (function, plain, wrapped))
    if rpc.receives_stream:
        if generator:
            return None
        if coroutine:
            return (
                "is `async def` without `yield`, so that calling it gives a coroutine",
                "Write `yield` in it, or `def` and return an async iterator.",
            )
        if inspect.isgeneratorfunction(wrapped):
            return "is a synchronous generator", "Write `async def`."
        return None  # a plain function may return an async iterator
    if coroutine or _returns_awaitable(wrapped):
        return None
    if generator:
        return "is an async generator", "Write `return` instead of `yield`: it answers once."
    return "is synchronous", "Write `async def`."


def _returns_awaitable(function: Any) -> bool:
    try:
        annotation = signature(function).return_annotation
    except (TypeError, ValueError):
        return False
    shape = read(annotation, scope_of(function, None, {}))
    return isinstance(shape, Of) and issubclass(shape.type, Awaitable)


def _plain(function: Any) -> Any:
    """The function behind a method, a partial or an object with `__call__`."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and inspect.ismethod(
            call := getattr(function, "__call__", None)  # noqa: B004  # the function itself is wanted
        ):
            function = call
        else:
            return function


def _public(impl: object) -> list[str]:
    return [name for name in dir(impl) if not name.startswith("_")]
