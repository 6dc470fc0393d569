"""Retries through the real chain: what follows which failure, over which shapes, and at what cost.

`resilience.md` part 3 row by row, and the rows of part 4 that are about retries.
"""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from ssl import SSLError
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from protobuf.wkt import Duration
from pyqwest import Client, ConnectTimeout, ReadError, RemoteProtocolError, WriteError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    Cause,
    ClientStack,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    OverloadedError,
    RetryBudgetPolicy,
    RetryPolicy,
    delivery,
    retry_after,
)
from connectplugin_interceptors._gen.google.rpc.error_details_pb import RetryInfo
from connectplugin_interceptors.admission import Admission
from connectplugin_interceptors.call import AttemptKind, CallContext
from connectplugin_interceptors.events import AttemptEnded, CallEnded, RetryScheduled, RetryStopped
from connectplugin_interceptors.outcome import Outcome
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.peer import Peer, Step, answers, breaks, fails, ground, raises, refused, seeded
from tests.contract.shape import SHAPES, Shape

NACK = ("x-connectplugin-nack", "draining")
ALWAYS = ground(retry_policy=RetryPolicy(budget=None))
NEVER_TWICE = ground(retry_policy=RetryPolicy(budget=None, idempotent=False))

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


async def run(
    peer: Peer, shape: Shape, stack: ClientStack, **options: Any
) -> tuple[list[bytes] | ConnectError, RecordingListener]:
    """The call's responses or its error, and all events."""
    listener = RecordingListener()
    async with peer.client(stack, listeners=[listener], **options) as client:
        try:
            return await shape.run(client, ["a", "b"]), listener
        except ConnectError as error:
            return error, listener


def stopped(listener: RecordingListener) -> str:
    return listener.of(RetryStopped)[0].reason


# --- Part 3, row by row: failure, whether a method may be executed twice, attempts ------------ ---

