"""The server's rate limit through a real client and server: who is refused, and what he is told."""

import asyncio
import math
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Request, Response

from connectplugin.testing import VirtualTime
from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors import (
    ClientStack,
    Delivery,
    Outcome,
    Quota,
    RetryPolicy,
    ServerRateLimit,
    ServerRateLimitPolicy,
    ServerStack,
    delivery,
)
from connectplugin_interceptors._gen.google.rpc.error_details_pb import RetryInfo
from connectplugin_interceptors.outcome import noted_verdict
from connectplugin_interceptors.server.stack import ServerLink
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.peer import Peer, answers
from tests.contract.shape import SHAPES, Shape

BARE = ClientStack.bare()
ONE_A_SECOND = ServerRateLimitPolicy(per_second=1, burst=1)

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


class Peers(Peer):
    """A server that sees its callers at addresses; `address` is that of the next call."""

    def __init__(self, interceptors: list[ServerLink]) -> None:
        super().__init__(answers(), interceptors=interceptors)
        self.address: tuple[str, int] | None = ("10.0.0.1", 40_000)
        self.heads: list[dict[str, str]] = []
        served = self.app

        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def noted(message: Any) -> None:
                if message["type"] == "http.response.start":
                    pairs = ((k.decode(), v.decode()) for k, v in message["headers"])
                    self.heads.append(dict(pairs))
                await send(message)

            await served({**scope, "client": self.address}, receive, noted)

        self.transport: Any = _Over(self, app)


class _Over:
    def __init__(self, peer: Peers, app: Any) -> None:
        self._peer = peer
        self._inner = InProcessTransport(app)

    async def execute(self, request: Request) -> Response:
        step: Any = self._peer.step()
        self._peer.plan(step.behave, request)
        return await self._inner.execute(request)


def limited(policy: ServerRateLimitPolicy | None) -> Peers:
    return Peers(ServerStack(rate_limit=policy).interceptors())


