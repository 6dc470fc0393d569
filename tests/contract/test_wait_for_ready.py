"""`wait_for_ready`: calls of any method wait until something listens, or their deadline ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ConnectTimeout

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    ClientStack,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    OverloadedError,
    RetryPolicy,
    delivery,
)
from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.events import AttemptEnded, CallEnded, WaitingForReady
from connectplugin_interceptors.retry.interceptor import Retry
from tests.contract.peer import Peer, answers, breaks, fails, ground, hangs, raises, refused
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
STACKS = {
    "with retries": ground(wait_for_ready=True),
    "without": ground(wait_for_ready=True, retry_policy=None),
    "never twice": ground(wait_for_ready=True, retry_policy=RetryPolicy(idempotent=False)),
    "bare": ClientStack.bare(wait_for_ready=True),
}
every_stack = pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())


@every_shape
@every_stack
async def test_a_call_waits_until_something_listens(
    virtual_time: VirtualTime, shape: Shape, stack: ClientStack
) -> None:
    peer = Peer(refused())
    listener = RecordingListener()
    client = peer.client(stack, listeners=[listener])
    call = asyncio.create_task(shape.run(client, ["a", "b"]))
    await asyncio.sleep(5.0)
    peer.script = [answers()]
    assert await call
    assert virtual_time.now() <= 5.0 + 0.26
    assert [one.requests for one in peer.calls] == [["a", "b"] if shape.streams_requests else ["a"]]
    # Nothing of it counts as a retry: nothing was sent.
    assert set(peer.attempt_numbers) == {None}
    assert len(listener.of(WaitingForReady)) == 1
    kinds = {event.kind for event in listener.of(AttemptEnded)[1:]}
    assert kinds == {AttemptKind.READY}


async def test_the_pace_is_from_50_to_250_milliseconds(virtual_time: VirtualTime) -> None:
    peer = Peer(refused())
    with pytest.raises(DeadlineExceededError):
        await Shape.UNARY.run(peer.client(STACKS["without"]))
    assert virtual_time.now() == pytest.approx(30.0)
    waits = [
        later - earlier for earlier, later in zip(peer.sent_at, peer.sent_at[1:], strict=False)
    ]
    assert waits[0] == pytest.approx(0.05, abs=0.002)
    assert all(0.049 <= wait <= 0.252 for wait in waits)
    assert waits[-1] == pytest.approx(0.25, abs=0.002)


async def test_a_thousand_that_wait_knock_as_often_as_one(virtual_time: VirtualTime) -> None:
    peer = Peer(refused())
    client = peer.client(STACKS["without"])
    calls = [asyncio.create_task(Shape.UNARY.run(client)) for _ in range(1000)]
    await asyncio.sleep(10.0)
    assert len(peer.sent) <= 1000 + 10 / 0.25 + 5
    # However long it lasts, no more is kept than there are calls.
    assert len(room_of(client)) <= 1000
    # One more is refused, and told why; its own first try was made.
    with pytest.raises(OverloadedError, match="1000 calls wait already") as caught:
        await Shape.UNARY.run(client)
    assert caught.value.reason == "too_many_waiting"
    assert delivery(caught.value) is Delivery.NOT_SENT
    # Then it opens for all of them, soon, and places are free again.
    peer.script = [answers()]
    before = virtual_time.now()
    await asyncio.gather(*calls)
    assert virtual_time.now() - before < 1.0
    peer.script = [refused(), answers()]
    assert await Shape.UNARY.run(client)


@every_shape
async def test_it_ends_with_the_deadline_and_nothing_was_sent(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    limits = DeadlinePolicy(total=3.0, attempt=1.0, stream_total=3.0)
    peer = Peer(refused())
    listener = RecordingListener()
    client = peer.client(
        ground(wait_for_ready=True, deadline=limits, retry_policy=None), listeners=[listener]
    )
    with pytest.raises(DeadlineExceededError) as caught:
        await shape.run(client)
    assert virtual_time.now() == pytest.approx(3.0, abs=0.002)
    assert delivery(caught.value) is Delivery.NOT_SENT
    assert not caught.value.sent
    assert "nothing could be reached" in caught.value.message
    assert "connection refused" in caught.value.message
    assert [event.delivery for event in listener.of(CallEnded)] == [Delivery.NOT_SENT]


@pytest.mark.usefixtures("virtual_time")
@every_shape
@every_stack
async def test_only_what_could_not_be_reached_is_waited_for(
    shape: Shape, stack: ClientStack
) -> None:
    for step in (
        fails(Code.NOT_FOUND),
        fails(Code.INTERNAL),
        raises(ConnectionError("invalid peer certificate: UnknownIssuer")),
    ):
        peer = Peer(step)
        with pytest.raises(ConnectError):
            await shape.run(peer.client(stack))
        assert len(peer.sent) == 1


@every_shape
async def test_a_connection_that_takes_too_long_is_waited_for(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(raises(ConnectTimeout("5 s")), raises(ConnectTimeout("5 s")), answers())
    assert await shape.run(peer.client(STACKS["never twice"]))
    assert virtual_time.now() < 1.0


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_a_call_that_may_have_been_sent_is_not_sent_again_by_waiting(shape: Shape) -> None:
    peer = Peer(refused(), breaks())
    with pytest.raises(ConnectError) as caught:
        await shape.run(peer.client(STACKS["never twice"]))
    assert delivery(caught.value) is Delivery.MAYBE
    assert len(peer.sent) == 2


@pytest.mark.usefixtures("virtual_time")
async def test_waiting_costs_no_budget_and_no_attempts() -> None:
    peer = Peer(*[refused()] * 20, fails(Code.UNAVAILABLE), answers())
    stack = ground(wait_for_ready=True, retry_policy=RetryPolicy(max_attempts=2))
    assert await Shape.UNARY.run(peer.client(stack))
    assert peer.attempt_numbers == [None] * 21 + ["1"]


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_a_call_refused_for_want_of_room_after_it_was_sent(shape: Shape) -> None:
    # A RejectedError always means "never sent": what was sent raises what happened to it.
    if shape.streams_requests:
        pytest.skip("requests that may have been processed are not sent again")
    peer = Peer(refused())
    stack = ground(wait_for_ready=True, retry_policy=RetryPolicy(budget=None))
    client = peer.client(stack)
    others = [asyncio.create_task(Shape.UNARY.run(client)) for _ in range(1000)]
    await asyncio.sleep(1.0)
    peer.script = [fails(Code.UNAVAILABLE), refused()]
    with pytest.raises(ConnectError) as caught:
        await shape.run(client)
    assert not isinstance(caught.value, OverloadedError)
    assert delivery(caught.value) is Delivery.MAYBE
    for other in others:
        other.cancel()
    await asyncio.wait(others)


@pytest.mark.parametrize("shape", [Shape.CLIENT_STREAM, Shape.BIDI_STREAM])
async def test_requests_are_not_taken_while_nobody_is_there(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    taken = 0

    async def keys() -> AsyncIterator[str]:
        nonlocal taken
        for number in range(200):
            taken += 1
            yield str(number)

    peer = Peer(refused())
    call = asyncio.create_task(shape.run(peer.client(STACKS["without"]), keys()))
    await asyncio.sleep(2.0)
    assert taken == 0
    peer.script = [answers()]
    await call
    assert taken == 200
    assert virtual_time.now() < 2.3
    assert len(peer.calls[0].requests) == 200


async def test_one_that_hangs_does_not_hold_the_others(virtual_time: VirtualTime) -> None:
    # The first that gets through meets a handler that never answers.
    peer = Peer(refused())
    client = peer.client(STACKS["without"])
    calls = [asyncio.create_task(Shape.UNARY.run(client)) for _ in range(20)]
    await asyncio.sleep(1.0)
    peer.script = [hangs(), answers()]
    done, pending = await asyncio.wait(calls, timeout=5.0)
    assert len(pending) == 1
    assert len(done) == 19
    assert virtual_time.now() == pytest.approx(6.0)
    for call in pending:
        call.cancel()
    await asyncio.wait(pending)


def room_of(client: Any) -> Any:
    """Who sleeps in the waiting room."""
    for link in list[object](client.connectplugin_recipe.chain):
        if isinstance(link, Retry):
            room: Any = vars(link)["_room"]
            return room.__dict__["_asleep"]
    raise AssertionError


def gate_of(client: Any) -> str:
    chain: list[object] = client.connectplugin_recipe.chain
    return " ".join(map(repr, chain))


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_places_are_given_back_however_a_call_ends(shape: Shape) -> None:
    stack = ground(
        wait_for_ready=True, deadline=DeadlinePolicy(total=1.0, attempt=None, stream_total=1.0)
    )
    for script in (
        [refused(), answers()],
        [refused(), fails(Code.NOT_FOUND)],
        [refused(), breaks()],
        [refused(), hangs()],
        [refused()],
    ):
        peer = Peer(*script)
        client = peer.client(stack)
        await asyncio.gather(shape.run(client), return_exceptions=True)
        assert "waiting=0" in gate_of(client)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_a_stream_that_flows_waits_no_more(shape: Shape) -> None:
    peer = Peer(refused(), hangs(after=1))
    client = peer.client(STACKS["with retries"])
    responses: Any = shape.responses(client)
    assert await anext(responses)
    assert "waiting=0" in gate_of(client)
    await responses.aclose()