ROWS: list[tuple[str, Step, Cause, Outcome, Delivery, int, int]] = [
    # name, step, cause, outcome, delivery; attempts if idempotent, attempts if not
    ("refused", refused(), Cause.CONNECTION, Outcome.FAILURE, Delivery.NOT_SENT, 2, 2),
    (
        "connect timeout",
        raises(ConnectTimeout("slow")),
        Cause.CONNECTION,
        Outcome.FAILURE,
        Delivery.NOT_SENT,
        2,
        2,
    ),
    (
        "certificate",
        raises(ConnectionError("invalid peer certificate: UnknownIssuer")),
        Cause.CERTIFICATE,
        Outcome.FAILURE,
        Delivery.NOT_SENT,
        1,
        1,
    ),
    (
        "python's own certificate error",
        raises(ConnectionError(str(SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] no")))),
        Cause.CERTIFICATE,
        Outcome.FAILURE,
        Delivery.NOT_SENT,
        1,
        1,
    ),
    (
        "read error",
        breaks(ReadError("reset")),
        Cause.TRANSPORT,
        Outcome.FAILURE,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "write error",
        raises(WriteError("reset")),
        Cause.TRANSPORT,
        Outcome.FAILURE,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "protocol error",
        raises(RemoteProtocolError("closed")),
        Cause.TRANSPORT,
        Outcome.FAILURE,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "deadline of the server's",
        fails(Code.DEADLINE_EXCEEDED),
        Cause.DEADLINE,
        Outcome.FAILURE,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "unavailable",
        fails(Code.UNAVAILABLE),
        Cause.UNAVAILABLE,
        Outcome.FAILURE,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "nack",
        fails(Code.UNAVAILABLE, headers=[("x-connectplugin-nack", "overloaded")]),
        Cause.REFUSED,
        Outcome.REFUSED,
        Delivery.NOT_SENT,
        2,
        2,
    ),
    (
        "draining",
        fails(Code.UNAVAILABLE, headers=[NACK]),
        Cause.DRAINING,
        Outcome.FAILURE,
        Delivery.NOT_SENT,
        2,
        2,
    ),
    (
        "exhausted with pushback",
        fails(Code.RESOURCE_EXHAUSTED, headers=[("grpc-retry-pushback-ms", "10")]),
        Cause.THROTTLED,
        Outcome.REFUSED,
        Delivery.MAYBE,
        2,
        1,
    ),
    (
        "exhausted with pushback and nack",
        fails(
            Code.RESOURCE_EXHAUSTED,
            headers=[("grpc-retry-pushback-ms", "10"), ("x-connectplugin-nack", "rate_limited")],
        ),
        Cause.REFUSED,
        Outcome.REFUSED,
        Delivery.NOT_SENT,
        2,
        2,
    ),
    (
        "exhausted",
        fails(Code.RESOURCE_EXHAUSTED),
        Cause.THROTTLED,
        Outcome.REFUSED,
        Delivery.MAYBE,
        1,
        1,
    ),
    *[
        (code.value, fails(code), Cause.UNKNOWN, Outcome.FAILURE, Delivery.MAYBE, 1, 1)
        for code in (Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS)
    ],
    ("aborted", fails(Code.ABORTED), Cause.ABORTED, Outcome.ANSWERED, Delivery.ANSWERED, 1, 1),
    (
        "unauthenticated",
        fails(Code.UNAUTHENTICATED),
        Cause.UNAUTHENTICATED,
        Outcome.ANSWERED,
        Delivery.ANSWERED,
        1,
        1,
    ),
    *[
        (code.value, fails(code), Cause.BUSINESS, Outcome.ANSWERED, Delivery.ANSWERED, 1, 1)
        for code in (
            Code.INVALID_ARGUMENT,
            Code.NOT_FOUND,
            Code.ALREADY_EXISTS,
            Code.PERMISSION_DENIED,
            Code.FAILED_PRECONDITION,
            Code.OUT_OF_RANGE,
            Code.UNIMPLEMENTED,
            Code.CANCELED,
        )
    ],
]


@pytest.mark.usefixtures("virtual_time")
@every_shape
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].replace(" ", "-"))
async def test_what_follows_a_failure(
    row: tuple[str, Step, Cause, Outcome, Delivery, int, int], shape: Shape
) -> None:
    _, step, cause, outcome, sent, if_idempotent, if_not = row
    for stack, attempts in ((ALWAYS, if_idempotent), (NEVER_TWICE, if_not)):
        peer = Peer(step)
        error, listener = await run(peer, shape, stack)
        assert isinstance(error, ConnectError)
        if shape.streams_requests and sent is not Delivery.NOT_SENT:
            attempts = 1  # noqa: PLW2901  # requests that may have been processed are not repeated
        assert len(peer.sent) == attempts
        first = listener.of(AttemptEnded)[0]
        assert (first.cause, first.outcome) == (cause, outcome)
        assert delivery(error) is sent
        ended = listener.of(CallEnded)
        assert [(event.attempts, event.delivery) for event in ended] == [(attempts, sent)]


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_the_same_failures_then_a_success(shape: Shape) -> None:
    for row in ROWS:
        peer = Peer(row[1], answers(2))
        responses, listener = await run(peer, shape, ALWAYS)
        again = row[5] == 2 and (row[4] is Delivery.NOT_SENT or not shape.streams_requests)
        assert isinstance(responses, list) is again, row[0]
        if again:
            assert peer.attempt_numbers == [None, "1"]
            assert peer.calls[-1].requests == (["a", "b"] if shape.streams_requests else ["a"])
            assert [event.outcome for event in listener.of(CallEnded)] == [Outcome.SUCCESS]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("code", [Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.ABORTED])
async def test_codes_that_are_retried_by_opt_in_only(code: Code) -> None:
    policy = RetryPolicy(budget=None, retryable_errors=[code])
    peer = Peer(fails(code), answers())
    result, _ = await run(peer, Shape.UNARY, ground(retry_policy=policy))
    assert result == [b"0"]
    peer = Peer(fails(code), answers())
    policy = RetryPolicy(budget=None, retryable_errors=[code], idempotent=False)
    result, _ = await run(peer, Shape.UNARY, ground(retry_policy=policy))
    assert isinstance(result, list) is (code is Code.ABORTED)


