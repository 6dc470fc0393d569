"""The server's chain around real handlers, over the in-process wire, in all four shapes."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from pyqwest import Client, Headers, Request

from connectplugin.testing import VirtualTime
from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors import (
    BulkheadPolicy,
    ClientStack,
    ConfigError,
    DeadlinePolicy,
    MaskingPolicy,
    ServerDeadlinePolicy,
    ServerStack,
)
from connectplugin_interceptors.events import CallRefused, Event
from connectplugin_interceptors.server import CutCalls
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, IncrementRequest
from tests.contract.peer import Ctx, Handled, Handler, Peer, answers, echoes, fails, hangs
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
every_dialect = pytest.mark.parametrize("dialect", tuple(ProtocolType), ids=lambda p: p.name)

NACK = "x-connectplugin-nack"
METHODS = {
    Shape.UNARY: "Get",
    Shape.CLIENT_STREAM: "Load",
    Shape.SERVER_STREAM: "Watch",
    Shape.BIDI_STREAM: "Sync",
}
PUSHBACK = "grpc-retry-pushback-ms"


class Served:
    """A peer behind the server's chain, and what its last response's head said."""

    def __init__(self, *script: Any, stack: ServerStack | None = None) -> None:
        self.chain = (stack or ServerStack()).build()
        self.peer = Peer(*script, interceptors=self.chain.interceptors())
        self.headers: dict[str, str] = {}

    def client(self, dialect: ProtocolType = ProtocolType.CONNECT) -> KVServiceClient:
        return KVServiceClient(
            "http://peer", http_client=Client(self.peer.transport), protocol=dialect
        )

    async def error(
        self, shape: Shape, dialect: ProtocolType = ProtocolType.CONNECT, **options: Any
    ) -> ConnectError:
        """Make a call that must fail."""
        with ResponseMetadata() as head:
            with pytest.raises(ConnectError) as caught:
                await shape.run(self.client(dialect), **options)
            self.headers = dict(head.headers.items())
        return caught.value


def breaking(error: BaseException, *, after: int = 0) -> Handler:
    """A handler with a bug."""

    async def behave(_seen: Handled, _keys: AsyncIterator[str], _ctx: Ctx) -> AsyncIterator[bytes]:
        for number in range(after):
            yield str(number).encode()
        raise error

    return Handler(behave)


def calling(call: Callable[[Ctx], Awaitable[object]]) -> Handler:
    """A handler that makes an outbound call."""

    async def behave(_seen: Handled, _keys: AsyncIterator[str], ctx: Ctx) -> AsyncIterator[bytes]:
        await call(ctx)
        yield b"done"

    return Handler(behave)


# Masking


@every_shape
@every_dialect
async def test_the_text_of_a_bug_stays_in_the_log(
    shape: Shape, dialect: ProtocolType, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(breaking(ValueError("password is swordfish")))
    error = await served.error(shape, dialect)
    assert error.code is Code.INTERNAL
    reference = error.message.removeprefix("internal error (reference ").removesuffix(")")
    assert error.message == f"internal error (reference {reference})"
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.name == "connectplugin.server"
    assert reference in record.getMessage()
    assert record.exc_info is not None
    assert "swordfish" in str(record.exc_info[1])


@every_shape
async def test_a_handler_that_exits_has_failed_and_no_more(
    shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    """A `SystemExit` of a handler ended the loop under all other calls."""
    served = Served(breaking(SystemExit(3)), answers())
    with pytest.raises(ConnectError, match="internal error"):
        await shape.run(served.client())
    (record,) = caplog.records
    assert record.exc_info
    assert str(record.exc_info[1]) == "the handler has called sys.exit(3)"
    await shape.run(served.client())


@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_a_bug_behind_the_first_message_is_masked_too(shape: Shape) -> None:
    served = Served(breaking(ValueError("swordfish"), after=2))
    responses = shape.responses(served.client())
    assert [await anext(responses), await anext(responses)] == [b"0", b"1"]
    with pytest.raises(ConnectError, match="internal error"):
        await anext(responses)


@every_shape
async def test_an_error_that_the_handler_means_to_send_passes(shape: Shape) -> None:
    error = await Served(fails(Code.NOT_FOUND)).error(shape)
    assert (error.code, error.message) == (Code.NOT_FOUND, "told to fail with not_found")


@every_shape
@pytest.mark.parametrize(
    ("inner", "code"),
    [
        (Code.UNAVAILABLE, Code.UNAVAILABLE),
        (Code.DEADLINE_EXCEEDED, Code.DEADLINE_EXCEEDED),
        (Code.RESOURCE_EXHAUSTED, Code.RESOURCE_EXHAUSTED),
        (Code.INTERNAL, Code.INTERNAL),
        (Code.UNAUTHENTICATED, Code.INTERNAL),
        (Code.CANCELED, Code.UNAVAILABLE),
    ],
)
async def test_an_outbound_failure_keeps_its_meaning_and_loses_its_text(
    shape: Shape, inner: Code, code: Code
) -> None:
    behind = Peer(fails(inner))
    outbound = KVServiceClient("http://10.9.8.7:1", http_client=Client(behind.transport))
    served = Served(calling(lambda _: outbound.get(GetRequest(key="a"))))
    error = await served.error(shape)
    assert error.code is code
    assert "told to fail" not in error.message
    assert served.headers[PUSHBACK] == "-1"


@every_shape
async def test_an_unreachable_inner_host_is_not_named(shape: Shape) -> None:
    outbound = KVServiceClient("http://127.0.0.1:1")
    served = Served(calling(lambda _: outbound.get(GetRequest(key="a"))))
    error = await served.error(shape)
    assert error.code is Code.UNAVAILABLE
    assert "127.0.0.1" not in error.message
    assert not error.details
    assert served.headers[PUSHBACK] == "-1"


async def test_an_answer_of_the_tier_below_is_handed_on() -> None:
    behind = Peer(fails(Code.NOT_FOUND))
    outbound = KVServiceClient("http://behind", http_client=Client(behind.transport))
    served = Served(calling(lambda _: outbound.get(GetRequest(key="a"))))
    error = await served.error(Shape.UNARY)
    assert error.code is Code.NOT_FOUND
    assert PUSHBACK not in served.headers


async def test_three_tiers_with_retries_make_two_calls_to_a_bottom_that_is_down(
    virtual_time: VirtualTime,
) -> None:
    """resilience.md 4: three tiers, bottom down: elsewhere 27 calls, here 2."""
    bottom = Peer(fails(Code.UNAVAILABLE))

    def tier(below: Peer) -> Peer:
        client = below.client(ClientStack())
        step = calling(lambda _: client.get(GetRequest(key="a")))
        return Peer(step, interceptors=ServerStack().interceptors())

    top = tier(tier(bottom))
    with pytest.raises(ConnectError) as caught:
        await top.client(ClientStack()).get(GetRequest(key="a"))
    assert caught.value.code is Code.UNAVAILABLE
    assert len(bottom.calls) == 2


async def test_masking_can_be_told_to_let_clients_retry() -> None:
    outbound = KVServiceClient("http://127.0.0.1:1")
    stack = ServerStack(masking=MaskingPolicy(no_retry_after_outbound=False))
    served = Served(calling(lambda _: outbound.get(GetRequest(key="a"))), stack=stack)
    await served.error(Shape.UNARY)
    assert PUSHBACK not in served.headers


# Deadline


@every_shape
@every_dialect
async def test_what_expires_in_the_queue_never_reaches_the_handler(
    shape: Shape, dialect: ProtocolType, virtual_time: VirtualTime
) -> None:
    stack = ServerStack(bulkhead=BulkheadPolicy(max_in_flight=1, max_queue=5, max_wait=60))
    served = Served(hangs(), answers(), stack=stack)
    first = asyncio.create_task(Shape.BIDI_STREAM.run(served.client()))
    await virtual_time.sleep(0.01)
    error = await served.error(shape, dialect, timeout_ms=300)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert virtual_time.now() == pytest.approx(0.31, abs=0.01)
    assert len(served.peer.calls) == 1
    first.cancel()
    await asyncio.wait([first])


async def test_what_expires_in_the_queue_is_told_as_not_processed(
    virtual_time: VirtualTime,
) -> None:
    """The server's own refusal, as a client sees it whose timer runs a little later."""
    stack = ServerStack(bulkhead=BulkheadPolicy(max_in_flight=1, max_queue=5, max_wait=60))
    served = Served(hangs(), answers(), stack=stack)
    first = asyncio.create_task(Shape.UNARY.run(served.client()))
    await virtual_time.sleep(0.01)
    error = await served.error(Shape.UNARY, headers={"connect-timeout-ms": "300"})
    assert error.code is Code.DEADLINE_EXCEEDED
    assert served.headers[NACK] == "expired"
    first.cancel()
    await asyncio.wait([first])


