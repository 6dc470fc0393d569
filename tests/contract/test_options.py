"""`with_options` on generated clients: what it changes, what it leaves alone, and where it ends."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import VirtualTime
from connectplugin_interceptors import (
    ConfigError,
    DeadlineExceededError,
    DeadlinePolicy,
    RetryPolicy,
    with_options,
)
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, SyncRequest
from tests.contract.peer import Handler, Peer, answers, fails, ground, hangs, refused
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


async def took(virtual_time: VirtualTime, client: KVServiceClient, shape: Shape) -> float:
    """How long a call to a peer that hangs takes."""
    before = virtual_time.now()
    with pytest.raises(DeadlineExceededError):
        await shape.run(client)
    return virtual_time.now() - before


@every_shape
async def test_an_option_holds_for_the_derived_client_only(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    stack = ground(
        deadline=DeadlinePolicy(total=5.0, attempt=None, stream_total=5.0), retry_policy=None
    )
    client = Peer(hangs()).client(stack)
    quick = with_options(client, timeout=0.5)
    quicker = with_options(quick, timeout=0.1)
    for one, seconds in ((quick, 0.5), (client, 5.0), (quicker, 0.1), (quick, 0.5), (client, 5.0)):
        assert await took(virtual_time, one, shape) == pytest.approx(seconds, abs=0.002)


@every_shape
async def test_no_timeout_takes_an_earlier_one_back(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    stack = ground(
        deadline=DeadlinePolicy(total=5.0, attempt=None, stream_total=5.0), retry_policy=None
    )
    quick = with_options(Peer(hangs()).client(stack), timeout=0.5)
    patient = with_options(quick, timeout=None)
    for one, seconds in ((patient, 5.0), (quick, 0.5), (with_options(patient, fault=None), 5.0)):
        assert await took(virtual_time, one, shape) == pytest.approx(seconds, abs=0.002)
    again = with_options(patient, timeout=0.2)
    assert await took(virtual_time, again, shape) == pytest.approx(0.2, abs=0.002)


def test_the_type_stays_the_same() -> None:
    client = Peer().client(ground())
    derived = with_options(with_options(client, timeout=1.0), wait_for_ready=True)
    assert type(derived) is type(client)
    assert isinstance(derived, KVServiceClient)
    assert isinstance(client, KVServiceClient)
    assert type(client).__name__ == "KVServiceClient"
    assert repr(derived) == repr(client)
    assert "KVServiceClient at http://peer" in repr(client)


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_policies_are_replaced_by_their_names(shape: Shape) -> None:
    peer = Peer(refused())
    client = peer.client(ground(retry_policy=RetryPolicy(max_attempts=4, budget=None)))
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 4),
        ({"retry_policy": None}, 1),
        ({"retry_policy": RetryPolicy(max_attempts=3, budget=None)}, 3),
        ({"timeout": 20.0}, 4),
    ]
    for options, attempts in cases:
        peer.sent.clear()
        changed: Any = with_options(client, **options)
        with pytest.raises(ConnectError):
            await shape.run(changed)
        assert len(peer.sent) == attempts


@every_shape
async def test_a_derived_client_of_a_derived_one_adds_up(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(hangs())
    stack = ground(deadline=DeadlinePolicy(total=9.0, attempt=None, stream_total=9.0))
    off = with_options(peer.client(stack), deadline=None)
    both = with_options(off, timeout=3.0)
    assert await took(virtual_time, both, shape) == pytest.approx(3.0)
    # The later word wins, where both say something.
    again = with_options(both, deadline=DeadlinePolicy(total=2.0, attempt=1.0, stream_total=2.0))
    assert await took(virtual_time, with_options(again, retry_policy=None), shape) <= 2.0


async def test_a_timeout_shortens_and_never_lengthens(virtual_time: VirtualTime) -> None:
    peer = Peer(hangs())
    stack = ground(deadline=DeadlinePolicy(total=2.0, attempt=None), retry_policy=None)
    client = with_options(peer.client(stack), timeout=60.0)
    assert await took(virtual_time, client, Shape.UNARY) == pytest.approx(2.0)


async def test_an_override_of_a_method_holds_under_options_too(virtual_time: VirtualTime) -> None:
    peer = Peer(hangs())
    stack = ground(retry_policy=None).for_method(
        "kv.v1.KVService/Get", deadline=DeadlinePolicy(total=2.0, attempt=None)
    )
    client = with_options(peer.client(stack), wait_for_ready=True)
    assert await took(virtual_time, client, Shape.UNARY) == pytest.approx(2.0)


@every_shape
async def test_wait_for_ready_for_one_client_only(virtual_time: VirtualTime, shape: Shape) -> None:
    peer = Peer(*[refused()] * 6, answers())
    client = peer.client(ground(retry_policy=None))
    with pytest.raises(ConnectError):
        await shape.run(client)
    assert await shape.run(with_options(client, wait_for_ready=True))
    assert 0 < virtual_time.now() < 2.0


# --- It ends where the call ends ---


@pytest.mark.usefixtures("virtual_time")
async def test_nothing_leaks_into_calls_that_run_inside_of_the_call() -> None:
    # In the handler, in the caller's own request generator, in an interceptor, in a loop's body.
    inner = Peer(refused())
    plain = inner.client(ground(retry_policy=RetryPolicy(max_attempts=3, budget=None)))

    async def attempts() -> int:
        before = len(inner.sent)
        with pytest.raises(ConnectError):
            await plain.get(GetRequest(key="a"))
        return len(inner.sent) - before

    seen: dict[str, int] = {}

    async def behave(_seen: Any, keys: AsyncIterator[str], _ctx: Any) -> AsyncIterator[bytes]:
        async for _ in keys:
            seen["handler"] = await attempts()
            yield b"answer"

    class Inside:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(
            self, call_next: Any, request: Any, ctx: Any
        ) -> AsyncIterator[Any]:
            seen["interceptor"] = await attempts()
            async for response in call_next(request, ctx):
                yield response

        intercept_bidi_stream = intercept_server_stream

    async def requests() -> AsyncIterator[SyncRequest]:
        seen["generator"] = await attempts()
        yield SyncRequest(key="a")

    client = Peer(Handler(behave)).client(ground(call=[Inside()]))
    changed = with_options(client, retry_policy=None, timeout=5.0)
    async for _ in changed.sync(requests()):
        seen["body"] = await attempts()
    seen["after"] = await attempts()
    assert seen == dict.fromkeys(("handler", "interceptor", "generator", "body", "after"), 3)


@pytest.mark.usefixtures("virtual_time")
async def test_calls_of_both_clients_at_once_do_not_mix() -> None:
    peer = Peer(fails(Code.UNAVAILABLE))
    client = peer.client(ground(retry_policy=RetryPolicy(max_attempts=2, budget=None)))
    once = with_options(client, retry_policy=None)
    await asyncio.gather(
        *(Shape.UNARY.run(one) for one in (client, once) * 20), return_exceptions=True
    )
    assert len(peer.sent) == 20 * 2 + 20


async def test_a_derived_client_leaves_the_transport_open() -> None:
    class Closing:
        closed = 0

        async def execute(self, request: Any) -> Any:
            raise NotImplementedError

        async def aclose(self) -> None:
            self.closed += 1

    transport = Closing()
    client = ground().client(KVServiceClient, "http://peer", transport=transport)
    async with with_options(client, timeout=1.0):
        pass
    await client.close()
    assert transport.closed == 0  # it is the caller's


# --- Mistakes ---


def test_an_option_that_does_not_exist_is_told_with_those_that_do() -> None:
    client = Peer().client(ground())
    with pytest.raises(ConfigError, match=r"no option 'retries'; there are: .*retry_policy"):
        with_options(client, retries=3)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match=r"no option 'timeouts'; there are: .*timeout$"):
        with_options(client, timeouts=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("wrong", [0, -1, 0.0001, float("nan"), float("inf"), "1", True])
def test_a_timeout_that_cannot_work_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="timeout is"):
        with_options(Peer().client(ground()), timeout=wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("deadline", 5.0), ("retry_policy", 3), ("wait_for_ready", 1), ("wait_for_ready", None)],
)
def test_a_policy_of_the_wrong_kind_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        with_options(Peer().client(ground()), **{name: wrong})


@pytest.mark.parametrize("wrong", [None, object(), KVServiceClient, "kv"])
def test_what_has_no_options_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="works on dispensed plugins and on clients made by"):
        with_options(wrong, timeout=1.0)