@pytest.mark.usefixtures("virtual_time")
async def test_idempotency_comes_from_the_proto_and_may_be_overridden() -> None:
    for stack, attempts in (
        (ALWAYS, 1),
        (
            ALWAYS.for_method(
                "kv.v1.KVService/Increment", retry_policy=RetryPolicy(idempotent=True)
            ),
            2,
        ),
    ):
        peer = Peer(fails(Code.UNAVAILABLE))
        async with peer.client(stack) as client:
            with pytest.raises(ConnectError):
                await client.increment(IncrementRequest(key="n"))
        assert len(peer.sent) == attempts


# --- How often, and when ---------------------------------------------------------------------- ---


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("most", [0, 1, 2, 3, 5])
@every_shape
async def test_max_attempts_counts_calls(shape: Shape, most: int) -> None:
    """hyx, attempts=10: eleven calls."""
    peer = Peer(refused())
    stack = ground(retry_policy=RetryPolicy(max_attempts=most, budget=None))
    error, listener = await run(peer, shape, stack)
    assert isinstance(error, ConnectError)
    assert peer.attempt_numbers == [None, "1", "2", "3", "4"][: max(1, most)]
    assert stopped(listener) == "max_attempts"


async def test_waits_have_full_jitter_below_a_doubling_ceiling(virtual_time: VirtualTime) -> None:
    """stamina adds up to a second to its 0.1 s; httpx-retries does not wait; hyx has no jitter."""
    del virtual_time
    firsts: list[float] = []
    for seed in range(200):
        peer = Peer(refused())
        policy = RetryPolicy(max_attempts=4, budget=None)
        await run(peer, Shape.UNARY, ground(retry_policy=policy), rng=seeded(seed))
        waits = [
            after - before for before, after in zip(peer.sent_at, peer.sent_at[1:], strict=False)
        ]
        firsts.append(waits[0])
        for wait, ceiling in zip(waits, (0.05, 0.1, 0.2), strict=True):
            assert 0 <= wait <= ceiling + 1e-9
    assert min(firsts) < 0.005
    assert max(firsts) > 0.045
    assert 0.02 < sum(firsts) / len(firsts) < 0.03


async def test_each_attempt_fails_late_but_the_call_ends_in_time(
    virtual_time: VirtualTime,
) -> None:
    """stamina 0.80 s, tenacity 0.81, backoff 0.91, pyresilience 2.14 of a budget of 0.5 s."""
    peer = Peer(fails(Code.UNAVAILABLE, delay=5.0))
    stack = ground(
        deadline=DeadlinePolicy(total=0.5, attempt=0.3),
        retry_policy=RetryPolicy(
            max_attempts=5, budget=None, initial_backoff=0.2, backoff_multiplier=1
        ),
    )
    error, listener = await run(peer, Shape.UNARY, stack, rng=_Ceiling())
    assert isinstance(error, DeadlineExceededError)
    assert virtual_time.now() == pytest.approx(0.3)
    assert stopped(listener) == "deadline"


class _Ceiling(Random):
    """Jitter that always draws the longest wait."""

    def random(self) -> float:
        return 0.999999


async def test_a_wait_that_does_not_fit_the_deadline_is_not_begun(
    virtual_time: VirtualTime,
) -> None:
    """250 ms are left, the wait is 2 s: all eight peers sleep until the deadline."""
    peer = Peer(fails(Code.UNAVAILABLE))
    stack = ground(
        deadline=DeadlinePolicy(total=0.25, attempt=None),
        retry_policy=RetryPolicy(initial_backoff=2.0, budget=None),
    )
    error, listener = await run(peer, Shape.UNARY, stack, rng=_Ceiling())
    assert isinstance(error, ConnectError)
    assert error.code is Code.UNAVAILABLE
    assert virtual_time.now() == 0
    assert stopped(listener) == "deadline"


# --- Pushback --------------------------------------------------------------------------------- ---


def _info(seconds: float) -> RetryInfo:
    whole = int(seconds)
    return RetryInfo(retry_delay=Duration(seconds=whole, nanos=round((seconds - whole) * 1e9)))


