"""The client's rate limit through the real chain: who waits, who is refused, who pays."""

import asyncio
from random import Random

import pytest
from connectrpc.code import Code

from connectplugin.testing import LoopClock, RecordingListener, VirtualTime
from connectplugin_interceptors import (
    ClientStack,
    DeadlinePolicy,
    Delivery,
    RateLimitedError,
    RateLimitPolicy,
    RetryPolicy,
    delivery,
    retry_after,
    with_options,
)
from connectplugin_interceptors.call import CallContext
from connectplugin_interceptors.events import AttemptEnded, Rejected, Waited
from connectplugin_interceptors.rate_limit.config import RateLimitKey
from connectplugin_interceptors.rate_limit.interceptor import RateLimit
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.peer import Peer, answers, fails
from tests.contract.shape import SHAPES, Shape
from tests.contract.standalone import call_context

ONE_A_SECOND = RateLimitPolicy(per_second=1, burst=1)

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


@every_shape
async def test_calls_wait_for_tokens_first_come_first_served(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer, listener = Peer(answers()), RecordingListener()
    async with peer.client(ClientStack(rate_limit=ONE_A_SECOND), listeners=[listener]) as client:
        await asyncio.gather(*(shape.run(client, [f"k{number}"]) for number in range(4)))
    assert peer.sent_at == pytest.approx([0.0, 1.0, 2.0, 3.0])
    assert [call.requests for call in peer.calls] == [["k0"], ["k1"], ["k2"], ["k3"]]
    assert [event.duration for event in listener.of(Waited)] == pytest.approx([1.0, 2.0, 3.0])
    assert virtual_time.now() == pytest.approx(3.0)


@every_shape
async def test_what_cannot_be_waited_for_is_refused_at_once(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    """Part 4, wait 5 s, deadline 0.1 s: aiolimiter waits for the 100 ms, and then fails."""
    peer, listener = Peer(answers()), RecordingListener()
    stack = ClientStack(rate_limit=RateLimitPolicy(per_second=0.2, burst=1))
    async with peer.client(stack, listeners=[listener]) as client:
        await shape.run(client)
        with pytest.raises(RateLimitedError) as caught:
            await shape.run(client, timeout_ms=100)
    assert virtual_time.now() == 0.0
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.reason == "rate_limited"
    assert retry_after(caught.value) == pytest.approx(5.0)
    assert delivery(caught.value) is Delivery.NOT_SENT
    assert [event.policy for event in listener.of(Rejected)] == ["rate_limit"]
    assert len(peer.sent) == 1


@every_shape
async def test_what_was_refused_took_no_token(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(answers())
    async with peer.client(ClientStack(rate_limit=ONE_A_SECOND)) as client:
        await shape.run(client)
        for _ in range(50):
            with pytest.raises(RateLimitedError):
                await shape.run(client, timeout_ms=10)
        await virtual_time.sleep(1.0)
        await shape.run(client, timeout_ms=10)
    assert len(peer.sent) == 2


@every_shape
async def test_every_attempt_pays(virtual_time: VirtualTime, shape: Shape) -> None:
    """Guards against pyresilience's order, which lets three attempts through one token."""
    peer = Peer(
        fails(Code.UNAVAILABLE, headers=[("x-connectplugin-nack", "draining")], reading=False),
        answers(),
    )
    policy = RetryPolicy(initial_backoff=0.0, max_backoff=0.0)
    stack = ClientStack(rate_limit=ONE_A_SECOND, retry_policy=policy)
    async with peer.client(stack) as client:
        await shape.run(client)
    assert peer.sent_at == pytest.approx([0.0, 1.0])
    assert virtual_time.now() == pytest.approx(1.0)


async def test_a_second_attempt_that_is_refused_here_raises_the_first_one_s_error(
    virtual_time: VirtualTime,
) -> None:
    peer = Peer(fails(Code.UNAVAILABLE))
    stack = ClientStack(rate_limit=ONE_A_SECOND, deadline=DeadlinePolicy(total=0.9, attempt=None))
    async with peer.client(stack) as client:
        with pytest.raises(Exception, match="told to fail") as caught:
            await client.get(GetRequest(key="a"))
    assert delivery(caught.value) is Delivery.MAYBE
    assert virtual_time.now() < 0.1


@every_shape
async def test_a_cancelled_waiter_gives_its_turn_to_those_behind(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(answers())
    async with peer.client(ClientStack(rate_limit=ONE_A_SECOND)) as client:
        await shape.run(client)
        tasks = [asyncio.create_task(shape.run(client, [f"k{n}"])) for n in range(3)]
        await virtual_time.sleep(0.5)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert [call.requests for call in peer.calls[1:]] == [["k1"], ["k2"]]
    assert peer.sent_at == pytest.approx([0.0, 1.0, 2.0])


async def test_the_loop_turns_while_calls_wait(virtual_time: VirtualTime) -> None:
    """pyrate-limiter's synchronous call stands in the way of everything for 1,051 ms."""
    peer, ticks = Peer(answers()), list[float]()

    async def tick() -> None:
        while True:
            ticks.append(virtual_time.now())
            await virtual_time.sleep(0.1)

    async with peer.client(ClientStack(rate_limit=ONE_A_SECOND)) as client:
        ticking = asyncio.create_task(tick())
        await asyncio.gather(*(client.get(GetRequest(key="a")) for _ in range(3)))
        ticking.cancel()
    assert peer.sent_at == pytest.approx([0.0, 1.0, 2.0])
    assert len(ticks) >= 20


async def test_a_big_waiter_is_not_starved(virtual_time: VirtualTime) -> None:
    """aiolimiter orders waiters by amount: five among ones waits 4.5 s."""

    def amount(ctx: CallContext) -> float:
        return 5.0 if ctx.method.name == "Increment" else 1.0

    peer = Peer(answers())
    policy = RateLimitPolicy(per_second=10, burst=5, amount=amount)
    async with peer.client(ClientStack(rate_limit=policy)) as client:
        for _ in range(5):
            await client.get(GetRequest(key="a"))
        async with asyncio.TaskGroup() as group:
            group.create_task(client.increment(IncrementRequest(key="big")))
            for _ in range(40):
                group.create_task(client.get(GetRequest(key="a")))
    big = next(
        at for at, call in zip(peer.sent_at, peer.calls, strict=True) if call.method == "Increment"
    )
    assert big == pytest.approx(0.5)
    assert virtual_time.now() == pytest.approx(4.5)


def last_letters(ctx: CallContext) -> str:
    return ctx.call.path[-3:]


@pytest.mark.parametrize(
    ("key", "together"), [("endpoint", True), ("method", False), (last_letters, False)]
)
async def test_the_key_says_who_counts_together(
    virtual_time: VirtualTime, key: RateLimitKey, *, together: bool
) -> None:
    peer = Peer(answers())
    policy = RateLimitPolicy(per_second=1, burst=1, key=key)
    async with peer.client(ClientStack(rate_limit=policy)) as client:
        await client.get(GetRequest(key="a"))
        await client.increment(IncrementRequest(key="a"))
    assert virtual_time.now() == pytest.approx(1.0 if together else 0.0)


async def test_it_is_off_by_default_and_on_for_a_method_or_an_object(
    virtual_time: VirtualTime,
) -> None:
    peer = Peer(answers())
    stack = ClientStack().for_method("kv.v1.KVService/Increment", rate_limit=ONE_A_SECOND)
    async with peer.client(stack) as client:
        for _ in range(5):
            await client.get(GetRequest(key="a"))
        assert virtual_time.now() == 0.0
        for _ in range(2):
            await client.increment(IncrementRequest(key="a"))
        assert virtual_time.now() == pytest.approx(1.0)
        limited = with_options(client, rate_limit=RateLimitPolicy(per_second=2, burst=1))
        for _ in range(2):
            await limited.get(GetRequest(key="a"))
        assert virtual_time.now() == pytest.approx(1.5)


async def test_max_wait_is_a_limit_below_the_deadline(virtual_time: VirtualTime) -> None:
    peer = Peer(answers())
    policy = RateLimitPolicy(per_second=1, burst=1, max_wait=1.5)
    async with peer.client(ClientStack(rate_limit=policy)) as client:
        calls = [client.get(GetRequest(key="a")) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result).__name__ for result in results][2] == "RateLimitedError"
    assert peer.sent_at == pytest.approx([0.0, 1.0])
    assert virtual_time.now() == pytest.approx(1.0)


async def test_more_than_a_bucket_holds_is_refused_with_no_hint(virtual_time: VirtualTime) -> None:
    peer = Peer(answers())
    policy = RateLimitPolicy(per_second=1, burst=2, amount=lambda _: 3.0)
    async with peer.client(ClientStack(rate_limit=policy)) as client:
        with pytest.raises(
            RateLimitedError, match="costs 3 tokens, and a bucket holds 2"
        ) as caught:
            await client.get(GetRequest(key="a"))
    assert caught.value.reason == "above_burst"
    assert caught.value.retry_after is None
    assert virtual_time.now() == 0.0


@pytest.mark.parametrize("told", [-1.0, float("nan"), float("inf")])
async def test_a_function_that_tells_nonsense_is_the_caller_s_mistake(
    virtual_time: VirtualTime, told: float
) -> None:
    peer, listener = Peer(answers()), RecordingListener()
    policy = RateLimitPolicy(per_second=1, amount=lambda _: told)
    async with peer.client(ClientStack(rate_limit=policy), listeners=[listener]) as client:
        with pytest.raises(ValueError, match=r"amount told .+ it must be >= 0"):
            await client.get(GetRequest(key="a"))
    assert peer.sent == []
    assert listener.of(AttemptEnded) == []
    assert virtual_time.now() == 0.0


# --- The hand-over: cases.md, "a permit lost, or granted twice" -----------------------------------


@pytest.mark.parametrize("seed", range(20))
async def test_no_turn_is_lost_or_granted_twice_however_calls_are_cancelled(
    virtual_time: VirtualTime, seed: int
) -> None:
    """Guards against anyio #947 and #1170: a waiter cancelled in the tick of its grant."""
    rng = Random(seed)  # noqa: S311  # interleavings
    clock = LoopClock()
    link = RateLimit(clock=clock, emit=None)
    policy = RateLimitPolicy(per_second=10, burst=rng.choice([1, 3]))
    inside: list[tuple[float, int]] = []

    async def leaf(request: int, _: object) -> int:
        inside.append((clock.now(), request))
        return request

    async def call(number: int) -> None:
        await link.intercept_unary(leaf, number, call_context(clock, rate_limit=policy))

    tasks: list[asyncio.Task[None]] = []
    for number in range(250):
        tasks.append(asyncio.create_task(call(number)))
        if rng.random() < 0.3:
            rng.choice(tasks).cancel()
        # On the very tick of a grant, between two, or not at all.
        await asyncio.sleep(rng.choice([0.0, 0.0, 0.1, 0.05]))
    last = asyncio.create_task(call(-1))
    await asyncio.wait([*tasks, last])

    granted = [number for _, number in inside]
    assert granted[-1] == -1, "somebody waits for ever, or was passed"
    assert granted[:-1] == sorted(granted[:-1]), "not first come first served"
    times = [at for at, _ in inside]
    for first, start in enumerate(times):
        for after in range(first, len(times)):
            count = after - first + 1
            assert count <= policy.bucket + 10 * (times[after] - start) + 1e-3
    # Nothing is owed to anybody: right away there is what time has brought.
    left = {task for task in tasks if not task.cancelled()}
    assert len(granted) == len(left) + 1
    await asyncio.sleep(10.0)
    before = clock.now()
    for _ in range(int(policy.bucket)):
        await call(-2)
    assert clock.now() == before


async def test_a_turn_is_not_taken_by_a_call_that_was_never_awaited(
    virtual_time: VirtualTime,
) -> None:
    clock = LoopClock()
    link = RateLimit(clock=clock, emit=None)

    async def leaf(request: int, _: object) -> int:
        return request

    async def call() -> None:
        await link.intercept_unary(leaf, 1, call_context(clock, rate_limit=ONE_A_SECOND))

    await call()
    for _ in range(3):
        asyncio.create_task(call()).cancel()  # cancelled before it begins
    waiting = link.intercept_unary(leaf, 1, call_context(clock, rate_limit=ONE_A_SECOND))
    asyncio.ensure_future(waiting).cancel()
    await call()
    assert clock.now() == pytest.approx(1.0)
