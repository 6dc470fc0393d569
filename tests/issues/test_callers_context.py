"""NVIDIA/NeMo-Agent-Toolkit#2178: what the caller set for its call was seen by calls nested in it.

A marker "already retrying", kept where concurrent and nested calls could see it, took their retries
away; a stream that was closed from another task took them from all that came later.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextvars import ContextVar
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import (
    Client,
    ClientConfig,
    DeadlineExceededError,
    ServeConfig,
    create_app,
    with_options,
)
from kv.v1.kv_pb import WatchResponse
from kv_plugin import KV, kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere

MARK: ContextVar[str] = ContextVar("mark", default="unset")


class FailsOnce(MemoryKV):
    """Fails every other call, and hangs for one key."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def get(self, key: str) -> bytes:
        if key == "hang":
            await asyncio.Event().wait()
        self.calls += 1
        if self.calls % 2:
            raise ConnectError(Code.UNAVAILABLE, "once more")
        return b"peer"


class Outer(MemoryKV):
    """Looks around, and calls a peer that fails once."""

    def __init__(self, peer: KV) -> None:
        super().__init__()
        self._peer = peer
        self.seen: list[tuple[str, bytes]] = []

    async def get(self, key: str) -> bytes:
        before = MARK.get()
        MARK.set("the handler's")
        self.seen.append((before, await self._peer.get(key)))
        return b"outer"

    async def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
        yield WatchResponse(key=MARK.get())
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def chained(location: Location) -> AsyncGenerator[tuple[Outer, FailsOnce, KV]]:
    """A host, a plugin, and the peer that the plugin calls in its turn."""
    peer = FailsOnce()
    inner = ClientConfig(
        endpoint=create_app(ServeConfig(plugins=[kv_plugin.bind(peer)])), plugins=[kv_plugin]
    )
    async with Client(inner) as to_peer:
        outer = Outer(to_peer.dispense(kv_plugin))
        config: dict[str, Any] = {"plugins": [kv_plugin.bind(outer)]}
        async with location.client(config, plugins=[kv_plugin]) as client:
            yield outer, peer, client.dispense(kv_plugin)


@everywhere
async def test_options_and_context_of_the_caller_stay_with_it(location: Location) -> None:
    async with chained(location) as (outer, peer, kv):
        MARK.set("the caller's")
        plain = with_options(kv, retry_policy=None, timeout=5.0)
        assert await plain.get("a") == b"outer"
        assert outer.seen == [("unset", b"peer")]  # nested: retried, although the caller has none
        assert peer.calls == 2
        assert MARK.get() == "the caller's"


@everywhere
async def test_the_remaining_time_does_arrive(location: Location) -> None:
    async with chained(location) as (_, _, kv):
        started = asyncio.get_running_loop().time()
        try:
            await with_options(kv, retry_policy=None, timeout=0.3).get("hang")
        except DeadlineExceededError:
            pass
        else:
            raise AssertionError("the peer never answers")
        assert asyncio.get_running_loop().time() - started < 5.0


@everywhere
async def test_a_stream_closed_by_another_task_takes_nothing_from_later_calls(
    location: Location,
) -> None:
    async with chained(location) as (outer, peer, kv):
        stream: Any = with_options(kv, retry_policy=None).watch("")
        assert (await anext(stream)).key == "unset"
        await asyncio.create_task(stream.aclose())
        assert await kv.get("a") == b"outer"
        assert outer.seen == [("unset", b"peer")]
        assert peer.calls == 2