PUSHBACKS: list[tuple[str, Step, float]] = [
    ("header", fails(Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", "1500")]), 1.5),
    ("detail", fails(Code.UNAVAILABLE, details=[_info(1.5)]), 1.5),
    ("retry-after", fails(Code.UNAVAILABLE, headers=[("retry-after", "2")]), 2.0),
    (
        "retry-after that has passed",
        fails(Code.UNAVAILABLE, headers=[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]),
        0.0,
    ),
]


@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.SERVER_STREAM])
@pytest.mark.parametrize("case", PUSHBACKS, ids=lambda case: case[0].replace(" ", "-"))
async def test_a_server_says_when_to_come_back(
    virtual_time: VirtualTime, case: tuple[str, Step, float], shape: Shape
) -> None:
    _, step, wait = case
    peer = Peer(step, answers())
    result, _ = await run(peer, shape, ALWAYS)
    assert isinstance(result, list)
    assert wait <= virtual_time.now() <= wait + 0.05


FORBIDDEN: list[Step] = [
    fails(Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", "-1")]),
    fails(Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", "soon")]),
    fails(
        Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", "1"), ("grpc-retry-pushback-ms", "2")]
    ),
    fails(Code.UNAVAILABLE, headers=[("retry-after", "soon")]),
    fails(Code.UNAVAILABLE, details=[RetryInfo(retry_delay=Duration(seconds=-1))]),
    fails(Code.UNAVAILABLE, headers=[NACK, ("grpc-retry-pushback-ms", "-1")]),
]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.SERVER_STREAM])
@pytest.mark.parametrize("step", FORBIDDEN)
async def test_a_server_forbids_retries(step: Step, shape: Shape) -> None:
    peer = Peer(step, answers())
    error, listener = await run(peer, shape, ALWAYS)
    assert isinstance(error, ConnectError)
    assert len(peer.sent) == 1
    assert stopped(listener) == "pushback"


@pytest.mark.parametrize(
    ("stack", "hint"),
    [
        (ground(deadline=DeadlinePolicy(total=0.3, attempt=None)), 1.0),
        (ground(), 6.0),  # above our backoff and 5 s, though the deadline has room
    ],
)
async def test_a_hint_that_is_too_long_is_told_to_the_caller_at_once(
    virtual_time: VirtualTime, stack: ClientStack, hint: float
) -> None:
    """stamina waits for 1.0 s, httpx-retries for 2.01 s of a limit of 0.3 s."""
    milliseconds = str(int(hint * 1000))
    peer = Peer(fails(Code.UNAVAILABLE, headers=[("grpc-retry-pushback-ms", milliseconds)]))
    error, listener = await run(peer, Shape.UNARY, stack)
    assert isinstance(error, ConnectError)
    assert retry_after(error) == pytest.approx(hint)
    assert virtual_time.now() == 0
    assert stopped(listener) == "pushback"


@pytest.mark.usefixtures("virtual_time")
async def test_pushback_makes_nothing_retriable() -> None:
    peer = Peer(fails(Code.NOT_FOUND, headers=[("grpc-retry-pushback-ms", "10")]))
    _, listener = await run(peer, Shape.UNARY, ALWAYS)
    assert len(peer.sent) == 1
    assert stopped(listener) == "non_retryable"


# --- Budget ----------------------------------------------------------------------------------- ---


@pytest.mark.usefixtures("virtual_time")
async def test_the_budget_is_the_clients_and_is_fed_by_successes() -> None:
    peer = Peer(fails(Code.UNAVAILABLE))
    policy = RetryPolicy(budget=RetryBudgetPolicy(ratio=0.5, window=10.0, reserve=0.2))
    listener = RecordingListener()
    async with peer.client(ground(retry_policy=policy), listeners=[listener]) as client:

        async def failing(times: int) -> int:
            before = len(peer.sent)
            for _ in range(times):
                with pytest.raises(ConnectError):
                    await client.get(GetRequest(key="a"))
            return len(peer.sent) - before

        assert await failing(5) == 5 + 2  # the reserve: 0.2 * 10
        assert listener.of(RetryStopped)[-1].reason == "budget"
        peer.script = [answers()]
        for _ in range(4):
            await client.get(GetRequest(key="a"))
        peer.script = [fails(Code.UNAVAILABLE)]
        assert await failing(5) == 5 + 2  # half of four successes


