"""Calls whose task the server's chain itself has cancelled.

connectrpc answers such a call (the chain puts the true error in place of `canceled`) and lets the
`CancelledError` go on to the HTTP server, which would log a traceback for it. Who stands between
the two asks here whether it means anything more.
"""

import asyncio
from weakref import WeakSet

_cut: WeakSet[asyncio.Task[object]] = WeakSet()


def cut_off(task: asyncio.Task[object], reason: str) -> None:
    """Cancel a task that answers a call."""
    _cut.add(task)
    task.cancel(reason)


def was_cut_off(task: asyncio.Task[object] | None) -> bool:
    """Whether this task was cancelled by `cut_off`."""
    return task is not None and task in _cut
