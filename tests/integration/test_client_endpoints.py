"""A client of several endpoints: handshakes, traffic, replaced servers."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import (
    BalancePolicy,
    Client,
    ClientConfig,
    ClientStack,
    ConfigError,
    IncompatibleVersionError,
    PluginUnavailableError,
    ServeConfig,
    Server,
    create_app,
)
from connectplugin.testing import VirtualTime
from connectplugin_interceptors.balance.endpoint import EndpointState
from kv.v1.kv_pb import LoadRequest
from kv_plugin import KV, kv_plugin
from server import MemoryKV

TURNS = BalancePolicy(policy="round_robin")
DEAD = "http://127.0.0.1:9"


class Named(MemoryKV):
    """Says who it is."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.calls = 0

    async def get(self, key: str) -> bytes:
        del key
        self.calls += 1
        return self.name.encode()


def app(impl: Any, **fields: Any) -> Any:
    return create_app(ServeConfig(plugins=[kv_plugin.bind(impl)], **fields))


@contextlib.asynccontextmanager
async def servers(*impls: Any) -> AsyncGenerator[list[str]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            (
                await stack.enter_async_context(
                    Server(ServeConfig(plugins=[kv_plugin.bind(impl)], addr="127.0.0.1:0"))
                )
            ).url
            for impl in impls
        ]


async def entries() -> AsyncIterator[LoadRequest]:
    yield LoadRequest(key="k", value=b"v")


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # the other end's doing
            await asyncio.sleep(0.005)


async def ask(kv: KV, times: int) -> Counter[bytes]:
    return Counter([await kv.get("a") for _ in range(times)])


async def test_calls_are_balanced_over_urls_and_applications() -> None:
    async with servers(Named("a"), Named("b")) as urls:
        config = ClientConfig(
            endpoint=[*urls, app(Named("c"))], plugins=[kv_plugin], load_balancing=TURNS
        )
        async with Client(config) as client:
            await until(lambda: set(client.endpoints.values()) == {EndpointState.READY})
            assert list(client.endpoints) == [*urls, "http://in-process"]
            kv = client.dispense(kv_plugin)
            assert await ask(kv, 30) == {b"a": 10, b"b": 10, b"c": 10}
            await kv.put("a", b"1")
            assert await kv.load(entries()) == 1


async def test_one_endpoint_that_answers_is_enough_and_the_others_get_no_traffic() -> None:
    good = Named("good")
    config = ClientConfig(
        endpoint=[DEAD, app(good), "http://127.0.0.1:10"], plugins=[kv_plugin], retry_policy=None
    )
    async with Client(config) as client:
        kv = client.dispense(kv_plugin)
        assert await ask(kv, 50) == {b"good": 50}
        assert client.endpoints[DEAD] is EndpointState.CONNECTING


async def test_when_nobody_answers_the_error_names_them_all() -> None:
    config = ClientConfig(endpoint=[DEAD, "http://127.0.0.1:10"], plugins=[kv_plugin])
    with pytest.raises(PluginUnavailableError) as caught:
        await Client(config).__aenter__()
    assert DEAD in str(caught.value)
    assert "http://127.0.0.1:10" in str(caught.value)


async def test_an_endpoint_that_comes_later_joins_once_it_has_shaken_hands() -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with servers(Named("late")) as (url,):
            pass  # its port is free again
        config = ClientConfig(
            endpoint=[url, app(Named("early"))], plugins=[kv_plugin], load_balancing=TURNS
        )
        client = await stack.enter_async_context(Client(config))
        kv = client.dispense(kv_plugin)
        assert await ask(kv, 4) == {b"early": 4}
        late = ServeConfig(
            plugins=[kv_plugin.bind(Named("late"))], addr=url.removeprefix("http://")
        )
        await stack.enter_async_context(Server(late))
        await until(lambda: client.endpoints[url] is EndpointState.READY)
        assert await ask(kv, 4) == {b"early": 2, b"late": 2}


