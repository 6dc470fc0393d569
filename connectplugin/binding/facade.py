"""Makes the class whose instances satisfy an interface by calling a generated client."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

from connectrpc.client import ConnectClient
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin.binding.model import (
    NOT_GIVEN,
    AsMessage,
    FieldsRequest,
    Match,
    MessageRequest,
    Parameter,
    StreamRequest,
)
from connectplugin.binding.source import Source, reader, writer
from connectplugin.binding.streams import Requests, exchanged, explain, received, sent


class Facade:
    """Base of the classes made here. Their own names begin with an underscore, as no RPC's does."""

    __slots__ = ("__weakref__", "_client", "_endpoint")

    _interface_name: ClassVar[str] = ""
    _plugin_name: ClassVar[str] = ""

    def __init__(self, client: Any, endpoint: str) -> None:
        self._client = client
        self._endpoint = endpoint

    def __with_options__(self, options: Any, /) -> Any:
        """The same plugin, whose calls have the options; `with_options` calls this."""
        copy = getattr(self._client, "__with_options__", None)
        if copy is None:
            msg = (
                f"with_options needs the chain: {self!r} is over a plain "
                f"{type(self._client).__name__}, not over one that ClientStack.client made"
            )
            raise TypeError(msg)
        return type(self)(copy(options), self._endpoint)

    def __repr__(self) -> str:
        return f"<{self._interface_name} plugin {self._plugin_name!r} at {self._endpoint}>"

    def __reduce_ex__(self, _: object) -> NoReturn:
        msg = (
            f"{self!r} is a connection, which cannot be copied or pickled; dispense the plugin "
            f"where it is used"
        )
        raise TypeError(msg)


def make_facade(
    interface: type[Any], plugin_name: str, matches: Mapping[str, Match]
) -> type[Facade]:
    """Make the class, with one compiled method for each of the interface's.

    Args:
        interface: The Protocol; its docstrings are taken over.
        plugin_name: Shown in the repr.
        matches: What `match_interface` found.
    """
    name = interface.__name__
    namespace: dict[str, Any] = {
        "__slots__": (),
        "__doc__": interface.__doc__,
        "__module__": interface.__module__,
        "_interface_name": name,
        "_plugin_name": plugin_name,
    }
    for match in matches.values():
        namespace[match.method.name] = _compile(name, match)
    return type(name, (Facade,), namespace)


def _compile(interface: str, match: Match) -> Any:
    label = f"{interface}.{match.method.name}()"
    source = Source()
    match match.request:
        case FieldsRequest(parameters):
            _open(source, match, [_declare(source, p) for p in parameters])
            for parameter in parameters:
                field = parameter.field
                # A default of `...` leaves the field unset, which None does too.
                none = field.takes_none or parameter.default is Ellipsis
                where = f"{label}: parameter {field.name!r}"
                source.check(field.name, field.kind, where, none=none)
            values = [(p.field, p.field.name) for p in parameters]
            source.build(match.rpc.info.input, values, f"{label}", "_c_request")
        case MessageRequest(name, default, keyword_only):
            declared = name
            if default is not NOT_GIVEN:
                value = match.rpc.info.input() if default is Ellipsis else default
                declared += f"={source.name('default', value)}"
            _open(source, match, ["*", declared] if keyword_only else [declared])
            write = writer(AsMessage(), match.rpc.info.input, f"{label}: parameter {name!r}")
            source.add(f"_c_request = {source.name('write', write)}({name})")
        case StreamRequest(name, item, keyword_only):
            _open(source, match, ["*", name] if keyword_only else [name])
            where = f"{label}: an item of {name!r}"
            write = writer(item, match.rpc.info.input, where)
            requests = source.name("Requests", Requests)
            arguments = f"{name}, {source.name('write', write)}, {f'{label}: parameter {name!r}'!r}"
            source.add(f"_c_request = {requests}({arguments})")
    _call(source, match, label)
    function = source.compile(match.method.name, label)
    functools.update_wrapper(function, match.method.function)
    function.__qualname__ = f"{interface}.{match.method.name}"
    return function


def _open(source: Source, match: Match, parameters: list[str]) -> None:
    prefix = "def" if match.rpc.receives_stream else "async def"
    listed = ", ".join(["_c_self", *_ordered(parameters)])
    source.add(f"{prefix} {match.method.name}({listed}):", indent=0)


def _ordered(parameters: list[str]) -> list[str]:
    plain = [p for p in parameters if not p.startswith("* ")]
    keyword_only = [p.removeprefix("* ") for p in parameters if p.startswith("* ")]
    return [*plain, "*", *keyword_only] if keyword_only else plain


def _declare(source: Source, parameter: Parameter) -> str:
    name = parameter.field.name
    text = f"* {name}" if parameter.keyword_only else name
    if parameter.default is NOT_GIVEN:
        return text
    default = None if parameter.default is Ellipsis else parameter.default
    return f"{text}={source.name(f'default_{name}', default)}"


def _call(source: Source, match: Match, label: str) -> None:
    """The end of the function: make the call, and return what the interface says."""
    convert = reader(match.response, f"{label} result")
    call = f"_c_self._client.{match.rpc.name}"
    if hasattr(ConnectClient, match.rpc.name):
        # An RPC called Close: the name means something else to whoever manages the client, and a
        # subclass may have taken it back. The generated function is still the RPC.
        generated = source.name("generated", getattr(match.rpc.client, match.rpc.name))
        call = f"{source.name('partial', functools.partial)}({generated}, _c_self._client)"
    read = source.name("read", convert)
    match match.rpc.info.stream_type:
        case StreamType.UNARY:
            error = source.name("ConnectError", ConnectError)
            source.add("try:")
            source.add(f"_c_response = await {call}(_c_request)", indent=2)
            source.add(f"except {error} as _c_error:")
            told = source.name("explain", explain)
            source.add(f"{told}(_c_error, _c_request, {label!r})", "raise", indent=2)
            source.add("return _c_response" if convert is None else f"return {read}(_c_response)")
        case StreamType.SERVER_STREAM:
            name = source.name("received", received)
            source.add(f"return {name}({call}(_c_request), {read}, _c_request, {label!r})")
        case StreamType.CLIENT_STREAM:
            name = source.name("sent", sent)
            source.add(f"_c_response = await {name}({call}, _c_request)")
            source.add("return _c_response" if convert is None else f"return {read}(_c_response)")
        case StreamType.BIDI_STREAM:
            name = source.name("exchanged", exchanged)
            source.add(f"return {name}({call}(_c_request), {read}, _c_request)")
