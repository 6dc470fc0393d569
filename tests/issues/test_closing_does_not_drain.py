"""connectrpc/connect-go#789: to close a stream must not mean to read the rest of it.

There, closing a server stream read the response to its end first; with a silent peer that blocked
for tens of minutes. Here a consumer leaves after the first message, of a peer that then says
nothing, or floods: over a real connection and in process.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any

import pytest

from kv.v1.kv_pb import SyncRequest, SyncResponse, WatchResponse
from kv_plugin import KV, kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere

AT_ONCE = 1.0
"""Seconds; 0.1 on a machine of one's own. To drain would take for ever."""

MEGABYTE = bytes(1_000_000)


class Talker(MemoryKV):
    """After one message silent, or endless."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0
        self.ended = asyncio.Event()

    async def watch(self, prefix: str) -> AsyncGenerator[WatchResponse]:
        try:
            yield WatchResponse(key="first")
            if prefix == "silent":
                await asyncio.Event().wait()
            while True:
                self.sent += 1
                yield WatchResponse(key="flood", value=MEGABYTE)
        finally:
            self.ended.set()

    async def sync(self, changes: AsyncIterable[SyncRequest]) -> AsyncIterator[SyncResponse]:
        del changes
        async with contextlib.aclosing(self.watch("flood")) as watched:
            async for change in watched:
                yield SyncResponse(key=change.key, value=change.value)


async def silence() -> AsyncIterator[SyncRequest]:
    await asyncio.Event().wait()
    yield SyncRequest()


STREAMS: dict[str, Callable[[KV], AsyncIterator[Any]]] = {
    "a silent watch": lambda kv: kv.watch("silent"),
    "a flooding watch": lambda kv: kv.watch("flood"),
    "a flooding bidi stream": lambda kv: kv.sync(silence()),
}


@everywhere
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
async def test_leaving_after_the_first_message(
    location: Location, stream: Callable[[KV], AsyncIterator[Any]]
) -> None:
    impl = Talker()
    async with location.client({"plugins": [kv_plugin.bind(impl)]}, plugins=[kv_plugin]) as client:
        kv = client.dispense(kv_plugin)
        responses: Any = stream(kv)
        async with contextlib.aclosing(responses):
            assert (await anext(responses)).key == "first"
            async with asyncio.timeout(AT_ONCE):
                await responses.aclose()
        async with asyncio.timeout(AT_ONCE):
            await impl.ended.wait()
        sent = impl.sent
        assert sent < 40  # what the buffers on the way take, and no more
        for number in range(20):
            await kv.put("a", b"%d" % number)
            assert await kv.get("a") == b"%d" % number
        assert impl.sent == sent
