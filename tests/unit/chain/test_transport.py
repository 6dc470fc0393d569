"""The transport's tap and its bounds, by themselves."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from hypothesis import given
from hypothesis import strategies as st
from pyqwest import Headers, Request, Response

from connectplugin_interceptors import TapTransport
from connectplugin_interceptors.call import Attempt, AttemptKind
from connectplugin_interceptors.transport import current_attempt


def envelope(message: bytes, flags: int = 0) -> bytes:
    return bytes([flags]) + len(message).to_bytes(4, "big") + message


class Serves:
    """A transport that answers with these chunks."""

    def __init__(self, content_type: str, chunks: list[bytes]) -> None:
        self.content_type = content_type
        self.chunks = chunks
        self.closed = False

    async def execute(self, request: Request) -> Response:
        del request

        async def body() -> AsyncIterator[bytes]:
            try:
                for chunk in self.chunks:
                    yield chunk
            finally:
                self.closed = True

        return Response(
            status=200, headers=Headers([("content-type", self.content_type)]), content=body()
        )


async def read(inner: Serves, limit: int | None = 1000) -> bytes:
    response = await TapTransport(inner, read_max_bytes=limit).execute(
        Request("POST", "http://x/", headers=Headers(), content=b"")
    )
    whole = b""
    async for chunk in response.content:
        whole += bytes(chunk)
    return whole


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in chunks that end anywhere."""
    ends = sorted({place % (len(whole) + 1) for place in places} | {0, len(whole)})
    return [whole[start:end] for start, end in pairwise(ends)]


KINDS = [("application/connect+proto", 0x02), ("application/grpc-web+proto", 0x80)]


@pytest.mark.parametrize("kind", KINDS, ids=["connect", "grpc-web"])
@given(
    messages=st.lists(st.binary(max_size=30), max_size=5),
    places=st.lists(st.integers(0, 10_000), max_size=30),
    last=st.binary(max_size=5),
    extra=st.binary(max_size=3),
)
def test_how_a_stream_is_cut_into_chunks_makes_no_difference(
    kind: tuple[str, int], messages: list[bytes], places: list[int], last: bytes, extra: bytes
) -> None:
    content_type, end = kind
    whole = b"".join(map(envelope, messages)) + envelope(last, end)
    assert asyncio.run(read(Serves(content_type, cut(whole, places)))) == whole
    if extra:
        with pytest.raises(ConnectError) as caught:
            asyncio.run(read(Serves(content_type, cut(whole + extra, places))))
        assert caught.value.code is Code.INTERNAL
    # A stream that never ends in band passes as it is: that is for connectrpc to judge.
    short = b"".join(map(envelope, messages))
    assert asyncio.run(read(Serves(content_type, cut(short, places)))) == short


@given(sizes=st.lists(st.integers(0, 400), max_size=8), limit=st.integers(0, 1500))
def test_a_whole_answer_is_bounded(sizes: list[int], limit: int) -> None:
    inner = Serves("application/proto", [b"x" * size for size in sizes])
    if sum(sizes) <= limit:
        assert len(asyncio.run(read(inner, limit))) == sum(sizes)
    else:
        with pytest.raises(ConnectError) as caught:
            asyncio.run(read(inner, limit))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED
        assert inner.closed
    assert len(asyncio.run(read(inner, None))) == sum(sizes)


async def test_the_tap_tells_the_attempt_and_nobody_else() -> None:
    tap = TapTransport(Serves("application/proto", [b"x"]))
    request = Request("POST", "http://x/", headers=Headers(), content=b"")
    await tap.execute(request)  # outside of any attempt
    attempt = Attempt(1, AttemptKind.INITIAL)
    heads: list[Any] = []
    attempt.on_head = lambda: heads.append(attempt.status)
    token = current_attempt.set(attempt)
    try:
        await tap.execute(request)
        assert (attempt.entered, attempt.status, heads) == (True, 200, [200])
        assert attempt.response_header("content-type") == "application/proto"
        attempt.status = None
        await tap.execute(request)  # somebody else's, under the same attempt
        assert attempt.status is None
    finally:
        current_attempt.reset(token)
