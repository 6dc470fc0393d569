"""Reads annotations as far as they can be read.

An interface may import its types under `TYPE_CHECKING`, so a name may mean nothing at run time.
Such a name does not spoil the rest: `AsyncIterator[Change]` is read as an `AsyncIterator` of
something unknown, also where `AsyncIterator` itself was imported for type checkers only.
"""

import builtins
import collections.abc
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, Union, get_args, get_origin


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that means nothing at run time, or a kind of annotation that is not looked into."""

    text: str


@dataclass(frozen=True, slots=True)
class Missing:
    """There is no annotation."""


@dataclass(frozen=True, slots=True)
class Anything:
    """`Any` or `object`."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """`None`."""


@dataclass(frozen=True, slots=True)
class Of:
    """A class with its arguments: `list[str]`, or `str` (which has none)."""

    type: type[Any]
    arguments: tuple["Shape", ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """A union."""

    members: tuple["Shape", ...]


@dataclass(frozen=True, slots=True)
class Literals:
    """`Literal[1, 2]`."""

    values: tuple[object, ...]


Shape: TypeAlias = Unknown | Missing | Anything | Nothing | Of | OneOf | Literals

# Known by their names alone, since linters move their imports under TYPE_CHECKING.
_WELL_KNOWN: Final[Mapping[str, object]] = {
    **{name: value for name, value in vars(collections.abc).items() if isinstance(value, type)},
    **{
        name: getattr(typing, name)
        for name in ("Annotated", "Any", "Dict", "List", "Literal", "Optional", "Union")
    },
}


@dataclass(frozen=True, slots=True)
class Scope:
    """Where the names of an annotation are looked up.

    Attributes:
        names: The globals of the module that wrote the annotation.
        inner: Names of the class around it, and type parameters; looked up after the globals, as
            a method called `list` must not change what `list[str]` means.
        fallback: What a name means that is found nowhere.
    """

    names: Mapping[str, object] = field(default_factory=dict[str, object])
    inner: Mapping[str, object] = field(default_factory=dict[str, object])
    fallback: Mapping[str, object] = field(default_factory=dict[str, object])


class _Lookup(dict[str, object]):
    """Names for `eval`: what is found nowhere becomes a placeholder."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def __missing__(self, name: str) -> object:
        scope = self._scope
        for names in (scope.names, vars(builtins), scope.inner, scope.fallback, _WELL_KNOWN):
            if name in names:
                return names[name]
        return _Placeholder(name, scope)


class _Placeholder:
    """Stands for a name without a meaning, in any expression that an annotation may be."""

    def __init__(self, text: str, scope: Scope) -> None:
        self.text = text
        self._scope = scope

    def __getattr__(self, name: str) -> object:
        # `kv_pb.GetRequest` and `abc.AsyncIterator` are known by their last names.
        if name.startswith("__"):
            raise AttributeError(name)
        for names in (self._scope.fallback, _WELL_KNOWN):
            if name in names:
                return names[name]
        return _Placeholder(f"{self.text}.{name}", self._scope)

    def __getitem__(self, _: object) -> "_Placeholder":
        return _Placeholder(f"{self.text}[...]", self._scope)

    def __or__(self, other: object) -> object:
        return Union[self, other]  # noqa: UP007  # `|` ends here again

    def __ror__(self, other: object) -> object:
        return Union[other, self]  # noqa: UP007

    def __call__(self) -> None:
        """Only here so that `typing` takes it for a type."""


def read(annotation: object, scope: Scope) -> Shape:  # noqa: C901, PLR0911, PLR0912  # one kind each
    """Read an annotation, a string or not; never raises."""
    match annotation:
        case inspect.Parameter.empty:
            return Missing()
        case None | types.NoneType:
            return Nothing()
        case str():
            return _read_text(annotation, scope)
        case typing.ForwardRef():
            return _read_text(annotation.__forward_arg__, scope)
        case _Placeholder():
            return Unknown(annotation.text)
        case typing.NewType():
            return read(annotation.__supertype__, scope)
        case _ if annotation is Any or annotation is object:
            return Anything()
        case _ if type(annotation).__name__ == "TypeAliasType":  # typing's or typing_extensions'
            return _read_alias(annotation, scope)
        case _:
            pass
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Union or origin is types.UnionType:
        return OneOf(tuple(read(argument, scope) for argument in arguments))
    if origin is typing.Literal:
        return Literals(arguments)
    if origin is typing.Annotated:
        return read(arguments[0], scope)
    if isinstance(origin, type):
        return Of(origin, tuple(read(a, scope) for a in arguments if a is not Ellipsis))
    if isinstance(annotation, type):
        return Of(annotation)
    return Unknown(show(annotation))


def _read_text(text: str, scope: Scope) -> Shape:
    try:
        # What typing.get_type_hints does too, on the same source: the interface's own.
        value = eval(text, {"__builtins__": {}}, _Lookup(scope))  # noqa: S307
    except Exception:  # noqa: BLE001  # whatever it is, it cannot be read
        return Unknown(text)
    return Unknown(text) if isinstance(value, str) else read(value, scope)


def _read_alias(alias: Any, scope: Scope) -> Shape:
    try:
        value = alias.__value__
    except Exception:  # noqa: BLE001  # evaluated only now, and may name anything
        return Unknown(alias.__name__)
    return read(value, scope)


def admits_none(shape: Shape) -> bool:
    """Whether None may be a value of that type; True if nobody can tell."""
    match shape:
        case Unknown() | Missing() | Anything() | Nothing():
            return True
        case OneOf(members):
            return any(admits_none(member) for member in members)
        case Literals(values):
            return None in values
        case Of():
            return False


def says_none(shape: Shape) -> bool:
    """Whether None is written there."""
    match shape:
        case Nothing():
            return True
        case OneOf(members):
            return any(says_none(member) for member in members)
        case Literals(values):
            return None in values
        case Unknown() | Missing() | Anything() | Of():
            return False


def show(annotation: object) -> str:
    """An annotation as its author wrote it, as far as that can be told."""
    match annotation:
        case str():
            return annotation
        case typing.ForwardRef():
            return annotation.__forward_arg__
        case inspect.Parameter.empty:
            return "nothing"
        case types.NoneType:
            return "None"
        case type() if get_origin(annotation) is None:
            return annotation.__qualname__.rpartition("<locals>.")[2]
        case _:
            return inspect.formatannotation(annotation)


def signature(function: Callable[..., object]) -> inspect.Signature:
    """`inspect.signature`, which from 3.14 on would evaluate names that exist for checkers only."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415  # new in 3.14

        return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(function)


def annotated_names(owner: type) -> list[str]:
    """The names that a class body annotates; what they are annotated with is not evaluated."""
    if sys.version_info >= (3, 14):
        import annotationlib  # noqa: PLC0415  # new in 3.14

        return list(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
    return list(inspect.get_annotations(owner))


def scope_of(function: object, owner: type | None, fallback: Mapping[str, object]) -> Scope:
    """The scope in which a function's annotations were written."""
    inner: dict[str, object] = {} if owner is None else dict(vars(owner))
    for source in (owner, function):
        inner.update({p.__name__: p for p in getattr(source, "__type_params__", ())})
    return Scope(getattr(function, "__globals__", {}), inner, fallback)
