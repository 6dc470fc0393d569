"""A stream that has nothing to say is not a server that hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.errors import ConnectError
from pyqwest import Client as HTTPClient

from connectplugin import (
    BulkheadPolicy,
    Client,
    ClientConfig,
    DeadlineExceededError,
    ServeConfig,
    ServerStack,
    create_app,
)
from connectplugin.serving import early_head
from connectplugin.serving.early_head import HEAD_AFTER
from connectplugin.testing import VirtualTime
from connectplugin.transport.in_process import InProcessTransport
from kv.v1.kv_connect import KVService, KVServiceASGIApplication, KVServiceClient
from kv.v1.kv_pb import WatchRequest, WatchResponse
from kv_plugin import kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere


async def first_change_after(client: Client, seconds: float) -> WatchResponse:
    kv = client.dispense(kv_plugin)

    async def put_later() -> None:
        await asyncio.sleep(seconds)
        await kv.put("late", b"1")

    async with asyncio.TaskGroup() as group, aclosing(cast("Any", kv.watch("late"))) as changes:
        group.create_task(put_later())
        change: WatchResponse = await anext(changes)
    return change


async def test_a_watch_may_be_silent_for_an_hour(virtual_time: VirtualTime) -> None:
    app = create_app(ServeConfig(plugins=[kv_plugin.bind(MemoryKV())]))
    async with Client(ClientConfig(endpoint=app, plugins=[kv_plugin])) as client:
        change = await first_change_after(client, 3600)
    assert change.key == "late"
    assert virtual_time.now() == pytest.approx(3600, abs=1)


@everywhere
async def test_the_head_comes_before_the_first_message(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_head, "HEAD_AFTER", 0.0)
    async with location.client(
        {"plugins": [kv_plugin.bind(MemoryKV())]}, plugins=[kv_plugin]
    ) as client:
        change = await first_change_after(client, 0)
    assert change.value == b"1"


async def test_a_stream_that_fails_late_still_tells_its_error(virtual_time: VirtualTime) -> None:
    class Failing(MemoryKV):
        async def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
            await asyncio.sleep(HEAD_AFTER + 1)
            raise LookupError(prefix)
            yield

    app = create_app(ServeConfig(plugins=[kv_plugin.bind(Failing())]))
    async with Client(ClientConfig(endpoint=app, plugins=[kv_plugin])) as client:
        with pytest.raises(Exception, match="internal error"):
            async for _ in client.dispense(kv_plugin).watch("a"):
                pass


async def test_a_server_that_hangs_is_left_at_the_attempts_limit(
    virtual_time: VirtualTime,
) -> None:
    inner = create_app(ServeConfig(plugins=[kv_plugin.bind(MemoryKV())]))

    async def hangs_on_watch(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/Watch"):
            await asyncio.sleep(3600)
        await inner(scope, receive, send)

    config = ClientConfig(endpoint=hangs_on_watch, plugins=[kv_plugin], retry_policy=None)
    async with Client(config) as client:
        with pytest.raises(DeadlineExceededError, match="no response within"):
            async for _ in client.dispense(kv_plugin).watch("a"):
                pass
    assert virtual_time.now() == pytest.approx(10, abs=0.1)


async def test_what_waits_in_a_queue_gets_no_head_and_is_refused_as_not_processed(
    virtual_time: VirtualTime,
) -> None:
    """A head that was sent early could not say so any more."""
    stack = ServerStack(bulkhead=BulkheadPolicy(max_in_flight=1, max_queue=1, max_wait=5.0))
    app = create_app(ServeConfig(plugins=[kv_plugin.bind(MemoryKV())], stack=stack))
    transport = InProcessTransport(app)
    plain = KVServiceClient("http://x", http_client=HTTPClient(transport), accept_compression=())
    first = plain.watch(WatchRequest(prefix="a"))
    blocker = asyncio.ensure_future(anext(first))
    await asyncio.sleep(0.1)
    with ResponseMetadata() as head:
        with pytest.raises(ConnectError, match="limit of 1 calls"):
            await anext(plain.watch(WatchRequest(prefix="a")))
        assert head.headers["x-connectplugin-nack"] == "overloaded"
    assert virtual_time.now() == pytest.approx(5.1, abs=0.01)
    blocker.cancel()
    await asyncio.gather(blocker, return_exceptions=True)
    await transport.aclose()


async def test_an_early_head_carries_what_the_handler_has_set(virtual_time: VirtualTime) -> None:
    class Telling(KVService):
        async def watch(self, request: WatchRequest, ctx: Any) -> AsyncIterator[WatchResponse]:
            ctx.response_headers["x-told"] = "yes"
            await virtual_time.sleep(100)
            yield WatchResponse()

    app = KVServiceASGIApplication(Telling(), interceptors=ServerStack().interceptors())
    transport = InProcessTransport(early_head.EarlyHead(cast("Any", app)))
    plain = KVServiceClient("http://x", http_client=HTTPClient(transport), accept_compression=())
    with ResponseMetadata() as head:
        first = asyncio.ensure_future(anext(plain.watch(WatchRequest())))
        await virtual_time.sleep(HEAD_AFTER + 0.1)
        assert head.headers["x-told"] == "yes"
        assert not first.done()
        await first
    assert virtual_time.now() == pytest.approx(100)
