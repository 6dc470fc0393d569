"""What a generated service class says of itself, and the classes generated beside it."""

import hashlib
import sys
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeVar, cast

from connectrpc.client import ConnectClient
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication
from protobuf import DescMethod, DescService

from connectplugin.binding.difference import PluginDefinitionError
from connectplugin.binding.fields import Field, fields_of, oneofs_of, types_of
from connectplugin.binding.naming import method_name

C = TypeVar("C")

_SHAPES: Final = {
    "unary": StreamType.UNARY,
    "client_streaming": StreamType.CLIENT_STREAM,
    "server_streaming": StreamType.SERVER_STREAM,
    "bidi_streaming": StreamType.BIDI_STREAM,
}

# The numbers of google.protobuf.MethodOptions.IdempotencyLevel.
_IDEMPOTENCY: Final = {1: IdempotencyLevel.NO_SIDE_EFFECTS, 2: IdempotencyLevel.IDEMPOTENT}


class Rpc:
    """One method of a service.

    Attributes:
        client: The generated client class, which has it by `name`.
        name: Its Python name: `get_http_url`.
        info: Its name in the `.proto`, its messages, its shape and its idempotency level.
        request_fields: The fields of its request, by their Python names.
        response_fields: The fields of its response, likewise.
    """

    def __init__(self, desc: DescMethod, client: type[ConnectClient]) -> None:
        self.client = client
        self.name = method_name(desc.name)
        self.info: MethodInfo[Any, Any] = MethodInfo(
            name=desc.name,
            service_name=desc.parent.type_name,
            input=desc.input.type,
            output=desc.output.type,
            idempotency_level=_IDEMPOTENCY.get(int(desc.idempotency), IdempotencyLevel.UNKNOWN),
            stream_type=_SHAPES[desc.method_kind],
        )
        self.request_fields: dict[str, Field] = fields_of(desc.input)
        self.response_fields: dict[str, Field] = fields_of(desc.output)
        self.request_oneofs = oneofs_of(desc.input)
        self.request_name = desc.input.type_name
        self.response_name = desc.output.type_name
        self.types = MappingProxyType({**types_of(desc.output), **types_of(desc.input)})

    @property
    def sends_stream(self) -> bool:
        """Whether the client sends a stream."""
        return self.info.stream_type in {StreamType.CLIENT_STREAM, StreamType.BIDI_STREAM}

    @property
    def receives_stream(self) -> bool:
        """Whether the server answers with a stream."""
        return self.info.stream_type in {StreamType.SERVER_STREAM, StreamType.BIDI_STREAM}

    def __repr__(self) -> str:
        return f"<Rpc {self.info.service_name}/{self.info.name}>"


@dataclass(frozen=True)
class Schema:
    """A generated service class with what belongs to it.

    Attributes:
        service: The generated service class, `KVService`.
        client: Its asynchronous client, `KVServiceClient`.
        application: Its ASGI application, `KVServiceASGIApplication`.
        desc: Its descriptor.
        rpcs: Its methods by their Python names, in the order of the `.proto`.
    """

    service: type[Any]
    client: type[ConnectClient]
    application: type[ConnectASGIApplication[Any]]
    desc: DescService
    rpcs: dict[str, Rpc] = field(repr=False)

    @property
    def name(self) -> str:
        """`kv.v1.KVService`."""
        return self.desc.type_name

    @cached_property
    def descriptor_sha256(self) -> bytes | None:
        """SHA-256 of the file descriptor that declares the service; None if it has none."""
        try:
            encoded = self.desc.file.proto.to_binary()
        except (AttributeError, TypeError, ValueError):
            return None
        return hashlib.sha256(encoded).digest()


def read_schema(service: Any) -> Schema:
    """Find what was generated with a service class.

    Raises:
        PluginDefinitionError: It is no generated, asynchronous service class of protobuf-py, or
            the classes generated beside it are not there.
    """
    if not isinstance(service, type):
        msg = f"service={service!r} is no class; name the generated one: service=KVService"
        raise PluginDefinitionError(msg)
    desc = _descriptor(service)
    client = _beside(service, "Client", ConnectClient)
    rpcs = [Rpc(method, client) for method in desc.methods]
    _check_methods(service, rpcs)
    return Schema(
        service=service,
        client=client,
        application=_beside(
            service,
            "ASGIApplication",
            cast("type[ConnectASGIApplication[Any]]", ConnectASGIApplication),
        ),
        desc=desc,
        rpcs={rpc.name: rpc for rpc in rpcs},
    )


def _descriptor(service: type[Any]) -> DescService:
    describe = getattr(service, "desc", None)
    base = next(
        (b for b in (ConnectClient, ConnectASGIApplication) if issubclass(service, b)), None
    )
    if base is not None:
        msg = (
            f"service={service.__name__} is the generated {base.__name__.removeprefix('Connect')}; "
            f"name the service class itself, the one with the method desc()"
        )
        raise PluginDefinitionError(msg)
    if not callable(describe):
        msg = (
            f"service={service.__name__} has no desc(), so it was not generated for protobuf-py; "
            f"generate it with `connectplugin generate` (protoc-gen-connectrpc, option "
            f"protobuf=py, which is its default)"
        )
        raise PluginDefinitionError(msg)
    desc = describe()
    if not isinstance(desc, DescService):
        msg = f"service={service.__name__}: desc() gives {type(desc).__name__}, not DescService"
        raise PluginDefinitionError(msg)
    return desc


def _check_methods(service: type[Any], rpcs: list[Rpc]) -> None:
    seen: dict[str, str] = {}
    for rpc in rpcs:
        if rpc.name in seen:
            msg = (
                f"{rpc.info.service_name}: the methods {seen[rpc.name]} and {rpc.info.name} are "
                f"both called {rpc.name} in Python, and one cannot be reached; rename one"
            )
            raise PluginDefinitionError(msg)
        seen[rpc.name] = rpc.info.name
        if not callable(getattr(service, rpc.name, None)):
            msg = (
                f"service={service.__name__} has no method {rpc.name} for {rpc.info.name}: it was "
                f"generated by another version; run `connectplugin generate`"
            )
            raise PluginDefinitionError(msg)


def _beside(service: type[Any], suffix: str, base: type[C]) -> type[C]:
    module = sys.modules.get(service.__module__)
    name = service.__name__ + suffix
    found = getattr(module, name, None)
    if isinstance(found, type) and issubclass(found, base):
        return found
    plain = service.__name__.removesuffix("Sync")
    reason = (
        f"it is the synchronous form; name {plain}"
        if plain != service.__name__ and hasattr(module, f"{plain}ClientSync")
        else f"{service.__module__} has no {name}"
    )
    msg = (
        f"service={service.__name__}: {reason}. The generated module must hold "
        f"{service.__name__}Client and {service.__name__}ASGIApplication beside the service class "
        f"(protoc-gen-connectrpc 0.13, option io=async or none)"
    )
    raise PluginDefinitionError(msg)
