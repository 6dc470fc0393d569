"""`python -m benchmarks`: the cost of the chain, as ratios of pairs measured in one run."""

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Sequence

from benchmarks import calls, chain, peer
from benchmarks.measure import Arm, Sample, ratios, side_by_side, wall_ratio
from benchmarks.service import PayloadService
from connectplugin.transport.in_process import InProcessTransport
from kv.v1.kv_connect import KVServiceASGIApplication


def _table(title: str, samples: dict[str, Sample], *, base: str = "no chain") -> None:
    """Print a comparison: ratios first, absolute numbers as information."""
    print(f"\n{title}")
    print(f"  {'':28}{'ratio':>8}{'median':>8}{'clock':>8}{'us CPU':>10}{'us more':>9}")
    zero = samples[base]
    for name, sample in samples.items():
        best, middle = ratios(sample, zero)
        print(
            f"  {name:28}{best:8.2f}{middle:8.2f}{wall_ratio(sample, zero):8.2f}"
            f"{sample.best * 1e6:10.2f}{(sample.best - zero.best) * 1e6:9.2f}"
        )


async def _compare(title: str, arms: Sequence[Arm], *, turns: int, batch: int) -> None:
    _table(title, await side_by_side(arms, turns=turns, batch=batch))


async def _in_process(turns: int) -> None:
    url = "http://in-process"
    async with InProcessTransport(KVServiceASGIApplication(PayloadService())) as transport:
        arms = calls.get_arms(url, transport)
        await _compare("A unary call in process", arms, turns=turns, batch=100)
        arms = calls.watch_arms(url, transport)
        await _compare("A message of a stream in process", arms, turns=turns, batch=500)


async def _loopback(turns: int) -> None:
    async with peer.running() as (url, target):
        transport = calls.loopback_transport(url)
        grpc_client = calls.GrpcClient(target)
        arms = calls.get_arms(url, transport) + grpc_client.arms()
        await _compare("A unary call over loopback (client's CPU)", arms, turns=turns, batch=100)
        arms = calls.watch_arms(url, transport)
        title = "A message of a stream over loopback (client's CPU)"
        await _compare(title, arms, turns=turns, batch=500)
        await grpc_client.close()


async def _run(turns: int) -> None:
    print(f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs,")
    print(f"load {os.getloadavg()[0]:.1f}; {turns} turns per arm, taken alternately.")
    print("ratio: CPU time of the best turns against 'no chain'; median: of the same by rounds;")
    print("clock: by the clock. Microseconds are of this machine, and bind nobody.")
    await _compare("The chain alone, a unary call", chain.unary_arms(), turns=turns, batch=1000)
    await _compare("The chain alone, a message", chain.stream_arms(), turns=turns, batch=2000)
    await _in_process(turns)
    await _loopback(turns)


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--turns", type=int, default=25, help="turns per arm (default 25)")
    turns: int = parser.parse_args().turns
    begun = time.perf_counter()
    asyncio.run(_run(turns))
    print(f"\n{time.perf_counter() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
