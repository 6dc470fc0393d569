"""How much of requests that are not there yet a server keeps in its memory."""

from typing import Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.server.cut import ASGIApp, Message, Receive, Send
from connectplugin_interceptors.wire import NACK_HEADER, PUSHBACK_HEADER

_PREFIX: Final = 5
"""Bytes before each message of a stream: flags, and its length in four of them."""

_MARKS: Final = (
    (NACK_HEADER.encode(), b"overloaded"),
    (PUSHBACK_HEADER.encode(), b"1000"),
    (b"connection", b"close"),  # what is left of the body nobody reads
)


class Arrivals:
    """An ASGI layer that bounds what is kept of requests that are still arriving.

    Before it is complete a request is no call in flight, so no limit of these bounds it. Up to
    `most_bytes` of incomplete ones are kept, of all together; beyond that one of more than `small`
    bytes is refused as it grows: `unavailable`, not processed. Small ones always pass, so that who
    sends large ones slowly over many connections locks nobody else out.

    Of a stream of requests only the first message counts; what follows its handler reads, and holds
    back.

    Args:
        app: The application.
        most_bytes: Of incomplete requests together. Default 64 MiB.
        small: Bytes of a request that is never refused. Default 64 KiB, which an HTTP server keeps
            of each connection anyhow.
    """

    def __init__(self, app: ASGIApp, *, most_bytes: int = 64 << 20, small: int = 64 << 10) -> None:
        self._app = app
        self._most = most_bytes
        self._small = small
        self._kept = 0

    @property
    def kept(self) -> int:
        """Bytes of incomplete requests, now; small ones that said so beforehand not counted."""
        return self._kept

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or self._is_small(scope):
            await self._app(scope, receive, send)
            return
        body = _Body(streams=_streams(scope))
        refused = False

        async def counted_receive() -> Message:
            nonlocal refused
            message = await receive()
            before = body.kept
            body.take(message)
            self._kept += body.kept - before
            if body.kept > self._small and self._kept > self._most:
                refused = True
                msg = (
                    f"the server keeps {self._most} bytes of requests that are still arriving, and"
                    " has no room for more of this one"
                )
                raise ConnectError(Code.UNAVAILABLE, msg)
            return message

        async def marked_send(message: Message) -> None:
            if refused and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_MARKS]
            await send(message)

        try:
            await self._app(scope, counted_receive, marked_send)
        finally:
            self._kept -= body.kept

    def _is_small(self, scope: Message) -> bool:
        for name, value in scope["headers"]:
            if name == b"content-length":
                # Digits, or the HTTP server would not have taken it.
                return bool(value.isdigit()) and int(value) <= self._small
        return bool(scope["method"] == "GET")

    def __repr__(self) -> str:
        return f"<Arrivals {self._kept} of {self._most} bytes>"


class _Body:
    """One request's body.

    Attributes:
        kept: Bytes of it while it is incomplete.
    """

    __slots__ = ("_complete", "_end", "_prefix", "kept")

    def __init__(self, *, streams: bool) -> None:
        self.kept = 0
        self._complete = False
        self._prefix: bytes | None = b"" if streams else None
        self._end: int | None = None

    def take(self, message: Message) -> None:
        """Another part of it."""
        if self._complete:
            return
        part = message.get("body", b"")
        self.kept += len(part)
        if self._prefix is not None and self._end is None:
            self._prefix += bytes(part[: _PREFIX - len(self._prefix)])
            if len(self._prefix) == _PREFIX:
                self._end = _PREFIX + int.from_bytes(self._prefix[1:])
        there = self._end is not None and self.kept >= self._end
        if there or not message.get("more_body", False):
            self._complete = True
            self.kept = 0


def _streams(scope: Message) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bool(value.startswith((b"application/connect+", b"application/grpc")))
    return False
