"""Load balancing in the real chain: four shapes, several peers, virtual time."""

import asyncio
from collections import Counter
from contextlib import suppress

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    BalancePolicy,
    CircuitBreakerPolicy,
    CircuitOpenError,
    ClientStack,
    DeadlineExceededError,
    DeadlinePolicy,
    EndpointPool,
    NoEndpointError,
    OutlierEjectionPolicy,
    RetryPolicy,
    with_options,
)
from connectplugin_interceptors.events import AttemptEnded, EndpointChanged, Rejected
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest
from tests.contract.fleet import Fleet
from tests.contract.peer import Step, answers, fails, hangs, refused
from tests.contract.shape import SHAPES, Shape

pytestmark = pytest.mark.usefixtures("virtual_time")

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())

GOOD = (answers(),)
DOWN = (fails(Code.UNAVAILABLE),)
GONE = (refused(),)


def balanced(**policies: object) -> ClientStack:
    """Only what these tests are about."""
    return ClientStack.bare(
        **{"deadline": DeadlinePolicy(), "load_balancing": BalancePolicy(), **policies}
    )


@every_shape
async def test_calls_are_spread(shape: Shape) -> None:
    fleet = Fleet(GOOD, GOOD, GOOD)
    async with fleet.client(balanced()) as client:
        for _ in range(60):
            await shape.run(client)
    counts = Counter(fleet.asked)
    assert set(counts) == {"a", "b", "c"}
    assert min(counts.values()) >= 10


@every_shape
async def test_round_robin_takes_turns(shape: Shape) -> None:
    fleet = Fleet(GOOD, GOOD, GOOD)
    stack = balanced(load_balancing=BalancePolicy(policy="round_robin"))
    async with fleet.client(stack) as client:
        for _ in range(6):
            await shape.run(client)
    assert fleet.asked == ["a", "b", "c"] * 2


async def test_equal_keys_meet_the_same_endpoint_for_as_long_as_it_can_be_had() -> None:
    fleet = Fleet(GOOD, GOOD, GOOD, GOOD)
    policy = BalancePolicy(policy="consistent_hash", key=lambda request, _: request.key)
    pool = EndpointPool(fleet.addresses)
    async with fleet.client(balanced(load_balancing=policy), pool) as client:
        homes: dict[str, str] = {}
        for key in map(str, range(40)):
            for _ in range(3):
                await client.get(GetRequest(key=key))
            assert len(set(fleet.asked[-3:])) == 1
            homes[key] = fleet.asked[-1]
        assert set(homes.values()) == {"a", "b", "c", "d"}
        pool.update([url for url in fleet.addresses if url != "http://b"])
        for key, home in homes.items():
            await client.get(GetRequest(key=key))
            assert fleet.asked[-1] == home or home == "b"


async def test_a_hash_key_may_come_from_a_header_where_requests_are_streams() -> None:
    fleet = Fleet(GOOD, GOOD, GOOD)
    policy = BalancePolicy(
        policy="consistent_hash", key=lambda _, ctx: ctx.request_headers.get("x-tenant", "")
    )
    async with fleet.client(balanced(load_balancing=policy)) as client:
        for _ in range(5):
            await Shape.BIDI_STREAM.run(client, headers={"x-tenant": "acme"})
    assert len(set(fleet.asked)) == 1


