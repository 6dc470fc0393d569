"""What an interface declares, read member by member."""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_origin

from typing_extensions import get_protocol_members, is_protocol

from connectplugin.binding.annotations import Scope, annotated_names, scope_of, show, signature
from connectplugin.binding.difference import Difference, PluginDefinitionError


@dataclass(frozen=True, slots=True)
class Method:
    """A method of an interface.

    Attributes:
        name: As written.
        function: What is written there.
        owner: The class that declares it, the interface or a base of it.
        signature: Without `self`.
        is_async: `async def` without `yield`: calling it gives a coroutine.
    """

    name: str
    function: Callable[..., object]
    owner: type
    signature: inspect.Signature
    is_async: bool

    def scope(self, types: Any) -> Scope:
        """Where its annotations are looked up, `types` last."""
        return scope_of(self.function, self.owner, types)

    @property
    def parameters(self) -> list[inspect.Parameter]:
        """Its parameters, without `self`."""
        return list(self.signature.parameters.values())

    @property
    def written(self) -> str:
        """Its first line, as its author wrote it."""
        parameters = ", ".join(["self", *map(_written, self.parameters)])
        empty = self.signature.return_annotation is inspect.Signature.empty
        result = "" if empty else f" -> {show(self.signature.return_annotation)}"
        return f"{'async ' if self.is_async else ''}def {self.name}({parameters}){result}"


def _written(parameter: inspect.Parameter) -> str:
    if parameter.annotation is inspect.Parameter.empty:
        return parameter.name
    return f"{parameter.name}: {show(parameter.annotation)}"


def interface_class(interface: Any) -> type[Any]:
    """The Protocol behind an interface, which may be given with type arguments.

    Raises:
        PluginDefinitionError: It is no `typing.Protocol`.
    """
    plain: Any = get_origin(interface) or interface
    if isinstance(plain, type) and is_protocol(plain):
        return plain
    what = f"the class {plain.__name__}" if isinstance(plain, type) else repr(interface)
    msg = (
        f"interface={what} is no Protocol; declare it as `class KV(Protocol): ...` "
        f"with one method for each RPC it uses"
    )
    raise PluginDefinitionError(msg)


def methods_of(interface: type[Any], differences: list[Difference]) -> list[Method]:
    """The methods of a Protocol and its bases, in the order in which they are declared.

    What is no method is added to `differences`.
    """
    methods: list[Method] = []
    for name, owner in _declared(interface):
        member = inspect.getattr_static(owner, name, None)
        if not inspect.isfunction(member):
            differences.append(_no_method(name, owner, member))
            continue
        method = _method(name, owner, member)
        if method is None:
            differences.append(
                Difference(f"{name}()", "takes no self", "it is called on a plugin", "Add self.")
            )
        else:
            methods.append(method)
    return methods


def _declared(interface: type[Any]) -> Iterator[tuple[str, type[Any]]]:
    wanted = set(get_protocol_members(interface))
    owners: dict[str, type[Any]] = {}
    for owner in reversed(interface.__mro__):
        # A plain attribute is in the annotations only.
        for name in (*annotated_names(owner), *vars(owner)):
            if name in wanted:
                owners[name] = owner
    yield from owners.items()


def _no_method(name: str, owner: type[Any], member: object) -> Difference:
    match member:
        case property():
            found = "is a property"
        case staticmethod():
            found = "is a static method"
        case classmethod():
            found = "is a class method"
        case type():
            found = "is a class"
        case _:
            found = "is an attribute"
    return Difference(
        where=f"{owner.__name__}.{name}",
        found=found,
        expected="an interface that is called over a network has methods only",
        remedy=f"Write `async def {name}(self) -> ...`, or leave it out.",
    )


def _method(name: str, owner: type[Any], function: Callable[..., object]) -> Method | None:
    declared = signature(function)
    parameters = list(declared.parameters.values())
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    if not parameters or parameters[0].kind not in positional:
        return None
    return Method(
        name=name,
        function=function,
        owner=owner,
        signature=declared.replace(parameters=parameters[1:]),
        is_async=inspect.iscoroutinefunction(function),
    )
