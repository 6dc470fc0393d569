"""What the process of every server does: serves, takes commands, takes down what happens to it."""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectplugin import ServeConfig, Server, serve
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.control import Aim, Control
from connectplugin_chaos.engine.malformed import Malformed
from connectplugin_chaos.engine.target_service import LedgerFile, watch_lag
from connectplugin_chaos.record import probes

_OUT_OF_FILES: Final = "socket.accept() out of system resource"
"""asyncio's words; it says so up to a hundred times at once."""


def _print(text: str) -> None:
    print(text, flush=True)


async def run_server(
    config: ServeConfig,
    *,
    ledger: LedgerFile,
    faults: AppFaults,
    active: Mapping[str, dict[str, Any]],
    kept: Callable[[], Mapping[str, list[int]] | None] = lambda: None,
    aim: Aim | None = None,
    say: Callable[[str], None] = _print,
) -> None:
    """Serve until a signal; says so with a line of JSON once it does.

    Args:
        config: What to serve, and where.
        ledger: Where things are taken down.
        faults: Of the application.
        active: Those that are there from the start, by name.
        kept: See `Control`.
        aim: Likewise.
        say: Takes the line for the harness; stdout by default.
    """
    control = Control(faults, kept=kept, aim=aim)
    for name, fault in active.items():
        control.begin(name, fault)
    port = await control.listen()
    asyncio.get_running_loop().set_exception_handler(_Handler(ledger))

    def started(server: Server) -> None:
        say(json.dumps({"url": server.url, "control": port}))

    lag = asyncio.create_task(watch_lag(ledger))
    held = asyncio.create_task(
        probes.watch(lambda what, value: ledger.write("resource", detail=what, value=value))
    )
    try:
        await serve(config, started=started, middleware=lambda app: Malformed(app, faults))
    finally:
        lag.cancel()
        held.cancel()
        control.close()


class _Handler:
    """Of what no task takes: that there is no file left is a fault's doing, and no lost error."""

    def __init__(self, ledger: LedgerFile) -> None:
        self._ledger = ledger
        self._told = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if context.get("message") != _OUT_OF_FILES:
            loop.default_exception_handler(context)
        elif time.monotonic() - self._told > 0.1:  # noqa: PLR2004  # seconds
            self._told = time.monotonic()
            self._ledger.write("no_files")
