"""A client that is closed while calls are under way: they end at once, and say why."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import (
    Client,
    ClientConfig,
    Delivery,
    RejectedError,
    RetryPolicy,
    delivery,
)
from kv.v1.kv_pb import LoadRequest, SyncRequest, SyncResponse, WatchResponse
from kv_plugin import KV, kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere

SOON = 2.0
"""Seconds; nothing here waits on time, so this is for a slow machine only."""


class Idle(MemoryKV):
    """Says nothing, and notes what is going on in it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: int = 0
        self.left = 0

    async def _idle(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.left += 1

    async def get(self, key: str) -> bytes:
        if key == "idle":
            await self._idle()
        return b""

    async def load(self, entries: AsyncIterable[LoadRequest]) -> int:
        await self._idle()
        return 0

    async def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
        yield WatchResponse(key="first")
        await self._idle()

    async def sync(self, changes: AsyncIterable[SyncRequest]) -> AsyncIterator[SyncResponse]:
        await self._idle()
        yield SyncResponse()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def never() -> AsyncIterator[Any]:
    await asyncio.Event().wait()
    yield None


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


SHAPES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "unary": lambda kv: kv.get("idle"),
    "client stream": lambda kv: kv.load(never()),
    "server stream": lambda kv: all_of(kv.watch("")),
    "bidi stream": lambda kv: all_of(kv.sync(never())),
}


@everywhere
@pytest.mark.parametrize("call", SHAPES.values(), ids=SHAPES)
async def test_calls_end_when_their_client_is_closed(
    location: Location, call: Callable[[KV], Awaitable[Any]]
) -> None:
    impl = Idle()
    async with location.served(plugins=[kv_plugin.bind(impl)]) as endpoint:
        async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])) as client:
            running = asyncio.ensure_future(call(client.dispense(kv_plugin)))
            await until(lambda: impl.begun == 1)
        assert running.done()
        with pytest.raises(ConnectError, match="the Client was closed") as caught:
            await running
        assert caught.value.code is Code.CANCELED
        assert delivery(caught.value) is Delivery.MAYBE
        await until(lambda: impl.left == 1)
    assert impl.begun == 1


@everywhere
async def test_a_stream_that_nobody_reads_just_now_is_closed(location: Location) -> None:
    impl = Idle()
    async with location.served(plugins=[kv_plugin.bind(impl)]) as endpoint:
        async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])) as client:
            stream = client.dispense(kv_plugin).watch("")
            assert (await anext(stream)).key == "first"
            await until(lambda: impl.begun == 1)
        await until(lambda: impl.left == 1)
        with pytest.raises(ConnectError, match="the Client was closed"):
            await anext(stream)


@everywhere
async def test_a_call_of_a_closed_client_is_refused(location: Location) -> None:
    config: dict[str, Any] = {"plugins": [kv_plugin.bind(Idle())]}
    async with location.served(**config) as endpoint:
        async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])) as client:
            kv = client.dispense(kv_plugin)
        with pytest.raises(RejectedError, match="the Client is closed") as caught:
            await kv.get("a")
        assert caught.value.reason == "closed"
        assert delivery(caught.value) is Delivery.NOT_SENT
        with pytest.raises(RejectedError, match="the Client is closed"):
            await anext(kv.watch(""))


class Failing(Idle):
    """Can be called again."""

    async def get(self, key: str) -> bytes:
        self.begun += 1
        raise ConnectError(Code.UNAVAILABLE, "not now")


@everywhere
async def test_a_call_that_waits_to_be_sent_again_ends_too(location: Location) -> None:
    impl = Failing()
    slow = RetryPolicy(max_attempts=2, initial_backoff=25.0, max_backoff=25.0)
    async with location.served(plugins=[kv_plugin.bind(impl)]) as endpoint:
        config = ClientConfig(
            endpoint=endpoint,
            plugins=[kv_plugin],
            retry_policy=slow,
            rng=Random(1),  # noqa: S311
        )  # the wait is 3 s
        async with Client(config) as client:
            running = asyncio.ensure_future(client.dispense(kv_plugin).get("a"))
            await until(lambda: impl.begun == 1)
            await asyncio.sleep(0.05)  # the answer arrives, and the wait begins
        assert running.done()
        with pytest.raises(ConnectError, match="the Client was closed"):
            await running


@everywhere
async def test_a_cancellation_at_the_same_time_stays_one(location: Location) -> None:
    impl = Idle()
    async with location.served(plugins=[kv_plugin.bind(impl)]) as endpoint:
        async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])) as client:
            running = asyncio.ensure_future(client.dispense(kv_plugin).get("idle"))
            await until(lambda: impl.begun == 1)
            running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