@pytest.mark.usefixtures("virtual_time")
async def test_an_empty_budget_raises_the_peers_error_at_once(virtual_time: VirtualTime) -> None:
    peer = Peer(fails(Code.UNAVAILABLE))
    policy = RetryPolicy(budget=RetryBudgetPolicy(ratio=0.1, window=10.0, reserve=0.0))
    error, listener = await run(peer, Shape.UNARY, ground(retry_policy=policy))
    assert isinstance(error, ConnectError)
    assert error.code is Code.UNAVAILABLE
    assert virtual_time.now() == 0
    assert stopped(listener) == "budget"


# --- Streams ---------------------------------------------------------------------------------- ---


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
@pytest.mark.parametrize(
    "step", [fails(Code.UNAVAILABLE, after=2), fails(Code.UNAVAILABLE, after=2, headers=[NACK])]
)
async def test_a_stream_that_has_begun_is_never_replayed(shape: Shape, step: Step) -> None:
    """stamina replays it from the beginning: [0, 1, 0, 1, 0, 1, 2]."""
    peer = Peer(step, answers(3))
    received: list[bytes] = []
    listener = RecordingListener()
    async with peer.client(ALWAYS, listeners=[listener]) as client:
        with pytest.raises(ConnectError) as caught:  # noqa: PT012  # what came before counts
            async for response in shape.responses(client, ["a"]):
                received.append(response)  # noqa: PERF401
    assert caught.value.code is Code.UNAVAILABLE
    assert received == [b"0", b"1"]
    assert len(peer.sent) == 1
    assert stopped(listener) == "stream_started"


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.CLIENT_STREAM, Shape.BIDI_STREAM])
async def test_a_refused_attempt_gives_its_requests_to_the_next(shape: Shape) -> None:
    asked = 0

    async def keys() -> AsyncIterator[str]:
        nonlocal asked
        for number in range(20):
            asked += 1
            yield str(number)

    peer = Peer(fails(Code.UNAVAILABLE, headers=[NACK]), refused(), answers())
    stack = ground(retry_policy=RetryPolicy(max_attempts=3, budget=None, idempotent=False))
    async with peer.client(stack) as client:
        await shape.run(client, keys())
    assert [call.requests for call in peer.calls] == [[str(n) for n in range(20)]] * 2
    assert asked == 20


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.CLIENT_STREAM, Shape.BIDI_STREAM])
async def test_more_requests_than_are_kept_are_not_sent_twice(shape: Shape) -> None:
    peer = Peer(fails(Code.UNAVAILABLE, headers=[NACK]), answers())
    listener = RecordingListener()
    async with peer.client(ALWAYS, listeners=[listener]) as client:
        with pytest.raises(ConnectError):
            await shape.run(client, [str(n) for n in range(200)])
    assert len(peer.sent) == 1
    assert stopped(listener) == "stream_started"


# --- Refusals on this side -------------------------------------------------------------------- ---


class _RefusesSecond(Admission[None]):
    """As a breaker that the first failure has opened."""

    def __init__(self) -> None:
        self.asked = 0

    async def acquire(self, ctx: CallContext) -> None:
        del ctx
        self.asked += 1
        if self.asked == 2:
            raise OverloadedError("no more", reason="open", retry_after=3.0)

    def settle(self, permit: None, outcome: Outcome, ctx: CallContext) -> None:
        del permit, outcome, ctx


@pytest.mark.usefixtures("virtual_time")
@every_shape
@pytest.mark.parametrize(
    ("step", "code", "sent"),
    [
        (refused(), Code.UNAVAILABLE, Delivery.NOT_SENT),
        (fails(Code.UNAVAILABLE), Code.UNAVAILABLE, Delivery.MAYBE),
        (breaks(), Code.UNAVAILABLE, Delivery.MAYBE),
    ],
)
async def test_a_second_attempt_that_is_refused_here_raises_the_firsts_error(
    shape: Shape, step: Step, code: Code, sent: Delivery
) -> None:
    peer = Peer(step)
    policy = _RefusesSecond()
    error, _ = await run(
        peer,
        shape,
        ground(retry_policy=RetryPolicy(max_attempts=3, budget=None), attempt=[policy]),
    )
    assert isinstance(error, ConnectError)
    assert not isinstance(error, OverloadedError)
    assert error.code is code
    assert delivery(error) is sent
    again = sent is Delivery.NOT_SENT or not shape.streams_requests
    assert policy.asked == (2 if again else 1)
    assert len(peer.sent) == 1


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_a_first_attempt_that_is_refused_here_is_not_retried(shape: Shape) -> None:
    policy = _RefusesSecond()
    policy.asked = 1
    peer = Peer(answers())
    error, listener = await run(peer, shape, ground(attempt=[policy]))
    assert isinstance(error, OverloadedError)
    assert (error.reason, error.retry_after) == ("open", 3.0)
    assert delivery(error) is Delivery.NOT_SENT
    assert peer.sent == []
    assert [event.outcome for event in listener.of(CallEnded)] == [Outcome.NEUTRAL]


