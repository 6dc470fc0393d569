"""Calls whose task the server's chain itself has cancelled.

connectrpc answers such a call (the chain puts the true error in place of `canceled`) and lets the
`CancelledError` go on to the HTTP server, which would log a traceback for it. `CutCalls`
stands between the two; a server of connectplugin has it built in.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias
from weakref import WeakSet

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_cut: WeakSet[asyncio.Task[object]] = WeakSet()


def cut_off(task: asyncio.Task[object], reason: str) -> None:
    """Cancel a task that answers a call."""
    _cut.add(task)
    task.cancel(reason)


def was_cut_off(task: asyncio.Task[object] | None) -> bool:
    """Whether this task was cancelled by `cut_off`."""
    return task is not None and task in _cut


class CutCalls:
    """An ASGI layer that ends the cancellation of calls that the chain has cut off.

    For applications with a `ServerStack` on an ASGI server of one's own: their clients have their
    answer (`unavailable` and the reason, when the server drains), and nothing else has happened.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            # `uncancel` tells how many requests to cancel are left: others are not the chain's.
            if task is None or not was_cut_off(task) or task.uncancel() > 0:
                raise
