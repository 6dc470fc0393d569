"""The in-process transport is a network: same answers, errors, cancellation and back-pressure."""

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from pyqwest import Client, ReadError, Request, WriteError

from connectplugin.serving.layers import Receive, Scope, Send
from connectplugin.serving.lifespan import LifespanError
from connectplugin.testing import VirtualTime
from connectplugin.transport.in_process import InProcessTransport
from kv.v1.kv_connect import KVServiceASGIApplication, KVServiceClient
from kv.v1.kv_pb import GetRequest, LoadRequest, SyncRequest, WatchRequest
from tests.contract.shape import SHAPES, Shape
from tests.integration.serving_kv import TellingKV, callers_own

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
every_dialect = pytest.mark.parametrize("dialect", tuple(ProtocolType), ids=lambda p: p.name)


def client_of(
    app: Any, dialect: ProtocolType = ProtocolType.CONNECT, **options: Any
) -> KVServiceClient:
    transport = InProcessTransport(app)
    return KVServiceClient(
        "http://in-process", http_client=Client(transport), protocol=dialect, **options
    )


def kv() -> tuple[TellingKV, KVServiceASGIApplication]:
    impl = TellingKV()
    return impl, KVServiceASGIApplication(impl)


def hanging(shape: Shape, client: KVServiceClient) -> Any:
    """A call whose handler hangs after its first request, with the request stream left open."""

    async def loads() -> AsyncIterator[LoadRequest]:
        yield LoadRequest(key="hang")
        await asyncio.Event().wait()

    async def syncs() -> AsyncIterator[SyncRequest]:
        yield SyncRequest(key="hang")
        await asyncio.Event().wait()

    match shape:
        case Shape.UNARY:
            return client.get(GetRequest(key="hang"))
        case Shape.CLIENT_STREAM:
            return client.load(loads())
        case Shape.SERVER_STREAM:
            return _collect(client.watch(WatchRequest(prefix="a")))
        case Shape.BIDI_STREAM:
            return _collect(client.sync(syncs()))


async def _collect(stream: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in stream]


@every_shape
@every_dialect
async def test_calls_of_every_shape_and_dialect(shape: Shape, dialect: ProtocolType) -> None:
    impl, app = kv()
    client = client_of(app, dialect)
    if shape is Shape.SERVER_STREAM:
        stream = client.watch(WatchRequest(prefix="p"))
        assert (await anext(stream)).key == "p"
        await _close(stream)
        await impl.seen("watch over")
        return
    answers = {Shape.UNARY: [b"a"], Shape.CLIENT_STREAM: [b"2"], Shape.BIDI_STREAM: [b"", b""]}
    assert await shape.run(client, ["a", "b"]) == answers[shape]


async def test_a_bidi_stream_is_full_duplex() -> None:
    """The next request goes out only after the answer to the last."""
    _, app = kv()
    questions: asyncio.Queue[str | None] = asyncio.Queue()

    async def requests() -> AsyncIterator[SyncRequest]:
        while (key := await questions.get()) is not None:
            yield SyncRequest(key=key)

    questions.put_nowait("0")
    answered = 0
    async for response in client_of(app).sync(requests()):
        assert response.key == str(answered)
        answered += 1
        questions.put_nowait(str(answered) if answered < 100 else None)
    assert answered == 100


@every_shape
@pytest.mark.parametrize("way", ["cancel", "timeout"])
async def test_leaving_a_call_cancels_its_handler_at_once(
    shape: Shape, way: str, virtual_time: VirtualTime
) -> None:
    impl, app = kv()
    client = client_of(app)
    call = hanging(shape, client)
    task = asyncio.create_task(call)
    await virtual_time.sleep(0.5)
    assert "cancelled" not in impl.counts
    if way == "cancel":
        task.cancel()
    else:
        task = asyncio.create_task(asyncio.wait_for(task, 0.0))
    await asyncio.gather(task, return_exceptions=True)
    # Its end has been waited for: no turn of the loop is left between.
    assert impl.counts["cancelled"] == 1
    assert virtual_time.now() == pytest.approx(0.5)
    assert _others() == set()


@every_shape
async def test_the_deadline_reaches_the_handler_over_the_wire(
    shape: Shape, virtual_time: VirtualTime
) -> None:
    impl, app = kv()
    client = client_of(app, timeout_ms=250)
    with pytest.raises(ConnectError) as caught:
        await hanging(shape, client)
    assert caught.value.code is Code.DEADLINE_EXCEEDED
    await impl.seen("cancelled")
    assert virtual_time.now() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("prefix", ["quiet", "flood:1000000"])
async def test_closing_a_stream_does_not_drain_it(prefix: str, virtual_time: VirtualTime) -> None:
    """cases.md: closing must not drain, with a silent peer and with one that floods."""
    impl, app = kv()
    client = client_of(app, accept_compression=())
    stream = client.watch(WatchRequest(prefix=prefix))
    await anext(stream)
    await _close(stream)
    assert impl.counts["watch over"] == 1
    assert impl.counts["flooded"] < 5
    for _ in range(20):
        await client.get(GetRequest(key="a"))
    assert virtual_time.now() == 0.0
    assert _others() == set()


