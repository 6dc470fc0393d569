"""The application's own interceptors, listeners and `ResponseMetadata` in the real chain."""

import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from connectrpc.request import Headers, RequestContext

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    RetryPolicy,
    delivery,
)
from connectplugin_interceptors.events import CallEnded, Event
from tests.contract.peer import Peer, answers, fails, ground, hangs, refused
from tests.contract.shape import SHAPES, Shape

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())


class Own:
    """Base: four shapes through two hooks."""

    def __init__(self, name: str = "own", log: list[str] | None = None) -> None:
        self.name = name
        self.log: list[str] = [] if log is None else log

    def context(self, ctx: Any) -> Any:
        """The context to pass on."""
        return ctx

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        self.log.append(f"{self.name} in")
        try:
            return await call_next(request, self.context(ctx))
        finally:
            self.log.append(f"{self.name} out")

    intercept_client_stream = intercept_unary

    async def intercept_server_stream(
        self, call_next: Any, request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        self.log.append(f"{self.name} in")
        try:
            async with aclosing(call_next(request, self.context(ctx))) as responses:
                async for response in responses:
                    yield response
        finally:
            self.log.append(f"{self.name} out")

    intercept_bidi_stream = intercept_server_stream


class Hooks:
    """A metadata interceptor."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def on_start(self, ctx: Any) -> str:
        self.log.append(f"{self.name} in")
        ctx.request_headers[f"x-{self.name}"] = "yes"
        return self.name

    async def on_end(self, token: str, ctx: Any, error: Exception | None) -> None:
        del ctx
        self.log.append(f"{token} out {type(error).__name__ if error else 'ok'}")


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_scopes_and_order(shape: Shape) -> None:
    log: list[str] = []
    stack = ground(
        retry_policy=RetryPolicy(initial_backoff=0.0, budget=None),
        call=[Own("call", log), Hooks("callhooks", log)],
        attempt=[Own("attempt", log), Hooks("attempthooks", log)],
    )
    peer = Peer(refused(), answers())
    assert await shape.run(peer.client(stack))
    assert log == [
        "call in",
        "callhooks in",
        "attempt in",
        "attempthooks in",
        "attempthooks out ConnectError",
        "attempt out",
        "attempt in",
        "attempthooks in",
        "attempthooks out ok",
        "attempt out",
        "callhooks out ok",
        "call out",
    ]
    assert [headers["x-callhooks"] for headers in peer.sent] == ["yes", "yes"]


class Replaces(Own):
    """Passes on a context of its own, as connectrpc allows."""

    def __init__(self, timeout_ms: int | None) -> None:
        super().__init__()
        self.timeout_ms = timeout_ms

    def context(self, ctx: Any) -> Any:
        headers = Headers(tuple(ctx.request_headers.allitems()))
        headers["x-tenant"] = "acme"
        return RequestContext(
            method=ctx.method,
            http_method=ctx.http_method,
            request_headers=headers,
            timeout_ms=self.timeout_ms,
            server_address=ctx.server_address,
        )


@every_shape
@pytest.mark.parametrize("scope", ["call", "attempt"])
async def test_an_interceptor_that_replaces_the_context(
    virtual_time: VirtualTime, shape: Shape, scope: str
) -> None:
    stack = ground(retry_policy=RetryPolicy(budget=None, initial_backoff=0.0)).adding(
        **{scope: [Replaces(None)]}
    )
    peer = Peer(refused(), answers())
    await shape.run(peer.client(stack))
    assert [headers["x-tenant"] for headers in peer.sent] == ["acme", "acme"]
    assert peer.attempt_numbers == [None, "1"]
    # Its shorter timeout holds, a longer one does not lengthen ours.
    for milliseconds, seconds in ((500, 0.5), (9000, 2.0)):
        before = virtual_time.now()
        stack = ground(
            deadline=DeadlinePolicy(total=2.0, attempt=None, stream_total=2.0), retry_policy=None
        ).adding(**{scope: [Replaces(milliseconds)]})
        with pytest.raises(DeadlineExceededError):
            await shape.run(Peer(hangs()).client(stack))
        assert virtual_time.now() - before == pytest.approx(seconds, abs=0.03)


class Appends(Own):
    """Adds to a header, as tracing does."""

    def context(self, ctx: Any) -> Any:
        ctx.request_headers.add("x-trace", "a")
        return ctx


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_what_one_attempts_interceptors_write_is_not_in_the_next(shape: Shape) -> None:
    peer = Peer(refused(), refused(), answers())
    stack = ground(
        retry_policy=RetryPolicy(max_attempts=3, budget=None, initial_backoff=0.0),
        call=[Appends()],
        attempt=[Appends()],
    )
    await shape.run(peer.client(stack))
    # One from the scope of the call, one from that of the attempt.
    assert [headers.count("x-trace") for headers in peer.sent_names] == [2, 2, 2]


class Answers(Own):
    """Answers itself, from a cache."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        del call_next, request, ctx
        return self.response

    intercept_client_stream = intercept_unary

    async def intercept_server_stream(
        self, call_next: Any, request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        del call_next, request, ctx
        yield self.response

    intercept_bidi_stream = intercept_server_stream


@pytest.mark.usefixtures("virtual_time")
@every_shape
@pytest.mark.parametrize("scope", ["call", "attempt"])
async def test_an_interceptor_that_answers_itself(shape: Shape, scope: str) -> None:
    from types import SimpleNamespace  # noqa: PLC0415

    peer = Peer(answers())
    own = Answers(SimpleNamespace(value=b"cached", count=7))
    result = await shape.run(peer.client(ground().adding(**{scope: [own]})))
    assert result in ([b"cached"], [b"7"])
    assert peer.sent == []


class Raises(Own):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def context(self, ctx: Any) -> Any:
        del ctx
        raise self.error


@pytest.mark.usefixtures("virtual_time")
@every_shape
@pytest.mark.parametrize("scope", ["call", "attempt"])
@pytest.mark.parametrize(
    "error", [ValueError("own"), ConnectError(Code.PERMISSION_DENIED, "not you")]
)
async def test_an_interceptor_that_raises(shape: Shape, scope: str, error: Exception) -> None:
    peer = Peer(answers())
    listener = RecordingListener()
    client = peer.client(ground().adding(**{scope: [Raises(error)]}), listeners=[listener])
    with pytest.raises(type(error)) as caught:
        await shape.run(client)
    assert caught.value is error
    assert peer.sent == []
    assert len(listener.of(CallEnded)) == 1
    if isinstance(error, ConnectError):
        assert delivery(error) is Delivery.NOT_SENT


class SendsTwice(Own):
    """A retry of the application's own, below ours."""

    async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
        try:
            return await call_next(request, ctx)
        except ConnectError:
            return await call_next(request, ctx)


@pytest.mark.usefixtures("virtual_time")
async def test_an_interceptor_that_calls_on_twice() -> None:
    peer = Peer(fails(Code.UNAVAILABLE), answers())
    client = peer.client(ground(retry_policy=None, attempt=[SendsTwice()]))
    assert await Shape.UNARY.run(client) == [b"0"]
    assert len(peer.sent) == 2


class LeavesOpen(Own):
    """Leaves a stream early and forgets to close it."""

    async def intercept_server_stream(
        self, call_next: Any, request: Any, ctx: Any
    ) -> AsyncIterator[Any]:
        async for response in call_next(request, ctx):
            yield response
            return

    intercept_bidi_stream = intercept_server_stream


@pytest.mark.parametrize("shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM])
async def test_an_interceptor_that_forgets_to_close(
    virtual_time: VirtualTime, shape: Shape
) -> None:
    peer = Peer(answers(10_000, every=0.1))
    assert await shape.run(peer.client(ground(attempt=[LeavesOpen()]))) == [b"0"]
    await virtual_time.sleep(1.0)
    assert peer.outcomes in (["cancelled"], ["left"])


# --- Listeners ---


@pytest.mark.usefixtures("virtual_time")
@every_shape
async def test_a_listener_that_raises_breaks_nothing(
    shape: Shape, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(event: Event) -> None:
        msg = f"no {event}"
        raise ValueError(msg)

    listener = RecordingListener()
    peer = Peer(refused(), answers(2))
    with caplog.at_level(logging.CRITICAL, logger="connectplugin.interceptors"):
        client = peer.client(ground(), listeners=[broken, listener, broken])
        assert await shape.run(client)
        # Those beside it hear everything, and a failed call raises what it would have raised.
        assert len(listener.events) == 4
        peer.script = [fails(Code.NOT_FOUND)]
        with pytest.raises(ConnectError) as caught:
            await shape.run(client)
    assert caught.value.code is Code.NOT_FOUND


# --- ResponseMetadata is the caller's ---


@pytest.mark.usefixtures("virtual_time")
@every_shape
@pytest.mark.parametrize("protocol", list(ProtocolType))
async def test_the_callers_response_metadata_is_left_alone(
    shape: Shape, protocol: ProtocolType
) -> None:
    # Interceptors that open one of their own take it from the caller; the chain taps the transport.
    peer = Peer(fails(Code.UNAVAILABLE, reading=False, headers=[("x-connectplugin-nack", "busy")]))
    peer.script = [*peer.script, answers(2, headers=[("x-served-by", "me")])]
    client = peer.client(ground(), protocol=protocol)
    with ResponseMetadata() as metadata:
        await shape.run(client)
    assert metadata.headers.get("x-served-by") == "me"
    assert metadata.headers.get("x-connectplugin-nack") is None
    assert metadata.http_status == 200


@pytest.mark.usefixtures("virtual_time")
async def test_no_context_of_the_chains_own_is_left_in_the_callers() -> None:
    from contextvars import copy_context  # noqa: PLC0415

    peer = Peer(answers(3))
    client = peer.client(ground())
    before = dict(copy_context().items())
    for shape in SHAPES:
        async for _ in shape.responses(client):
            assert _changed(before, dict(copy_context().items())) == []
    assert _changed(before, dict(copy_context().items())) == []


def _changed(before: dict[Any, Any], after: dict[Any, Any]) -> list[str]:
    return [name.name for name in after if after[name] is not before.get(name) and after[name]]