@every_shape
async def test_what_comes_too_late_is_dropped(shape: Shape) -> None:
    served = Served(answers())
    error = await served.error(shape, headers={"connect-timeout-ms": "0"})
    assert error.code is Code.DEADLINE_EXCEEDED
    assert served.headers[NACK] == "expired"
    assert served.peer.calls == []


@every_shape
@every_dialect
async def test_the_handler_is_cancelled_at_the_clients_deadline(
    shape: Shape, dialect: ProtocolType, virtual_time: VirtualTime
) -> None:
    served = Served(hangs())
    error = await served.error(shape, dialect, timeout_ms=200)
    assert error.code is Code.DEADLINE_EXCEEDED
    (call,) = served.peer.calls
    await call.ended.wait()
    assert call.outcome == "cancelled"
    assert virtual_time.now() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("shape", [Shape.UNARY, Shape.CLIENT_STREAM])
@pytest.mark.parametrize("asked", [None, 90_000])
async def test_one_response_takes_no_longer_than_the_servers_maximum(
    shape: Shape, asked: int | None, virtual_time: VirtualTime
) -> None:
    served = Served(hangs())
    error = await served.error(shape, timeout_ms=asked)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert served.peer.outcomes == ["cancelled"]
    assert virtual_time.now() == pytest.approx(30.0, abs=0.01)
    assert NACK not in served.headers


