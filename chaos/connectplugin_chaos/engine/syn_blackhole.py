"""A listener whose queue is full: a connection to it neither comes about nor is refused."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Final

from connectplugin_chaos.engine.process import ProcessError

_MOST: Final = 64
"""Connections that are tried until the queue is full; Linux takes two for a backlog of 0."""

_PROBE: Final = 0.1
"""Seconds without a connection after which the queue counts as full; on the loopback interface one
that comes about takes far below a millisecond."""


@asynccontextmanager
async def syn_blackhole(address: str) -> AsyncGenerator[None]:
    """Drop what wants to connect to `host:port`, which must be free, for the time of a block.

    Linux drops the SYN to a listener whose queue is full; other systems refuse.

    Raises:
        ProcessError: It could not be brought about.
    """
    if sys.platform != "linux":
        raise ProcessError("syn_blackhole needs Linux, which drops a SYN when a queue is full")
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET)
    fillers: list[socket.socket] = []
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen(0)
        await _fill(host, int(port), fillers)
        yield
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


async def _fill(host: str, port: int, fillers: list[socket.socket]) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(_MOST):
        filler = socket.socket(socket.AF_INET)
        filler.setblocking(False)
        fillers.append(filler)
        try:
            async with asyncio.timeout(_PROBE):
                await loop.sock_connect(filler, (host, port))
        except TimeoutError:
            return
    raise ProcessError(f"the queue of {host}:{port} took {_MOST} connections, and is not full")
