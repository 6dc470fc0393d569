"""The chain over an httpx client, on real sockets: its shapes, and its limits as they are told."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import (
    Client,
    ClientConfig,
    Delivery,
    PluginUnavailableError,
    ServeConfig,
    Server,
    delivery,
    with_options,
)
from connectplugin_interceptors.httpx_transport import HttpxTransport
from kv.v1.kv_pb import LoadRequest, SyncRequest
from kv_plugin import KV, kv_plugin
from server import MemoryKV


@asynccontextmanager
async def dispensed(impl: Any = None, **fields: Any) -> AsyncGenerator[tuple[KV, Server]]:
    config = ServeConfig(plugins=[kv_plugin.bind(impl or MemoryKV())], addr="127.0.0.1:0")
    async with (
        Server(config) as server,
        httpx.AsyncClient(trust_env=False) as http,
        Client(
            ClientConfig(
                endpoint=server.url,
                plugins=[kv_plugin],
                http_client=HttpxTransport(http),
                **fields,
            )
        ) as client,
    ):
        yield client.dispense(kv_plugin), server


async def test_unary_calls_and_their_errors() -> None:
    async with dispensed() as (kv, _):
        await kv.put("a", b"b")
        assert await kv.get("a") == b"b"
        with pytest.raises(ConnectError) as caught:
            await kv.get("nothing")
    assert caught.value.code is Code.NOT_FOUND


async def test_a_server_stream_flows_while_it_is_open() -> None:
    async with dispensed() as (kv, _):
        await kv.put("a", b"1")
        seen: list[bytes] = []
        async for change in kv.watch("a"):
            seen.append(change.value)
            if len(seen) == 2:
                break
            await kv.put("a", b"2")
    assert seen == [b"1", b"2"]


async def test_a_client_stream_is_read_to_its_end() -> None:
    async def entries() -> AsyncIterator[LoadRequest]:
        for number in range(100):
            yield LoadRequest(key=f"k{number}", value=b"v")

    async with dispensed() as (kv, _):
        assert await kv.load(entries()) == 100


async def test_a_bidi_stream_is_answered_after_its_last_request() -> None:
    async def changes() -> AsyncIterator[SyncRequest]:
        for number in range(3):
            yield SyncRequest(key="k", value=b"%d" % number)

    async with dispensed() as (kv, _):
        assert [reply.value async for reply in kv.sync(changes())] == [b"0", b"1", b"2"]


async def test_ping_pong_ends_at_its_deadline_as_told() -> None:
    answered = asyncio.Event()

    async def questions() -> AsyncIterator[SyncRequest]:
        yield SyncRequest(key="k", value=b"0")
        await answered.wait()

    async with dispensed() as (kv, _):
        quick = with_options(kv, timeout=0.2)
        with pytest.raises(TimeoutError):
            await anext(aiter(quick.sync(questions())))
    assert not answered.is_set()


async def test_a_refused_port_was_not_sent(unused_tcp_port: int) -> None:
    endpoint = f"http://127.0.0.1:{unused_tcp_port}"
    async with httpx.AsyncClient(trust_env=False) as http:
        config = ClientConfig(
            endpoint=endpoint, plugins=[kv_plugin], http_client=HttpxTransport(http)
        )
        with pytest.raises(PluginUnavailableError, match=endpoint) as caught:
            async with Client(config):
                pass
    cause = caught.value.__cause__
    assert isinstance(cause, ConnectError)
    assert delivery(cause) is Delivery.NOT_SENT


async def test_a_cancelled_call_cancels_the_handler() -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    class Slow(MemoryKV):
        async def get(self, key: str) -> bytes:
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                left.set()
            return b""

    async with dispensed(Slow()) as (kv, _):
        call = asyncio.ensure_future(kv.get("a"))
        await entered.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await left.wait()


async def test_redirects_are_not_followed_whatever_the_client_says() -> None:
    hits: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hits.append(request.url.host)
        return httpx.Response(307, headers={"location": "http://evil.example/"})

    async with httpx.AsyncClient(
        transport=httpx.MockTransport(answer), follow_redirects=True
    ) as http:
        config = ClientConfig(
            endpoint="http://127.0.0.1:1", plugins=[kv_plugin], http_client=HttpxTransport(http)
        )
        with pytest.raises(Exception, match=r"127\.0\.0\.1:1"):
            async with Client(config):
                pass
    assert set(hits) == {"127.0.0.1"}


async def test_an_answer_that_nobody_asked_to_pack_is_refused_unread() -> None:
    class Packed(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"\x1f\x8b" + b"0" * 64

    def answer(_: httpx.Request) -> httpx.Response:
        headers = {"content-type": "application/proto", "content-encoding": "gzip"}
        return httpx.Response(200, headers=headers, stream=Packed())

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        config = ClientConfig(
            endpoint="http://127.0.0.1:1", plugins=[kv_plugin], http_client=HttpxTransport(http)
        )
        with pytest.raises(Exception, match="gzip"):
            async with Client(config):
                pass