@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_streams_of_responses_have_no_maximum(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    served = Served(answers(10, every=30.0))
    assert len(await shape.run(served.client())) == 10
    assert virtual_time.now() == pytest.approx(300.0)


async def test_the_maximum_reaches_a_handler_that_waits_in_a_bare_client(
    virtual_time: VirtualTime,
) -> None:
    """connectrpc's client turns the cancellation into `canceled`; the caller must not read that."""
    behind = Peer(hangs())
    outbound = KVServiceClient("http://behind", http_client=Client(behind.transport))
    served = Served(calling(lambda _: outbound.get(GetRequest(key="a"))))
    error = await served.error(Shape.UNARY)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert behind.outcomes == ["cancelled"]


async def test_a_timeout_of_the_handlers_own_is_a_bug_and_no_deadline(
    virtual_time: VirtualTime,
) -> None:
    async def call(_: Ctx) -> None:
        async with asyncio.timeout(1.0):
            await asyncio.Event().wait()

    assert (await Served(calling(call)).error(Shape.UNARY)).code is Code.INTERNAL


@every_shape
async def test_outbound_calls_inherit_what_is_left(shape: Shape, virtual_time: VirtualTime) -> None:
    behind = Peer(answers())
    outbound = behind.client(ClientStack())

    async def call(_: Ctx) -> None:
        await virtual_time.sleep(0.5)
        await outbound.get(GetRequest(key="a"))

    served = Served(calling(call))
    await shape.run(served.client(), timeout_ms=2000)
    (inner,) = behind.calls
    assert inner.timeout == pytest.approx(1.5, abs=0.01)


async def test_work_that_outlives_the_call_inherits_nothing(virtual_time: VirtualTime) -> None:
    """cases.md: background work inherits a deadline that is over."""
    behind = Peer(answers())
    outbound = behind.client(ClientStack(deadline=DeadlinePolicy(total=7.0, attempt=None)))
    background: list[asyncio.Task[None]] = []

    async def later(seconds: float) -> None:
        await virtual_time.sleep(seconds)
        await outbound.get(GetRequest(key="a"))

    async def call(_: Ctx) -> None:
        background.append(asyncio.create_task(later(0.0)))
        background.append(asyncio.create_task(later(0.6)))
        await virtual_time.sleep(0.1)

    await Shape.UNARY.run(Served(calling(call)).client(), timeout_ms=300)
    await asyncio.gather(*background)
    assert [inner.timeout for inner in behind.calls] == pytest.approx([7.0, 7.0])


async def test_without_a_policy_the_clients_deadline_still_holds(virtual_time: VirtualTime) -> None:
    served = Served(hangs(), stack=ServerStack(deadline=None))
    error = await served.error(Shape.UNARY, timeout_ms=45_000)
    assert error.code is Code.DEADLINE_EXCEEDED
    assert virtual_time.now() == pytest.approx(45.0, abs=0.01)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("Get", "application/proto"), ("Watch", "application/connect+proto")],
)
async def test_a_request_that_does_not_arrive_gives_its_slot_back(
    path: str, kind: str, virtual_time: VirtualTime
) -> None:
    """A byte now and then would hold the bulkhead's slot for ever."""

    async def dribble() -> AsyncIterator[bytes]:
        while True:
            yield b"\0"
            await virtual_time.sleep(7.0)

    served = Served(answers())
    app = CutCalls(cast("Any", served.peer.app))
    headers = Headers([("content-type", kind)])
    request = Request("POST", f"http://x/kv.v1.KVService/{path}", headers, dribble())
    response = await InProcessTransport(app).execute(request)
    body = b"".join([bytes(chunk) async for chunk in response.content])
    assert b"deadline_exceeded" in body
    assert b"did not arrive within 30 s" in body
    assert response.headers[NACK] == "expired"
    assert virtual_time.now() == pytest.approx(30.0)
    assert served.chain.bulkheads[""].in_flight == 0
    assert served.peer.calls == []


