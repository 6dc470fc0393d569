"""What a process holds is seen while it holds it."""

import asyncio
import socket
from pathlib import Path

import pytest

from connectplugin_chaos.record.probes import sample

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc")


async def look(*, task: bool = False) -> dict[str, float]:
    held = asyncio.create_task(asyncio.Event().wait()) if task else None
    found = sample()
    if held is not None:
        held.cancel()
    return found


def test_files_connections_and_tasks_are_counted() -> None:
    before = asyncio.run(look())
    with socket.socket() as one, socket.socket() as other, Path(__file__).open():
        assert one.fileno() != other.fileno()
        during = asyncio.run(look(task=True))
    after = asyncio.run(look())
    assert during["connections"] - before["connections"] == 2
    assert during["fds"] - before["fds"] == 3
    assert during["tasks"] - before["tasks"] == 1
    assert after["fds"] == before["fds"]
    assert during["rss"] > 1 << 20
