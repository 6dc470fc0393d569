"""Connections to a server that stops are left at once, and not used again.

A server that drains refuses in a way that is safe to repeat, and closes the connection with that
answer. The other connections that are kept open to it know nothing of that: it closes them a moment
later, and a call that is sent in the very moment is lost, executed or not. So from the first such
answer on, what follows goes over new connections: the server's successor takes them, or nobody
does, and then nothing was sent.
"""

import asyncio
from collections.abc import Callable

from pyqwest import Request, Response, Transport

from connectplugin_interceptors.shapes import close
from connectplugin_interceptors.wire import DRAINING, NACK_HEADER


class RenewedTransport:
    """One transport after another; each is left when a server says over it that it drains.

    Args:
        make: Makes a transport with no connections yet. It is called once here, and again for each
            drain.
    """

    def __init__(self, make: Callable[[], Transport]) -> None:
        self._make = make
        self._inner = make()
        # Whether the present one was made because of a drain, and nobody else has answered since:
        # until the successor is there the old server may be met a few times more.
        self._fresh = False
        self._closing: set[asyncio.Task[None]] = set()

    async def execute(self, request: Request) -> Response:
        """Send the request, and look whether the server stops."""
        inner = self._inner
        response = await inner.execute(request)
        if inner is self._inner:
            if response.headers.get(NACK_HEADER) != DRAINING:
                self._fresh = False
            elif not self._fresh:
                self._fresh = True
                self._inner = self._make()
                # Calls in flight, this one's answer among them, go on to their end all the same.
                task = asyncio.get_running_loop().create_task(close(inner))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
        return response

    async def aclose(self) -> None:
        """Close the present transport, and those that were left."""
        await close(self._inner)
        if self._closing:
            await asyncio.wait(self._closing)

    def __repr__(self) -> str:
        return f"<RenewedTransport {self._inner!r}>"
