"""A response over loopback took 44 ms: its body waited for the acknowledgement of its head.

Found by `make bench`. asyncio turns TCP_NODELAY on only for sockets that name their protocol, which
a listening socket of `socket.create_server`, and what it accepts, does not.
"""

import time

from connectplugin import Client, ClientConfig, ServeConfig, Server
from kv_plugin import kv_plugin
from server import MemoryKV

_DELAYED = 0.030
"""Seconds; the shortest that an acknowledgement is delayed is 40 ms."""


async def test_a_response_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    config = ServeConfig(plugins=[kv_plugin.bind(MemoryKV())], addr="127.0.0.1:0")
    async with (
        Server(config) as server,
        Client(ClientConfig(endpoint=server.url, plugins=[kv_plugin])) as client,
    ):
        kv = client.dispense(kv_plugin)
        took: list[float] = []
        for _ in range(8):
            begun = time.perf_counter()
            await kv.put("a", b"value")
            took.append(time.perf_counter() - begun)
    # The first calls of a connection are acknowledged at once (quickack): the last ones count.
    assert min(took[-5:]) < _DELAYED
