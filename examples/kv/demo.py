"""The main job, live: plugins in processes of their own are called, killed and frozen.

    make demo

Exit code 0 only if what is promised was kept: every idempotent call succeeded within its deadline,
every other call that failed said truly whether it may have been executed, by the plugins' own
journals, and replicas that were broken got no calls, and got them again when they were well.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from pathlib import Path

from demo_killed import part_one
from demo_replicas import part_two

DEADLINE = 10.0


async def demo(folder: Path, *, parts: list[int], deadline: float, mend: bool) -> int:
    """Run it; the process's exit code."""
    good = True
    if 1 in parts:
        good &= await part_one(folder, deadline=deadline, restart=mend)
    if parts == [1, 2]:
        print()
    if 2 in parts:  # noqa: PLR2004  # part two
        good &= await part_two(folder, mend=mend)
    print()
    print("ok: every promise was kept" if good else "FAILED")
    return 0 if good else 1


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description="Plugins are killed and frozen under load.")
    parser.add_argument("--part", type=int, choices=(1, 2), help="only this part")
    parser.add_argument(
        "--no-restart",
        action="store_true",
        help="leave dead and frozen what is killed or frozen: then the demo must fail",
    )
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="seconds that each call of part 1 has"
    )
    parser.add_argument("--folder", help="where journals go; by default a temporary folder")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="connectplugin-demo-") as temporary:
            return asyncio.run(
                demo(
                    Path(arguments.folder or temporary),
                    parts=[arguments.part] if arguments.part else [1, 2],
                    deadline=arguments.deadline,
                    mend=not arguments.no_restart,
                )
            )
    except KeyboardInterrupt:
        print("\ninterrupted; the plugins are stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