async def test_requests_of_an_open_stream_may_take_their_time(virtual_time: VirtualTime) -> None:
    async def slowly() -> AsyncIterator[str]:
        for key in ("a", "b"):
            yield key
            await virtual_time.sleep(100.0)

    assert await Shape.BIDI_STREAM.run(Served(echoes()).client(), slowly()) == [b"a", b"b"]


# Bulkhead


@every_shape
@every_dialect
async def test_a_full_server_refuses_unprocessed(
    shape: Shape, dialect: ProtocolType, virtual_time: VirtualTime
) -> None:
    served = Served(hangs(), stack=ServerStack(bulkhead=BulkheadPolicy(max_in_flight=2)))
    inside = [
        asyncio.create_task(Shape.SERVER_STREAM.run(served.client())),
        asyncio.create_task(Shape.UNARY.run(served.client())),
    ]
    await virtual_time.sleep(0.01)
    error = await served.error(shape, dialect)
    assert error.code is Code.UNAVAILABLE
    assert "limit of 2 calls" in error.message
    assert served.headers[NACK] == "overloaded"
    assert served.headers[PUSHBACK] == "100"
    assert len(served.peer.calls) == 2
    for task in inside:
        task.cancel()
    await asyncio.wait(inside)
    assert served.chain.bulkheads[""].in_flight == 0


async def test_a_refused_call_is_sent_again_even_if_it_is_not_idempotent(
    virtual_time: VirtualTime,
) -> None:
    served = Served(hangs(), stack=ServerStack(bulkhead=BulkheadPolicy(max_in_flight=1)))
    blocker = asyncio.create_task(Shape.UNARY.run(served.client()))
    await virtual_time.sleep(0.01)
    asyncio.get_running_loop().call_later(0.05, blocker.cancel)

    async def behave(_seen: Handled, _keys: AsyncIterator[str], _ctx: Ctx) -> AsyncIterator[bytes]:
        yield b"0"

    served.peer.script = [Handler(behave)]
    reply = await served.peer.client(ClientStack()).increment(IncrementRequest(key="n"))
    assert reply.value == 1
    assert [call.method for call in served.peer.calls] == ["Get", "Increment"]
    with pytest.raises(ConnectError):
        await blocker


async def test_calls_wait_in_order_and_no_longer_than_they_may(virtual_time: VirtualTime) -> None:
    stack = ServerStack(bulkhead=BulkheadPolicy(max_in_flight=1, max_queue=2, max_wait=1.0))
    served = Served(answers(every=0.7), stack=stack)
    tasks: list[asyncio.Task[list[bytes]]] = []
    for key in ("a", "b", "c", "d"):
        tasks.append(asyncio.create_task(Shape.BIDI_STREAM.run(served.client(), [key])))
        await virtual_time.sleep(0.01)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, ConnectError) for result in done] == [False, False, True, True]
    assert [call.requests for call in served.peer.calls] == [["a"], ["b"]]


# Drain


@every_shape
@every_dialect
async def test_a_draining_server_refuses_unprocessed(shape: Shape, dialect: ProtocolType) -> None:
    served = Served(answers())
    assert served.chain.drain is not None
    served.chain.drain.begin("going home")
    error = await served.error(shape, dialect)
    assert (error.code, error.message) == (Code.UNAVAILABLE, "draining: going home")
    assert served.headers[NACK] == "draining"
    assert served.headers[PUSHBACK] == "100"
    assert served.peer.calls == []


