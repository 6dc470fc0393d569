"""Deadlines through the real chain: which rules, what the wire says, what is paid from it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    Cause,
    ClientStack,
    ConfigError,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    RetryPolicy,
    ServerStack,
    delivery,
    with_options,
)
from connectplugin_interceptors.events import AttemptEnded, CallEnded, RetryStopped
from connectplugin_interceptors.outcome import Outcome
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, WatchRequest
from tests.contract.peer import (
    Handler,
    Peer,
    answers,
    breaks,
    echoes,
    fails,
    ground,
    hangs,
    pending,
    refused,
)
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
PROTOCOLS = list(ProtocolType)
ONCE = RetryPolicy(max_attempts=1)
SINGLE = [Shape.UNARY, Shape.CLIENT_STREAM]
STREAMING = [Shape.SERVER_STREAM, Shape.BIDI_STREAM]


def limits(**seconds: float | None) -> ClientStack:
    """A stack of these limits only, without retries."""
    return ground(
        deadline=DeadlinePolicy(**{"total": None, "attempt": None, **seconds}), retry_policy=ONCE
    )


def wire(headers: dict[str, str]) -> float | None:
    """Seconds in whichever header there is."""
    if (connect := headers.get("connect-timeout-ms")) is not None:
        assert connect == str(int(connect))
        return int(connect) / 1000
    if (grpc := headers.get("grpc-timeout")) is not None:
        assert grpc.endswith("m")
        return int(grpc[:-1]) / 1000
    return None


async def expires(client: KVServiceClient, shape: Shape, **options: Any) -> DeadlineExceededError:
    with pytest.raises(DeadlineExceededError) as caught:
        await shape.run(client, **options)
    return caught.value


# --- Which one rules ---


@every_shape
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_total_ends_calls_with_one_response(
    virtual_time: VirtualTime, shape: Shape, protocol: ProtocolType
) -> None:
    peer = Peer(hangs())
    client = peer.client(limits(total=3.0, stream_total=7.0), protocol=protocol)
    error = await expires(client, shape)
    limit = 7.0 if shape.streams_responses else 3.0
    assert virtual_time.now() == pytest.approx(limit)
    assert wire(peer.sent[0]) == limit
    assert error.code is Code.DEADLINE_EXCEEDED
    assert isinstance(error, TimeoutError)
    assert (error.sent, error.delivery, delivery(error)) == (True, Delivery.MAYBE, Delivery.MAYBE)
    assert peer.calls[0].timeout == pytest.approx(limit)
    await asyncio.sleep(0.01)
    assert peer.outcomes == ["cancelled"]


@every_shape
async def test_the_standard_limits(virtual_time: VirtualTime, shape: Shape) -> None:
    # Total 30 s, attempt 10 s, no limit for what streams once it has begun.
    peer = Peer(hangs(after=1 if shape.streams_responses else 0))
    client = peer.client(ground(retry_policy=RetryPolicy(max_attempts=5, budget=None)))
    if shape.streams_responses:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000.0):
                await shape.run(client)
        assert wire(peer.sent[0]) is None
        return
    await expires(client, shape)
    if shape is Shape.UNARY:
        assert virtual_time.now() == pytest.approx(30.0, abs=0.002)
        first, second, third = map(wire, peer.sent)
        assert first == second == 10.0
        assert third is not None
        assert 9.6 < third < 10.0
    else:  # its requests may have been processed
        assert virtual_time.now() == pytest.approx(10.0)


@every_shape
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_least_limit_rules(
    virtual_time: VirtualTime, shape: Shape, protocol: ProtocolType
) -> None:
    stack = limits(total=5.0, stream_total=5.0)
    for caller, option, expected in [
        (None, None, 5.0),
        (2000, None, 2.0),
        (None, 3.0, 3.0),
        (2000, 1.0, 1.0),
        (1000, 2.0, 1.0),
        (9000, None, 5.0),
        (None, 9.0, 5.0),
    ]:
        peer = Peer(hangs())
        client = peer.client(stack, protocol=protocol)
        if option is not None:
            client = with_options(client, timeout=option)
        before = virtual_time.now()
        options = {} if caller is None else {"timeout_ms": caller}
        await expires(client, shape, **options)
        assert virtual_time.now() - before == pytest.approx(expected)
        assert wire(peer.sent[0]) == pytest.approx(expected)


@every_shape
async def test_without_any_limit_nothing_is_on_the_wire(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(hangs())
    client = peer.client(ClientStack.bare())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(10_000.0):
            await shape.run(client)
    assert virtual_time.now() >= 10_000.0
    assert wire(peer.sent[0]) is None


@pytest.mark.usefixtures("virtual_time")
async def test_the_clients_own_timeout_ms_counts() -> None:
    peer = Peer(hangs())
    await expires(peer.client(limits(total=5.0), timeout_ms=500), Shape.UNARY)
    assert wire(peer.sent[0]) == 0.5


# --- Per attempt ---


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.SERVER_STREAM])
async def test_each_attempt_writes_its_own_remaining_time(
    shape: Shape, protocol: ProtocolType
) -> None:
    # Platform: a second attempt 0.3 s later sends the first one's header again.
    peer = Peer(fails(Code.UNAVAILABLE, delay=0.3), answers())
    stack = ground(
        deadline=DeadlinePolicy(total=1.0, attempt=None, stream_total=1.0),
        retry_policy=RetryPolicy(initial_backoff=0.0, budget=None),
    )
    await shape.run(peer.client(stack, protocol=protocol))
    first, second = map(wire, peer.sent)
    assert first == 1.0
    assert second == pytest.approx(0.7, abs=0.001)
    assert [headers.get("grpc-previous-rpc-attempts") for headers in peer.sent] == [None, "1"]
    # The handler that ran second has been given that, and no more.
    assert peer.calls[1].timeout == pytest.approx(0.7, abs=0.001)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("protocol", PROTOCOLS)
@every_shape
async def test_streams_of_responses_carry_the_totals_time(
    shape: Shape, protocol: ProtocolType
) -> None:
    # A server that obeys an attempt's limit would cut a stream that flows.
    peer = Peer(answers(5, every=1.0))
    stack = ground(
        deadline=DeadlinePolicy(total=30.0, attempt=2.0, stream_total=20.0), retry_policy=ONCE
    )
    client = peer.client(stack, protocol=protocol)
    if shape.streams_responses:
        assert len(await shape.run(client)) == 5
        assert wire(peer.sent[0]) == 20.0
    else:
        await expires(client, shape)
        assert wire(peer.sent[0]) == 2.0


@pytest.mark.parametrize("shape", STREAMING)
@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_the_attempts_limit_holds_until_the_first_message(
    virtual_time: VirtualTime, shape: Shape, protocol: ProtocolType
) -> None:
    peer = Peer(hangs(), answers(3, every=1.9))
    stack = ground(
        deadline=DeadlinePolicy(attempt=2.0),
        retry_policy=RetryPolicy(initial_backoff=0.0, budget=None),
    )
    listener = RecordingListener()
    client = peer.client(stack, protocol=protocol, listeners=[listener])
    if shape is Shape.SERVER_STREAM:
        assert len(await shape.run(client)) == 3
        assert virtual_time.now() == pytest.approx(2.0 + 3 * 1.9)
        assert wire(peer.sent[1]) is None
    else:
        error = await expires(client, shape)
        assert virtual_time.now() == pytest.approx(2.0)
        assert "2 s" in str(error)
    first = listener.of(AttemptEnded)[0]
    assert (first.cause, first.outcome) == (Cause.DEADLINE, Outcome.FAILURE)


@pytest.mark.parametrize("shape", STREAMING)
async def test_the_attempts_limit_ends_with_the_head(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    # A server that sends its head at once and its first message late: gRPC's servers do.
    async def early_head(scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def later(message: Any) -> None:
            if not (begun and message["type"] == "http.response.start"):
                await send(message)

        if scope["type"] == "http":
            begun = True
            await send(
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"content-type", b"application/connect+proto")],
                }
            )
        await peer.app(scope, receive, later)

    peer = Peer(answers(2, every=50.0))
    peer.serve(early_head)
    client = peer.client(ground())
    assert len(await shape.run(client)) == 2
    assert virtual_time.now() == pytest.approx(100.0)


@every_shape
async def test_an_attempt_that_expires_is_followed_by_another(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(hangs(), answers())
    stack = ground(deadline=DeadlinePolicy(total=5.0, attempt=1.0, stream_total=5.0))
    client = peer.client(stack)
    if shape.streams_requests:  # some may have been processed
        await expires(client, shape)
        assert len(peer.sent) == 1
        return
    await shape.run(client)
    assert 1.0 <= virtual_time.now() <= 1.05
    await asyncio.sleep(0.01)
    assert peer.outcomes == ["cancelled", "done"]


# --- Waits are paid from it ---


@every_shape
async def test_backoff_is_paid_from_the_deadline(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(refused())
    stack = ground(
        deadline=DeadlinePolicy(total=1.0, attempt=None, stream_total=1.0),
        retry_policy=RetryPolicy(max_attempts=5, initial_backoff=0.4, budget=None),
    )
    listener = RecordingListener()
    with pytest.raises(ConnectError) as caught:
        await shape.run(peer.client(stack, listeners=[listener]))
    assert virtual_time.now() <= 1.0
    assert caught.value.code is Code.UNAVAILABLE  # no limit that was not reached
    assert listener.of(RetryStopped)[0].reason in {"deadline", "max_attempts"}
    for headers, at in zip(peer.sent, peer.sent_at, strict=True):
        assert wire(headers) == pytest.approx(1.0 - at, abs=0.0011)


@every_shape
async def test_waiting_for_readiness_is_paid_from_the_deadline(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(refused())
    error = await expires(
        peer.client(
            ground(
                deadline=DeadlinePolicy(total=2.0, attempt=None, stream_total=2.0),
                wait_for_ready=True,
            )
        ),
        shape,
    )
    assert virtual_time.now() == pytest.approx(2.0)
    assert (error.sent, delivery(error)) == (False, Delivery.NOT_SENT)


@every_shape
@pytest.mark.parametrize("scope", ["call", "attempt"])
async def test_an_interceptor_of_the_applications_own_cannot_outstay_it(
    virtual_time: VirtualTime, shape: Shape, scope: str
) -> None:
    class Slow:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            await asyncio.sleep(100.0)
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(
            self, call_next: Any, request: Any, ctx: Any
        ) -> AsyncIterator[Any]:
            await asyncio.sleep(100.0)
            async for response in call_next(request, ctx):
                yield response

        intercept_bidi_stream = intercept_server_stream

    stack = limits(total=2.0, stream_total=2.0).adding(**{scope: [Slow()]})
    peer = Peer(answers())
    error = await expires(peer.client(stack), shape)
    assert virtual_time.now() == pytest.approx(2.0, abs=0.03)
    assert error.sent is False
    assert peer.sent == []


@every_shape
@pytest.mark.parametrize("scope", ["call", "attempt"])
async def test_beside_the_applications_own_a_hung_peer_is_the_peers_failure(
    virtual_time: VirtualTime, shape: Shape, scope: str
) -> None:
    # Two timers run out together: the outer one must not turn the failure into a cancellation.
    class Plain:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(
            self, call_next: Any, request: Any, ctx: Any
        ) -> AsyncIterator[Any]:
            async with aclosing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response

        intercept_bidi_stream = intercept_server_stream

    listener = RecordingListener()
    stack = limits(total=2.0, stream_total=2.0).adding(**{scope: [Plain()]})
    error = await expires(Peer(hangs()).client(stack, listeners=[listener]), shape)
    assert virtual_time.now() == pytest.approx(2.0)
    assert error.sent
    attempts = [(event.outcome, event.cause) for event in listener.of(AttemptEnded)]
    calls = [(event.outcome, event.cause) for event in listener.of(CallEnded)]
    assert attempts == calls == [(Outcome.FAILURE, Cause.DEADLINE)]


@every_shape
async def test_an_interceptor_per_attempt_is_within_the_attempts_limit(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    # A source of credentials that hangs once: the attempt expires, unsent, and the next succeeds.
    class Credentials:
        def __init__(self) -> None:
            self.asked = 0

        async def fetch(self) -> None:
            self.asked += 1
            if self.asked == 1:
                await asyncio.sleep(100.0)

        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            await self.fetch()
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(
            self, call_next: Any, request: Any, ctx: Any
        ) -> AsyncIterator[Any]:
            await self.fetch()
            async for response in call_next(request, ctx):
                yield response

        intercept_bidi_stream = intercept_server_stream

    peer = Peer(answers())
    stack = ground(
        deadline=DeadlinePolicy(total=10.0, attempt=1.0),
        retry_policy=RetryPolicy(budget=None, idempotent=False),
        attempt=[Credentials()],
    )
    await shape.run(peer.client(stack))
    assert 1.0 <= virtual_time.now() <= 1.05
    assert len(peer.sent) == 1


# --- What is left is too little ---


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_less_than_a_millisecond_fails_here(shape: Shape) -> None:
    peer = Peer(answers())
    client = peer.client(limits(total=5.0, stream_total=5.0))
    for milliseconds in (0, -5):
        error = await expires(client, shape, timeout_ms=milliseconds)
        assert error.sent is False
    assert peer.sent == []


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_what_the_deadline_said_over_several_attempts(shape: Shape) -> None:
    # The worst of all: whatever the first attempt's was, the second may have been sent.
    for first in [refused()] if shape.streams_requests else [refused(), breaks()]:
        peer = Peer(first, pending())
        client = peer.client(
            ground(
                deadline=DeadlinePolicy(total=1.0, attempt=None, stream_total=1.0),
                retry_policy=RetryPolicy(budget=None),
            )
        )
        error = await expires(client, shape)
        assert error.delivery is Delivery.MAYBE
        assert len(peer.sent) == 2


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_a_servers_own_deadline_is_told_as_one(shape: Shape) -> None:
    peer = Peer(fails(Code.DEADLINE_EXCEEDED))
    listener = RecordingListener()
    error = await expires(peer.client(ground(retry_policy=ONCE), listeners=[listener]), shape)
    assert "told to fail with deadline_exceeded" in error.message
    assert [event.cause for event in listener.of(CallEnded)] == [Cause.DEADLINE]


async def test_a_slow_consumer_is_not_cut_by_the_attempts_limit(virtual_time: VirtualTime) -> None:
    peer = Peer(answers(3))
    received = 0
    async for _ in peer.client(ground()).watch(WatchRequest(prefix="a")):
        received += 1
        await asyncio.sleep(100.0)
    assert received == 3
    assert virtual_time.now() == pytest.approx(300.0)


async def test_a_streams_total_does_not_cancel_the_consumers_own_work(
    virtual_time: VirtualTime,
) -> None:
    peer = Peer(answers(3))
    worked = 0
    with pytest.raises(DeadlineExceededError):  # noqa: PT012  # what it worked counts
        async for _ in peer.client(limits(stream_total=1.0)).watch(WatchRequest(prefix="a")):
            await asyncio.sleep(5.0)
            worked += 1
    assert worked == 1
    assert virtual_time.now() == pytest.approx(5.0)


# --- A plugin that calls another plugin ---


class Calls:
    """Handlers that call the peer behind them."""

    def __init__(self, client: KVServiceClient) -> None:
        self.client = client
        self.results: list[object] = []
        self.background: list[asyncio.Task[None]] = []

    async def call(self) -> None:
        try:
            self.results.append((await self.client.get(GetRequest(key="b"))).value)
        except ConnectError as error:
            self.results.append(error)
            raise


@pytest.mark.parametrize("server", [ServerStack().interceptors(), []])
async def test_the_handlers_calls_inherit_what_is_left(
    virtual_time: VirtualTime, server: list[Any]
) -> None:
    back = Peer(hangs())
    calls = Calls(back.client(limits(total=30.0)))

    async def behave(_seen: Any, keys: AsyncIterator[str], _ctx: Any) -> AsyncIterator[bytes]:
        async for _ in keys:
            pass
        await asyncio.sleep(0.1)
        await calls.call()
        yield b"done"

    front = Peer(Handler(behave), interceptors=server)
    with pytest.raises(DeadlineExceededError):
        await front.client(limits(total=0.3)).get(GetRequest(key="a"))
    assert virtual_time.now() == pytest.approx(0.3, abs=0.002)
    if server:
        assert wire(back.sent[0]) == pytest.approx(0.2, abs=0.002)
    else:  # a server without the stack knows of no inheritance
        assert wire(back.sent[0]) == 30.0
    await asyncio.sleep(0.01)
    assert back.outcomes == ["cancelled"]


async def test_background_work_does_not_inherit_a_deadline_that_is_over(
    virtual_time: VirtualTime,
) -> None:
    # cases.md: the job outlives the call that has started it.
    back = Peer(answers())
    calls = Calls(back.client(limits(total=30.0)))

    async def later() -> None:
        await asyncio.sleep(0.6)
        await calls.call()

    async def behave(_seen: Any, keys: AsyncIterator[str], _ctx: Any) -> AsyncIterator[bytes]:
        async for _ in keys:
            pass
        calls.background.append(asyncio.create_task(later()))
        yield b"started"

    front = Peer(Handler(behave), interceptors=ServerStack().interceptors())
    response = await front.client(limits(total=0.3)).get(GetRequest(key="a"))
    assert response.value == b"started"
    assert virtual_time.now() < 0.3
    await calls.background[0]
    assert virtual_time.now() == pytest.approx(0.6)
    assert calls.results == [b"0"]
    assert wire(back.sent[0]) == 30.0


async def test_background_work_beside_a_running_call_has_its_own_time(
    virtual_time: VirtualTime,
) -> None:
    back = Peer(hangs())
    calls = Calls(back.client(limits(total=2.0)))

    async def behave(_seen: Any, keys: AsyncIterator[str], _ctx: Any) -> AsyncIterator[bytes]:
        async for _ in keys:
            pass
        calls.background.append(asyncio.create_task(calls.call()))
        await asyncio.sleep(0.2)
        yield b"done"

    front = Peer(Handler(behave), interceptors=ServerStack().interceptors())
    await front.client(limits(total=0.3)).get(GetRequest(key="a"))
    with pytest.raises(DeadlineExceededError):
        await calls.background[0]
    assert virtual_time.now() == pytest.approx(2.0)
    assert wire(back.sent[0]) == 2.0
    error = calls.results[0]
    assert isinstance(error, DeadlineExceededError)
    assert "2.000 s" in error.message


async def test_streams_inherit_too(virtual_time: VirtualTime) -> None:
    back = Peer(hangs(after=1))
    client = back.client(ground())

    async def behave(_seen: Any, keys: AsyncIterator[str], _ctx: Any) -> AsyncIterator[bytes]:
        async for _ in keys:
            pass
        async for response in client.watch(WatchRequest(prefix="b")):
            yield response.value

    front = Peer(Handler(behave), interceptors=ServerStack().interceptors())
    with pytest.raises(DeadlineExceededError):
        await Shape.SERVER_STREAM.run(front.client(limits(stream_total=1.0)))
    assert virtual_time.now() == pytest.approx(1.0)
    assert wire(back.sent[0]) == pytest.approx(1.0, abs=0.01)


# --- Configuration ---


def test_limits_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"attempt is 5.0, above total \(1.0\)"):
        DeadlinePolicy(total=1.0, attempt=5.0)
    for wrong in (0, -1, float("nan"), float("inf"), "1", True):
        for field in ("total", "attempt", "stream_total"):
            with pytest.raises(ConfigError, match=f"DeadlinePolicy.{field} is"):
                DeadlinePolicy(**{"attempt": None, field: wrong})  # type: ignore[arg-type]


async def test_echo_of_a_slow_conversation(virtual_time: VirtualTime) -> None:
    # Ping-pong for minutes under the standard limits: nobody waits for a first message any more.
    async def keys() -> AsyncIterator[str]:
        for number in range(20):
            yield str(number)
            await asyncio.sleep(9.0)

    peer = Peer(echoes())
    assert len(await Shape.BIDI_STREAM.run(peer.client(ground()), keys())) == 20
    assert virtual_time.now() == pytest.approx(180.0)
