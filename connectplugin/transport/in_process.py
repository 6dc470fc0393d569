"""A plugin in this process: a transport whose other end is an ASGI application."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import Context
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from pyqwest import Headers, HTTPVersion, Request, Response

from connectplugin.serving.layers import ASGIApp, Scope
from connectplugin.serving.lifespan import Lifespan
from connectplugin.serving.read_ahead import CANCELS_EXTENSION
from connectplugin.transport.exchange import Exchange

_PATIENCE: Final = 0.1
"""Seconds that who leaves a call waits for its handler to end. One that ignores its cancellation
goes on without holding anybody up, until the transport is closed."""

_PATIENCE_AT_CLOSE: Final = 1.0

_ASGI: Final = {"version": "3.0", "spec_version": "2.4"}
_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.trailers": {},
    CANCELS_EXTENSION: {},
}


class InProcessTransport:
    """A `pyqwest.Transport` that calls an ASGI application in the running loop.

    To the chain above and the application below it is a network: bytes go over, headers and
    deadlines are those of the wire, streams run in both directions at once with back-pressure, and
    gRPC's trailers arrive. Each handler runs in a task of its own and in an empty context, so that
    nothing of the caller leaks into it but what the wire carries. Whoever leaves a call (cancelled,
    or by closing its stream) cancels its handler at once and waits for its end, 0.1 s at most.

    An application that dies before it answers is a 500, as it would be behind an HTTP server; one
    that dies in the middle of its response is a `pyqwest.ReadError`.

    Args:
        app: The application. Its lifespan runs from `start` to `aclose`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._lifespan = Lifespan(app)
        self._started = False
        self._closed = False
        self._tasks: dict[asyncio.Task[None], Exchange] = {}

    async def start(self) -> None:
        """Let the application start; without it, it gets no lifespan.

        Raises:
            LifespanError: It says that it cannot.
        """
        if not self._started:
            self._started = True
            await self._lifespan.start()

    async def aclose(self) -> None:
        """Cancel what still runs, and let the application clean up."""
        if self._closed:
            return
        self._closed = True
        await _end(list(self._tasks.values()), _PATIENCE_AT_CLOSE)
        await self._lifespan.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def execute(self, request: Request) -> Response:
        """Send a request, and return its response as soon as that begins.

        Raises:
            RuntimeError: The transport is closed.
            WriteError: The request's own stream raised before the response began.
        """
        if self._closed:
            msg = "the in-process transport is closed"
            raise RuntimeError(msg)
        exchange = Exchange(_scope(request, self._lifespan.state))
        content: Any = request.content
        if isinstance(content, bytes):
            exchange.give(content)
        else:
            exchange.take_from(content)
        task = asyncio.get_running_loop().create_task(
            exchange.run(self._app), context=Context(), name=f"in process {request.url}"
        )
        exchange.answered_by(task)
        self._tasks[task] = exchange
        task.add_done_callback(self._tasks.pop)
        try:
            await exchange.wait_head()
        except BaseException:
            await _end([exchange], _PATIENCE)
            raise
        return _response(exchange)

    def __repr__(self) -> str:
        return f"<InProcessTransport to {self._app!r}, {len(self._tasks)} in flight>"


class _Body(AsyncIterator[bytes]):
    """The response's body; no generator, since `aclose` must work on one that was never read."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._over = False

    async def __anext__(self) -> bytes:
        if self._over:
            raise StopAsyncIteration
        try:
            chunk = await self._exchange.read()
        except BaseException:
            await self.aclose()
            raise
        if chunk is None:
            self._over = True
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Leave the rest; cancels the handler if there is a rest."""
        if not self._over:
            self._over = True
            await _end([self._exchange], _PATIENCE)


async def _end(exchanges: list[Exchange], patience: float) -> None:
    running = [task for exchange in exchanges for task in exchange.close()]
    running = [task for task in running if task is not asyncio.current_task()]
    if running:
        await asyncio.wait(running, timeout=patience)


def _response(exchange: Exchange) -> Response:
    head = exchange.head
    if head is None:
        # The application ended without a response: what an HTTP server answers then.
        return Response(
            status=500,
            http_version=HTTPVersion.HTTP2,
            headers=Headers([("content-type", "text/plain; charset=utf-8")]),
            content=b"Internal Server Error",
        )
    headers = Headers(
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in head["headers"]
    )
    # Most unary calls are answered in one step: then there is nothing left to iterate over.
    content = exchange.take_all() if exchange.complete else _Body(exchange)
    return Response(
        status=head["status"],
        http_version=HTTPVersion.HTTP2,
        headers=headers,
        content=content,
        trailers=exchange.trailers,
    )


def _scope(request: Request, state: dict[str, Any]) -> Scope:
    url = urlsplit(request.url)
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in request.headers.items()
        # Nothing is gained by compressing what stays in this process; and a unary response would
        # have to be unpacked here.
        if name.lower() != "accept-encoding"
    ]
    if "host" not in request.headers:
        headers.insert(0, (b"host", url.netloc.encode("latin-1")))
    path = url.path or "/"
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": "2",
        "method": request.method,
        "scheme": url.scheme,
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": url.query.encode("ascii"),
        "root_path": "",
        "headers": headers,
        "server": (url.hostname or "in-process", url.port),
        # No address, as behind a unix socket: the caller is this process.
        "client": None,
        "extensions": _EXTENSIONS,
        "state": state.copy(),
    }
