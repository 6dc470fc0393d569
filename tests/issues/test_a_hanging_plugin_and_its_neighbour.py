"""A service that hangs opened the circuit of its endpoint for every other service there (chaos C9).

With several plugins on one server, one plugin's outage was everybody's.
"""

from collections import Counter
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Client, Headers, HTTPVersion, Request, Response

from connectplugin._gen.grpc.health.v1.health_connect import HealthClient
from connectplugin._gen.grpc.health.v1.health_pb import HealthCheckRequest
from connectplugin.testing import LoopClock, VirtualTime
from connectplugin_interceptors import (
    CircuitBreakerPolicy,
    CircuitOpenError,
    ClientStack,
    EndpointPool,
    TapTransport,
)
from connectplugin_interceptors.circuit_breaker.interceptor import breakers_of
from connectplugin_interceptors.circuit_breaker.machine import CircuitState
from connectplugin_interceptors.routing import BALANCED_URL, RoutingTransport
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest

HOSTS = ["http://one", "http://two"]


class Hosts:
    """Both serve health, and fail every call of the KV service."""

    def __init__(self) -> None:
        self.asked = Counter[str]()

    async def execute(self, request: Request) -> Response:
        down = "KVService" in request.url
        self.asked["kv" if down else "health"] += 1
        body = b'{"code":"unavailable"}' if down else b""
        return Response(
            status=503 if down else 200,
            http_version=HTTPVersion.HTTP1,
            headers=Headers(
                [("content-type", "application/json" if down else "application/proto")]
            ),
            content=body,
        )


class Two:
    """Two generated clients over one chain, as the plugins of a `Client` are."""

    def __init__(self, policy: CircuitBreakerPolicy) -> None:
        self.hosts = Hosts()
        pool = EndpointPool(HOSTS, fixed=True)
        self.chain = ClientStack(circuit_breaker=policy, retry_policy=None).interceptors(
            clock=LoopClock(), observed=True, pool=pool
        )
        http = Client(TapTransport(RoutingTransport(pool, lambda _: self.hosts)))
        options: dict[str, Any] = {
            "interceptors": self.chain,
            "http_client": http,
            "accept_compression": (),
        }
        self.kv = KVServiceClient(BALANCED_URL, **options)
        self.health = HealthClient(BALANCED_URL, **options)

    async def fail(self, times: int) -> None:
        for _ in range(times):
            with pytest.raises(ConnectError) as caught:
                await self.kv.get(GetRequest(key="a"))
            assert caught.value.code is Code.UNAVAILABLE


async def test_a_service_that_fails_takes_no_other_along(virtual_time: VirtualTime) -> None:
    del virtual_time
    two = Two(CircuitBreakerPolicy())
    await two.fail(50)
    assert two.hosts.asked["kv"] == 10, "five at each endpoint, then their circuits are open"
    for _ in range(20):
        await two.health.check(HealthCheckRequest())
    states = {(status.method, status.state) for status in breakers_of(two.chain).status()}
    assert states == {
        ("kv.v1.KVService/*", CircuitState.OPEN),
        ("grpc.health.v1.Health/*", CircuitState.CLOSED),
    }


async def test_a_handshake_reaches_the_circuits_of_all_services(virtual_time: VirtualTime) -> None:
    del virtual_time
    two = Two(CircuitBreakerPolicy())
    await two.fail(50)
    breakers = breakers_of(two.chain)
    breakers.probe_now("http://one")
    assert [s.state for s in breakers.status() if s.endpoint == "http://one"] == [
        CircuitState.HALF_OPEN
    ]


async def test_who_wants_it_has_one_circuit_for_all(virtual_time: VirtualTime) -> None:
    del virtual_time
    two = Two(CircuitBreakerPolicy(scope="endpoint"))
    await two.fail(50)
    with pytest.raises(CircuitOpenError):
        await two.health.check(HealthCheckRequest())
    assert two.hosts.asked["health"] == 0
