"""Injected faults through the real chain: the layers above must take them for real ones."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    Cause,
    CircuitBreakerPolicy,
    CircuitOpenError,
    ClientStack,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    Fault,
    FaultPolicy,
    Outcome,
    RetryPolicy,
    ServerStack,
    delivery,
    with_options,
)
from connectplugin_interceptors.events import AttemptEnded, FaultInjected
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.peer import Peer, answers, hangs
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
streaming = pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])


def faulty(*faults: Fault, **others: Any) -> ClientStack:
    stack: dict[str, Any] = {"retry_policy": None, "circuit_breaker": None, **others}
    return ClientStack(fault=FaultPolicy(faults=faults), **stack)


ERRORS: list[tuple[Any, Code, Cause, Outcome, Delivery]] = [
    ("refuse", Code.UNAVAILABLE, Cause.CONNECTION, Outcome.FAILURE, Delivery.NOT_SENT),
    ("disconnect", Code.UNAVAILABLE, Cause.TRANSPORT, Outcome.FAILURE, Delivery.MAYBE),
    ("drop", Code.DEADLINE_EXCEEDED, Cause.DEADLINE, Outcome.FAILURE, Delivery.MAYBE),
    (Code.UNAVAILABLE, Code.UNAVAILABLE, Cause.UNAVAILABLE, Outcome.FAILURE, Delivery.MAYBE),
    (Code.INTERNAL, Code.INTERNAL, Cause.UNKNOWN, Outcome.FAILURE, Delivery.MAYBE),
    (Code.NOT_FOUND, Code.NOT_FOUND, Cause.BUSINESS, Outcome.ANSWERED, Delivery.ANSWERED),
]
every_error = pytest.mark.parametrize(
    ("error", "code", "cause", "outcome", "delivered"), ERRORS, ids=str
)


@every_error
@every_shape
async def test_an_error_looks_as_if_it_had_really_happened(  # noqa: PLR0917  # a table's columns
    virtual_time: VirtualTime,
    shape: Shape,
    error: Any,
    code: Code,
    cause: Cause,
    outcome: Outcome,
    delivered: Delivery,
) -> None:
    peer, listener = Peer(answers()), RecordingListener()
    async with peer.client(faulty(Fault(error=error)), listeners=[listener]) as client:
        with pytest.raises(ConnectError) as caught:
            await shape.run(client, timeout_ms=2000)
    assert caught.value.code is code
    assert delivery(caught.value) is delivered
    (ended,) = listener.of(AttemptEnded)
    assert (ended.cause, ended.outcome) == (cause, outcome)
    assert peer.calls == []
    assert virtual_time.now() == pytest.approx(2.0 if error == "drop" else 0.0)
    (injected,) = listener.of(FaultInjected)
    assert injected.fault == (error if isinstance(error, str) else error.value)


@every_shape
async def test_only_the_reply_may_be_lost(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(answers(3))
    stack = faulty(Fault(error="disconnect", after_reply=True))
    async with peer.client(stack) as client:
        with pytest.raises(ConnectError, match="connection reset") as caught:
            await shape.run(client)
    assert peer.outcomes == ["done"]
    assert delivery(caught.value) is Delivery.MAYBE
    assert virtual_time.now() == 0.0


@every_shape
async def test_latency_comes_before_the_call(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(answers())
    async with peer.client(faulty(Fault(latency=0.5), Fault(latency=(0.25, 0.25)))) as client:
        await shape.run(client)
    assert peer.sent_at == pytest.approx([0.75])
    assert virtual_time.now() == pytest.approx(0.75)


@every_shape
async def test_latency_beyond_the_deadline_ends_at_the_deadline(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(answers())
    async with peer.client(faulty(Fault(latency=60.0))) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await shape.run(client, timeout_ms=300)
    assert virtual_time.now() == pytest.approx(0.3)
    assert delivery(caught.value) is Delivery.MAYBE
    assert peer.sent == []


@every_shape
async def test_what_is_dropped_is_ended_by_the_attempt_and_tried_again(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(answers())
    stack = faulty(
        Fault(share=0.5, error="drop"),
        deadline=DeadlinePolicy(total=30.0, attempt=1.0),
        retry_policy=RetryPolicy(initial_backoff=0.0, max_backoff=0.0, idempotent=True),
    )
    rng = Random(3)  # noqa: S311  # the first attempt is struck, the second is not
    async with peer.client(stack, rng=rng) as client:
        if shape.streams_requests:
            with pytest.raises(ConnectError):
                await _until_struck(shape, client)
            return
        await _until_struck(shape, client)
    assert virtual_time.now() == pytest.approx(1.0)


async def _until_struck(shape: Shape, client: Any) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while loop.time() == started:
        await shape.run(client)


@every_shape
async def test_a_call_that_hangs_can_be_cancelled(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(answers())
    async with peer.client(faulty(Fault(error="drop"), deadline=None)) as client:
        task = asyncio.create_task(shape.run(client))
        await virtual_time.sleep(5.0)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await shape.run(client)
    assert virtual_time.now() == pytest.approx(6.0)


async def _until_broken(responses: AsyncIterator[bytes]) -> tuple[list[bytes], ConnectError]:
    got: list[bytes] = []
    try:
        async with closing(responses):
            async for response in responses:
                got.append(response)  # noqa: PERF401  # what came before the error counts
    except ConnectError as error:
        return got, error
    pytest.fail("it did not break")


@streaming
@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_stream_breaks_off_after_so_many_messages(
    virtual_time: VirtualTime, shape: Shape, count: int
) -> None:
    peer = Peer(answers(100, every=0.1))
    async with peer.client(faulty(Fault(truncate_after=count))) as client:
        got, error = await _until_broken(shape.responses(client))
    assert got == [str(number).encode() for number in range(count)]
    assert "connection reset" in error.message
    assert delivery(error) is Delivery.MAYBE
    for call in peer.calls:
        await call.ended.wait()
        assert call.outcome in {"left", "cancelled"}
    assert virtual_time.now() == pytest.approx(count * 0.1)


@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.CLIENT_STREAM])
async def test_calls_with_one_response_are_not_cut(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(answers())
    async with peer.client(faulty(Fault(truncate_after=0))) as client:
        await shape.run(client)
    assert virtual_time.now() == 0.0


@every_shape
async def test_it_is_off_by_default_and_on_by_method_or_option(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    policy = FaultPolicy(faults=[Fault(error=Code.INTERNAL, methods=[shape.path])])
    peer = Peer(answers())
    async with peer.client(ClientStack(retry_policy=None)) as client:
        await shape.run(client)
        await client.increment(IncrementRequest(key="a"))
        broken = with_options(client, fault=policy)
        await broken.increment(IncrementRequest(key="a"))
        with pytest.raises(ConnectError, match=r"internal \(injected\)"):
            await shape.run(broken)
    assert virtual_time.now() == 0.0


async def test_a_seed_makes_the_same_choices_again(virtual_time: VirtualTime) -> None:
    async def choices(seed: int | None) -> list[bool]:
        policy = FaultPolicy(faults=[Fault(share=0.3, error=Code.INTERNAL)], seed=seed)
        peer = Peer(answers())
        results: list[bool] = []
        async with peer.client(ClientStack.bare(fault=policy), rng=Random()) as client:  # noqa: S311
            for _ in range(60):
                try:
                    await client.get(GetRequest(key="a"))
                    results.append(True)
                except ConnectError:
                    results.append(False)
        return results

    assert await choices(7) == await choices(7)
    assert await choices(7) != await choices(8)
    assert await choices(None) != await choices(None)


async def test_the_breaker_takes_it_for_an_outage(virtual_time: VirtualTime) -> None:
    peer = Peer(answers())
    breaker = CircuitBreakerPolicy(failure_threshold=3)
    stack = faulty(Fault(error="disconnect"), circuit_breaker=breaker)
    async with peer.client(stack) as client:
        for _ in range(3):
            with pytest.raises(ConnectError, match="connection reset"):
                await client.get(GetRequest(key="a"))
        with pytest.raises(CircuitOpenError):
            await client.get(GetRequest(key="a"))


async def test_max_active_spares_the_others(virtual_time: VirtualTime) -> None:
    policy = FaultPolicy(faults=[Fault(latency=1.0)], max_active=2)
    peer = Peer(answers())
    async with peer.client(ClientStack(fault=policy)) as client:
        await asyncio.gather(*(client.get(GetRequest(key="a")) for _ in range(5)))
        assert peer.sent_at == pytest.approx([0.0, 0.0, 0.0, 1.0, 1.0])
        task = asyncio.create_task(client.get(GetRequest(key="a")))
        await virtual_time.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.gather(*(client.get(GetRequest(key="a")) for _ in range(3)))
    assert peer.sent_at[5:] == pytest.approx([1.1, 2.1, 2.1])


# --- On the server --------------------------------------------------------------------------------


def served(*faults: Fault, **others: Any) -> Peer:
    stack = ServerStack(fault=FaultPolicy(faults=faults), **others)
    return Peer(answers(5), interceptors=stack.interceptors())


@pytest.mark.parametrize(
    ("error", "code", "delivered"),
    [
        ("refuse", Code.UNAVAILABLE, Delivery.NOT_SENT),
        ("disconnect", Code.UNAVAILABLE, Delivery.MAYBE),
        (Code.INTERNAL, Code.INTERNAL, Delivery.MAYBE),
        (Code.NOT_FOUND, Code.NOT_FOUND, Delivery.ANSWERED),
    ],
)
@every_shape
async def test_a_server_s_fault_looks_like_its_handler_s_doing(
    virtual_time: VirtualTime, shape: Shape, error: Any, code: Code, delivered: Delivery
) -> None:
    peer = served(Fault(error=error))
    async with peer.client(ClientStack.bare()) as client:
        with pytest.raises(ConnectError, match=r"\(injected\)") as caught:
            await shape.run(client)
    assert caught.value.code is code
    assert delivery(caught.value) is delivered
    assert peer.calls == []
    assert virtual_time.now() == 0.0


@every_shape
async def test_a_server_that_drops_hangs_until_the_deadline(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = served(Fault(error="drop"))
    async with peer.client(ClientStack.bare()) as client:
        with pytest.raises(DeadlineExceededError):
            await shape.run(client, timeout_ms=700)
    assert virtual_time.now() == pytest.approx(0.7, abs=0.01)


@every_shape
async def test_a_server_can_be_slow_and_lose_replies(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = served(Fault(latency=0.5, error=Code.UNAVAILABLE, after_reply=True))
    async with peer.client(ClientStack.bare()) as client:
        with pytest.raises(ConnectError, match="injected"):
            await shape.run(client)
    assert peer.outcomes == ["done"]
    assert virtual_time.now() == pytest.approx(0.5)


@streaming
async def test_a_server_can_break_streams_off(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = served(Fault(truncate_after=2, error=Code.INTERNAL))
    async with peer.client(ClientStack.bare()) as client:
        got, error = await _until_broken(shape.responses(client))
    assert got == [b"0", b"1"]
    assert error.message == "internal (injected)"
    assert virtual_time.now() == 0.0


async def test_on_the_server_it_is_inside_of_all_limits(virtual_time: VirtualTime) -> None:
    stack = ServerStack(fault=FaultPolicy(faults=[Fault(latency=1)]))
    assert stack.describe().splitlines()[-2].startswith("fault ")
    assert ServerStack().fault is None


async def test_requests_are_not_read_beyond_what_the_struck_call_took(
    virtual_time: VirtualTime,
) -> None:
    taken: list[str] = []

    async def keys() -> AsyncIterator[str]:
        for number in range(5):
            taken.append(f"k{number}")
            yield f"k{number}"

    peer = Peer(hangs())
    async with peer.client(faulty(Fault(error="disconnect"))) as client:
        with pytest.raises(ConnectError):
            await Shape.CLIENT_STREAM.run(client, keys())
    assert taken == []
