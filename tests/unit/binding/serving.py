"""A plugin called through all but a socket: facade, generated client, application, adapter."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from connectrpc.client import ConnectClient
from connectrpc.codec import Codec
from connectrpc.server import ConnectASGIApplication
from pyqwest import Client
from pyqwest.testing import ASGITransport

from connectplugin.plugin import BoundPlugin, ConnectPlugin

T = TypeVar("T")
C = TypeVar("C", bound=ConnectClient)
S = TypeVar("S")


class Mux:
    """Takes what a plugin mounts."""

    def __init__(self, interceptors: Sequence[Any] = ()) -> None:
        self.interceptors = interceptors
        self.mounted: list[Any] = []

    def mount(self, application_class: type[ConnectASGIApplication[S]], service: S, /) -> None:
        made: Any = application_class
        self.mounted.append(made(service, interceptors=self.interceptors))


class Connection:
    """A connection without a chain."""

    endpoint = "http://plugin.test"

    def __init__(self, transport: ASGITransport, codec: Codec | None = None) -> None:
        self.transport = transport
        self.codec = codec

    def client(self, client_class: type[C], /) -> C:
        return client_class(self.endpoint, http_client=Client(self.transport), codec=self.codec)


@asynccontextmanager
async def serving(
    bound: BoundPlugin, *, interceptors: Sequence[Any] = (), codec: Codec | None = None
) -> AsyncGenerator[Connection]:
    mux = Mux(interceptors)
    bound.register(mux)
    [application] = mux.mounted
    async with ASGITransport(application) as transport:
        yield Connection(transport, codec)


@asynccontextmanager
async def dispensed(
    plugin: ConnectPlugin[T], impl: T, *, codec: Codec | None = None
) -> AsyncGenerator[T]:
    async with serving(plugin.bind(impl), codec=codec) as connection:
        yield plugin.new_client(connection)
