"""Checks an implementation against an interface that a service was matched with.

The interface says what is sent; an implementation must be callable that way: each method there,
asynchronous, with the interface's parameter names, and with no other parameter that needs a value.
Annotations are compared where both sides have one that means something at run time.
"""

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
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
from connectplugin.binding.asynchrony import plain_function, problem
from connectplugin.binding.difference import Difference, did_you_mean, refuse
from connectplugin.binding.model import AsField, AsMessage, Dropped, FieldsRequest, Match, Value
from connectplugin.binding.naming import nearest
from connectplugin.binding.schema import Rpc, Schema
from connectplugin.binding.values import content_of

_AWAITABLES: Final = (Awaitable, Coroutine)
_VARIADIC: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_EMPTY: Final[Any] = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Handler:
    """A method of an implementation, as far as it can be looked into.

    Attributes:
        match: What of the interface it implements.
        parameters: By their names; empty where the callable does not tell.
        scope: Where its annotations are looked up.
    """

    match: Match
    parameters: dict[str, inspect.Parameter]
    scope: Scope

    def shape(self, parameter: str) -> Shape:
        """The annotation of a parameter."""
        found = self.parameters.get(parameter)
        return Missing() if found is None else read(found.annotation, self.scope)

    def default(self, parameter: str) -> Any:
        """The default of a parameter, or `inspect.Parameter.empty`."""
        found = self.parameters.get(parameter)
        return _EMPTY if found is None else found.default


def check_implementation(
    impl: object, interface: str, matches: dict[str, Match]
) -> dict[str, Handler]:
    """Check that an object implements all methods of an interface.

    Raises:
        PluginDefinitionError: It does not; lists all differences.
    """
    _refuse_class(impl, "bind", interface)
    differences: list[Difference] = []
    handlers = {name: _Checker(impl, match, differences).check() for name, match in matches.items()}
    refuse(f"{type(impl).__name__} does not implement {interface}", differences)
    return handlers


def check_service(impl: object, schema: Schema) -> None:
    """Check that an object implements the generated service: all methods, asynchronous.

    Raises:
        PluginDefinitionError: It does not; lists all differences.
    """
    service = schema.service.__name__
    _refuse_class(impl, "bind_service", service)
    owner = type(impl).__name__
    differences: list[Difference] = []
    for name, rpc in schema.rpcs.items():
        function = getattr(impl, name, None)
        if not callable(function):
            near = did_you_mean(nearest(name, _public(impl)))
            found = "is missing" if function is None else f"is {type(function).__qualname__}"
            remedy = near or f"Write it, or make {service} a base of {owner}."
            differences.append(Difference(f"{name}()", found, f"{service} has it", remedy))
            continue
        expected = f"{service} has `{name}(request, ctx)`, asynchronous"
        wrong = problem(function, yields=rpc.receives_stream)
        if wrong is not None:
            differences.append(Difference(f"{name}()", wrong[0], expected, wrong[1]))
        if not _accepts(function, [None, None], []):
            found, remedy = "does not take two arguments", "Write `(self, request, ctx)`."
            differences.append(Difference(f"{name}()", found, expected, remedy))
    refuse(f"{owner} does not implement {schema.name}", differences)


class _Checker:
    """Checks one method; what is wrong goes to the shared list."""

    def __init__(self, impl: object, match: Match, differences: list[Difference]) -> None:
        self.impl, self.match, self.differences = impl, match, differences

    def check(self) -> Handler:
        name = self.match.method.name
        handler = Handler(self.match, {}, Scope())
        function = getattr(self.impl, name, None)
        if not callable(function):
            near = did_you_mean(nearest(name, _public(self.impl)))
            found = "is missing" if function is None else f"is {type(function).__qualname__}"
            self._differ(None, found, f"{self._as_written()} {near}".rstrip())
            return handler
        wrong = problem(function, yields=self.match.rpc.receives_stream)
        if wrong is not None:
            self._differ(None, *wrong)
        try:
            declared = signature(function)
        except (TypeError, ValueError):
            return handler  # written in C, say: it cannot be asked
        plain = inspect.unwrap(plain_function(function))
        scope = scope_of(plain, None, self.match.rpc.types)
        handler = Handler(self.match, dict(declared.parameters), scope)
        request = self.match.request
        by_name = not isinstance(request, FieldsRequest) and request.keyword_only
        if isinstance(request, FieldsRequest):
            self._check_fields(handler, request)
        elif not _accepts(function, [] if by_name else [None], [request.name] if by_name else []):
            self._differ(None, f"is `({_listed(declared)})`", self._as_written())
        if wrong is None:
            self._check_result(declared.return_annotation, scope)
        return handler

    def _check_fields(self, handler: Handler, request: FieldsRequest) -> None:
        wanted = {p.field.name: p.field for p in request.parameters}
        kinds = {p.kind for p in handler.parameters.values()}
        for name, field in wanted.items():
            found = handler.parameters.get(name)
            if found is not None and found.kind is inspect.Parameter.POSITIONAL_ONLY:
                self._differ(name, "is positional-only", "Remove the `/`: it is passed by name.")
            elif found is None or found.kind in _VARIADIC:
                if inspect.Parameter.VAR_KEYWORD not in kinds:
                    others = [p for p in handler.parameters if p not in wanted]
                    near = did_you_mean(nearest(name, others))
                    self._differ(name, "is missing", near or self._as_written())
            elif not field.kind.gives(handler.shape(name)):
                written = f"is annotated `{show(found.annotation)}`"
                self._differ(name, written, f"It is given `{field.text}`.")
        for name, found in handler.parameters.items():
            if name in wanted or found.kind in _VARIADIC or found.default is not _EMPTY:
                continue
            self._differ(name, "is not in the interface", "Give it a default, or remove it.")

    def _check_result(self, annotation: object, scope: Scope) -> None:
        shape = read(annotation, scope)
        content: Shape | None = shape
        if self.match.rpc.receives_stream:
            own = isinstance(shape, Of) and issubclass(shape.type, AsyncIterable)
            content = content_of(shape) or (Anything() if own else None)
        elif isinstance(shape, Of) and shape.type in _AWAITABLES:
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
            return none if isinstance(shape, Nothing) else field.kind.takes(shape)


def _accepts(function: Callable[..., object], values: list[None], names: list[str]) -> bool:
    """Whether it can be called with that many values and with these names."""
    try:
        signature(function).bind(*values, **dict.fromkeys(names))
    except TypeError:
        return False
    except ValueError:
        return True  # it cannot be asked
    return True


def _refuse_class(impl: object, verb: str, interface: str) -> None:
    if isinstance(impl, type):
        name = impl.__name__
        difference = Difference(
            name, "is a class", "an instance answers calls", f"Write `{verb}({name}(...))`."
        )
        refuse(f"{name} cannot be bound as {interface}", [difference])


def _listed(declared: inspect.Signature) -> str:
    return ", ".join(map(str, declared.parameters.values()))


def _public(impl: object) -> list[str]:
    names = (name for name in dir(impl) if not name.startswith("_"))
    return [name for name in names if callable(inspect.getattr_static(impl, name, None))]
