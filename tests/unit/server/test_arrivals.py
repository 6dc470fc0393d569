"""What a server keeps of requests that are not there yet, message by message."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from connectrpc.errors import ConnectError

from connectplugin_interceptors.server.arrivals import Arrivals

UNARY, STREAM = b"application/proto", b"application/connect+proto"


class Request:
    """A request whose parts come when told, to an application that reads it all."""

    def __init__(self, content_type: bytes = UNARY, length: int | None = None) -> None:
        headers = [(b"content-type", content_type)]
        if length is not None:
            headers.append((b"content-length", str(length).encode()))
        self.scope: dict[str, Any] = {"type": "http", "method": "POST", "headers": headers}
        self.parts = asyncio.Queue[MutableMapping[str, Any]]()
        self.sent: list[MutableMapping[str, Any]] = []
        self.task: asyncio.Task[None] | None = None

    async def begin(self, layer: Arrivals, *parts: bytes) -> "Request":
        self.task = asyncio.create_task(layer(self.scope, self.parts.get, self.send))
        for part in parts:
            await self.part(part)
        return self

    async def part(self, body: bytes, *, last: bool = False) -> None:
        await self.parts.put({"type": "http.request", "body": body, "more_body": not last})
        for _ in range(3):
            await asyncio.sleep(0)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def over(self) -> int:
        assert self.task is not None
        await self.task
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


async def reads_all(_scope: Any, receive: Any, send: Any) -> None:
    """As connectrpc: a `ConnectError` while the request is read becomes the answer."""
    status = 200
    try:
        while (await receive()).get("more_body", False):
            pass
    except ConnectError:
        status = 503
    await send({"type": "http.response.start", "status": status, "headers": []})


def layer() -> Arrivals:
    return Arrivals(reads_all, most_bytes=1_000, small=100)


async def test_what_is_complete_counts_no_more() -> None:
    arrivals = layer()
    request = await Request().begin(arrivals, b"x" * 300)
    assert arrivals.kept == 300
    await request.part(b"x" * 300, last=True)
    assert arrivals.kept == 0
    assert await request.over() == 200


async def test_beyond_the_bound_large_requests_are_refused_as_they_grow() -> None:
    arrivals = layer()
    slow = [await Request().begin(arrivals, b"x" * 250) for _ in range(4)]
    large = await Request().begin(arrivals, b"x" * 101)
    assert await large.over() == 503
    assert large.headers[b"x-connectplugin-nack"] == b"overloaded"
    assert large.headers[b"connection"] == b"close"
    await slow[0].part(b"x")
    assert await slow[0].over() == 503
    assert arrivals.kept == 750
    for request in slow[1:]:
        await request.part(b"x", last=True)
        assert await request.over() == 200
    assert arrivals.kept == 0


async def test_small_requests_pass_whatever_the_large_ones_hold() -> None:
    arrivals = layer()
    slow = [await Request().begin(arrivals, b"x" * 250) for _ in range(4)]
    small = await Request().begin(arrivals, b"x" * 100)
    await small.part(b"", last=True)
    assert await small.over() == 200
    announced = await Request(length=100).begin(arrivals)
    assert arrivals.kept == 1_000
    await announced.part(b"x" * 100, last=True)
    assert await announced.over() == 200
    for request in slow:
        assert request.task is not None
        request.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request.task
    assert arrivals.kept == 0


async def test_of_a_stream_only_the_first_message_counts() -> None:
    arrivals = layer()
    first = b"\0" + (300).to_bytes(4) + b"x" * 300
    request = await Request(STREAM).begin(arrivals, first[:3], first[3:100])
    assert arrivals.kept == 100
    await request.part(first[100:])
    assert arrivals.kept == 0
    for _ in range(10):
        await request.part(b"x" * 500)
    assert arrivals.kept == 0
    await request.part(b"", last=True)
    assert await request.over() == 200


async def test_who_goes_away_leaves_nothing() -> None:
    arrivals = layer()
    request = await Request().begin(arrivals, b"x" * 300)
    await request.parts.put({"type": "http.disconnect"})
    await request.over()
    assert arrivals.kept == 0
