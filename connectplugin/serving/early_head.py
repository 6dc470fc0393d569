"""The head of a stream of responses is sent while its first message is not there yet.

connectrpc sends the head with the first message. A watch that has nothing to say for an hour looks,
until then, like a server that hangs; a client that limits its attempts could not tell the two
apart. So a stream whose handler has been silent for `HEAD_AFTER` gets its head: "accepted, wait".
Before its handler runs it gets none: a refusal must still be able to say, in the head, that the
call was not processed.

Only where the head can be known: to clients of the Connect protocol that ask for no compression, as
those of `ClientStack.client`. Response headers that a handler sets later than that are lost to
them.
"""

import asyncio
from contextvars import Context
from typing import Final

from connectplugin.serving.layers import ASGIApp, Message, Receive, Scope, Send
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.inbound import stream_started

HEAD_AFTER: Final = 1.0
"""Seconds; far below the limit of an attempt, and too late to take a head from a handler that is
about to answer."""

_STREAM: Final = b"application/connect+"


class EarlyHead:
    """Sends the head of silent streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        content_type = _silent_stream_type(scope)
        if content_type is None:
            await self._app(scope, receive, send)
            return
        head = _Head(send, content_type)
        # In the request's own context, as far as that goes: it ends with the request.
        stream_started.set(head.handler_started)
        try:
            await self._app(scope, receive, head.send)
        finally:
            head.close()


class _Head:
    """One response's head, from whoever comes first."""

    def __init__(self, send: Send, content_type: bytes) -> None:
        self._send = send
        self._content_type = content_type
        self._early = False
        self._started = False
        self._gone = asyncio.Event()
        self._timer: asyncio.Task[None] | None = None

    def handler_started(self, ctx: Ctx) -> None:
        """From now on silence means that there is nothing to say."""
        loop = asyncio.get_running_loop()
        self._timer = loop.create_task(self._send_early(ctx), context=Context(), name="early head")

    def close(self) -> None:
        """The response is over."""
        if self._timer is not None:
            self._timer.cancel()

    async def _send_early(self, ctx: Ctx) -> None:
        await asyncio.sleep(HEAD_AFTER)  # noqa: TID251  # a server's own time
        if self._started:
            return
        self._started = self._early = True
        own = [
            (name.encode("latin-1"), value.encode("latin-1"))
            for name, value in ctx.response_headers.allitems()
        ]
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [
                    (b"content-type", self._content_type),
                    (b"connect-content-encoding", b"identity"),
                    *own,
                ],
            }
        )
        self._gone.set()

    async def send(self, message: Message) -> None:
        """The application's `send`."""
        if self._early:
            # What follows the head must not overtake it.
            await self._gone.wait()
        if message["type"] == "http.response.start":
            if self._early:
                return
            self._started = True
        await self._send(message)


def _silent_stream_type(scope: Scope) -> bytes | None:
    """The content type of a stream whose head can be known; None for all else."""
    if scope["type"] != "http":
        return None
    content_type = None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"connect-accept-encoding" and value.strip() not in {b"", b"identity"}:
            return None
    if content_type is None or not content_type.startswith(_STREAM):
        return None
    return bytes(content_type)
