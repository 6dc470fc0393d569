"""The benchmarks run, their floor is a chain that works, and what they write can be read.

How fast anything is, is asked by `make bench` and by no test.
"""

import asyncio
from pathlib import Path

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from benchmarks import chain, machines, others, results
from benchmarks.floor import Floor
from benchmarks.measure import Sample, side_by_side
from benchmarks.results import FLOOR, Comparison


async def test_every_arm_that_needs_no_peer_runs() -> None:
    arms = [*chain.unary_arms(), *machines.pick_arms()]
    samples = await side_by_side(arms, turns=2, batch=10)
    assert list(samples) == [arm.name for arm in arms]
    assert FLOOR in samples
    assert all(len(sample.cpu) == len(sample.wall) == 2 for sample in samples.values())
    await side_by_side(chain.stream_arms(), turns=1, batch=100)


async def test_other_libraries_that_are_installed_answer() -> None:
    for execute in (await others.executes()).values():
        assert await execute(None, None) is await chain.leaf(None, None)  # type: ignore[arg-type]


async def test_the_floor_repeats_once_counts_failures_and_opens() -> None:
    calls: list[float | None] = []

    async def down(request: object, ctx: object, /) -> object:
        del request
        calls.append(getattr(ctx, "timeout_ms", None))
        raise ConnectError(Code.UNAVAILABLE, "down")

    execute = chain.composed([Floor()], down)
    for expected in (2, 4):
        with pytest.raises(ConnectError):
            await execute(None, chain.fresh(chain.GET))
        assert len(calls) == expected
    assert all(left is not None and 9_000 < left <= 10_000 for left in calls)
    with pytest.raises(RuntimeError, match="open"):
        await execute(None, chain.fresh(chain.GET))
    assert len(calls) == 5, "the fifth failure opened the circuit before the sixth attempt"


async def test_the_floor_lets_cancellation_be_cancellation() -> None:
    async def hangs(request: object, ctx: object, /) -> None:
        del request, ctx
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError as error:
            raise ConnectError(Code.CANCELED, "cancelled") from error

    task = asyncio.ensure_future(chain.composed([Floor(3)], hangs)(None, chain.fresh(chain.GET)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    samples = {
        name: Sample(name, cpu=[cost * 1e-6, cost * 2e-6], wall=[cost * 1e-6, cost * 1e-6])
        for name, cost in (("no chain", 4.0), (FLOOR, 14.0), ("ClientStack()", 24.0))
    }
    comparison = Comparison(title="A call", base="no chain", samples=samples, note="a note")
    written = results.write([comparison], turns=2, folder=tmp_path / "new")
    table = written[0].read_text()
    assert "| ClientStack() | 6.00 | 6.00 | 6.00 | 24.00 | 20.00 | 2.0 |" in table
    assert "a note" in table
    assert "ClientStack()" in results.text(comparison)
    if len(written) > 1:
        assert written[1].read_bytes().startswith(b"\x89PNG")


def test_what_is_committed_is_a_run_of_all() -> None:
    table = (results.FOLDER / "cost.md").read_text()
    for wanted in ("pyresilience", "hyx", "stamina", FLOOR, "1,000 endpoints", "1,000,000 keys"):
        assert wanted in table
    assert "not installed" not in table
    assert (results.FOLDER / "cost.png").read_bytes().startswith(b"\x89PNG")