async def test_a_slow_reader_holds_the_handler_back(virtual_time: VirtualTime) -> None:
    impl, app = kv()
    stream = client_of(app, accept_compression=()).watch(WatchRequest(prefix="flood:10000"))
    for _ in range(3):
        await anext(stream)
        await virtual_time.sleep(1.0)
    assert impl.counts["flooded"] < 15
    await _close(stream)


async def test_a_slow_handler_holds_the_sender_back(virtual_time: VirtualTime) -> None:
    impl, app = kv()
    sent = 0

    async def requests() -> AsyncIterator[LoadRequest]:
        nonlocal sent
        yield LoadRequest(key="hang")
        while True:
            sent += 1
            yield LoadRequest(key="more", value=b"x" * 10_000)

    call = asyncio.create_task(client_of(app, send_compression=None).load(requests()))
    await virtual_time.sleep(1.0)
    assert impl.counts["load read"] == 1
    assert sent < 15
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_handler_deaf_to_cancellation_holds_nobody_back(virtual_time: VirtualTime) -> None:
    """cases.md: a loser that is deaf to cancellation holds the winner back."""
    heard = asyncio.Event()

    class Deaf(TellingKV):
        async def get(self, request: GetRequest, ctx: Any) -> Any:
            try:
                await asyncio.Event().wait()
            finally:
                heard.set()
                await asyncio.sleep(5.0)

    transport = InProcessTransport(KVServiceASGIApplication(Deaf()))
    client = KVServiceClient("http://x", http_client=Client(transport))
    call = asyncio.create_task(client.get(GetRequest()))
    await virtual_time.sleep(0.01)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert heard.is_set()
    assert virtual_time.now() <= 0.2
    await transport.aclose()
    assert virtual_time.now() <= 1.3
    with pytest.raises(ConnectError):
        await client.get(GetRequest())
    await virtual_time.sleep(10)
    assert _others() == set()


# Contexts


async def test_the_handler_sees_nothing_of_the_callers_context_and_the_other_way_round() -> None:
    _, app = kv()
    callers_own.set("the caller's")
    assert (await client_of(app).get(GetRequest(key="context"))).value == b"nothing"
    assert callers_own.get() == "the caller's"


async def test_the_callers_request_stream_runs_in_the_callers_context() -> None:
    _, app = kv()
    variable: ContextVar[str] = ContextVar("variable", default="lost")
    variable.set("kept")
    seen: list[str] = []

    async def requests() -> AsyncIterator[LoadRequest]:
        seen.append(variable.get())
        yield LoadRequest(key="a")

    await client_of(app).load(requests())
    assert seen == ["kept"]


# Requests that fail


class MineError(Exception):
    pass


async def test_a_request_stream_that_raises_ends_call_and_handler(
    virtual_time: VirtualTime,
) -> None:
    """As over a socket: WriteError before the response begins, ReadError behind that."""
    impl, app = kv()

    async def loads() -> AsyncIterator[LoadRequest]:
        yield LoadRequest(key="hang")
        await virtual_time.sleep(1.0)
        raise MineError

    async def syncs() -> AsyncIterator[SyncRequest]:
        yield SyncRequest(key="hang")
        await virtual_time.sleep(1.0)
        raise MineError

    with pytest.raises(ConnectError) as caught:
        await client_of(app).load(loads())
    assert caught.value.code is Code.UNAVAILABLE
    assert isinstance(caught.value.__cause__, WriteError)
    with pytest.raises(ConnectError) as caught:
        await _collect(client_of(app).sync(syncs()))
    assert isinstance(caught.value.__cause__, ReadError)
    await impl.seen("cancelled", 2)
    assert virtual_time.now() == pytest.approx(2.0)
    assert _others() == set()


async def test_a_request_stream_is_closed_when_the_answer_comes_early(
    virtual_time: VirtualTime,
) -> None:
    closed = asyncio.Event()

    class Hasty(TellingKV):
        async def load(self, request: Any, ctx: Any) -> Any:
            raise ConnectError(Code.INVALID_ARGUMENT, "no more")

    async def requests() -> AsyncIterator[LoadRequest]:
        try:
            while True:
                yield LoadRequest()
                await virtual_time.sleep(1)
        finally:
            closed.set()

    with pytest.raises(ConnectError, match="no more"):
        await client_of(KVServiceASGIApplication(Hasty())).load(requests())
    await virtual_time.sleep(0.001)
    assert closed.is_set()
    assert _others() == set()


# Applications that fail


async def _dies(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise MineError


async def _dies_midway(_scope: Scope, _receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"application/connect+proto")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"\0\0\0\0\0", "more_body": True})
    raise MineError


async def _forgets(_scope: Scope, _receive: Receive, _send: Send) -> None:
    pass


