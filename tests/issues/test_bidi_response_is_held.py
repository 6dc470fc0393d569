"""A bidi stream was cut when the response that pyqwest had made was collected while it was read.

The chain bounds what a response may hold by wrapping its content. pyqwest ends the request stream,
and with it the connection, when its own response object goes: whoever wraps must hold it.
"""

import asyncio
import gc
from collections.abc import AsyncIterator

from kv.v1.kv_pb import SyncRequest
from kv_plugin import kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere


@everywhere
async def test_a_rally_survives_the_garbage_collector(location: Location) -> None:
    answered: asyncio.Queue[int] = asyncio.Queue()

    async def questions() -> AsyncIterator[SyncRequest]:
        for number in range(5):
            yield SyncRequest(key="ball", value=b"%d" % number)
            assert await answered.get() == number  # the next only after the answer to this

    serving = {"plugins": [kv_plugin.bind(MemoryKV())]}
    async with location.client(serving, plugins=[kv_plugin]) as client:
        rally: list[int] = []
        async for reply in client.dispense(kv_plugin).sync(questions()):
            gc.collect()
            rally.append(int(reply.value))
            answered.put_nowait(rally[-1])
    assert rally == [0, 1, 2, 3, 4]
