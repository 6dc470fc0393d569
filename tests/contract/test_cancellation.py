"""Cancellation from outside, during each phase of each shape, by each means that asyncio has.

It raises what asyncio promises, reaches the handler, leaves no task, is never followed by another
attempt, costs the budget nothing, and teaches nobody anything.
"""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import BulkheadPolicy, ClientStack, RetryBudgetPolicy, RetryPolicy
from connectplugin_interceptors.events import AttemptEnded, CallEnded
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.retry.interceptor import Retry
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, SyncRequest, WatchRequest
from tests.contract.peer import (
    Peer,
    Step,
    answers,
    breaks,
    echoes,
    fails,
    ground,
    hangs,
    pending,
    refused,
    seeded,
)
from tests.contract.shape import SHAPES, Shape

BUDGET = RetryBudgetPolicy(ratio=0.1, window=1000.0, reserve=0.01)
PATIENT = ground(
    retry_policy=RetryPolicy(max_attempts=5, initial_backoff=20.0, max_backoff=20.0, budget=BUDGET)
)

Victim: TypeAlias = Callable[[], Awaitable[object]]


def retry_of(client: Any) -> Retry:
    """The chain's link that retries."""
    for link in list[object](client.connectplugin_recipe.chain):
        if isinstance(link, Retry):
            return link
    raise AssertionError


# --- The means ---


