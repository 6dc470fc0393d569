"""Answers that are none: what a proxy, a captive portal or a dying server makes of a response."""

import asyncio
import json
from typing import Final

from connectplugin.serving.layers import ASGIApp, Message, Receive, Scope, Send
from connectplugin_chaos.engine.app_faults import AppFaults, Fault

MALFORMED: Final = ("html_503", "bad_content_type", "missing_end_stream", "cut_json", "garbage")
"""The verbs of this module, in the order in which a call meets them."""

_HANDSHAKES: Final = frozenset(
    {"/connectplugin.v1.HandshakeService/Handshake", "/connectplugin.v1.PluginController/Handshake"}
)
_OWN: Final = ("/connectplugin.", "/grpc.health.")
"""The server's own services: a fault of the application leaves them alone."""

_PAGE: Final = b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>\n"
_STREAMS: Final = b"application/connect+"
_HEAD: Final = 5
"""Bytes before each message of a Connect stream: flags, and the length in four bytes."""

_END: Final = 0x02
"""The flag of the last message, which is JSON."""


class Malformed:
    """An ASGI layer around a whole server.

    Args:
        app: The server's.
        faults: What is to go wrong now.
    """

    def __init__(self, app: ASGIApp, faults: AppFaults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or make a mess of it."""
        path: str = scope.get("path", "")
        if scope["type"] != "http" or path.count("/") < 2:  # noqa: PLR2004  # /service/method
            await self._app(scope, receive, send)
            return
        method = path.rpartition("/")[2]
        if path in _HANDSHAKES:
            slow = self._faults.draw(("slow_handshake",), method)
            if slow is not None:
                await asyncio.sleep(slow["delay"])
        own = path.startswith(_OWN)
        fault = None if own else self._faults.draw(_that_can_strike(scope), method)
        if fault is None:
            await self._app(scope, receive, send)
        elif fault["fault"] == "html_503":
            if fault.get("after_execution", False):
                await self._app(scope, receive, _swallow)
            await _page(send)
        else:
            await self._app(scope, receive, _Spoiler(fault, send).send)


def _that_can_strike(scope: Scope) -> tuple[str, ...]:
    """A call without a stream of responses has no end of it that could be missing."""
    kinds = [value for name, value in scope["headers"] if name == b"content-type"]
    streams = any(kind.startswith(_STREAMS) for kind in kinds)
    return MALFORMED if streams else tuple(v for v in MALFORMED if v != "missing_end_stream")


async def _swallow(_: Message) -> None:
    """What the application answers is lost."""


async def _page(send: Send) -> None:
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", b"%d" % len(_PAGE)),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _PAGE})


class _Spoiler:
    """Spoils the answer of one call on its way out."""

    def __init__(self, fault: Fault, send: Send) -> None:
        self._verb: str = fault["fault"]
        self._send = send
        self._start: Message = {}
        self._body = bytearray()
        self._streams = False

    async def send(self, message: Message) -> None:
        """Take what the application sends."""
        if message["type"] == "http.response.start":
            self._start = message
            self._streams = _content_type(message).startswith(_STREAMS)
            if self._verb == "bad_content_type":
                _retype(message, b"text/html; charset=utf-8")
            if self._verb == "bad_content_type" or self._streams:
                await self._send(message)
        elif self._verb == "bad_content_type":
            await self._send(message)
        elif self._streams:
            self._body += message.get("body", b"")
            body = b"".join(_spoilt_frame(self._verb, frame) for frame in _frames(self._body))
            await self._send({**message, "body": body})
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._answer()

    async def _answer(self) -> None:
        """A call without streams: the whole of it is there."""
        body = bytes(self._body)
        if self._verb == "garbage":
            body = b"\xff" * max(8, len(body))
        elif _content_type(self._start).startswith(b"application/json"):
            body = body[: len(body) // 2]
        else:
            # There is no JSON in a good answer of the binary codec; that of an error breaks off.
            error = json.dumps({"code": "unavailable", "message": "the answer breaks off"}).encode()
            _retype(self._start, b"application/json")
            self._start["status"] = 503
            body = error[: len(error) // 2]
        headers = [(n, v) for n, v in self._start["headers"] if n.lower() != b"content-length"]
        self._start["headers"] = [*headers, (b"content-length", b"%d" % len(body))]
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _frames(buffer: bytearray) -> list[bytes]:
    """Take the whole messages off a buffer."""
    found: list[bytes] = []
    while len(buffer) >= _HEAD:
        end = _HEAD + int.from_bytes(buffer[1:_HEAD], "big")
        if len(buffer) < end:
            break
        found.append(bytes(buffer[:end]))
        del buffer[:end]
    return found


def _spoilt_frame(verb: str, frame: bytes) -> bytes:
    flags, body = frame[0], frame[_HEAD:]
    if verb == "garbage" and not flags & _END:
        body = b"\xff" * max(8, len(body))
    elif verb == "missing_end_stream" and flags & _END:
        return b""
    elif verb == "cut_json" and flags & _END:
        body = body[: len(body) // 2]
    return bytes((flags,)) + len(body).to_bytes(4, "big") + body


def _content_type(start: Message) -> bytes:
    for name, value in start.get("headers", ()):
        if name.lower() == b"content-type":
            return bytes(value)
    return b""


def _retype(start: Message, kind: bytes) -> None:
    others = [(n, v) for n, v in start.get("headers", ()) if n.lower() != b"content-type"]
    start["headers"] = [*others, (b"content-type", kind)]
