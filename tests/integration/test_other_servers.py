"""`create_app` below other people's ASGI servers and applications."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import uvicorn
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Client as HTTPClient
from starlette.applications import Starlette
from starlette.routing import Mount

from connectplugin import Client, ClientConfig, ServeConfig, create_app
from connectplugin._gen.connectplugin.v1.control_connect import PluginControlClient
from connectplugin._gen.connectplugin.v1.control_pb import ShutdownRequest
from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors import ClientStack
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, WatchRequest
from kv_plugin import kv_plugin
from server import MemoryKV
from tests.integration.serving_kv import TellingKV, bound


class Entered(TellingKV):
    """Counts its starts and stops."""

    async def __aenter__(self) -> "Entered":  # noqa: PYI034  # a test's
        await self.note("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.note("left")


@contextlib.asynccontextmanager
async def stock_uvicorn(app: Any) -> AsyncGenerator[str]:
    """uvicorn as it comes."""

    class Quiet(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Any:
            yield

    server = Quiet(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


async def test_stock_uvicorn_serves_it_lifespan_included() -> None:
    impl = Entered()
    async with stock_uvicorn(create_app(ServeConfig(plugins=[bound(impl)]))) as url:
        assert impl.counts["entered"] == 1
        client = KVServiceClient(url)
        assert (await client.get(GetRequest(key="a"))).value == b"a"
        call = asyncio.create_task(client.get(GetRequest(key="hang")))
        await impl.seen("get", 2)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await impl.seen("cancelled")
    assert impl.counts["left"] == 1


async def test_below_a_mount_of_another_application() -> None:
    app = create_app(ServeConfig(plugins=[kv_plugin.bind(MemoryKV())]))
    outer = Starlette(routes=[Mount("/plugins", app=app)])
    async with stock_uvicorn(outer) as url:
        config = ClientConfig(endpoint=f"{url}/plugins", plugins=[kv_plugin])
        async with Client(config) as client:
            kv = client.dispense(kv_plugin)
            await kv.put("a", b"1")
            assert await kv.get("a") == b"1"
        response = await HTTPClient().get(f"{url}/plugins/readyz")
        assert response.status == 200


async def test_the_shutdown_rpc_drains_what_it_cannot_stop() -> None:
    impl = TellingKV()
    app = create_app(
        ServeConfig(plugins=[bound(impl)], graceful_shutdown_timeout=5, stream_drain_timeout=0.1)
    )
    async with stock_uvicorn(app) as url:
        watch = KVServiceClient(url).watch(WatchRequest(prefix="a"))
        await anext(watch)
        reply = await PluginControlClient(url).shutdown(ShutdownRequest(reason="an upgrade"))
        assert reply.acknowledged
        with pytest.raises(ConnectError, match="draining: an upgrade"):
            await anext(watch)
        with pytest.raises(ConnectError, match="draining: an upgrade") as caught:
            await KVServiceClient(url).get(GetRequest(key="a"))
        assert caught.value.code is Code.UNAVAILABLE
        assert (await HTTPClient().get(f"{url}/readyz")).status == 503


async def test_shutdown_by_another_machine_is_refused() -> None:
    app = create_app(ServeConfig(plugins=[bound(TellingKV())]))

    async def from_afar(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["client"] = ("203.0.113.7", 4711)
        await app(scope, receive, send)

    async with InProcessTransport(from_afar) as transport:
        control = ClientStack().client(PluginControlClient, "http://x", transport=transport)
        with pytest.raises(ConnectError, match="allow_remote_shutdown=True") as caught:
            await control.shutdown(ShutdownRequest())
        assert caught.value.code is Code.PERMISSION_DENIED
        assert not app.draining


async def test_two_clients_share_one_application_in_this_process() -> None:
    impl = Entered()
    app = create_app(ServeConfig(plugins=[bound(impl)]))
    async with InProcessTransport(app) as first:
        async with InProcessTransport(app) as second:
            assert impl.counts["entered"] == 1
            client = KVServiceClient("http://x", http_client=HTTPClient(second))
            assert (await client.get(GetRequest(key="a"))).value == b"a"
        assert "left" not in impl.counts
        client = KVServiceClient("http://x", http_client=HTTPClient(first))
        assert (await client.get(GetRequest(key="a"))).value == b"a"
    assert impl.counts == {"entered": 1, "get": 2, "left": 1}
    async with InProcessTransport(app):
        assert impl.counts["entered"] == 2
