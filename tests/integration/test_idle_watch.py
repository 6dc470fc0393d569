"""A stream that has nothing to say is not a server that hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from connectplugin import Client, ClientConfig, DeadlineExceededError, ServeConfig, create_app
from connectplugin.serving import early_head
from connectplugin.serving.early_head import HEAD_AFTER
from connectplugin.testing import VirtualTime
from kv.v1.kv_pb import WatchResponse
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
