"""Servers that call the next one, and clients of plugins, with real processes and no faults."""

from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from connectplugin_chaos.arms.arms import make
from connectplugin_chaos.engine.fleet import Fleet
from connectplugin_chaos.engine.receipts import Receipts
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.model import Arrivals, Seconds, Share, Topology, Workload


@pytest.mark.parametrize("through", ["stack", "plugin", "visit"])
async def test_each_call_goes_on_to_the_next_server_and_takes_its_deadline_along(
    tmp_path: Path, through: Literal["stack", "plugin", "visit"]
) -> None:
    topology = Topology(servers=2, workers=4, service_time=Seconds(0.001), chain=True)
    workload = Workload(
        arrivals=Arrivals(), deadline=Seconds(20.0), mix={"read": Share(1.0)}, through=through
    )
    arm = make("stack")
    fleet = Fleet(topology, arm.servers, tmp_path)
    await fleet.start()
    try:
        first, second = fleet.targets.values()
        await first.chain(f"http://{second.address}", arm="stack", deadline=20.0)
        recorder = Recorder(0.0, {})
        async with arm.open([f"http://{first.address}"], recorder, workload, 7) as call:
            for op, method in enumerate(("read", "append"), 1):
                await call(Planned(op=op, due=0.0, method=method, key="k"), Answer())
        ledger = await fleet.ledger(0.0)
    finally:
        await fleet.kill()
    assert Counter((e.server, e.method) for e in ledger.executions) == Counter(
        {(server, method): 1 for server in ("s1", "s2") for method in ("read", "append")}
    )
    assert Counter(n.endpoint for n in ledger.notices if n.kind == "outbound") == {"s1": 2}
    for op, runs in ledger.by_operation().items():
        before, after = sorted(runs, key=lambda run: run.started)
        assert before.deadline_at is not None, op
        assert after.deadline_at is not None, op
        assert after.deadline_at <= before.deadline_at + 0.05


def test_a_payment_has_one_receipt_whoever_is_asked(tmp_path: Path) -> None:
    first, second = Receipts(tmp_path / "receipts"), Receipts(tmp_path / "receipts")
    assert first.claim("k1", "s1-7") == (True, "s1-7")
    assert second.claim("k1", "s2-7") == (False, "s1-7")
    assert second.claim("k2", "s2-8") == (True, "s2-8")
    assert sorted(path.name for path in (tmp_path / "receipts").iterdir()) == ["k1", "k2"]
