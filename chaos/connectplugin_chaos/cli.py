"""`connectplugin-chaos`: the harness's command line."""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connectplugin_chaos.toxiproxy.api import ToxiproxyError
from connectplugin_chaos.toxiproxy.binary import NoToxiproxyError, find
from connectplugin_chaos.toxiproxy.doctor import Diagnosis, examine

PASSED: Final = 0
FAILED: Final = 1
NOT_PROVEN: Final = 2
"""Exit code of a run that says nothing: no toxiproxy, a busy machine, a command that is wrong."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, and do it; the exit code."""
    parser = argparse.ArgumentParser(
        prog="connectplugin-chaos", description=__doc__, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "doctor", help="check that toxiproxy is there and does what it should (3 s)"
    )
    given = parser.parse_args(arguments)
    # What was started is ended in order on SIGTERM too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        match given.command:
            case "doctor":
                return doctor()
            case _:
                parser.error(f"unknown command {given.command!r}")
    except (NoToxiproxyError, ToxiproxyError) as error:
        print(error, file=sys.stderr)
        return NOT_PROVEN
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 130


def doctor() -> int:
    """Examine the toxiproxy that would be used."""
    with tempfile.TemporaryDirectory(prefix="connectplugin-chaos-") as folder:
        diagnosis = asyncio.run(examine(find(), Path(folder)))
    show(diagnosis)
    return PASSED if diagnosis.good else NOT_PROVEN


def show(diagnosis: Diagnosis) -> None:
    """Print what the doctor has found."""
    print(f"toxiproxy {diagnosis.version} at {diagnosis.path} ({diagnosis.found})")
    if diagnosis.module:
        print(f"module    {diagnosis.module}")
    for finding in diagnosis.findings:
        print(f"  {'ok  ' if finding.good else 'BAD '} {finding.name:<36} {finding.seen}")
    if diagnosis.good:
        print("ok: the faults do what the scenarios count on")
    else:
        count = len(diagnosis.surprises)
        print(f"not ok: {count} of {len(diagnosis.findings)} probes; nothing will be run with it")


if __name__ == "__main__":
    sys.exit(main())
