"""Fallbacks through the real chain: when they stand in, for what, and how they are told apart."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ReadError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    BulkheadPolicy,
    Cause,
    CircuitBreakerPolicy,
    ClientStack,
    DeadlineExceededError,
    Delivery,
    FallbackPolicy,
    OverloadedError,
    RetryPolicy,
    delivery,
    with_options,
)
from connectplugin_interceptors.events import CallEnded, FallbackUsed
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_pb import GetRequest, GetResponse, LoadResponse, SyncResponse, WatchResponse
from tests.contract.peer import Peer, Step, answers, breaks, fails, hangs, raises, refused
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())

VALUES: dict[Shape, Any] = {
    Shape.UNARY: GetResponse(value=b"fallback"),
    Shape.CLIENT_STREAM: LoadResponse(count=77),
    Shape.SERVER_STREAM: [WatchResponse(value=b"f1"), WatchResponse(value=b"f2")],
    Shape.BIDI_STREAM: (SyncResponse(value=b"f1"), SyncResponse(value=b"f2")),
}
EXPECTED: dict[Shape, list[bytes]] = {
    Shape.UNARY: [b"fallback"],
    Shape.CLIENT_STREAM: [b"77"],
    Shape.SERVER_STREAM: [b"f1", b"f2"],
    Shape.BIDI_STREAM: [b"f1", b"f2"],
}


def stack_with(shape: Shape, **others: Any) -> ClientStack:
    given: dict[str, Any] = {"retry_policy": None, **others}
    return ClientStack(fallback=FallbackPolicy(value=VALUES[shape]), **given)


GIVEN_UP: list[tuple[str, Step, Cause]] = [
    ("refused", refused(), Cause.CONNECTION),
    ("broken", raises(ReadError("reset")), Cause.TRANSPORT),
    ("unavailable", fails(Code.UNAVAILABLE), Cause.UNAVAILABLE),
    ("internal", fails(Code.INTERNAL), Cause.UNKNOWN),
    ("exhausted", fails(Code.RESOURCE_EXHAUSTED), Cause.THROTTLED),
    ("hangs", hangs(), Cause.DEADLINE),
]


@pytest.mark.parametrize(("name", "step", "cause"), GIVEN_UP, ids=[row[0] for row in GIVEN_UP])
@every_shape
async def test_it_stands_in_when_the_chain_gives_up(
    virtual_time: VirtualTime, shape: Shape, name: str, step: Step, cause: Cause
) -> None:
    peer, listener = Peer(step), RecordingListener()
    async with peer.client(stack_with(shape), listeners=[listener]) as client:
        assert await shape.run(client, timeout_ms=500) == EXPECTED[shape]
    (used,) = listener.of(FallbackUsed)
    assert (used.source, used.cause, used.succeeded) == ("value", cause, True)
    assert used.method == shape.path
    # The call itself has failed, and is told so.
    (ended,) = listener.of(CallEnded)
    assert ended.outcome is not Outcome.SUCCESS
    assert virtual_time.now() == pytest.approx(0.5 if name == "hangs" else 0.0)


@every_shape
async def test_it_stands_in_when_the_chain_refuses(virtual_time: VirtualTime, shape: Shape) -> None:
    peer, listener = Peer(refused()), RecordingListener()
    stack = stack_with(shape, circuit_breaker=CircuitBreakerPolicy(failure_threshold=1))
    async with peer.client(stack, listeners=[listener]) as client:
        for _ in range(3):
            assert await shape.run(client) == EXPECTED[shape]
    causes = [event.cause for event in listener.of(FallbackUsed)]
    assert causes == [Cause.CONNECTION, Cause.REJECTED, Cause.REJECTED]
    assert len(peer.sent) == 1
    assert virtual_time.now() == 0.0


@every_shape
async def test_a_success_is_left_alone(virtual_time: VirtualTime, shape: Shape) -> None:
    peer, listener = Peer(answers()), RecordingListener()
    async with peer.client(stack_with(shape), listeners=[listener]) as client:
        assert await shape.run(client) != EXPECTED[shape]
    assert listener.of(FallbackUsed) == []
    assert virtual_time.now() == 0.0


@pytest.mark.parametrize(
    "code", [Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.PERMISSION_DENIED, Code.CANCELED]
)
@every_shape
async def test_an_answer_of_the_application_s_is_an_answer(
    virtual_time: VirtualTime, shape: Shape, code: Code
) -> None:
    peer = Peer(fails(code))
    async with peer.client(stack_with(shape)) as client:
        with pytest.raises(ConnectError) as caught:
            await shape.run(client)
    assert caught.value.code is code
    assert virtual_time.now() == 0.0


@every_shape
async def test_a_cancelled_caller_gets_no_answer(virtual_time: VirtualTime, shape: Shape) -> None:
    peer, listener = Peer(hangs()), RecordingListener()
    stack = ClientStack(fallback=FallbackPolicy(value=VALUES[shape], on=lambda _: True))
    async with peer.client(stack, listeners=[listener]) as client:
        task = asyncio.create_task(shape.run(client))
        await virtual_time.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await shape.run(client)
    assert listener.of(FallbackUsed) == []


@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_a_stream_that_has_begun_does_not_fall_back(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(fails(Code.UNAVAILABLE, after=2))
    got: list[bytes] = []
    async with peer.client(stack_with(shape)) as client:
        responses = shape.responses(client)
        async with closing(responses):
            got.append(await anext(responses))
            got.append(await anext(responses))
            with pytest.raises(ConnectError, match="told to fail"):
                await anext(responses)
    assert got == [b"0", b"1"]
    assert virtual_time.now() == 0.0


@every_shape
async def test_it_comes_after_the_last_retry(virtual_time: VirtualTime, shape: Shape) -> None:
    nack = [("x-connectplugin-nack", "draining")]
    peer = Peer(fails(Code.UNAVAILABLE, headers=nack, reading=False))
    stack = stack_with(shape, retry_policy=RetryPolicy(max_attempts=3))
    async with peer.client(stack) as client:
        assert await shape.run(client) == EXPECTED[shape]
    assert len(peer.sent) == 3


async def test_each_call_gets_a_copy_of_the_value(virtual_time: VirtualTime) -> None:
    value = GetResponse(value=b"same")
    peer = Peer(refused())
    stack = ClientStack(fallback=FallbackPolicy(value=value), retry_policy=None)
    async with peer.client(stack) as client:
        first = await client.get(GetRequest(key="a"))
        first.value = b"spoiled"
        second = await client.get(GetRequest(key="a"))
    assert (value.value, second.value) == (b"same", b"same")


async def test_a_call_is_given_the_request_and_the_error(virtual_time: VirtualTime) -> None:
    seen: list[tuple[str, ConnectError]] = []

    async def ask_elsewhere(request: GetRequest, error: ConnectError) -> GetResponse:
        seen.append((request.key, error))
        await asyncio.sleep(5.0)  # beyond the deadline, which is not the fallback's
        return GetResponse(value=f"old {request.key}".encode())

    peer, listener = Peer(hangs()), RecordingListener()
    stack = ClientStack(fallback=FallbackPolicy(call=ask_elsewhere))
    async with peer.client(stack, listeners=[listener]) as client:
        response = await client.get(GetRequest(key="k"), timeout_ms=1000)
    assert response.value == b"old k"
    ((key, error),) = seen
    assert key == "k"
    assert isinstance(error, DeadlineExceededError)
    assert [event.source for event in listener.of(FallbackUsed)] == ["call"]
    assert virtual_time.now() == pytest.approx(6.0)


@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
@pytest.mark.parametrize("kind", ["generator", "list"])
async def test_a_call_for_a_stream_yields_or_returns_messages(
    virtual_time: VirtualTime, shape: Shape, kind: str
) -> None:
    closed = asyncio.Event()

    async def generator(_request: Any, _error: ConnectError) -> AsyncIterator[Any]:
        try:
            for value in VALUES[shape]:
                yield value
        finally:
            closed.set()

    async def returning(_request: Any, _error: ConnectError) -> Any:
        return list(VALUES[shape])

    call: Any = generator if kind == "generator" else returning
    stack = ClientStack(fallback=FallbackPolicy(call=call), retry_policy=None)
    peer = Peer(refused())
    async with peer.client(stack) as client:
        assert await shape.run(client) == EXPECTED[shape]
        if kind == "generator":
            closed.clear()
            responses = shape.responses(client)
            async with closing(responses):
                assert await anext(responses) == b"f1"
            assert closed.is_set()


def is_aborted(error: ConnectError) -> bool:
    return error.code is Code.ABORTED


@pytest.mark.parametrize(
    ("on", "code", "falls"),
    [
        ([Code.NOT_FOUND], Code.NOT_FOUND, True),
        ([Code.NOT_FOUND], Code.UNAVAILABLE, False),
        (is_aborted, Code.ABORTED, True),
        (is_aborted, Code.UNAVAILABLE, False),
    ],
)
async def test_codes_or_a_function_say_for_which_failures(
    virtual_time: VirtualTime, on: Any, code: Code, *, falls: bool
) -> None:
    peer = Peer(fails(code))
    policy = FallbackPolicy(value=VALUES[Shape.UNARY], on=on)
    async with peer.client(ClientStack(fallback=policy, retry_policy=None)) as client:
        if falls:
            await client.get(GetRequest(key="a"))
        else:
            with pytest.raises(ConnectError, match="told to fail"):
                await client.get(GetRequest(key="a"))


@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.SERVER_STREAM])
async def test_a_fallback_that_fails_tells_of_both_failures(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    async def broken(_request: Any, _error: ConnectError) -> Any:
        raise LookupError("no cache either")

    peer, listener = Peer(fails(Code.UNAVAILABLE)), RecordingListener()
    stack = ClientStack(fallback=FallbackPolicy(call=broken), retry_policy=None)
    async with peer.client(stack, listeners=[listener]) as client:
        with pytest.raises(LookupError, match="no cache either") as caught:
            await shape.run(client)
    assert isinstance(caught.value.__cause__, ConnectError)
    assert caught.value.__cause__.code is Code.UNAVAILABLE
    assert [event.succeeded for event in listener.of(FallbackUsed)] == [False]


async def test_a_fallback_s_error_that_has_a_cause_of_its_own_keeps_it(
    virtual_time: VirtualTime,
) -> None:
    peer = Peer(refused())
    async with peer.client(ClientStack.bare()) as elsewhere:

        async def ask_elsewhere(request: GetRequest, _error: ConnectError) -> GetResponse:
            return await elsewhere.get(request)

        stack = ClientStack(fallback=FallbackPolicy(call=ask_elsewhere), retry_policy=None)
        async with Peer(fails(Code.INTERNAL)).client(stack) as client:
            with pytest.raises(ConnectError) as caught:
                await client.get(GetRequest(key="a"))
    assert isinstance(caught.value.__cause__, ConnectionError)
    (note,) = caught.value.__notes__
    assert "fallback of kv.v1.KVService/Get" in note
    assert "told to fail with internal" in note


async def test_what_may_have_been_executed_is_still_told_when_the_fallback_is_refused(
    virtual_time: VirtualTime,
) -> None:
    spare = Peer(hangs())
    stack = ClientStack(concurrency=BulkheadPolicy(max_in_flight=1))
    async with spare.client(stack) as elsewhere:

        async def ask_elsewhere(request: GetRequest, _error: ConnectError) -> GetResponse:
            return await elsewhere.get(request)

        held = asyncio.create_task(elsewhere.get(GetRequest(key="x")))
        await virtual_time.sleep(0.1)
        peer = Peer(breaks())
        primary = ClientStack(fallback=FallbackPolicy(call=ask_elsewhere), retry_policy=None)
        async with peer.client(primary) as client:
            with pytest.raises(OverloadedError) as caught:
                await client.get(GetRequest(key="a"))
        assert delivery(caught.value) is Delivery.MAYBE
        held.cancel()
        await asyncio.wait([held])


async def test_a_fallback_that_raises_the_error_itself_raises_just_that(
    virtual_time: VirtualTime,
) -> None:
    async def not_for_me(_request: Any, error: ConnectError) -> GetResponse:
        raise error

    peer = Peer(fails(Code.UNAVAILABLE))
    stack = ClientStack(fallback=FallbackPolicy(call=not_for_me), retry_policy=None)
    async with peer.client(stack) as client:
        with pytest.raises(ConnectError, match="told to fail") as caught:
            await client.get(GetRequest(key="a"))
    assert caught.value.__cause__ is None


async def test_a_value_of_another_message_s_type_is_not_handed_out(
    virtual_time: VirtualTime,
) -> None:
    peer = Peer(refused())
    stack = ClientStack(fallback=FallbackPolicy(value=b"bytes"), retry_policy=None)
    async with peer.client(stack) as client:
        with pytest.raises(TypeError, match=r"fallback of .+/Get gives bytes; it must give Get"):
            await client.get(GetRequest(key="a"))


async def test_it_is_off_by_default_and_on_by_method_or_option(virtual_time: VirtualTime) -> None:
    policy = FallbackPolicy(value=VALUES[Shape.UNARY])
    peer = Peer(refused())
    stack = ClientStack(retry_policy=None).for_method("kv.v1.KVService/Get", fallback=policy)
    async with peer.client(stack) as client:
        assert (await client.get(GetRequest(key="a"))).value == b"fallback"
        with pytest.raises(ConnectError):
            await Shape.SERVER_STREAM.run(client)
        bare = with_options(client, fallback=None)
        with pytest.raises(ConnectError):
            await bare.get(GetRequest(key="a"))
        watching = with_options(client, fallback=FallbackPolicy(value=VALUES[Shape.SERVER_STREAM]))
        assert await Shape.SERVER_STREAM.run(watching) == [b"f1", b"f2"]
    assert ClientStack().fallback is None
    assert ClientStack().describe().splitlines()[1].split()[:2] == ["CALL", "fallback"]
