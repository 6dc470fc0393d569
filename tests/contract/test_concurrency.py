"""The client's concurrency through the real chain: bulkhead, adaptive limit and throttle."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ReadError

from connectplugin.testing import LoopClock, RecordingListener, VirtualTime
from connectplugin_interceptors import (
    AdaptiveLimitPolicy,
    BulkheadPolicy,
    CircuitBreakerPolicy,
    ClientStack,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    OverloadedError,
    RetryPolicy,
    ServerStack,
    ThrottlePolicy,
    delivery,
    with_options,
)
from connectplugin_interceptors.concurrency import Concurrency
from connectplugin_interceptors.events import CallEnded, Rejected, Waited
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_pb import GetRequest
from tests.contract.peer import Peer, answers, breaks, fails, hangs, refused
from tests.contract.shape import SHAPES, Shape
from tests.contract.standalone import call_context

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())

POLICIES: dict[str, BulkheadPolicy | AdaptiveLimitPolicy] = {
    "bulkhead": BulkheadPolicy(max_in_flight=2, max_queue=2, max_wait=5.0),
    "adaptive": AdaptiveLimitPolicy(max_limit=2, max_queue=2, max_wait=5.0),
}
either = pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)


def limited(policy: BulkheadPolicy | AdaptiveLimitPolicy, **others: Any) -> ClientStack:
    return ClientStack(concurrency=policy, **others)


@either
@every_shape
async def test_so_many_are_inside_so_many_wait_the_rest_is_refused_at_once(
    virtual_time: VirtualTime, shape: Shape, policy: BulkheadPolicy
) -> None:
    peer, listener = Peer(answers(every=1.0)), RecordingListener()
    async with peer.client(limited(policy), listeners=[listener]) as client:
        calls = [asyncio.create_task(shape.run(client, [f"k{n}"])) for n in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert peer.sent_at == pytest.approx([0.0, 0.0, 1.0, 1.0])
    for error in results[4:]:
        assert isinstance(error, OverloadedError)
        assert error.reason == "queue_full"
        assert error.retry_after == pytest.approx(0.1)
        assert delivery(error) is Delivery.NOT_SENT
    ended = [event.duration for event in listener.of(CallEnded)]
    assert ended[:2] == [0.0, 0.0]
    assert [event.policy for event in listener.of(Rejected)] == ["concurrency"] * 2
    assert [event.duration for event in listener.of(Waited)] == pytest.approx([1.0, 1.0])


@either
@every_shape
async def test_waiting_is_paid_from_the_deadline(
    virtual_time: VirtualTime, shape: Shape, policy: BulkheadPolicy
) -> None:
    peer = Peer(hangs())
    async with peer.client(limited(policy, deadline=DeadlinePolicy(attempt=None))) as client:
        held = [asyncio.create_task(shape.run(client)) for _ in range(2)]
        await virtual_time.sleep(0.1)
        with pytest.raises(DeadlineExceededError) as caught:
            await shape.run(client, timeout_ms=500)
        assert virtual_time.now() == pytest.approx(0.6)
        assert delivery(caught.value) is Delivery.NOT_SENT
        with pytest.raises(OverloadedError) as refused_here:
            await shape.run(client)
        assert refused_here.value.reason == "wait_over"
        assert virtual_time.now() == pytest.approx(5.6)
        for task in held:
            task.cancel()
        await asyncio.wait(held)
    assert len(peer.sent) == 2


async def test_who_would_wait_past_the_deadline_is_refused_at_once(
    virtual_time: VirtualTime,
) -> None:
    """1.10: reject at once if the expected wait >= remaining."""
    peer = Peer(answers(every=0.2))
    policy = BulkheadPolicy(max_in_flight=1, max_queue=50, max_wait=60.0)
    async with peer.client(limited(policy)) as client:
        calls = [asyncio.create_task(client.get(GetRequest(key="a"))) for _ in range(30)]
        await virtual_time.sleep(3.1)
        before = virtual_time.now()
        with pytest.raises(OverloadedError) as caught:
            await client.get(GetRequest(key="late"), timeout_ms=1000)
        assert caught.value.reason == "too_late"
        assert virtual_time.now() == before
        await asyncio.gather(*calls)
    assert len(peer.sent) == 30


@either
@every_shape
async def test_a_slot_spans_retries_and_the_waits_between_them(
    virtual_time: VirtualTime, shape: Shape, policy: BulkheadPolicy
) -> None:
    nack = [("x-connectplugin-nack", "draining"), ("grpc-retry-pushback-ms", "1000")]
    peer = Peer(
        fails(Code.UNAVAILABLE, headers=nack, reading=False),
        fails(Code.UNAVAILABLE, headers=nack, reading=False),
        answers(),
    )
    async with peer.client(limited(policy)) as client:
        calls = [asyncio.create_task(shape.run(client)) for _ in range(4)]
        await asyncio.gather(*calls)
    assert peer.sent_at == pytest.approx([0.0, 0.0, 1.0, 1.0, 1.0, 1.0])


@either
@pytest.mark.parametrize("how", ["succeeds", "fails", "breaks", "is refused", "is cancelled"])
@every_shape
async def test_the_slot_comes_back_however_a_call_ends(
    virtual_time: VirtualTime, shape: Shape, policy: BulkheadPolicy, how: str
) -> None:
    steps = {
        "succeeds": answers(),
        "fails": fails(Code.NOT_FOUND),
        "breaks": breaks(ReadError("reset")),
        "is refused": refused(),
        "is cancelled": hangs(),
    }
    peer = Peer(steps[how])
    stack = limited(policy, retry_policy=None, circuit_breaker=None)
    async with peer.client(stack) as client:
        for _ in range(20):
            task = asyncio.create_task(shape.run(client))
            await virtual_time.sleep(0.01)
            if how == "is cancelled":
                task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or not isinstance(task.exception(), OverloadedError)
    assert len(peer.sent) == 20


@either
@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_a_stream_holds_its_slot_until_it_is_left(
    virtual_time: VirtualTime, shape: Shape, policy: BulkheadPolicy
) -> None:
    peer = Peer(answers(100, every=0.1))
    async with peer.client(limited(policy)) as client:
        streams = [shape.responses(client) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        for _ in range(3):
            with pytest.raises(DeadlineExceededError):
                await shape.run(client, timeout_ms=50)
        async with closing(streams[0]):
            pass
        assert await anext(shape.responses(client)) == b"0"
        async with closing(streams[1]):
            pass
    assert virtual_time.now() < 1.0


async def test_the_default_is_a_thousand_calls_and_no_queue(virtual_time: VirtualTime) -> None:
    assert ClientStack().concurrency == BulkheadPolicy(max_in_flight=1000, max_queue=0)
    assert ClientStack.bare().concurrency is None
    peer = Peer(answers(every=1.0))
    async with peer.client(ClientStack()) as client:
        calls = [asyncio.create_task(client.get(GetRequest(key="a"))) for _ in range(1000)]
        await virtual_time.sleep(0.5)
        with pytest.raises(OverloadedError, match="all of this client's 1000 slots are taken"):
            await client.get(GetRequest(key="a"))
        free = with_options(client, concurrency=None)
        await free.get(GetRequest(key="a"))
        await asyncio.gather(*calls)


async def test_a_refusal_teaches_nobody_anything(virtual_time: VirtualTime) -> None:
    peer = Peer(hangs())
    stack = limited(
        BulkheadPolicy(max_in_flight=1), circuit_breaker=CircuitBreakerPolicy(failure_threshold=2)
    )
    async with peer.client(stack) as client:
        held = asyncio.create_task(client.get(GetRequest(key="a")))
        await virtual_time.sleep(0.1)
        for _ in range(50):
            with pytest.raises(OverloadedError):
                await client.get(GetRequest(key="a"))
        peer.script = [answers()]
        held.cancel()
        await asyncio.wait([held])
        await client.get(GetRequest(key="a"))


# --- The adaptive limit ---------------------------------------------------------------------------


async def test_streams_take_slots_but_not_those_of_short_calls(virtual_time: VirtualTime) -> None:
    """concurrency-limits #107: a stream's duration is no latency, and must not shut others out."""
    clock = LoopClock()
    link = Concurrency(clock=clock, emit=None)
    policy = AdaptiveLimitPolicy(max_limit=20, initial_limit=2)

    async def leaf(seconds: float, _: object) -> None:
        await clock.sleep(seconds)

    async def forever(_: object, __: object) -> AsyncIterator[int]:
        while True:
            yield 1
            await clock.sleep(60.0)

    async def short() -> None:
        await link.intercept_unary(leaf, 1.0, call_context(clock, concurrency=policy))

    def stream() -> AsyncIterator[int]:
        context = call_context(clock, concurrency=policy)
        return link.intercept_server_stream(forever, None, context)

    streams = [stream() for _ in range(18)]
    for each in streams:
        await anext(each)
    results = await asyncio.gather(*(short() for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 2 + [OverloadedError] * 3
    # But nobody gets more than there are slots in all.
    more = [stream() for _ in range(2)]
    for each in more:
        await anext(each)
    with pytest.raises(OverloadedError, match="20 slots are taken"):
        await short()
    for each in [*streams, *more]:
        async with closing(each):
            pass
    limiter = link.limiter(policy)
    assert (limiter.in_flight, limiter.slots) == (0, 2)


async def test_a_server_refuses_what_would_only_wait_and_says_that_it_was_not_processed(
    virtual_time: VirtualTime,
) -> None:
    policy = AdaptiveLimitPolicy(max_limit=3, pushback=0.25)
    peer = Peer(answers(every=1.0), interceptors=ServerStack(adaptive_limit=policy).interceptors())
    stack = ClientStack.bare()
    async with peer.client(stack) as client:
        calls = [asyncio.create_task(client.get(GetRequest(key="a"))) for _ in range(3)]
        await virtual_time.sleep(0.5)
        with pytest.raises(ConnectError, match="at its adaptive limit of 3 calls") as caught:
            await client.get(GetRequest(key="a"))
        assert caught.value.code is Code.UNAVAILABLE
        assert delivery(caught.value) is Delivery.NOT_SENT
        await asyncio.gather(*calls)
        # And the client's retry, which may follow whatever the method is, gets in.
    assert len(peer.calls) == 3


async def test_it_is_on_by_default_on_a_server_and_off_on_a_client() -> None:
    assert ServerStack().adaptive_limit == AdaptiveLimitPolicy(max_limit=1000, initial_limit=200)
    shown = ServerStack().describe()
    assert shown.index("rate limit") < shown.index("adaptive limit") < shown.index("bulkhead")
    assert isinstance(ClientStack().concurrency, BulkheadPolicy)


@pytest.mark.parametrize("seed", range(20))
async def test_the_adaptive_limit_loses_and_doubles_no_slot(
    virtual_time: VirtualTime, seed: int
) -> None:
    """cases.md, "a permit lost, or granted twice", while the limit itself moves."""
    rng = Random(seed)  # noqa: S311  # interleavings
    clock = LoopClock()
    link = Concurrency(clock=clock, emit=None)
    policy = AdaptiveLimitPolicy(max_limit=8, max_queue=6, max_wait=1.0, window=0.5)
    inside = most = 0

    async def leaf(seconds: float, _: object) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            await clock.sleep(seconds)
            if rng.random() < 0.1:
                raise ConnectError(Code.DEADLINE_EXCEEDED, "too late")
        finally:
            inside -= 1

    async def call() -> None:
        seconds = rng.choice([0.0, 0.05, 0.1, 0.4])
        await link.intercept_unary(leaf, seconds, call_context(clock, concurrency=policy))

    tasks: list[asyncio.Task[None]] = []
    for _ in range(600):
        tasks.append(asyncio.create_task(call()))
        if rng.random() < 0.25:
            rng.choice(tasks[-20:]).cancel()
        await asyncio.sleep(rng.choice([0.0, 0.0, 0.05]))
    await asyncio.wait(tasks)
    limiter = link.limiter(policy)
    assert (limiter.in_flight, limiter.waiting, inside) == (0, 0, 0)
    assert most <= 8
    free = [asyncio.create_task(call()) for _ in range(limiter.slots)]
    await asyncio.sleep(0)
    assert limiter.in_flight + sum(task.done() for task in free) >= limiter.slots
    await asyncio.wait(free)


# --- The throttle ---------------------------------------------------------------------------------


def throttled(**fields: Any) -> ClientStack:
    return ClientStack.bare(throttle=ThrottlePolicy(**fields))


async def outcomes(shape: Shape, client: Any, count: int) -> dict[str, int]:
    counts: dict[str, int] = {}
    for _ in range(count):
        try:
            await shape.run(client)
            word = "ok"
        except OverloadedError as error:
            word = error.reason
        except ConnectError as error:
            word = error.code.value
        except RuntimeError:
            word = "bug"
        counts[word] = counts.get(word, 0) + 1
    return counts


@every_shape
async def test_a_server_that_refuses_is_asked_less_and_less_and_never_not_at_all(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(fails(Code.UNAVAILABLE))
    async with peer.client(throttled()) as client:
        counts = await outcomes(shape, client, 500)
        assert 0.7 * 500 <= counts["throttled"] <= 0.85 * 500
        assert counts["throttled"] + counts["unavailable"] == 500
        assert len(peer.sent) == counts["unavailable"]
        peer.script = [answers()]
        await virtual_time.sleep(121.0)
        assert await outcomes(shape, client, 50) == {"ok": 50}


@every_shape
async def test_a_server_that_refuses_less_than_half_is_not_throttled(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    """K = 2: up to one refusal for each accepted request is none of the throttle's business."""
    peer = Peer(*[answers(), answers(), fails(Code.RESOURCE_EXHAUSTED)] * 100)
    async with peer.client(throttled()) as client:
        assert await outcomes(shape, client, 300) == {"ok": 200, "resource_exhausted": 100}


@pytest.mark.parametrize("code", [Code.NOT_FOUND, Code.INTERNAL, Code.INVALID_ARGUMENT])
@every_shape
async def test_any_other_answer_is_an_accepted_one(
    virtual_time: VirtualTime, shape: Shape, code: Code
) -> None:
    peer = Peer(fails(code))
    async with peer.client(throttled()) as client:
        assert await outcomes(shape, client, 60) == {code.value: 60}


@every_shape
async def test_calls_that_their_callers_cancel_teach_nothing(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(hangs())
    async with peer.client(throttled()) as client:
        for _ in range(60):
            task = asyncio.create_task(shape.run(client))
            await virtual_time.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()


async def test_what_other_policies_refuse_here_teaches_nothing(virtual_time: VirtualTime) -> None:
    peer = Peer(answers(every=10.0))
    stack = ClientStack.bare(throttle=ThrottlePolicy(), concurrency=BulkheadPolicy(max_in_flight=1))
    async with peer.client(stack) as client:
        held = asyncio.create_task(client.get(GetRequest(key="a")))
        await virtual_time.sleep(1.0)
        assert await outcomes(Shape.UNARY, client, 100) == {"queue_full": 100}
        await held


async def test_a_timeout_is_no_answer(virtual_time: VirtualTime) -> None:
    peer = Peer(hangs())
    stack = ClientStack.bare(
        throttle=ThrottlePolicy(), deadline=DeadlinePolicy(total=0.1, attempt=None)
    )
    async with peer.client(stack) as client:
        counts = await outcomes(Shape.UNARY, client, 100)
    assert counts["throttled"] > 30


async def test_do_not_retry_counts_as_a_refusal_whatever_the_code(
    virtual_time: VirtualTime,
) -> None:
    """1.3: negative pushback is a throttle failure."""
    peer = Peer(fails(Code.ABORTED, headers=[("grpc-retry-pushback-ms", "-1")]))
    stack = ClientStack.bare(
        throttle=ThrottlePolicy(), retry_policy=RetryPolicy(retryable_errors=[Code.ABORTED])
    )
    async with peer.client(stack) as client:
        counts = await outcomes(Shape.UNARY, client, 100)
    assert counts["throttled"] > 30


async def test_one_request_counts_once_however_many_attempts_are_made(
    virtual_time: VirtualTime,
) -> None:
    policy = RetryPolicy(max_attempts=5, initial_backoff=0.0, max_backoff=0.0, budget=None)
    stack = ClientStack.bare(throttle=ThrottlePolicy(), retry_policy=policy)
    peer = Peer(*[*[fails(Code.UNAVAILABLE)] * 4, answers()] * 100)
    async with peer.client(stack) as client:
        assert await outcomes(Shape.UNARY, client, 100) == {"ok": 100}
    assert len(peer.sent) == 500


async def test_a_client_that_begins_with_a_hundred_calls_at_once_refuses_none(
    virtual_time: VirtualTime,
) -> None:
    """Counted as not accepted while in flight, they would be: 80 of 100, with nothing wrong."""
    peer = Peer(answers(every=1.0))
    async with peer.client(throttled()) as client:
        await asyncio.gather(*(client.get(GetRequest(key="a")) for _ in range(100)))
    assert len(peer.sent) == 100
