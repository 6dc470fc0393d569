"""The plugin servers as the harness sees them: real processes, killed and replaced."""

import socket
from pathlib import Path

import pytest

from connectplugin_chaos.engine.arm_run import deaths
from connectplugin_chaos.engine.fleet import Fleet, ServerKind
from connectplugin_chaos.engine.process import ProcessError
from connectplugin_chaos.scenario.load import load_all
from connectplugin_chaos.scenario.model import Topology


async def test_a_killed_server_is_followed_by_its_successor(tmp_path: Path) -> None:
    fleet = Fleet(Topology(servers=1), ServerKind(), tmp_path)
    target = fleet.targets["s1"]
    try:
        await fleet.start(["s1"])
        address, first = target.address, await target.tell(do="dump")
        assert first["kept"] == {}
        await target.kill()
        assert not target.alive
        await target.start()
        assert target.address == address
        assert (await target.tell(do="dump"))["kept"] == {}
    finally:
        await fleet.kill()
    assert not target.alive


async def test_successors_that_were_not_needed_end_too(tmp_path: Path) -> None:
    fleet = Fleet(Topology(servers=1), ServerKind(), tmp_path)
    await fleet.start(["s1", "s1"])
    successors = list(fleet.targets["s1"].successors)
    assert len(successors) == 2
    await fleet.kill()
    assert not any(successor.alive for successor in successors)


async def test_a_server_that_does_not_start_is_the_harness_s_trouble(tmp_path: Path) -> None:
    fleet = Fleet(Topology(servers=1), ServerKind(), tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        fleet.targets["s1"].address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ProcessError, match="s1 did not start"):
            await fleet.start()
    await fleet.kill()


def test_each_kill_of_a_scenario_has_a_successor() -> None:
    known = load_all()
    assert deaths(known["D2"].timeline, ("s1",)) == ["s1", "s1"]
    assert deaths(known["C7"].timeline, ("s1", "s2", "s3")) == ["s1", "s2"]
    assert deaths(known["A1"].timeline, ("s1", "s2", "s3")) == []