def versions(*numbers: int, impl: Any) -> Any:
    return create_app(
        ServeConfig(versioned_plugins={number: [kv_plugin.bind(impl)] for number in numbers})
    )


async def test_all_endpoints_speak_the_version_that_was_agreed_on_first() -> None:
    low, both, high = Named("1"), Named("1 and 2"), Named("2")
    config = ClientConfig(
        endpoint=[versions(1, impl=low), versions(1, 2, impl=both), versions(2, impl=high)],
        versioned_plugins={1: [kv_plugin], 2: [kv_plugin]},
        load_balancing=TURNS,
    )
    async with Client(config) as client:
        agreed = client.server.app_version
        fitting = {1: {b"1", b"1 and 2"}, 2: {b"1 and 2", b"2"}}[agreed]
        await until(lambda: list(client.endpoints.values()).count(EndpointState.READY) == 2)
        assert set(await ask(client.dispense(kv_plugin), 20)) == fitting


async def test_versions_that_fit_nowhere_are_refused() -> None:
    config = ClientConfig(
        endpoint=[versions(2, impl=Named("a")), versions(3, impl=Named("b"))],
        versioned_plugins={1: [kv_plugin]},
    )
    with pytest.raises(IncompatibleVersionError, match="no common application version"):
        await Client(config).__aenter__()


class Replaceable:
    """An application that can be exchanged for another under the same address."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.inner(scope, receive, send)


async def test_a_replaced_server_shakes_hands_again_and_one_that_fits_no_more_is_left_out() -> None:
    place, other = Replaceable(versions(1, impl=Named("old"))), Named("other")
    config = ClientConfig(
        endpoint=[place, versions(1, impl=other)],
        versioned_plugins={1: [kv_plugin]},
        load_balancing=TURNS,
    )
    async with Client(config) as client:
        await until(lambda: set(client.endpoints.values()) == {EndpointState.READY})
        kv = client.dispense(kv_plugin)
        assert set(await ask(kv, 10)) == {b"old", b"other"}
        place.inner = versions(1, impl=Named("new"))
        assert set(await ask(kv, 10)) == {b"new", b"other"}
        place.inner = versions(7, impl=Named("alien"))
        answers = await ask(kv, 20)
        assert answers[b"alien"] <= 1  # who has answered is known when it has answered
        assert client.endpoints["http://in-process"] is EndpointState.CONNECTING
        assert await ask(kv, 10) == {b"other": 10}


async def test_a_call_goes_on_when_its_endpoint_dies(virtual_time: VirtualTime) -> None:
    del virtual_time
    calls: list[str] = []

    class Dying(Named):
        async def get(self, key: str) -> bytes:
            calls.append(self.name)
            raise ConnectError(Code.UNAVAILABLE, key)

    config = ClientConfig(
        endpoint=[app(Dying("dying")), app(Named("well"))],
        plugins=[kv_plugin],
        load_balancing=TURNS,
    )
    async with Client(config) as client:
        kv = client.dispense(kv_plugin)
        assert await ask(kv, 20) == {b"well": 20}
    # Its circuit opens after five; until then each call that finds it goes on to the other.
    assert len(calls) <= 6


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ([], "empty list"),
        ([DEAD, DEAD], "twice"),
        ([DEAD, 7], r"endpoint\[1\] is 7"),
        ([DEAD, "http://10.0.0.1"], r"endpoint\[1\].*plaintext"),
    ],
)
def test_what_cannot_be_an_endpoint_is_refused(endpoint: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        ClientConfig(endpoint=endpoint, plugins=[kv_plugin])


def test_a_stack_beside_a_policy_is_refused() -> None:
    with pytest.raises(ConfigError, match="load_balancing"):
        ClientConfig(endpoint=DEAD, plugins=[kv_plugin], stack=ClientStack(), load_balancing=TURNS)