@every_shape
async def test_listeners_are_told_of_what_was_refused_unprocessed(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    events: list[Event] = []

    def breaks(_: Event) -> None:
        raise ZeroDivisionError

    stack = ServerStack(
        bulkhead=BulkheadPolicy(max_in_flight=1), listeners=[breaks, events.append], name="kv"
    )
    served = Served(fails(Code.NOT_FOUND), answers(), hangs(), stack=stack)
    await served.error(shape)  # a business error
    await shape.run(served.client())
    assert events == []
    inside = asyncio.create_task(shape.run(served.client()))
    await virtual_time.sleep(0.01)
    await served.error(shape)
    assert served.chain.drain is not None
    served.chain.drain.begin("going home")
    await served.error(shape)
    inside.cancel()
    await asyncio.wait([inside])
    method = f"kv.v1.KVService/{METHODS[shape]}"
    assert events == [
        CallRefused("kv", method, "overloaded", 0.1),
        CallRefused("kv", method, "draining", 0.1),
    ]


@every_shape
@every_dialect
async def test_a_call_that_is_cut_off_reads_why(
    shape: Shape, dialect: ProtocolType, virtual_time: VirtualTime
) -> None:
    served = Served(hangs(after=1 if shape.streams_responses else 0))
    drain = served.chain.drain
    assert drain is not None
    asyncio.get_running_loop().call_later(0.1, drain.end_all, "time is up")
    error = await served.error(shape, dialect)
    assert (error.code, error.message) == (Code.UNAVAILABLE, "draining: time is up")
    assert NACK not in served.headers  # it may have been processed
    assert served.peer.outcomes == ["cancelled"]
    assert drain.in_flight == 0
    assert virtual_time.now() == pytest.approx(0.1, abs=0.01)


async def test_streams_are_ended_and_short_calls_go_on(virtual_time: VirtualTime) -> None:
    async def behave(seen: Handled, _keys: AsyncIterator[str], _ctx: Ctx) -> AsyncIterator[bytes]:
        await virtual_time.sleep(1.0 if seen.method == "Get" else 1000.0)
        yield b"0"

    served = Served(Handler(behave))
    drain = served.chain.drain
    assert drain is not None
    calls = [
        asyncio.create_task(shape.run(served.client()))
        for shape in (Shape.CLIENT_STREAM, Shape.SERVER_STREAM, Shape.BIDI_STREAM, Shape.UNARY)
    ]
    await virtual_time.sleep(0.1)
    drain.begin()
    assert drain.end_streams("over") == 3
    assert drain.end_streams("over") == 0
    await drain.wait_idle()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(result) for result in results[:3]] == ["draining: over"] * 3
    assert results[3] == [b"0"]
    assert virtual_time.now() == pytest.approx(1.0, abs=0.02)


# The stack itself


async def test_own_interceptors_stand_where_they_belong() -> None:
    seen: list[str] = []

    class Watcher:
        def __init__(self, name: str) -> None:
            self.name = name

        async def on_start(self, ctx: Ctx) -> None:
            seen.append(f"{self.name} starts")

        async def on_end(self, _token: None, _ctx: Ctx, error: Exception | None, /) -> None:
            seen.append(f"{self.name} ends {error!r}")

    stack = ServerStack(before=[Watcher("before")], admission=[Watcher("admission")])
    served = Served(echoes(), stack=stack)
    await Shape.BIDI_STREAM.run(served.client(), ["a"])
    assert seen == [
        "before starts",
        "admission starts",
        "admission ends None",
        "before ends None",
    ]
    seen.clear()
    assert served.chain.drain is not None
    served.chain.drain.begin("bye")
    await served.error(Shape.UNARY)
    assert seen == ["before starts", "before ends ConnectError('draining: bye')"]


async def test_half_an_interceptor_is_refused() -> None:
    class Half:
        async def on_start(self, _ctx: Ctx) -> None: ...

    class Reader:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Ctx) -> Any:
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(self, call_next: Any, request: Any, ctx: Ctx) -> Any:
            async for response in call_next(request, ctx):
                yield response

        intercept_bidi_stream = intercept_server_stream

    half: Any = Half()
    with pytest.raises(ConfigError, match="on_end"):
        ServerStack(before=[half])
    reader: Any = Reader()
    with pytest.raises(ConfigError, match="around="):
        ServerStack(admission=[reader])
    ServerStack(around=[reader])


def test_the_stack_tells_its_chain() -> None:
    text = ServerStack(bulkhead=None).describe()
    links = {line.split()[0]: line.split()[-1] for line in text.splitlines()}
    assert [link for link in links if link in {"masking", "drain", "deadline", "bulkhead"}] == [
        "masking",
        "drain",
        "deadline",
        "bulkhead",
    ]
    assert links["bulkhead"] == "off"
    assert text.splitlines()[-1] == "handler"
    with pytest.raises(ConfigError, match=r"ServerDeadlinePolicy\.maximum is 0"):
        ServerDeadlinePolicy(maximum=0)
    wrong: Any = 5
    with pytest.raises(ConfigError, match=r"ServerStack\.drain is 5"):
        ServerStack(drain=wrong)
