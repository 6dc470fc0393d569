"""Connections that dribble their request's body held every slot of a server, for 30 s."""

import asyncio
import contextlib
from urllib.parse import urlsplit

import pytest

from connectplugin import ClientStack, ServeConfig, Server
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest
from tests.integration.serving_kv import TellingKV, bound

DRIBBLERS = 300
"""More than there are slots (200 adaptive; 100 and a queue of 100)."""


async def dribble(url: str, content_type: str, path: str) -> asyncio.StreamWriter:
    """Announce a body, send one byte of it."""
    parts = urlsplit(url)
    assert parts.hostname
    _, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(
        f"POST /kv.v1.KVService/{path} HTTP/1.1\r\nhost: a\r\ncontent-type: {content_type}\r\n"
        "connect-protocol-version: 1\r\ncontent-length: 1000\r\n\r\n".encode()
    )
    writer.write(b"\0")
    await writer.drain()
    return writer


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("Get", "application/proto"), ("Watch", "application/connect+proto")],
    ids=["unary", "server stream"],
)
async def test_bodies_that_do_not_arrive_hold_no_slots(path: str, content_type: str) -> None:
    impl = TellingKV()
    async with contextlib.AsyncExitStack() as stack:
        # Leaving with an error, as it were: nobody waits for the dribblers.
        server = Server(ServeConfig(plugins=[bound(impl)], addr="127.0.0.1:0"))
        await server.__aenter__()
        stack.push_async_callback(server.__aexit__, ZeroDivisionError, None, None)
        writers = [await dribble(server.url, content_type, path) for _ in range(DRIBBLERS)]
        async with asyncio.timeout(30):
            while server.app.in_flight < DRIBBLERS:  # noqa: ASYNC110  # all are known to it
                await asyncio.sleep(0.01)
        async with ClientStack.bare().client(KVServiceClient, server.url) as client:
            # Each would be refused at once if there were no slot.
            for _ in range(20):
                assert (await client.get(GetRequest(key="a"))).value == b"a"
        assert server.app.in_flight == DRIBBLERS
        for writer in writers:
            writer.close()
    assert impl.counts["get"] == 20
    assert impl.counts["watch"] == 0
