"""Hedging in the real chain: who wins, what it costs, and that nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    BalancePolicy,
    BulkheadPolicy,
    ClientStack,
    ConfigError,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    HedgePolicy,
    OverloadedError,
    RetryBudgetPolicy,
    RetryPolicy,
    delivery,
    retry_after,
    with_options,
)
from connectplugin_interceptors.call import context_of
from connectplugin_interceptors.events import (
    AttemptEnded,
    HedgeStarted,
    HedgeSuppressed,
    RetryStopped,
)
from connectplugin_interceptors.hedge.interceptor import Hedge
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.fleet import Fleet
from tests.contract.peer import Peer, answers, fails, hangs, refused
from tests.contract.shape import SHAPES, Shape

pytestmark = pytest.mark.usefixtures("virtual_time")

hedged_shapes = pytest.mark.parametrize(
    "shape", [Shape.UNARY, Shape.SERVER_STREAM], ids=["unary", "server_stream"]
)
TURNS = BalancePolicy(policy="round_robin")


def hedged(delay: float | None = 0.05, /, max_hedges: int = 1, **policies: Any) -> ClientStack:
    hedge = HedgePolicy(delay=delay, max_hedges=max_hedges, budget=policies.pop("budget", None))
    return ClientStack.bare(
        **{"deadline": DeadlinePolicy(), "hedge": hedge, "load_balancing": TURNS, **policies}
    )


def tasks() -> set[asyncio.Task[Any]]:
    return {task for task in asyncio.all_tasks() if "attempt" in task.get_name()}


def hedge_of(client: KVServiceClient) -> Hedge:
    recipe: Any = vars(client)["connectplugin_recipe"]
    (hedge,) = (link for link in recipe.chain if type(link) is Hedge)
    return hedge


@hedged_shapes
async def test_a_slow_call_is_answered_by_the_second_endpoint(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    fleet = Fleet((hangs(),), (answers(2),))
    listener = RecordingListener()
    async with fleet.client(hedged(), listeners=[listener]) as client:
        assert len(await shape.run(client)) == (2 if shape.streams_responses else 1)
        assert virtual_time.now() == pytest.approx(0.05, abs=0.005)
        await virtual_time.sleep(0.01)
        assert not tasks()
    assert fleet.asked == ["a", "b"]
    assert fleet.peer("a").outcomes == ["cancelled"]
    (started,) = listener.of(HedgeStarted)
    assert (started.number, started.cause) == (2, None)
    assert started.elapsed == pytest.approx(0.05, abs=0.005)
    assert fleet.peer("b").attempt_numbers == ["1"]


@hedged_shapes
async def test_a_quick_call_is_not_hedged(shape: Shape) -> None:
    fleet = Fleet((answers(3, every=0.01),), (answers(3, every=0.01),))
    async with fleet.client(hedged()) as client:
        await shape.run(client)
    assert fleet.asked == ["a"]


async def test_a_stream_is_hedged_until_its_first_message_and_never_after(
    virtual_time: VirtualTime,
) -> None:
    fleet = Fleet((answers(3, every=0.04),), (answers(3),))
    async with fleet.client(hedged()) as client:
        assert await Shape.SERVER_STREAM.run(client) == [b"0", b"1", b"2"]
    assert fleet.asked == ["a"]
    assert virtual_time.now() == pytest.approx(0.12, abs=0.01)


@pytest.mark.parametrize("shape", [Shape.CLIENT_STREAM, Shape.BIDI_STREAM])
async def test_streams_of_requests_are_never_hedged(shape: Shape) -> None:
    fleet = Fleet((answers(1, every=1.0),), (answers(),))
    async with fleet.client(hedged()) as client:
        assert await shape.run(client)
    assert fleet.asked == ["a"]


async def test_what_must_not_be_executed_twice_is_never_hedged_and_still_retried() -> None:
    # gRPC hedges every method that is configured so.
    fleet = Fleet((refused(), answers(1, every=1.0)), (answers(1, every=1.0),))
    async with fleet.client(hedged(retry_policy=RetryPolicy())) as client:
        await client.increment(IncrementRequest(key="n"))
    assert fleet.asked == ["a", "b"]


@hedged_shapes
async def test_a_failed_first_answer_never_beats_a_later_success(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    # hedge-python returns the hedge's failure, httpx-hedged its 503.
    for code in (Code.UNAVAILABLE, Code.INTERNAL, Code.UNKNOWN):
        before = virtual_time.now()
        fleet = Fleet((answers(every=0.08),), (fails(code),))
        async with fleet.client(hedged()) as client:
            assert await shape.run(client)
        assert virtual_time.now() - before == pytest.approx(0.08, abs=0.005)
        assert fleet.asked == ["a", "b"]


@hedged_shapes
async def test_a_failure_starts_the_next_attempt_at_once(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    fleet = Fleet((fails(Code.UNAVAILABLE),), (answers(),))
    listener = RecordingListener()
    async with fleet.client(hedged(10.0), listeners=[listener]) as client:
        await shape.run(client)
    assert virtual_time.now() < 0.01
    assert fleet.asked == ["a", "b"]
    assert listener.of(HedgeStarted)[0].cause is not None


@hedged_shapes
async def test_the_applications_own_answer_ends_the_call_whoever_brings_it(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    fleet = Fleet((hangs(),), (fails(Code.NOT_FOUND),))
    async with fleet.client(hedged()) as client:
        with pytest.raises(ConnectError) as caught:
            await shape.run(client)
        assert caught.value.code is Code.NOT_FOUND
        # The other attempt may have been executed.
        assert delivery(caught.value) is Delivery.MAYBE
        assert virtual_time.now() == pytest.approx(0.05, abs=0.005)
        await virtual_time.sleep(0.01)
        assert not tasks()
    assert fleet.peer("a").outcomes == ["cancelled"]


@hedged_shapes
async def test_if_all_fail_the_first_attempts_error_is_raised(shape: Shape) -> None:
    fleet = Fleet(
        (fails(Code.UNAVAILABLE, delay=0.2),),
        (fails(Code.INTERNAL),),
    )
    listener = RecordingListener()
    async with fleet.client(hedged(), listeners=[listener]) as client:
        with pytest.raises(ConnectError) as caught:
            await shape.run(client)
    assert caught.value.code is Code.UNAVAILABLE
    assert fleet.asked == ["a", "b"]
    assert len(listener.of(RetryStopped)) == 1


BUDGET = RetryBudgetPolicy(ratio=0.1, reserve=1.0)


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (fails(Code.UNAVAILABLE, delay=0.01), "budget"),
        (fails(Code.INVALID_ARGUMENT, delay=0.01), "non_retryable"),
        (fails(Code.INTERNAL, delay=0.01), "non_retryable"),
        (
            fails(Code.UNAVAILABLE, delay=0.01, headers=[("grpc-retry-pushback-ms", "-1")]),
            "pushback",
        ),
    ],
    ids=["non-fatal", "fatal", "useless", "pushback"],
)
async def test_hedges_refused_by_the_budget_do_not_leave_the_caller_waiting(
    step: Any, reason: str, virtual_time: VirtualTime
) -> None:
    # grpc/grpc-java#7222: the call hung until its deadline of 15 s.
    fleet = Fleet((step,), (step,), (step,))
    listener = RecordingListener()
    stack = hedged(0.085, max_hedges=2, budget=BUDGET, deadline=DeadlinePolicy(total=10))
    async with fleet.client(stack, listeners=[listener]) as client:
        with pytest.raises(ConnectError) as caught:
            await client.get(GetRequest(key="a"))
        assert virtual_time.now() <= 0.05
        assert caught.value.message.startswith("told to fail")
        assert [event.reason for event in listener.of(RetryStopped)] == [reason]
        assert fleet.asked == ["a"]
        assert not tasks()


async def test_hedges_are_paid_from_successes_and_never_from_the_reserve() -> None:
    # hedge-python takes a constant 100 calls/s for the traffic, and allows a tenth of that.
    fleet = Fleet((*[answers()] * 15, answers(every=0.2)))
    listener = RecordingListener()
    async with fleet.client(hedged(budget=BUDGET), listeners=[listener]) as client:
        for _ in range(15):
            await client.get(GetRequest(key="a"))
        assert len(fleet.asked) == 15
        await client.get(GetRequest(key="a"))  # 1.5 in the account
        assert len(fleet.asked) == 17
        await client.get(GetRequest(key="a"))  # 0.6
        assert len(fleet.asked) == 18
    assert [event.reason for event in listener.of(HedgeSuppressed)] == ["budget"]


async def test_retries_and_hedges_spend_from_one_account() -> None:
    peer = Peer(*[answers()] * 12, fails(Code.UNAVAILABLE), answers(), answers(every=0.2))
    policy = RetryBudgetPolicy(ratio=0.1, reserve=0.0)
    stack = hedged(budget=policy, retry_policy=RetryPolicy(budget=policy, initial_backoff=0))
    async with peer.client(stack) as client:
        for _ in range(12):
            await client.get(GetRequest(key="a"))
        await with_options(client, hedge=None).get(GetRequest(key="a"))
        assert len(peer.sent) == 14
        await client.get(GetRequest(key="a"))
        assert len(peer.sent) == 15  # slow, and nothing left to pay a hedge from


async def test_pushback_puts_the_next_attempt_off(virtual_time: VirtualTime) -> None:
    fleet = Fleet(
        (fails(Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", "700")]),), (answers(),)
    )
    async with fleet.client(hedged()) as client:
        await client.get(GetRequest(key="a"))
    assert virtual_time.now() == pytest.approx(0.7, abs=0.005)


async def test_pushback_that_is_too_long_is_told_to_the_caller(virtual_time: VirtualTime) -> None:
    fleet = Fleet((fails(Code.UNAVAILABLE, headers=[("retry-after", "60")]),), (answers(),))
    async with fleet.client(hedged()) as client:
        with pytest.raises(ConnectError) as caught:
            await client.get(GetRequest(key="a"))
    assert virtual_time.now() < 0.01
    assert retry_after(caught.value) == 60.0


@hedged_shapes
async def test_an_attempt_that_never_left_is_replaced_for_nothing(shape: Shape) -> None:
    fleet = Fleet((refused(),), (refused(),), (refused(),), (answers(),))
    listener = RecordingListener()
    stack = hedged(10.0, budget=RetryBudgetPolicy(ratio=0.1, reserve=1))
    async with fleet.client(stack, listeners=[listener]) as client:
        await shape.run(client)
    assert fleet.asked == ["a", "b", "c", "d"]
    assert {event.kind.value for event in listener.of(AttemptEnded)} == {"initial", "transparent"}


async def test_the_delay_is_learned_from_the_methods_own_latencies() -> None:
    fleet = Fleet((*[answers(every=0.02)] * 105, answers(every=5.0)), (answers(every=0.02),))
    stack = hedged(None, load_balancing=None)
    listener = RecordingListener()
    async with fleet.client(stack, listeners=[listener]) as client:
        for _ in range(105):
            await client.get(GetRequest(key="a"))
        assert not listener.of(HedgeStarted)
        await client.get(GetRequest(key="a"))
    (started,) = listener.of(HedgeStarted)
    assert 0.02 <= started.elapsed <= 0.022


async def test_nothing_is_hedged_before_enough_was_learned(virtual_time: VirtualTime) -> None:
    fleet = Fleet((*[answers()] * 98, answers(every=5.0)), (answers(),))
    async with fleet.client(hedged(None, load_balancing=None)) as client:
        for _ in range(99):
            await client.get(GetRequest(key="a"))
    assert set(fleet.asked) == {"a"}
    assert virtual_time.now() >= 5.0


class Deaf:
    """A user's interceptor that takes 5 s to react to a cancellation."""

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        try:
            return await call_next(request, ctx)
        finally:
            if context_of(ctx).attempt.number == 1:
                await asyncio.shield(asyncio.sleep(5.0))

    intercept_client_stream = intercept_unary

    async def intercept_server_stream(
        self, call_next: Any, request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        async with closing(call_next(request, ctx)) as responses:
            async for response in responses:
                yield response

    intercept_bidi_stream = intercept_server_stream


@pytest.mark.parametrize("total", [30.0, 0.3])
async def test_a_loser_that_is_deaf_to_cancellation_does_not_hold_the_winner_back(
    total: float, virtual_time: VirtualTime
) -> None:
    # dotnet/extensions#5699
    fleet = Fleet((answers(every=10.0),), (answers(every=0.01),))
    stack = hedged(attempt=[Deaf()], deadline=DeadlinePolicy(total=total, attempt=None))
    client = fleet.client(stack)
    assert (await client.get(GetRequest(key="a"))).value == b"0"
    assert virtual_time.now() <= 0.2
    assert hedge_of(client).losers == 1
    before = virtual_time.now()
    await client.close()
    assert virtual_time.now() - before <= 1.01  # the stated grace
    await virtual_time.sleep(10.0)
    assert hedge_of(client).losers == 0


async def test_the_slot_of_a_call_counts_until_its_last_attempt_has_ended(
    virtual_time: VirtualTime,
) -> None:
    fleet = Fleet((answers(every=10.0), answers()), (answers(),))
    stack = hedged(attempt=[Deaf()], concurrency=BulkheadPolicy(max_in_flight=1))
    async with fleet.client(stack) as client:
        await client.get(GetRequest(key="a"))
        with pytest.raises(OverloadedError):
            await client.get(GetRequest(key="a"))
        await virtual_time.sleep(6.0)
        await client.get(GetRequest(key="a"))
        await virtual_time.sleep(6.0)


async def test_a_call_whose_attempts_are_all_deaf_ends_at_its_deadline(
    virtual_time: VirtualTime,
) -> None:
    class DeafForever(Deaf):
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            try:
                return await call_next(request, ctx)
            finally:
                await asyncio.shield(asyncio.sleep(5.0))

        intercept_client_stream = intercept_unary

    fleet = Fleet((hangs(),), (hangs(),))
    stack = hedged(attempt=[DeafForever()], deadline=DeadlinePolicy(total=0.3, attempt=None))
    async with fleet.client(stack) as client:
        with pytest.raises(DeadlineExceededError) as caught:
            await client.get(GetRequest(key="a"))
        assert virtual_time.now() <= 0.35
        assert delivery(caught.value) is Delivery.MAYBE
    await virtual_time.sleep(10.0)


@hedged_shapes
@pytest.mark.parametrize("after", [0.01, 0.06])
async def test_a_caller_who_is_cancelled_leaves_nothing_behind(
    shape: Shape, after: float, virtual_time: VirtualTime
) -> None:
    # hedge-python leaves two orphans.
    fleet = Fleet((hangs(),), (hangs(),))
    async with fleet.client(hedged()) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after):
                await shape.run(client)
        assert virtual_time.now() == pytest.approx(after, abs=0.005)
        assert not tasks()
        call = asyncio.create_task(shape.run(client))
        await virtual_time.sleep(after)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        assert not tasks()
        assert hedge_of(client).losers == 0
    for peer in fleet.peers.values():
        assert set(peer.outcomes) <= {"cancelled"}


