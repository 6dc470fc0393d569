"""Makes an implementation of an interface answer as the generated service.

The mirror image of the facade: a request becomes arguments, what is returned becomes a response.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from connectrpc.method import StreamType

from connectplugin.binding.annotations import Missing, admits_none
from connectplugin.binding.implementation import Handler
from connectplugin.binding.model import (
    FieldsRequest,
    MessageRequest,
    Parameter,
    StreamRequest,
)
from connectplugin.binding.schema import Schema
from connectplugin.binding.source import Source, reader, writer
from connectplugin.binding.streams import answered, arriving


def make_adapter(impl: object, schema: Schema, handlers: Mapping[str, Handler]) -> Any:
    """Make an object with the methods that the generated application calls.

    Methods of the service that the interface leaves out answer `unimplemented`, as those of the
    generated service class do.

    Args:
        impl: What `check_implementation` accepted.
        schema: The service.
        handlers: What `check_implementation` found.
    """
    owner = type(impl).__name__
    namespace: dict[str, Any] = {
        name: _compile(impl, owner, handler) for name, handler in handlers.items()
    }
    shown = f"<{schema.service.__name__} over {impl!r}>"

    def show(_: object) -> str:
        return shown

    namespace["__repr__"] = show
    return type(f"{owner}Adapter", (schema.service,), namespace)()


def _compile(impl: object, owner: str, handler: Handler) -> Any:
    match = handler.match
    name = match.method.name
    label = f"{owner}.{name}()"
    source = Source()
    prefix = "def" if match.rpc.receives_stream else "async def"
    source.add(f"{prefix} {name}(_c_self, _c_request, _c_context, /):", indent=0)
    call = f"{source.name('impl', impl)}.{name}({_arguments(source, handler, label)})"
    write = source.name(
        "write", writer(match.response, match.rpc.info.output, f"{label}: its result")
    )
    match match.rpc.info.stream_type:
        case StreamType.UNARY | StreamType.CLIENT_STREAM:
            source.add(f"return {write}(await {call})")
        case StreamType.SERVER_STREAM | StreamType.BIDI_STREAM:
            name = source.name("answered", answered)
            source.add(f"return {name}({call}, {write}, {f'{label}: its result'!r})")
    return source.compile(match.method.name, label)


def _arguments(source: Source, handler: Handler, label: str) -> str:
    match handler.match.request:
        case FieldsRequest(parameters):
            source.oneofs([p.field for p in parameters], "_c_request")
            return ", ".join(
                f"{p.field.name}={source.field(p.field, '_c_request', _unset(source, handler, p))}"
                for p in parameters
            )
        case StreamRequest(name, item, keyword_only):
            read = source.name("read", reader(item, f"{label} request"))
            stream = f"{source.name('arriving', arriving)}(_c_request, {read})"
            return f"{name}={stream}" if keyword_only else stream
        case MessageRequest(name, _, keyword_only):
            return f"{name}=_c_request" if keyword_only else "_c_request"


def _unset(source: Source, handler: Handler, parameter: Parameter) -> str | None:
    """What an implementation is given for a field that is not set; None for the type's zero.

    Its own default, else the interface's, else None where the annotation admits it.
    """
    name = parameter.field.name
    declared = handler.match.method.signature.parameters[name].default
    for default in (handler.default(name), declared):
        if default is not inspect.Parameter.empty and default is not Ellipsis:
            return source.name(f"default_{name}", default)
    shape = handler.shape(name)
    none = parameter.none if isinstance(shape, Missing) else admits_none(shape)
    return "None" if none or parameter.field.oneof is not None else None
