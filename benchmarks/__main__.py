"""`python -m benchmarks`: the cost of the chain, as ratios of pairs measured in one run."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import calls, chain, machines, others, peer, results
from benchmarks.measure import Arm, side_by_side
from benchmarks.results import Comparison
from benchmarks.service import PayloadService
from connectplugin.transport.in_process import InProcessTransport
from kv.v1.kv_connect import KVServiceASGIApplication


class Run:
    """What has been measured so far; each comparison is printed when it is there.

    Args:
        turns: How many each arm gets.
    """

    def __init__(self, turns: int) -> None:
        self.comparisons: list[Comparison] = []
        self._turns = turns

    async def compare(self, title: str, arms: Sequence[Arm], *, batch: int, note: str = "") -> None:
        """Let arms take turns; the first is what the others are held against."""
        samples = await side_by_side(arms, turns=self._turns, batch=batch)
        found = Comparison(title=title, base=arms[0].name, samples=samples, note=note)
        self.comparisons.append(found)
        print(results.text(found), flush=True)


async def _alone(run: Run) -> None:
    executes = await others.executes()
    arms = chain.unary_arms() + [chain.unary_arm(*found) for found in executes.items()]
    left_out = sorted(set(others.NAMES) - others.versions().keys())
    note = ", ".join(f"{name} {version}" for name, version in others.versions().items())
    if left_out:
        note += f" (not installed, so left out: {', '.join(left_out)})"
    await run.compare("The chain alone, a unary call", arms, batch=1000, note=note.strip())
    await run.compare("The chain alone, a message of a stream", chain.stream_arms(), batch=2000)


async def _machines(run: Run) -> None:
    await run.compare("A pick and its settling", machines.pick_arms(), batch=2000)
    limiters = machines.Limiters()
    note = ""
    if limiters.memory is not None:
        note = (
            f"The million keys take {limiters.memory / 2**20:.0f} MiB; by default 10,000 are kept."
        )
    await run.compare("An admission by the rate limit", limiters.arms(), batch=5000, note=note)


async def _in_process(run: Run) -> None:
    url = "http://in-process"
    async with InProcessTransport(KVServiceASGIApplication(PayloadService())) as transport:
        await run.compare("A unary call in process", calls.get_arms(url, transport), batch=100)
        arms = calls.watch_arms(url, transport)
        await run.compare("A message of a stream in process", arms, batch=500)


async def _loopback(run: Run) -> None:
    async with peer.running() as (url, target):
        transport = calls.loopback_transport(url)
        grpc_client = calls.GrpcClient(target)
        arms = calls.get_arms(url, transport) + grpc_client.arms()
        await run.compare("A unary call over loopback (client's CPU)", arms, batch=100)
        arms = calls.watch_arms(url, transport)
        await run.compare("A message of a stream over loopback (client's CPU)", arms, batch=500)
        await grpc_client.close()


async def _measured(turns: int) -> list[Comparison]:
    print(results.machine(turns))
    print(results.EXPLAINED.replace("`", ""))
    run = Run(turns)
    for part in (_alone, _machines, _in_process, _loopback):
        await part(run)
    return run.comparisons


def main() -> None:
    """Run it all, and write what came out."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--turns", type=int, default=25, help="turns per arm (default 25)")
    parser.add_argument(
        "--out", type=Path, default=results.FOLDER, help="where the table and the plot go"
    )
    options = parser.parse_args()
    turns: int = options.turns
    begun = time.perf_counter()
    comparisons = asyncio.run(_measured(turns))
    written = results.write(comparisons, turns=turns, folder=options.out)
    print()
    for path in written:
        print(f"written: {path}")
    if len(written) == 1:
        print("no plot: matplotlib is not installed (make bench installs it)", file=sys.stderr)
    print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
