"""What a process holds: open files, tasks, connections, memory. Sampled in the process itself."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

EVERY: Final = 0.5
"""Seconds between two samples."""

_OPEN: Final = Path("/proc/self/fd")
_STATM: Final = Path("/proc/self/statm")

Note = Callable[[str, float], None]
"""Takes down one value: what it is of, and how much."""


def sample() -> dict[str, float]:
    """What this process holds now: `fds`, `connections` (sockets), `rss` (bytes), `tasks`.

    Where there is no /proc, the tasks only.
    """
    found = {"tasks": float(len(asyncio.all_tasks()))}
    if not _STATM.exists():
        return found
    links = [_target(path) for path in _OPEN.iterdir()]
    # The folder itself is open while it is read.
    found["fds"] = float(len(links) - 1)
    found["connections"] = float(sum(link.startswith("socket:") for link in links))
    pages = int(_STATM.read_text().split()[1])
    found["rss"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
    return found


def _target(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""  # closed in the meantime


async def watch(note: Note) -> None:
    """Take down a sample now and then, until cancelled."""
    while True:
        try:
            found = sample()
        except OSError:
            found = {}  # no file is left to look with: a fault's doing, which passes
        for what, value in found.items():
            note(what, value)
        await asyncio.sleep(EVERY)