# --- Delivery over several attempts ----------------------------------------------------------- ---

SEQUENCES = [
    ([refused(), refused()], Delivery.NOT_SENT),
    ([refused(), fails(Code.NOT_FOUND)], Delivery.ANSWERED),
    ([refused(), fails(Code.UNAVAILABLE)], Delivery.MAYBE),
    ([fails(Code.UNAVAILABLE), refused()], Delivery.MAYBE),
    ([fails(Code.UNAVAILABLE), fails(Code.NOT_FOUND)], Delivery.MAYBE),
    ([breaks(), fails(Code.NOT_FOUND)], Delivery.MAYBE),
    ([fails(Code.UNAVAILABLE, headers=[NACK]), refused()], Delivery.NOT_SENT),
]


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.SERVER_STREAM])
@pytest.mark.parametrize(("script", "sent"), SEQUENCES)
async def test_delivery_is_the_worst_of_all_attempts(
    script: list[Step], sent: Delivery, shape: Shape
) -> None:
    peer = Peer(*script)
    error, listener = await run(peer, shape, ALWAYS)
    assert isinstance(error, ConnectError)
    assert len(peer.sent) == 2
    assert delivery(error) is sent
    assert [event.delivery for event in listener.of(CallEnded)] == [sent]


# --- What events tell ------------------------------------------------------------------------- ---


@pytest.mark.usefixtures("virtual_time")
async def test_events_tell_the_story_of_a_retried_call() -> None:
    peer = Peer(fails(Code.UNAVAILABLE), answers())
    _, listener = await run(peer, Shape.UNARY, ALWAYS, name="store")
    kinds = [type(event) for event in listener.events]
    assert kinds == [AttemptEnded, RetryScheduled, AttemptEnded, CallEnded]
    assert {(event.client, event.method) for event in listener.events} == {
        ("store", "kv.v1.KVService/Get")
    }
    scheduled = listener.of(RetryScheduled)[0]
    assert (scheduled.number, scheduled.kind, scheduled.cause) == (
        2,
        AttemptKind.RETRY,
        Cause.UNAVAILABLE,
    )
    assert [event.number for event in listener.of(AttemptEnded)] == [1, 2]


@pytest.mark.usefixtures("virtual_time")
async def test_without_a_tap_an_unknown_failure_may_have_been_sent() -> None:
    # `stack.interceptors()` over a transport of one's own: less is known, so less is repeated.
    peer = Peer(fails(Code.UNAVAILABLE, headers=[NACK]))
    client = KVServiceClient(
        "http://peer",
        http_client=Client(peer.transport),
        interceptors=NEVER_TWICE.interceptors(rng=seeded(1)),
        accept_compression=(),
    )
    with pytest.raises(ConnectError) as caught:
        await client.get(GetRequest(key="a"))
    assert delivery(caught.value) is Delivery.MAYBE
    assert len(peer.sent) == 1


@pytest.mark.usefixtures("virtual_time")
async def test_concurrent_calls_do_not_share_attempts() -> None:
    peer = Peer(*[fails(Code.UNAVAILABLE)] * 50, answers())
    async with peer.client(ALWAYS) as client:
        results = await asyncio.gather(*(Shape.UNARY.run(client) for _ in range(50)))
    assert results == [[b"0"]] * 50
    assert peer.attempt_numbers.count("1") == 50
