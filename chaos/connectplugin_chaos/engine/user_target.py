"""The process of a server of somebody's own: `python -m ...engine.user_target CONFIG NAME`.

As `target`, but what it serves is the `ServeConfig` of that name, at an address of the harness's.
Around the config's own chain stand links that take executions down and do what faults of the
application say.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from connectplugin import ServeConfig, ServerStack
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.ledger_link import FaultLink, LedgerLink
from connectplugin_chaos.engine.pushback import PushBack
from connectplugin_chaos.engine.server_process import run_server
from connectplugin_chaos.engine.target_service import LedgerFile, Witness
from connectplugin_chaos.scenario.policies import server_policies
from connectplugin_chaos.target.locate import locate, serve_config

_OFF: Mapping[str, tuple[str, ...]] = {
    "none": ("deadline", "rate_limit", "adaptive_limit", "bulkhead"),
    "ours-limiter": ("rate_limit",),
    "ours-shed": ("adaptive_limit", "bulkhead"),
    "ours-deadline": ("deadline",),
}
"""What an arm's servers go without."""


def prepared(
    given: ServeConfig,
    config: Mapping[str, Any],
    ledger: LedgerFile,
    faults: AppFaults,
) -> ServeConfig:
    """The user's configuration for a server of a run.

    Args:
        given: The user's.
        config: Of the process, as `Target` writes it.
        ledger: Where executions are taken down.
        faults: Of the application.
    """
    changes: dict[str, Any] = dict.fromkeys(_OFF.get(config["stack"], ()))
    changes |= server_policies(config["policies"])
    stack: ServerStack = replace(given.stack, **changes)
    stack = replace(
        stack,
        before=(Witness(ledger), *stack.before),
        admission=(*stack.admission, PushBack(faults)),
        # Innermost: a run is what the handler does, not what refuses it.
        around=(*stack.around, FaultLink(faults), LedgerLink(config["name"], ledger)),
    )
    grace = min(given.graceful_shutdown_timeout, config["grace"])
    return replace(
        given,
        addr=f"127.0.0.1:{config['port']}",
        stack=stack,
        graceful_shutdown_timeout=grace,
        stream_drain_timeout=min(given.stream_drain_timeout, grace / 2),
    )


async def run(config: dict[str, Any], given: ServeConfig, line: int) -> None:
    """Serve until a signal."""
    ledger = LedgerFile(Path(config["ledger"]))
    ledger.write("start")
    faults = AppFaults(lambda verb: ledger.write("struck", reason=verb))

    def say(text: str) -> None:
        os.write(line, text.encode() + b"\n")

    await run_server(
        prepared(given, config, ledger, faults),
        ledger=ledger,
        faults=faults,
        active=config["faults"],
        say=say,
    )


def main() -> None:
    """Keep stdout for the harness: whatever the user's modules print goes into the log."""
    told, target = sys.argv[1:3]
    line = os.dup(1)
    os.dup2(2, 1)
    if told == "-":
        locate(target, of="--target")  # loads the code; what is served is made when it is wanted
        os.write(line, b"{}\n")
        told = sys.stdin.readline()
        if not told:  # it was not needed
            return
    asyncio.run(run(json.loads(told), serve_config(target), line))


if __name__ == "__main__":
    main()