@pytest.mark.parametrize("app", [_dies, _forgets])
async def test_an_application_that_dies_before_it_answers_is_a_500(app: Any) -> None:
    response = await InProcessTransport(app).execute(Request("GET", "http://x/"))
    assert response.status == 500
    with pytest.raises(ConnectError) as caught:
        await client_of(app).get(GetRequest())
    assert caught.value.code is Code.UNKNOWN


async def test_an_application_that_dies_midway_is_a_read_error() -> None:
    stream = client_of(_dies_midway).watch(WatchRequest())
    await anext(stream)
    with pytest.raises(ConnectError) as caught:
        await anext(stream)
    assert caught.value.code is Code.UNAVAILABLE
    assert isinstance(caught.value.__cause__, ReadError)
    assert isinstance(caught.value.__cause__.__cause__, MineError)


async def test_a_closed_transport_says_so() -> None:
    transport = InProcessTransport(_forgets)
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await transport.execute(Request("GET", "http://x/"))


# The scope, and the lifespan


async def test_the_scope_is_that_of_a_request_over_a_network() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(scope)
        message = await receive()
        seen["body"], seen["more"] = message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": [(b"x-y", b"\xe9")]})
        await send({"type": "http.response.body"})
        assert (await receive())["type"] == "http.disconnect"

    request = Request("POST", "http://host:81/a%20b/c?d=e", content=b"hello")
    request.headers["accept-encoding"] = "gzip"
    response = await InProcessTransport(app).execute(request)
    assert (response.status, response.headers["x-y"]) == (204, "é")
    assert (seen["body"], seen["more"]) == (b"hello", False)
    assert (seen["path"], seen["raw_path"], seen["query_string"]) == (
        "/a b/c",
        b"/a%20b/c",
        b"d=e",
    )
    assert (seen["method"], seen["scheme"], seen["server"]) == ("POST", "http", ("host", 81))
    assert seen["client"] is None
    headers = dict(seen["headers"])
    assert headers[b"host"] == b"host:81"
    assert b"accept-encoding" not in headers


async def test_the_lifespan_runs_from_start_to_close() -> None:
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["store"] = "yes"
            for step in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{step}"
                steps.append(step)
                await send({"type": f"lifespan.{step}.complete"})
            return
        steps.append(scope["state"]["store"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    async with InProcessTransport(app) as transport:
        await transport.start()
        await transport.execute(Request("GET", "http://x/"))
    assert steps == ["startup", "yes", "shutdown"]


async def test_an_application_that_fails_to_start_is_an_error() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(LifespanError, match="failed to start: no database"):
        await InProcessTransport(app).start()


async def test_an_application_without_lifespan_is_left_in_peace() -> None:
    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        assert scope["type"] == "http"

    async with InProcessTransport(app):
        pass


# Storms


@every_shape
async def test_cancelled_in_the_instant_of_starting(
    shape: Shape, virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
) -> None:
    """cases.md: 2,000 calls of each shape, each cancelled after k turns of the loop, k in 0..8."""
    impl, app = kv()
    transport = InProcessTransport(app)
    client = KVServiceClient("http://x", http_client=Client(transport))
    caplog.set_level(logging.WARNING)
    for number in range(2000):
        task = asyncio.create_task(hanging(shape, client))
        for _ in range(number % 9):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    begun = impl.counts[
        {"Get": "get", "Load": "load", "Watch": "watch", "Sync": "sync"}[shape.value]
    ]
    assert repr(transport).endswith("0 in flight>")
    assert _others() == set()
    assert begun > 0
    await transport.aclose()
    gc.collect()
    assert caplog.records == []
    assert virtual_time.now() == 0.0


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@every_shape
async def test_where_tasks_start_at_once(shape: Shape, virtual_time: VirtualTime) -> None:
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    impl, app = kv()
    transport = InProcessTransport(app)
    client = KVServiceClient("http://x", http_client=Client(transport))
    if shape is not Shape.SERVER_STREAM:
        assert await shape.run(client, ["a"])
    task = asyncio.create_task(hanging(shape, client))
    await virtual_time.sleep(0.1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert impl.counts["cancelled"] == 1
    assert repr(transport).endswith("0 in flight>")
    assert _others() == set()


async def test_headers_and_trailers_arrive_in_every_dialect() -> None:
    class Telling(TellingKV):
        async def get(self, request: GetRequest, ctx: Any) -> Any:
            ctx.response_headers["x-head"] = "h"
            ctx.response_trailers["x-tail"] = "t"
            return await super().get(request, ctx)

    app = KVServiceASGIApplication(Telling())
    for dialect in ProtocolType:
        with ResponseMetadata() as seen:
            await client_of(app, dialect).get(GetRequest(key="a"))
        assert (seen.headers["x-head"], seen.trailers["x-tail"]) == ("h", "t"), dialect


def _others() -> set[str]:
    """Names of tasks that are still there."""
    return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}


async def _close(stream: Any) -> None:
    await stream.aclose()
