"""A circuit that opened because nothing could be reached does not hold back calls that wait.

Seen in the demo: the plugin was restarted after one second, and calls with `wait_for_ready` got
through up to five seconds later, when the circuit's time was over. They try at a pace of their own,
from 50 ms to 250 ms, which is as good as a health check.
"""

import asyncio

import pytest
from pyqwest import Headers, Request, Response

from connectplugin import ClientStack, DeadlinePolicy, with_options
from connectplugin.testing import VirtualTime
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, GetResponse


class Peer:
    """Refuses connections until it is up."""

    def __init__(self) -> None:
        self.up = False
        self.tries: list[float] = []

    async def execute(self, request: Request) -> Response:
        self.tries.append(asyncio.get_running_loop().time())
        if not self.up:
            raise ConnectionError("refused")
        return Response(
            status=200,
            headers=Headers([("content-type", "application/proto")]),
            content=GetResponse(value=b"v").to_binary(),
        )


@pytest.mark.parametrize("endpoints", [1, 3])
async def test_waiting_calls_reach_a_peer_soon_after_it_is_up(
    virtual_time: VirtualTime, endpoints: int
) -> None:
    peer = Peer()
    addresses = [f"http://kv{number}" for number in range(endpoints)]
    client = ClientStack(wait_for_ready=True).client(KVServiceClient, addresses, transport=peer)
    patient = with_options(client, deadline=DeadlinePolicy(total=60.0))
    calls = [asyncio.ensure_future(patient.get(GetRequest(key="a"))) for _ in range(20)]
    await virtual_time.sleep(29.9)
    peer.up = True
    while_down = len(peer.tries)
    for reply in await asyncio.gather(*calls):
        assert reply.value == b"v"
    assert virtual_time.now() < 30.5
    # Paced for all of them together: four a second, not twenty times as many.
    assert while_down < 20 * endpoints + 4 * 30 + 20