@every_shape
async def test_a_call_that_never_left_goes_to_the_next_endpoint_at_once(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    # No retry of its own is spent: max_attempts counts what may have reached somebody.
    fleet = Fleet(GONE, GONE, GONE, GOOD)
    listener = RecordingListener()
    stack = balanced(retry_policy=RetryPolicy(), load_balancing=BalancePolicy(policy="round_robin"))
    async with fleet.client(stack, listeners=[listener]) as client:
        assert await shape.run(client)
    assert fleet.asked == ["a", "b", "c", "d"]
    assert virtual_time.now() < 0.001
    assert {event.kind.value for event in listener.of(AttemptEnded)} == {"initial", "transparent"}
    assert fleet.peer("d").attempt_numbers == [None]


@every_shape
async def test_when_nobody_listens_each_endpoint_is_asked_and_then_an_ordinary_retry_follows(
    shape: Shape,
) -> None:
    fleet = Fleet(GONE, GONE, GONE)
    async with fleet.client(balanced(retry_policy=RetryPolicy())) as client:
        with pytest.raises(ConnectError, match="refused"):
            await shape.run(client)
    assert sorted(fleet.asked[:3]) == ["a", "b", "c"]
    assert len(fleet.asked) == 4


@pytest.mark.parametrize("policy", ["p2c", "round_robin"])
async def test_a_retry_goes_to_an_endpoint_that_the_call_has_not_tried(policy: str) -> None:
    fleet = Fleet(DOWN, DOWN, DOWN)
    stack = balanced(
        retry_policy=RetryPolicy(max_attempts=5, initial_backoff=0),
        load_balancing=BalancePolicy(policy=policy),  # type: ignore[arg-type]  # one of them
    )
    async with fleet.client(stack) as client:
        for _ in range(2):
            fleet.urls.clear()
            with pytest.raises(ConnectError):
                await client.get(GetRequest(key="a"))
            assert sorted(fleet.asked[:3]) == ["a", "b", "c"]
            assert len(fleet.asked) == 5  # reused when none is left


@every_shape
async def test_an_endpoint_whose_circuit_is_open_costs_no_attempt(shape: Shape) -> None:
    fleet = Fleet(DOWN, GOOD)
    stack = balanced(
        circuit_breaker=CircuitBreakerPolicy(failure_threshold=1, timeout=1000, max_timeout=1000),
        load_balancing=BalancePolicy(policy="round_robin"),
    )
    async with fleet.client(stack) as client:
        with pytest.raises(ConnectError):
            await shape.run(client)
        for _ in range(20):
            await shape.run(client)
    assert fleet.asked == ["a"] + ["b"] * 20


@every_shape
async def test_when_all_circuits_are_open_the_smallest_wait_is_told(shape: Shape) -> None:
    fleet = Fleet(DOWN, DOWN)
    listener = RecordingListener()
    stack = balanced(
        circuit_breaker=CircuitBreakerPolicy(failure_threshold=1, timeout=1.0, jitter=0),
        load_balancing=BalancePolicy(policy="round_robin"),
    )
    async with fleet.client(stack, listeners=[listener]) as client:
        with pytest.raises(ConnectError):
            await shape.run(client)
        await asyncio.sleep(0.4)
        with pytest.raises(ConnectError):
            await shape.run(client)
        with pytest.raises(CircuitOpenError) as refusal:
            await shape.run(client)
    assert refusal.value.retry_after == pytest.approx(0.6, abs=0.01)
    assert refusal.value.code is Code.UNAVAILABLE
    assert fleet.asked == ["a", "b"]
    assert listener.of(Rejected)[-1].policy == "load_balancing"


async def test_panic_ignores_ejection_and_health_but_no_breaker() -> None:
    fleet = Fleet(GOOD, GOOD, GOOD, DOWN)
    pool = EndpointPool(fleet.addresses)
    stack = balanced(
        circuit_breaker=CircuitBreakerPolicy(failure_threshold=1, timeout=1000, max_timeout=1000)
    )
    async with fleet.client(stack, pool) as client:
        while not fleet.peer("d").calls:
            with suppress(ConnectError):
                await client.get(GetRequest(key="a"))
        for endpoint in pool.endpoints[:3]:
            pool.set_health(endpoint, healthy=False, now=0.0)
        assert pool.panic
        fleet.urls.clear()
        for _ in range(30):
            await client.get(GetRequest(key="a"))
        assert set(fleet.asked) == {"a", "b", "c"}


async def test_without_endpoints_a_call_fails_at_once_and_was_not_sent() -> None:
    fleet = Fleet()
    pool = EndpointPool()
    async with fleet.client(balanced(), pool) as client:
        with pytest.raises(NoEndpointError, match="no endpoints"):
            await client.get(GetRequest(key="a"))


@every_shape
async def test_wait_for_ready_waits_until_an_endpoint_can_be_picked(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    fleet = Fleet(GOOD)
    pool = EndpointPool()
    async with fleet.client(balanced(wait_for_ready=True), pool) as client:
        call = asyncio.create_task(shape.run(client))
        await virtual_time.sleep(5.0)
        assert not call.done()
        pool.update(fleet.addresses)
        assert await call
    assert virtual_time.now() < 5.3


@every_shape
async def test_wait_for_ready_asks_all_endpoints_again_until_one_listens(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    fleet = Fleet((*GONE * 8, *GOOD), GONE, GONE)
    async with fleet.client(balanced(wait_for_ready=True, retry_policy=RetryPolicy())) as client:
        assert await shape.run(client)
    assert Counter(fleet.asked)["a"] == 9
    assert virtual_time.now() < 3.0


async def test_wait_for_ready_ends_at_the_deadline(virtual_time: VirtualTime) -> None:
    fleet = Fleet()
    async with fleet.client(balanced(wait_for_ready=True), EndpointPool()) as client:
        with pytest.raises(DeadlineExceededError) as expired:
            await with_options(client, timeout=2.0).get(GetRequest(key="a"))
    assert not expired.value.sent
    assert virtual_time.now() == pytest.approx(2.0, abs=0.01)


async def test_an_endpoint_that_is_removed_keeps_its_calls_and_gets_no_new_ones() -> None:
    fleet = Fleet((answers(5, every=1.0),), GOOD)
    pool = EndpointPool(["http://a"])
    released: list[str] = []
    pool.on_released(lambda endpoint: released.append(endpoint.key))
    async with (
        fleet.client(balanced(), pool) as client,
        closing(Shape.SERVER_STREAM.responses(client)) as responses,
    ):
        await anext(responses)
        pool.update(["http://b"])
        await Shape.UNARY.run(client)
        assert fleet.asked == ["a", "b"]
        assert [endpoint.key for endpoint in pool.draining] == ["http://a"]
        assert released == []
        assert [value async for value in responses] == [b"1", b"2", b"3", b"4"]
    assert released == ["http://a"]
    assert pool.draining == ()


async def test_a_cancelled_call_leaves_nothing_pending_and_teaches_nothing() -> None:
    fleet = Fleet((hangs(),), (hangs(),))
    pool = EndpointPool(fleet.addresses)
    async with fleet.client(balanced(), pool) as client:
        for shape in SHAPES:
            call = asyncio.create_task(shape.run(client))
            await asyncio.sleep(1.0)
            assert sum(endpoint.pending for endpoint in pool.endpoints) == 1
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
    for endpoint in pool.endpoints:
        assert (endpoint.pending, endpoint.succeeded, endpoint.failed) == (0, 0, 0)
        assert endpoint.rtt(100.0, 10.0, 0.03) == 0.03


async def test_a_broken_endpoint_is_ejected_and_returns(virtual_time: VirtualTime) -> None:
    fleet = Fleet(*[GOOD] * 5, (*DOWN * 200, *GOOD))
    listener = RecordingListener()
    stack = balanced(
        load_balancing=BalancePolicy(policy="round_robin"),
        outlier_ejection=OutlierEjectionPolicy(failure_calls=5),
    )
    async with fleet.client(stack, listeners=[listener]) as client:
        asked_at: list[float] = []
        for _ in range(1_000):
            with suppress(ConnectError):
                await client.get(GetRequest(key="a"))
            if fleet.asked[-1] == "f":
                asked_at.append(virtual_time.now())
            await virtual_time.sleep(0.1)
    moves = [(event.endpoint, event.after) for event in listener.of(EndpointChanged)]
    assert moves[:2] == [("http://f", "ejected"), ("http://f", "ready")]
    assert not [at for at in asked_at if 10.2 < at < 40.0]
    assert [at for at in asked_at if 40.0 < at < 51.0]


def partly(success: int) -> tuple[Step, ...]:
    """A peer of which so many calls of five succeed, over and over, until it is healed."""
    return tuple(answers() if turn < success else fails(Code.UNAVAILABLE) for turn in range(5))


@pytest.mark.parametrize("policy", ["round_robin", "p2c"])
async def test_several_dead_hosts_do_not_hide_each_other(
    policy: str, virtual_time: VirtualTime
) -> None:
    # grpc/grpc-java#12537: the more hosts are dead, the fewer are ejected.
    rates = {"a": 5, "b": 5, "c": 5, "d": 1, "e": 0, "f": 0}
    fleet = Fleet(*[partly(rate) * 500 for rate in rates.values()])
    listener = RecordingListener()
    stack = balanced(
        load_balancing=BalancePolicy(policy=policy),  # type: ignore[arg-type]  # one of them
        outlier_ejection=OutlierEjectionPolicy(max_ejected=0.5),
    )
    later: list[str] = []
    async with fleet.client(stack, listeners=[listener]) as client:
        while virtual_time.now() < 39.9:  # 600 calls an interval, 100 for each
            with suppress(ConnectError):
                await client.get(GetRequest(key="a"))
            if virtual_time.now() > 10.1:
                later.append(fleet.urls[-1][7])
            await virtual_time.sleep(10.0 / 600)
        ejected = [e.endpoint for e in listener.of(EndpointChanged) if e.after == "ejected"]
        assert later.count("e") + later.count("f") <= 0.02 * len(later)
        if policy == "round_robin":
            assert sorted(ejected[:2]) == ["http://e", "http://f"]
        assert not {"http://a", "http://b", "http://c"} & set(ejected)
        for peer in fleet.peers.values():
            peer.script = (answers(),)
        while virtual_time.now() < 120.0:
            await client.get(GetRequest(key="a"))
            await virtual_time.sleep(0.2)
        counts = Counter(fleet.asked[-200:])
        assert min(counts[name] for name in rates) >= 10


async def test_no_header_steers_a_request() -> None:
    fleet = Fleet(GOOD, GOOD)
    policy = BalancePolicy(policy="round_robin")
    async with fleet.client(balanced(load_balancing=policy)) as client:
        for _ in range(4):
            await client.get(
                GetRequest(key="a"), headers={"host": "evil", "x-forwarded-host": "evil"}
            )
    assert fleet.asked == ["a", "b"] * 2


async def test_a_path_in_an_endpoints_url_is_kept() -> None:
    fleet = Fleet(GOOD, GOOD)
    policy = BalancePolicy(policy="round_robin")
    addresses = ["http://a/plugins/one/", "http://b"]
    async with fleet.client(balanced(load_balancing=policy), addresses) as client:
        with suppress(ConnectError):
            await client.get(GetRequest(key="a"))
        await client.get(GetRequest(key="a"), use_get=True)
    assert fleet.urls[0] == "http://a/plugins/one/kv.v1.KVService/Get"
    assert fleet.urls[1].startswith("http://b/kv.v1.KVService/Get?")


async def test_one_address_is_sent_to_as_it_is() -> None:
    fleet = Fleet(GOOD)
    client = balanced().client(KVServiceClient, ["http://a"], transport=fleet)
    async with client:
        await client.get(GetRequest(key="a"))
    assert fleet.urls == ["http://a/kv.v1.KVService/Get"]


def test_the_chain_tells_of_balancing() -> None:
    told = ClientStack().describe()
    assert "load balancing" in told
    assert "policy='p2c'" in told
    assert "OutlierEjectionPolicy" in told
