"""The process of a plugin server: `python -m connectplugin_chaos.engine.target CONFIG`.

CONFIG is JSON; with `-` it says `{}` when it is ready, and takes CONFIG from its stdin when it is
to serve, so that a server that comes back is there at once. It prints one line of JSON once it
serves, and takes commands, a line of JSON each, on a control port that no proxy stands before.
"""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectplugin import BulkheadPolicy, ServeConfig, ServerStack
from connectplugin.serve_config import DEFAULT_STACK
from connectplugin.serving import http
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.hop import Hop
from connectplugin_chaos.engine.plugins import neighbour_plugin, target_plugin
from connectplugin_chaos.engine.pushback import PushBack
from connectplugin_chaos.engine.receipts import RECEIPTS, Receipts
from connectplugin_chaos.engine.server_process import run_server
from connectplugin_chaos.engine.target_service import (
    LedgerFile,
    NeighbourImpl,
    TargetImpl,
    Witness,
)
from connectplugin_chaos.scenario.policies import server_policies


def server_stack(
    kind: str,
    witness: Witness,
    push_back: PushBack,
    *,
    workers: int,
    queue: int | None,
    policies: Mapping[str, Any] | None = None,
) -> ServerStack:
    """The chain before the handlers.

    Args:
        kind: `ours`, `none` (only what a server cannot do without), or `ours-X` without X.
        witness: Put in front.
        push_back: Put where calls are admitted.
        workers: Of the emulated capacity.
        queue: Calls that may wait; None for the default bulkhead.
        policies: Of the arm's variant, as its file has them: instead of the kind's own.
    """
    changes: dict[str, Any] = {"before": [witness], "admission": [push_back]}
    if kind == "none":
        off = ("deadline", "rate_limit", "adaptive_limit", "bulkhead")
        changes |= dict.fromkeys(off)
    elif queue is not None:
        changes["bulkhead"] = BulkheadPolicy(max_in_flight=workers, max_queue=queue, max_wait=1.0)
    match kind.removeprefix("ours").removeprefix("-"):
        case "limiter":
            changes["rate_limit"] = None
        case "shed":
            changes |= {"adaptive_limit": None, "bulkhead": None}
        case "deadline":
            changes["deadline"] = None
        case _:
            pass
    return replace(DEFAULT_STACK, **{**changes, **server_policies(policies or {})})


def earlier(path: Path) -> Iterator[tuple[str, int]]:
    """What took effect before a restart, from the ledger itself: it is the store's journal too."""
    begun: dict[tuple[str, int], dict[str, Any]] = {}
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        line = json.loads(text)
        if line["t"] == "begin":
            begun[line["s"], line["run"]] = line
        elif line["t"] == "end" and line["e"]:
            start = begun[line["s"], line["run"]]
            yield start["k"], start["op"]


async def run(config: dict[str, Any]) -> None:
    """Serve until a signal."""
    path = Path(config["ledger"])
    before = list(earlier(path))
    ledger = LedgerFile(path)
    # The number of the process is part of the name: runs are counted anew after a restart.
    ledger.write("start")
    faults = AppFaults(lambda verb: ledger.write("struck", reason=verb))
    impl = TargetImpl(
        config["name"],
        ledger,
        faults,
        Receipts(path.parent / RECEIPTS),
        workers=config["workers"],
        service_time=config["service_time"],
        earlier=before,
    )
    stack = server_stack(
        config["stack"],
        Witness(ledger),
        PushBack(faults),
        workers=config["workers"],
        queue=config["queue"],
        policies=config["policies"],
    )
    if config["keep_alive"] is not None:
        # Our own servers leave it to the client to close; this one is like most others.
        http._KEEP_ALIVE = config["keep_alive"]  # type: ignore[misc]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportConstantRedefinition]
    neighbour = NeighbourImpl(impl, workers=config["workers"])
    hop = Hop(impl, ledger)
    serving = ServeConfig(
        plugins=[target_plugin.bind_service(impl), neighbour_plugin.bind_service(neighbour)],
        addr=f"127.0.0.1:{config['port']}",
        stack=stack,
        graceful_shutdown_timeout=config["grace"],
        stream_drain_timeout=config["grace"] / 2,
    )
    async with hop:
        await run_server(
            serving,
            ledger=ledger,
            faults=faults,
            active=config["faults"],
            kept=lambda: impl.kept,
            aim=hop.aim,
        )


def main(given: str) -> None:
    """Serve, at once or when told to."""
    if given == "-":
        print("{}", flush=True)
        given = sys.stdin.readline()
        if not given:  # it was not needed
            return
    asyncio.run(run(json.loads(given)))


if __name__ == "__main__":
    main(sys.argv[1])