async def test_a_consumer_who_leaves_a_hedged_stream_closes_it() -> None:
    fleet = Fleet((hangs(),), (hangs(after=3),))
    async with fleet.client(hedged()) as client:
        async with closing(Shape.SERVER_STREAM.responses(client)) as responses:
            assert await anext(responses) == b"0"
        await asyncio.sleep(0.01)
        assert set(fleet.peer("b").outcomes) <= {"left", "cancelled"}
        assert fleet.peer("a").outcomes == ["cancelled"]
        assert not tasks()


@hedged_shapes
async def test_it_runs_with_wait_for_ready(shape: Shape, virtual_time: VirtualTime) -> None:
    fleet = Fleet((*[refused()] * 5, answers()), (refused(),))
    async with fleet.client(hedged(wait_for_ready=True)) as client:
        await shape.run(client)
    assert virtual_time.now() < 3.0


@pytest.mark.parametrize("shape", SHAPES)
async def test_the_hedged_preset_serves_all_shapes(shape: Shape) -> None:
    fleet = Fleet((answers(),), (answers(),))
    async with fleet.client(ClientStack.hedged()) as client:
        for _ in range(3):
            assert await shape.run(client)
    assert "HedgePolicy" in ClientStack.hedged().describe()


def test_hedges_that_would_never_start_are_refused() -> None:
    with pytest.raises(ConfigError, match="the last hedge would never start"):
        ClientStack(
            deadline=DeadlinePolicy(total=1, attempt=1), hedge=HedgePolicy(delay=0.6, max_hedges=2)
        )
