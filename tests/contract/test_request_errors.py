"""What the caller's own stream of requests raises, the call raises: that very exception.

However it travels: with retries, without, whatever the transport makes of it on its way.
"""

from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import WriteError

from connectplugin.testing import RecordingListener
from connectplugin_interceptors import (
    Cause,
    ClientStack,
    DeadlineExceededError,
    Delivery,
    RetryPolicy,
    delivery,
)
from connectplugin_interceptors.events import AttemptEnded, CallEnded
from connectplugin_interceptors.outcome import Outcome
from kv.v1.kv_pb import LoadRequest, SyncRequest
from tests.contract.peer import Peer, Step, answers, echoes, fails, ground, hangs, raises, refused
from tests.contract.shape import Shape

STREAMS = [Shape.CLIENT_STREAM, Shape.BIDI_STREAM]
STACKS = {
    "standard": ground(),
    "bare": ClientStack.bare(),
    "ready": ground(retry_policy=None, wait_for_ready=True),
    "many attempts": ground(retry_policy=RetryPolicy(max_attempts=5, budget=None)),
}
STEPS = {
    "answers": answers(),
    "echoes": echoes(),
    "hangs": hangs(reading=True),
    "fails on what it reads": fails(Code.INVALID_ARGUMENT),
}


def _inner_deadline() -> ConnectError:
    return DeadlineExceededError("of another call", delivery=Delivery.NOT_SENT)


ERRORS = [
    ValueError("the file is gone"),
    TimeoutError("a timeout of its own"),
    ConnectionError("its own connection"),
    ConnectError(Code.UNAVAILABLE, "another call of the program's"),
    _inner_deadline(),
]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", STREAMS)
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS.keys())
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("after", [0, 100])
async def test_the_very_exception_comes_back(
    shape: Shape, stack: ClientStack, step: Step, error: Exception, after: int
) -> None:
    async def keys() -> AsyncIterator[str]:
        for number in range(after):
            yield str(number)
        raise error

    peer = Peer(step)
    listener = RecordingListener()
    async with peer.client(stack, listeners=[listener]) as client:
        with pytest.raises(type(error)) as caught:
            await shape.run(client, keys())
    assert caught.value is error
    assert error.__cause__ is None
    assert len(peer.sent) == 1
    # Nobody else is to blame.
    assert [(event.outcome, event.cause) for event in listener.of(AttemptEnded)] == [
        (Outcome.NEUTRAL, Cause.BUG)
    ]
    assert [(event.outcome, event.cause) for event in listener.of(CallEnded)] == [
        (Outcome.NEUTRAL, Cause.BUG)
    ]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", STREAMS)
async def test_its_delivery_stays_its_own(shape: Shape) -> None:
    inner = _inner_deadline()

    async def keys() -> AsyncIterator[str]:
        yield "a"
        raise inner

    async with Peer(answers()).client(ground()) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await shape.run(client, keys())
    assert delivery(caught.value) is Delivery.NOT_SENT


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", STREAMS)
async def test_an_error_of_the_second_attempts_walk(shape: Shape) -> None:
    # Nobody reads from the generator before something can be reached; then it raises.
    async def keys() -> AsyncIterator[str]:
        yield "a"
        msg = "later"
        raise ValueError(msg)

    peer = Peer(refused(), answers())
    async with peer.client(ground()) as client:
        with pytest.raises(ValueError, match="later"):
            await shape.run(client, keys())
    assert len(peer.sent) == 2


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", STREAMS)
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize(
    "step", [answers(), fails(Code.NOT_FOUND, reading=False), raises(WriteError("reset"))]
)
async def test_the_callers_generator_is_closed_when_the_call_ends(
    shape: Shape, stack: ClientStack, step: Step
) -> None:
    async def loads() -> AsyncIterator[LoadRequest]:
        for number in range(100):
            yield LoadRequest(key=str(number))

    async def syncs() -> AsyncIterator[SyncRequest]:
        for number in range(100):
            yield SyncRequest(key=str(number))

    requests: Any = loads() if shape is Shape.CLIENT_STREAM else syncs()
    async with Peer(step).client(stack) as client:
        with suppress(ConnectError):
            if shape is Shape.CLIENT_STREAM:
                await client.load(requests)
            else:
                async for _ in client.sync(requests):
                    pass
    assert requests.ag_frame is None
