"""Endpoints that go away and come back: who is asked meanwhile, and how soon they are back."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from random import Random
from typing import Any

import pytest
from connectrpc.errors import ConnectError
from pyqwest import Request, Response
from pyqwest.testing import ASGITransport

from connectplugin import (
    Client,
    ClientConfig,
    PluginUnavailableError,
    ServeConfig,
    ServerStack,
    create_app,
)
from connectplugin.testing import LoopClock, VirtualTime
from connectplugin_interceptors.balance.endpoint import EndpointState
from connectplugin_interceptors.circuit_breaker.machine import CircuitState
from connectplugin_interceptors.events import AttemptEnded, Event
from connectplugin_interceptors.outcome import Cause
from connectplugin_interceptors.server import ServerRateLimitPolicy
from kv_plugin import KV, kv_plugin
from server import MemoryKV

ONE, TWO = "http://one", "http://two"


class Network:
    """Applications by address; at an address without one nobody listens."""

    def __init__(self, *addresses: str) -> None:
        self.apps: dict[str, Any] = {}
        self.asked = Counter[str]()
        for address in addresses:
            self.start(address)

    def start(self, address: str, **fields: Any) -> None:
        config = ServeConfig(plugins=[kv_plugin.bind(MemoryKV())], **fields)
        self.apps[address] = create_app(config, clock=LoopClock())

    async def execute(self, request: Request) -> Response:
        address = "/".join(request.url.split("/")[:3])
        if address not in self.apps:
            raise ConnectionRefusedError(address)
        if "Handshake" not in request.url:
            self.asked[address] += 1
        return await ASGITransport(self.apps[address]).execute(request)


@contextlib.asynccontextmanager
async def opened(network: Network, *addresses: str, **options: Any) -> AsyncGenerator[Client]:
    config = ClientConfig(
        endpoint=addresses[0] if len(addresses) == 1 else list(addresses),
        plugins=[kv_plugin],
        allow_insecure=True,
        http_client=network,
        clock=LoopClock(),
        rng=Random(5),  # noqa: S311  # jitter
        **options,
    )
    async with Client(config) as client:
        yield client


async def ready(client: Client) -> None:
    async with asyncio.timeout(10):
        while set(client.endpoints.values()) != {EndpointState.READY}:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def increments(kv: KV, times: int) -> None:
    """Calls that must not be executed twice; each must succeed."""
    for _ in range(times):
        await kv.increment("a", 1)
        await asyncio.sleep(0.001)


async def test_who_drains_is_left_by_the_first_refusal_and_nothing_is_lost(
    virtual_time: VirtualTime,
) -> None:
    del virtual_time
    network = Network(ONE, TWO)
    events: list[Event] = []
    async with opened(network, ONE, TWO, listeners=[events.append]) as client:
        await ready(client)
        kv = client.dispense(kv_plugin)
        await increments(kv, 50)
        assert set(network.asked) == {ONE, TWO}
        await network.apps[ONE].drain()
        network.asked.clear()
        events.clear()
        await increments(kv, 50)
        refused = [e for e in events if isinstance(e, AttemptEnded) and e.cause is Cause.DRAINING]
        mine = [e for e in refused if "Handshake" not in e.method]
        assert len(mine) == network.asked[ONE] == 1
        assert client.endpoints[ONE] is EndpointState.CONNECTING


async def test_its_successor_is_back_within_a_second_with_no_call_lost(
    virtual_time: VirtualTime,
) -> None:
    network = Network(ONE, TWO)
    async with opened(network, ONE, TWO) as client:
        await ready(client)
        kv = client.dispense(kv_plugin)
        await network.apps[ONE].drain()
        await increments(kv, 50)
        del network.apps[ONE]  # it has ended
        await asyncio.sleep(20.0)
        assert client.endpoints[ONE] is EndpointState.CONNECTING
        network.start(ONE)
        started = virtual_time.now()
        await ready(client)
        assert virtual_time.now() - started <= 1.0
        network.asked.clear()
        await increments(kv, 100)
        assert network.asked[ONE] > 20


@pytest.mark.parametrize("addresses", [(ONE, TWO), (ONE,)], ids=["one of two", "the only one"])
async def test_a_circuit_that_is_open_since_nobody_is_there_ends_when_somebody_shakes_hands(
    virtual_time: VirtualTime, addresses: tuple[str, ...]
) -> None:
    network = Network(*addresses)
    async with opened(network, *addresses) as client:
        kv = client.dispense(kv_plugin)
        await ready(client)
        del network.apps[ONE]
        while circuit(client) is not CircuitState.OPEN:
            await asyncio.sleep(0.2)
            await attempted(kv)
        network.start(ONE)
        started = virtual_time.now()
        while circuit(client) is CircuitState.OPEN:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        assert virtual_time.now() - started <= 1.0
        network.asked.clear()
        await increments(kv, 10)
        assert network.asked[ONE]
        assert circuit(client) is CircuitState.CLOSED


async def test_a_server_that_takes_no_more_handshakes_is_unavailable_and_says_when(
    virtual_time: VirtualTime,
) -> None:
    """It read as if host and plugin did not fit."""
    del virtual_time
    one_a_minute = ServerRateLimitPolicy(per_second=1 / 60, burst=1)
    network = Network(ONE)
    network.start(ONE, stack=ServerStack(rate_limit=one_a_minute))
    async with opened(network, ONE):
        with pytest.raises(PluginUnavailableError, match=r"no more handshakes.*again in 60 s"):
            await opened(network, ONE).__aenter__()


async def test_handshakes_with_who_is_gone_keep_a_pace(virtual_time: VirtualTime) -> None:
    network = Network(ONE, TWO)
    events: list[Event] = []
    async with opened(network, ONE, TWO, listeners=[events.append]) as client:
        await ready(client)
        del network.apps[ONE]
        kv = client.dispense(kv_plugin)
        until = virtual_time.now() + 60.0
        while virtual_time.now() < until:
            await increments(kv, 10)
            await asyncio.sleep(0.05)
        handshakes = [e for e in events if isinstance(e, AttemptEnded) and "Handshake" in e.method]
        # Each is repeated once by its own chain.
        assert 60 < len(handshakes) < 2 * 130


async def attempted(kv: KV) -> None:
    with contextlib.suppress(ConnectError):
        await kv.get("a")


def circuit(client: Client) -> CircuitState:
    found = [status.state for status in client.breakers.status() if status.endpoint == ONE]
    return found[0] if found else CircuitState.CLOSED