@every_shape
async def test_who_is_above_the_quota_is_refused_before_the_body_is_read(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = limited(ONE_A_SECOND)
    read: list[str] = []

    async def keys() -> AsyncIterator[str]:
        for key in "ab":
            read.append(key)
            yield key
            await asyncio.sleep(0.01)

    async with peer.client(BARE) as client:
        await shape.run(client)
        with pytest.raises(ConnectError, match="over the limit of 1 calls a second") as caught:
            await shape.run(client, keys() if shape.streams_requests else ["a"])
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert len(peer.calls) == 1
    assert "b" not in read
    head = peer.heads[-1]
    assert head["x-connectplugin-nack"] == "rate_limited"
    assert head["retry-after"] == "1"
    assert head["grpc-retry-pushback-ms"] == "1000"
    assert (head["x-ratelimit-limit"], head["x-ratelimit-remaining"]) == ("1", "0")
    assert head["x-ratelimit-reset"] == "1"
    (detail,) = caught.value.details
    info = detail.value(RetryInfo)
    assert info is not None
    assert info.retry_delay is not None
    assert (info.retry_delay.seconds, info.retry_delay.nanos) == (1, 0)
    assert virtual_time.now() < 0.1


@every_shape
async def test_a_refusal_is_no_failure_of_the_peer_and_nothing_was_sent(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    """Guards against the breaker that a rate limit opens."""
    peer = limited(ONE_A_SECOND)
    async with peer.client(BARE) as client:
        await shape.run(client)
        with pytest.raises(ConnectError) as caught:
            await shape.run(client)
    verdict = noted_verdict(caught.value)
    assert verdict is not None
    assert verdict.outcome is Outcome.REFUSED
    assert delivery(caught.value) is Delivery.NOT_SENT
    assert virtual_time.now() < 0.1


async def test_our_client_comes_back_when_it_is_told_whatever_the_method(
    virtual_time: VirtualTime,
) -> None:
    peer = limited(ServerRateLimitPolicy(per_second=0.5, burst=1))
    stack = ClientStack(retry_policy=RetryPolicy(max_attempts=2))
    async with peer.client(stack, rng=Random(1)) as client:  # noqa: S311  # jitter
        await client.increment(IncrementRequest(key="a"))
        await client.increment(IncrementRequest(key="a"))
    assert virtual_time.now() == pytest.approx(2.0)
    assert len(peer.calls) == 2


async def _refused(client: Any) -> ConnectError:
    while True:
        try:
            await client.get(GetRequest(key="a"))
        except ConnectError as error:
            return error


def _retry_info(error: ConnectError) -> float:
    info = error.details[0].value(RetryInfo)
    assert info is not None
    assert info.retry_delay is not None
    return info.retry_delay.seconds + info.retry_delay.nanos / 1e9


@pytest.mark.parametrize("per_second", [2.0, 0.3, 3.0, 700.0])
@pytest.mark.parametrize("spelling", ["retry-after", "info", "reset", "pushback"])
async def test_the_hint_is_never_one_tick_too_early(
    virtual_time: VirtualTime, per_second: float, spelling: str
) -> None:
    """flask-limiter #62, fastify-rate-limit #301: waiting as told led to another refusal."""
    rng = Random(f"{per_second} {spelling}")  # noqa: S311  # phases
    peer = limited(ServerRateLimitPolicy(per_second=per_second, burst=1))
    async with peer.client(BARE) as client:
        for _ in range(50):
            await virtual_time.sleep(rng.random() / per_second)
            error = await _refused(client)
            head = peer.heads[-1]
            hints = {
                "retry-after": float(head["retry-after"]),
                "info": _retry_info(error),
                "reset": float(head["x-ratelimit-reset"]),
                "pushback": int(head["grpc-retry-pushback-ms"]) / 1000,
            }
            assert head["retry-after"].isdigit()
            assert int(head["retry-after"]) == max(1, math.ceil(hints["info"]))
            assert max(hints.values()) - min(hints.values()) < 1.0
            assert all(0.0 < wait <= 1.0 + 1 / per_second for wait in hints.values())
            await virtual_time.sleep(hints[spelling])
            await client.get(GetRequest(key="a"))


async def test_connections_of_one_address_count_together_and_others_apart(
    virtual_time: VirtualTime,
) -> None:
    peer = limited(ONE_A_SECOND)
    codes: list[Code | None] = []
    async with peer.client(BARE) as client:
        for address in (
            ("10.0.0.1", 40_000),
            ("10.0.0.1", 40_001),
            ("10.0.0.2", 40_000),
            ("2001:db8::1", 40_000),
            ("2001:db8::1", 40_001),
            ("2001:db8::2", 40_001),
        ):
            peer.address = address
            try:
                await client.get(GetRequest(key="a"))
                codes.append(None)
            except ConnectError as error:
                codes.append(error.code)
    full = Code.RESOURCE_EXHAUSTED
    assert codes == [None, full, None, None, full, None]
    assert virtual_time.now() < 0.1


@pytest.mark.parametrize("address", [None, ("127.0.0.1", 0)])
async def test_who_has_no_address_is_not_limited_by_it(
    virtual_time: VirtualTime, address: tuple[str, int] | None
) -> None:
    """A unix socket, or a plugin in this very process: there is nobody to shield from."""
    peer = limited(ONE_A_SECOND)
    peer.address = address
    async with peer.client(BARE) as client:
        for _ in range(20):
            await client.get(GetRequest(key="a"))
    assert virtual_time.now() < 0.1


async def test_methods_can_have_quotas_of_their_own_or_none(virtual_time: VirtualTime) -> None:
    policy = ServerRateLimitPolicy(
        per_second=1,
        burst=1,
        methods={
            "kv.v1.KVService/Increment": Quota(per_second=1, burst=3),
            "kv.v1.KVService/*": None,
        },
    )
    peer = limited(policy)
    async with peer.client(BARE) as client:
        for _ in range(10):
            await client.get(GetRequest(key="a"))
        for _ in range(3):
            await client.increment(IncrementRequest(key="a"))
        with pytest.raises(ConnectError, match="over the limit"):
            await client.increment(IncrementRequest(key="a"))
    assert peer.heads[-1]["x-ratelimit-limit"] == "3"
    assert virtual_time.now() < 0.1


async def test_the_key_can_be_the_method_or_a_function(virtual_time: VirtualTime) -> None:
    def principal(ctx: Any) -> str | None:
        name: str | None = ctx.request_headers.get("x-principal")
        return name

    by_principal = ServerRateLimit(ServerRateLimitPolicy(per_second=1, burst=1, key=principal))
    peer = Peers(ServerStack(rate_limit=None, admission=[by_principal]).interceptors())
    async with peer.client(BARE) as client:
        for name in ("ann", "bob"):
            await client.get(GetRequest(key="a"), headers={"x-principal": name})
            with pytest.raises(ConnectError, match="over the limit"):
                await client.get(GetRequest(key="a"), headers={"x-principal": name})
        for _ in range(3):
            await client.get(GetRequest(key="a"))
    by_method = limited(ServerRateLimitPolicy(per_second=1, burst=1, key="method"))
    async with by_method.client(BARE) as client:
        await client.get(GetRequest(key="a"))
        by_method.address = ("10.0.0.9", 1)
        await client.increment(IncrementRequest(key="a"))
        with pytest.raises(ConnectError, match="over the limit"):
            await client.get(GetRequest(key="a"))
    assert virtual_time.now() < 0.1


async def test_the_quota_stands_on_every_response_if_asked_for(virtual_time: VirtualTime) -> None:
    peer = limited(ServerRateLimitPolicy(per_second=1, burst=5, tell_quota=True))
    async with peer.client(BARE) as client:
        for _ in range(3):
            await client.get(GetRequest(key="a"))
    told = [
        tuple(head[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset"))
        for head in peer.heads
    ]
    assert told == [("5", "4", "1"), ("5", "3", "2"), ("5", "2", "3")]
    assert virtual_time.now() < 0.1


async def test_the_default_is_a_thousand_a_second_and_two_thousand_at_once(
    virtual_time: VirtualTime,
) -> None:
    stack = ServerStack()
    assert stack.rate_limit == ServerRateLimitPolicy(per_second=1000, burst=2000)
    assert stack.describe().index("rate limit") > stack.describe().index("deadline")
    peer = Peers(stack.interceptors())
    async with peer.client(BARE) as client:
        for _ in range(2000):
            await client.get(GetRequest(key="a"))
        with pytest.raises(ConnectError, match="over the limit of 1000"):
            await client.get(GetRequest(key="a"))
    assert virtual_time.now() < 0.1
