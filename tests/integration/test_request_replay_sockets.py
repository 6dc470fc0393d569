"""What a real transport takes from a stream of requests, and that it lets go of it."""

import asyncio
import contextlib
import socket
from asyncio import Event, StreamReader, StreamWriter
from collections.abc import AsyncIterator

import pytest
from pyqwest import Client, HTTPTransport, HTTPVersion, Proxy

from connectplugin_interceptors.streams import RequestReplay


def transport(version: HTTPVersion) -> HTTPTransport:
    return HTTPTransport(
        http_version=version,
        follow_redirects=False,
        enable_otel=False,
        # An explicit rule, so that the environment's proxies do not apply.
        proxy=Proxy("http://127.0.0.1:9", scheme="https"),
    )


PIECE = b"<a piece>"  # nothing that a header may hold: "chunked" does hold "chunk"


class Chunks:
    """A caller's generator of ten pieces, then silence; it remembers how far it came."""

    def __init__(self) -> None:
        self.taken = 0
        self.silent = Event()
        self.left = Event()

    async def requests(self) -> AsyncIterator[bytes]:
        try:
            for _ in range(10):
                self.taken += 1
                yield PIECE
            self.silent.set()
            await Event().wait()
        finally:
            self.left.set()


@pytest.mark.parametrize("version", [HTTPVersion.HTTP1, HTTPVersion.HTTP2], ids=["h1", "h2c"])
async def test_a_refused_connection_has_taken_nothing(version: HTTPVersion) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # bound, but nobody listens
        chunks = Chunks()
        replay = RequestReplay(chunks.requests())
        async with transport(version) as http:
            for _ in range(3):
                with pytest.raises(ConnectionError):
                    await Client(http).post(
                        f"http://127.0.0.1:{bound.getsockname()[1]}/", content=replay.attempt()
                    )
        assert chunks.taken == 0
        assert replay.can_replay
        await replay.aclose()


@pytest.mark.parametrize("committed", [False, True], ids=["kept", "committed"])
async def test_closing_frees_the_caller_s_generator_from_a_transport_that_waits_for_it(
    *, committed: bool
) -> None:
    arrived = Event()

    async def listen(reader: StreamReader, writer: StreamWriter) -> None:
        received = b""
        while received.count(PIECE) < 10:
            received += await reader.read(1000)
        arrived.set()
        with contextlib.suppress(OSError):
            await reader.read()  # until the client is gone
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before = asyncio.all_tasks()
    chunks = Chunks()
    replay = RequestReplay(chunks.requests())
    attempt = replay.attempt()
    if committed:
        replay.commit()
    async with server, transport(HTTPVersion.HTTP1) as http:
        call = asyncio.ensure_future(
            Client(http).post(f"http://127.0.0.1:{port}/", content=attempt)
        )
        async with asyncio.timeout(10):
            await chunks.silent.wait()
            await arrived.wait()
            await replay.aclose()
            assert chunks.left.is_set()
            # The body fails; it does not end as if the caller had said all.
            with pytest.raises(Exception, match="the call is over"):
                await call
    async with asyncio.timeout(10):
        await asyncio.wait(asyncio.all_tasks() - before or {call})


async def test_a_second_attempt_sends_from_the_first_message_again() -> None:
    bodies: list[int] = []

    async def refuse_once(reader: StreamReader, writer: StreamWriter) -> None:
        received = b""
        while received.count(PIECE) < 10:
            received += await reader.read(1000)
        bodies.append(received.count(PIECE))
        writer.write(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(refuse_once, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    chunks = Chunks()
    replay = RequestReplay(chunks.requests())
    async with server, transport(HTTPVersion.HTTP1) as http, asyncio.timeout(10):
        for _ in range(2):
            response = await Client(http).post(url, content=replay.attempt())
            assert response.status == 503
    assert bodies == [10, 10]
    assert chunks.taken == 10
    assert not chunks.left.is_set()
    await replay.aclose()
    assert chunks.left.is_set()
