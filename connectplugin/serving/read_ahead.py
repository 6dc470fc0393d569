"""A handler whose caller is gone is cancelled, also while its request stream is still open.

ASGI tells of a disconnect only to who calls `receive`, behind all of the body. connectrpc calls it
when its handler wants the next request, and watches for the disconnect once the body is read: a
handler of a client or bidi stream that is busy with something else would not notice. So this layer
reads ahead, and cancels the task when the client is gone and nobody is asking.

And a handler that always has the next message at hand, before a client that reads fast, would not
let the loop turn: no other call would be answered, no disconnect noticed. So the layer does.
"""

import asyncio
from collections import deque
from contextvars import Context
from typing import Final

from connectplugin.serving.layers import ASGIApp, Message, Receive, Scope, Send

CANCELS_EXTENSION: Final = "connectplugin.cancels"
"""In `scope["extensions"]` of a server that cancels the task of a client that is gone by itself."""

_MOST_BYTES: Final = 256 * 1024
"""What is read ahead of the handler; beyond it, back-pressure holds the sender back, and a client
that goes away then is noticed when the handler reads on."""


_TURN_AFTER: Final = 16
"""Messages of a response after which the loop turns once."""


class ReadAhead:
    """Reads the bodies of streaming requests ahead of the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not _streams(scope) or CANCELS_EXTENSION in (scope.get("extensions") or {}):
            await self._app(scope, receive, send)
            return
        task = asyncio.current_task()
        if task is None:  # no asyncio: the server takes care of it, or nobody does
            await self._app(scope, receive, send)
            return
        body = _Body(receive, task)

        sent = 0

        async def watched_send(message: Message) -> None:
            nonlocal sent
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # From here on a disconnect is the regular end.
                body.answered = True
            await send(message)
            sent += 1
            if sent % _TURN_AFTER == 0:
                await asyncio.sleep(0)  # noqa: TID251  # waits for no time

        reader = asyncio.get_running_loop().create_task(body.read_ahead(), context=Context())
        try:
            await self._app(scope, body.receive, watched_send)
        except asyncio.CancelledError:
            # The client has gone, and its server below was not asked for anything.
            if not body.cancelled_task or task.uncancel() > 0:
                raise
        finally:
            reader.cancel()
            await asyncio.wait([reader])


class _Body:
    """The messages between the server and the application.

    Attributes:
        answered: Whether the response is complete.
        cancelled_task: Whether the application's task was cancelled from here.
    """

    def __init__(self, receive: Receive, task: asyncio.Task[object]) -> None:
        self.answered = False
        self.cancelled_task = False
        self._receive = receive
        self._task = task
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._asked = False
        self._gone = False

    async def read_ahead(self) -> None:
        """Read until the client is gone."""
        while not self._gone:
            if self._bytes >= _MOST_BYTES:
                self._room.clear()
                await self._room.wait()
                continue
            try:
                message = await self._receive()
            except Exception:  # noqa: BLE001  # a server that fails to read has lost its client
                message = {"type": "http.disconnect"}
            if message["type"] == "http.disconnect":
                self._gone = True
            elif not message.get("body") and message.get("more_body", False):
                continue  # says nothing
            else:
                self._messages.append(message)
                self._bytes += len(message.get("body", b""))
            self._arrived.set()
        # Who asks is told, and ends by itself; whoever does not ask is cancelled where it stands.
        if not self._asked and not self.answered:
            self.cancelled_task = True
            self._task.cancel("client disconnected")

    async def receive(self) -> Message:
        """The next message for the application."""
        self._asked = True
        try:
            while not self._messages:
                if self._gone:
                    return {"type": "http.disconnect"}
                self._arrived.clear()
                await self._arrived.wait()
        finally:
            self._asked = False
        message = self._messages.popleft()
        self._bytes -= len(message.get("body", b""))
        self._room.set()
        return message


def _streams(scope: Scope) -> bool:
    for name, value in scope.get("headers", ()):
        if name == b"content-type":
            return bool(value.startswith((b"application/connect+", b"application/grpc")))
    return False
