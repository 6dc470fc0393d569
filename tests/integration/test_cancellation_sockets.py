"""Cancellation over a real connection: asyncio's promise here, the handler's end there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from connectrpc.errors import ConnectError

from connectplugin import ServeConfig, Server
from connectplugin_interceptors import ClientStack
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, LoadRequest, SyncRequest, WatchRequest
from tests.contract.peer import ground
from tests.integration.serving_kv import TellingKV, bound

Call = Callable[[KVServiceClient], Awaitable[object]]


async def loads() -> AsyncIterator[LoadRequest]:
    yield LoadRequest(key="a")
    await asyncio.Event().wait()


async def hanging_loads() -> AsyncIterator[LoadRequest]:
    yield LoadRequest(key="hang")


async def syncs() -> AsyncIterator[SyncRequest]:
    yield SyncRequest(key="hang")
    await asyncio.Event().wait()


async def watch(client: KVServiceClient) -> None:
    async for _ in client.watch(WatchRequest(prefix="a")):
        pass


async def sync(client: KVServiceClient) -> None:
    async for _ in client.sync(syncs()):
        pass


CASES: dict[str, tuple[Call, str, str]] = {
    # The call, what says that its handler runs, and what says that it has ended.
    "unary": (lambda client: client.get(GetRequest(key="hang")), "hangs", "cancelled"),
    "client stream": (lambda client: client.load(hanging_loads()), "hangs", "cancelled"),
    "server stream": (watch, "hangs", "watch over"),
    "bidi stream with open requests": (sync, "hangs", "cancelled"),
}
STACKS = [ground(), ClientStack.bare()]


@pytest.mark.parametrize("stack", STACKS, ids=["standard", "bare"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_cancelled_call_ends_its_handler(
    case: tuple[Call, str, str], stack: ClientStack
) -> None:
    make, begun, ended = case
    impl = TellingKV()
    async with Server(ServeConfig(plugins=[bound(impl)], addr="127.0.0.1:0")) as server:
        url = server.url
        assert url is not None
        async with stack.client(KVServiceClient, url) as client:
            tasks = asyncio.all_tasks()
            call = asyncio.ensure_future(make(client))
            await impl.seen(begun)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert call.cancelled()
            await impl.seen(ended)
            assert impl.counts[begun] == 1  # and nothing came again
            await _none_left(tasks)
            # The connection, or another, still serves.
            assert (await client.get(GetRequest(key="x"))).value == b"x"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_a_timeout_around_a_call_is_a_timeout(case: tuple[Call, str, str]) -> None:
    make, begun, ended = case
    impl = TellingKV()
    async with Server(ServeConfig(plugins=[bound(impl)], addr="127.0.0.1:0")) as server:
        url: Any = server.url
        async with ground().client(KVServiceClient, url) as client:
            with pytest.raises(TimeoutError) as caught:
                async with asyncio.timeout(0.3):
                    await make(client)
            assert not isinstance(caught.value, ConnectError)
            await impl.seen(ended)
            assert impl.counts[begun] == 1


async def test_a_failing_sibling_ends_calls_of_all_shapes() -> None:
    impl = TellingKV()

    async def fail() -> None:
        await impl.seen("hangs", 4)
        msg = "sibling"
        raise ValueError(msg)

    async with Server(ServeConfig(plugins=[bound(impl)], addr="127.0.0.1:0")) as server:
        url: Any = server.url
        async with ground().client(KVServiceClient, url) as client:
            with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  # all are its tasks
                async with asyncio.TaskGroup() as group:
                    for make, _, _ in CASES.values():
                        group.create_task(_awaited(make(client)))
                    group.create_task(fail())
            assert [type(error) for error in caught.value.exceptions] == [ValueError]
            await impl.seen("cancelled", 4)


async def _awaited(call: Awaitable[object]) -> None:
    await call


async def _none_left(tasks: set[asyncio.Task[Any]]) -> None:
    """The server's tasks of the call end a little later than the client's."""
    async with asyncio.timeout(5.0):
        while _of_the_client(asyncio.all_tasks() - tasks):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)


def _of_the_client(tasks: set[asyncio.Task[Any]]) -> list[str]:
    # The server runs in this loop too, and keeps tasks of its own for each connection.
    names = [f"{task.get_coro()!r}" for task in tasks]
    return [name for name in names if "Replay" in name or "kv_connect" in name or "loads" in name]