async def by_timeout(victim: Victim) -> None:
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(1.0):
            await victim()
    assert not isinstance(caught.value, ConnectError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def by_wait_for(victim: Victim) -> None:
    with pytest.raises(TimeoutError) as caught:
        await asyncio.wait_for(victim(), 1.0)
    assert not isinstance(caught.value, ConnectError)


async def by_sibling(victim: Victim) -> None:
    async def fail() -> None:
        await asyncio.sleep(1.0)
        msg = "sibling"
        raise ValueError(msg)

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012  # both are its tasks
        async with asyncio.TaskGroup() as group:
            group.create_task(_as_coroutine(victim))
            group.create_task(fail())
    assert [type(error) for error in caught.value.exceptions] == [ValueError]


async def by_cancel(victim: Victim) -> None:
    task = asyncio.create_task(_as_coroutine(victim))
    await asyncio.sleep(1.0)
    task.cancel("because")
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def _as_coroutine(victim: Victim) -> None:
    await victim()


MEANS = [by_timeout, by_wait_for, by_sibling, by_cancel]


# --- The phases ---


@dataclass(frozen=True)
class Phase:
    """Where the call is after one second.

    Attributes:
        script: The peer's.
        reaches: Whether a handler runs at that moment.
        requests: What the caller sends; None for the default.
    """

    name: str
    script: tuple[Step, ...]
    stack: ClientStack
    reaches: bool = False
    shapes: tuple[Shape, ...] = SHAPES
    requests: Callable[[], Any] = lambda: ("a", "b")
    attempts: int = 1


async def endless() -> AsyncIterator[str]:
    """A request, then a stream that stays open."""
    yield "a"
    await asyncio.Event().wait()


async def trickle() -> AsyncIterator[str]:
    """A request every 0.3 s, for ever."""
    while True:
        yield "a"
        await asyncio.sleep(0.3)


class Dawdle:
    """An interceptor of the application's own that waits before the call is sent."""

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        await asyncio.Event().wait()
        return await call_next(request, ctx)

    intercept_client_stream = intercept_unary

    async def intercept_server_stream(
        self, call_next: Any, request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        async for response in call_next(request, ctx):
            yield response

    intercept_bidi_stream = intercept_server_stream


REQUEST_STREAMS = (Shape.CLIENT_STREAM, Shape.BIDI_STREAM)
RESPONSE_STREAMS = (Shape.SERVER_STREAM, Shape.BIDI_STREAM)
PHASES = [
    Phase("before it is sent", (answers(),), PATIENT.adding(call=[Dawdle()]), attempts=0),
    Phase(
        "before an attempt is sent", (answers(),), PATIENT.adding(attempt=[Dawdle()]), attempts=0
    ),
    Phase("while connecting", (pending(),), PATIENT),
    Phase("in backoff", (refused(), answers()), PATIENT),
    Phase("in wait_for_ready", (refused(),), ground(wait_for_ready=True), attempts=6),
    Phase("while the handler runs", (hangs(reading=True),), PATIENT, reaches=True),
    Phase(
        "while a second attempt's handler runs", (refused(), hangs()), ground(), True, attempts=2
    ),
    Phase("with everything off", (hangs(),), ClientStack.bare(), reaches=True),
    Phase("between messages", (hangs(after=2),), PATIENT, True, RESPONSE_STREAMS),
    Phase("while requests are open", (hangs(),), PATIENT, True, REQUEST_STREAMS, endless),
    Phase("while requests are read", (echoes(),), PATIENT, True, REQUEST_STREAMS, endless),
    Phase("while requests are sent", (echoes(),), PATIENT, True, REQUEST_STREAMS, trickle),
    Phase("bare, requests open", (hangs(),), ClientStack.bare(), True, REQUEST_STREAMS, endless),
    Phase("bare, requests sent", (echoes(),), ClientStack.bare(), True, REQUEST_STREAMS, trickle),
]
CASES = [(phase, shape) for phase in PHASES for shape in phase.shapes]


async def settle(times: int = 20) -> None:
    """Let everything that was told to end do so."""
    for _ in range(times):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize(
    ("phase", "shape"), CASES, ids=[f"{p.name}-{s.name.lower()}" for p, s in CASES]
)
async def test_a_call_is_cancelled(
    phase: Phase, shape: Shape, means: Callable[[Victim], Awaitable[None]]
) -> None:
    """tenacity's retry_if_not_exception_type swallows it in a retry, and answers after 237 ms."""
    peer = Peer(*phase.script)
    listener = RecordingListener()
    client = peer.client(phase.stack, listeners=[listener], rng=_Ceiling())
    retry = retry_of(client)
    budget = retry.budget(BUDGET, "kv.v1.KVService")
    tasks = asyncio.all_tasks()

    async def victim() -> object:
        return await shape.run(client, phase.requests())

    await means(victim)
    sent = len(peer.sent)
    paid = budget.balance(1.0)
    await settle()
    assert asyncio.all_tasks() == tasks
    assert [call.outcome for call in peer.calls] == (["cancelled"] if phase.reaches else [])
    assert sent == phase.attempts
    assert "waiting=0" in repr(retry)
    ended = listener.of(CallEnded)
    assert [event.outcome for event in ended] == [Outcome.NEUTRAL]
    assert all(
        event.outcome is Outcome.NEUTRAL or event.cause is not None
        for event in listener.of(AttemptEnded)
    )
    # Nothing happens afterwards: no attempt, no event, nothing paid.
    before = len(listener.events)
    await asyncio.sleep(100.0)
    assert len(peer.sent) == sent
    assert len(listener.events) == before
    assert budget.balance(1.0) == paid
    await client.close()


class _Ceiling(Random):
    """Jitter that always draws the longest wait."""

    def random(self) -> float:
        return 0.999999


# --- Leaving a stream ---


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("stack", [PATIENT, ClientStack.bare()], ids=["standard", "bare"])
@pytest.mark.parametrize("shape", RESPONSE_STREAMS)
@pytest.mark.parametrize("step", [hangs(after=1), answers(100_000), answers(1000, every=0.01)])
async def test_leaving_early_ends_the_handler_and_teaches_nothing(
    shape: Shape, stack: ClientStack, step: Step
) -> None:
    peer = Peer(step)
    listener = RecordingListener()
    client = peer.client(stack, listeners=[listener])
    tasks = asyncio.all_tasks()
    responses: Any = shape.responses(client)
    assert await anext(responses) == b"0"
    await responses.aclose()
    await settle()
    assert asyncio.all_tasks() == tasks
    assert peer.outcomes in (["cancelled"], ["left"])
    assert [event.outcome for event in listener.of(CallEnded)] == [Outcome.NEUTRAL]
    assert [event.outcome for event in listener.of(AttemptEnded)] == [Outcome.NEUTRAL]
    assert len(peer.sent) == 1


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", RESPONSE_STREAMS)
async def test_a_stream_that_is_dropped_without_being_closed(shape: Shape) -> None:
    # No `aclosing`: the loop's hook for dropped generators must be enough.
    peer = Peer(hangs(after=2))
    client = peer.client(PATIENT)
    tasks = asyncio.all_tasks()
    async for _ in shape.responses(client):
        break
    gc.collect()
    await settle()
    assert asyncio.all_tasks() == tasks
    assert peer.outcomes in (["cancelled"], ["left"])


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("means", MEANS)
async def test_a_consumer_is_cancelled_while_it_holds_a_message(
    means: Callable[[Victim], Awaitable[None]],
) -> None:
    peer = Peer(answers(100_000))
    client = peer.client(PATIENT)
    tasks = asyncio.all_tasks()

    async def victim() -> None:
        responses: Any = Shape.SERVER_STREAM.responses(client)
        try:
            async for _ in responses:
                await asyncio.sleep(10.0)
        finally:
            await responses.aclose()

    await means(victim)
    await settle()
    assert asyncio.all_tasks() == tasks
    assert peer.outcomes in (["cancelled"], ["left"])


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("means", MEANS)
@pytest.mark.parametrize("stack", [PATIENT, ClientStack.bare()], ids=["standard", "bare"])
async def test_a_close_that_waits_for_the_callers_generator_can_be_cancelled(
    stack: ClientStack, means: Callable[[Victim], Awaitable[None]]
) -> None:
    closing: list[str] = []

    async def requests() -> AsyncIterator[SyncRequest]:
        try:
            while True:
                yield SyncRequest(key="a")
                await asyncio.sleep(0.1)
        finally:
            closing.append("begun")
            try:
                await asyncio.sleep(50.0)
            finally:
                closing.append("over")

    peer = Peer(echoes())
    client = peer.client(stack)
    tasks = asyncio.all_tasks()

    async def victim() -> None:
        responses: Any = client.sync(requests())
        await anext(responses)
        await responses.aclose()

    await means(victim)
    await settle()
    assert asyncio.all_tasks() == tasks
    assert closing == ["begun", "over"]
    assert peer.outcomes in (["cancelled"], ["left"])


@pytest.mark.usefixtures("virtual_time")
async def test_a_server_that_ends_early_does_not_wait_for_a_slow_generator() -> None:
    # The answer has come; the caller's next request would come in an hour.
    async def requests() -> AsyncIterator[str]:
        yield "a"
        await asyncio.sleep(3600.0)

    peer = Peer(fails(Code.NOT_FOUND, reading=False))
    for stack in (PATIENT, ClientStack.bare()):
        for shape in REQUEST_STREAMS:
            async with asyncio.timeout(1.0):
                with pytest.raises(ConnectError) as caught:
                    await shape.run(peer.client(stack), requests())
            assert caught.value.code is Code.NOT_FOUND


# --- A `canceled` that is none ---


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_canceled_that_the_server_sent_is_an_answer(shape: Shape) -> None:
    peer = Peer(fails(Code.CANCELED))
    with pytest.raises(ConnectError) as caught:
        await shape.run(peer.client(PATIENT))
    assert caught.value.code is Code.CANCELED
    assert len(peer.sent) == 1


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_transport_that_dies_of_a_cancellation_cancels_nobody(shape: Shape) -> None:
    # Some task inside of the transport was cancelled, by whatever; this task was not.
    peer = Peer(breaks(asyncio.CancelledError()))
    with pytest.raises(ConnectError) as caught:
        await shape.run(peer.client(PATIENT))
    assert caught.value.code is Code.CANCELED
    assert len(peer.sent) == 1


# --- Calls inside of handlers ---


@pytest.mark.usefixtures("virtual_time")
async def test_a_cancelled_caller_cancels_the_calls_of_the_handler_too() -> None:
    back = Peer(hangs())
    behind = back.client(PATIENT)

    class Front(Dawdle):
        """A server's interceptor that calls another plugin."""

        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            await behind.get(GetRequest(key="b"))
            return await call_next(request, ctx)

    front = Peer(answers(), interceptors=[Front()])
    client = front.client(PATIENT)
    tasks = asyncio.all_tasks()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await client.get(GetRequest(key="a"))
    await settle()
    assert back.outcomes == ["cancelled"]
    assert len(back.sent) == 1
    assert asyncio.all_tasks() == tasks


# --- Storms (cases.md: cancelled in the instant of starting) ---


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ready", [False, True])
async def test_calls_cancelled_in_the_instant_of_starting(
    virtual_time: VirtualTime, shape: Shape, ready: bool
) -> None:
    del virtual_time
    rng = seeded(13034)
    peer = Peer(refused() if ready else hangs())
    listener = RecordingListener()
    stack = ground(wait_for_ready=ready, retry_policy=RetryPolicy(max_attempts=5, budget=BUDGET))
    client = peer.client(stack, listeners=[listener])
    retry = retry_of(client)
    before = retry.budget(BUDGET, "kv.v1.KVService").balance(0.0)
    tasks = asyncio.all_tasks()
    started = 0
    calls: list[asyncio.Task[object]] = []
    for _ in range(500 if ready else 2000):
        turns = rng.randint(0, 8)
        call = asyncio.create_task(shape.run(client, endless() if shape.streams_requests else "a"))
        for _ in range(turns):
            await asyncio.sleep(0)
        started += turns > 0
        call.cancel()
        calls.append(call)
    await asyncio.wait(calls)
    await settle()
    assert all(call.cancelled() for call in calls)
    assert asyncio.all_tasks() == tasks
    assert set(peer.outcomes) <= {"cancelled"}
    assert "waiting=0" in repr(retry)
    assert retry.budget(BUDGET, "kv.v1.KVService").balance(0.0) == before
    ended = listener.of(CallEnded)
    assert len(ended) == started
    assert {event.outcome for event in ended} == {Outcome.NEUTRAL}


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_cancellation_at_every_turn_of_a_call_that_succeeds(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    # Whoever cancels a task that is not done must see it end cancelled: asyncio.wait_for of
    # Python 3.11, inside of connectrpc, may swallow a cancellation that meets the answer.
    del virtual_time
    for turns in range(60):
        peer = Peer(answers(2))
        client = peer.client(PATIENT)
        tasks = asyncio.all_tasks()
        call = asyncio.create_task(shape.run(client))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = call.cancel()
        await asyncio.wait([call])
        assert call.cancelled() is cancelled, f"after {turns} turns"
        await settle()
        assert asyncio.all_tasks() == tasks


@pytest.mark.usefixtures("virtual_time")
async def test_a_watch_in_a_thousand_tasks_leaves_nothing_behind() -> None:
    peer = Peer(hangs(after=1))
    client = peer.client(PATIENT)
    tasks = asyncio.all_tasks()
    firsts = [asyncio.create_task(_first(client)) for _ in range(1000)]
    await asyncio.sleep(1.0)
    assert len(peer.calls) == 1000
    for task in firsts:
        task.cancel()
    await asyncio.wait(firsts)
    await settle()
    assert set(peer.outcomes) == {"cancelled"}
    assert asyncio.all_tasks() == tasks


async def _first(client: KVServiceClient) -> None:
    async for _ in client.watch(WatchRequest(prefix="a")):
        pass


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_storm_leaves_all_slots_and_the_breaker_as_they_were(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    del virtual_time
    rng = seeded(13034)
    peer = Peer(hangs())
    stack = ClientStack(concurrency=BulkheadPolicy(max_in_flight=5, max_queue=3, max_wait=10.0))
    client = peer.client(stack)
    tasks = asyncio.all_tasks()
    calls: list[asyncio.Task[object]] = []
    for _ in range(500):
        call = asyncio.create_task(shape.run(client, endless() if shape.streams_requests else "a"))
        for _ in range(rng.randint(0, 8)):
            await asyncio.sleep(0)
        call.cancel()
        calls.append(call)
    await asyncio.wait(calls)
    await settle()
    assert asyncio.all_tasks() == tasks
    # All five slots can be had, at once; a sixth call waits.
    peer.script = [answers(every=1.0)]
    again = [asyncio.create_task(shape.run(client)) for _ in range(6)]
    await asyncio.sleep(0.5)
    assert len([one for one in peer.calls if one.outcome == "running"]) == 5
    assert len(await asyncio.gather(*again)) == 6
