"""The process of a plugin server: `python -m connectplugin_chaos.engine.target CONFIG`.

CONFIG is JSON. It prints one line of JSON once it serves, and takes commands, a line of JSON each,
on a control port that no proxy stands before.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from connectplugin import BulkheadPolicy, ConnectPlugin, ServeConfig, Server, ServerStack, serve
from connectplugin.serve_config import DEFAULT_STACK
from connectplugin_chaos._gen.chaos_target.v1.target_connect import TargetService
from connectplugin_chaos.engine.target_service import (
    LedgerFile,
    TargetImpl,
    TargetInterface,
    Witness,
    watch_lag,
)
from connectplugin_chaos.record import probes

target_plugin = ConnectPlugin("chaos-target", TargetInterface, service=TargetService)


def server_stack(kind: str, witness: Witness, *, workers: int, queue: int | None) -> ServerStack:
    """The chain before the handlers.

    Args:
        kind: `ours`, `none` (only what a server cannot do without), or `ours-X` without X.
        witness: Put in front.
        workers: Of the emulated capacity.
        queue: Calls that may wait; None for the default bulkhead.
    """
    if kind == "none":
        return ServerStack(before=[witness], deadline=None, rate_limit=None, bulkhead=None)
    stack = DEFAULT_STACK
    bulkhead = stack.bulkhead
    if queue is not None:
        bulkhead = BulkheadPolicy(max_in_flight=workers, max_queue=queue, max_wait=1.0)
    off = kind.removeprefix("ours").removeprefix("-")
    return ServerStack(
        before=[witness],
        rate_limit=None if off == "limiter" else stack.rate_limit,
        bulkhead=None if off == "shed" else bulkhead,
        deadline=None if off == "deadline" else stack.deadline,
    )


class Control:
    """Takes commands: `set`, `clear`, `block`, `dump`."""

    def __init__(self, impl: TargetImpl) -> None:
        self._impl = impl

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while line := await reader.readline():
                answer = self.obey(json.loads(line))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """One command, and the answer."""
        match command["do"]:
            case "set":
                self._impl.faults.set(command["name"], command["fault"])
            case "clear":
                self._impl.faults.clear(command["name"])
            case "block":
                # The event loop stands still: that is the fault.
                time.sleep(command["seconds"])
            case "dump":
                return {"kept": self._impl.kept}
            case other:
                return {"error": f"unknown command {other!r}"}
        return {}


def earlier(path: Path) -> Iterator[tuple[str, str, int, str]]:
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
            yield start["m"], start["k"], start["op"], line["r"]


async def run(config: dict[str, Any]) -> None:
    """Serve until a signal."""
    path = Path(config["ledger"])
    before = list(earlier(path))
    ledger = LedgerFile(path)
    # The number of the process is part of the name: runs are counted anew after a restart.
    ledger.write("start")
    impl = TargetImpl(
        config["name"],
        ledger,
        workers=config["workers"],
        service_time=config["service_time"],
        earlier=before,
    )
    stack = server_stack(
        config["stack"], Witness(ledger), workers=config["workers"], queue=config["queue"]
    )
    control = await asyncio.start_server(Control(impl).serve, "127.0.0.1", 0)
    port = control.sockets[0].getsockname()[1]

    def started(server: Server) -> None:
        print(json.dumps({"url": server.url, "control": port}), flush=True)

    serving = ServeConfig(
        plugins=[target_plugin.bind_service(impl)],
        addr=f"127.0.0.1:{config['port']}",
        stack=stack,
        graceful_shutdown_timeout=config["grace"],
        stream_drain_timeout=config["grace"] / 2,
    )
    lag = asyncio.create_task(watch_lag(ledger))
    held = asyncio.create_task(
        probes.watch(lambda what, value: ledger.write("resource", detail=what, value=value))
    )
    try:
        await serve(serving, started=started)
    finally:
        lag.cancel()
        held.cancel()
        control.close()


if __name__ == "__main__":
    asyncio.run(run(json.loads(sys.argv[1])))
