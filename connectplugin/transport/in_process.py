"""To a plugin in this process: the ASGI application is called, and everything else is as on a wire.

Same codec, headers, deadlines and errors. A request runs in a task of its own with an empty
context, as it would in another process: neither does the handler see the caller's ContextVars, nor
the caller what the handler sets.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import Context
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from pyqwest import Headers, HTTPVersion, ReadError, Request, Response, WriteError

from connectplugin_interceptors.shapes import close

Message: TypeAlias = dict[str, Any]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

CLOSING_GRACE: Final = 5.0
"""Seconds that `aclose` waits for handlers that were cancelled and do not end."""

_QUEUE: Final = 16  # messages in flight each way, then the sender waits
_ASGI: Final = {"version": "3.0", "spec_version": "2.5"}
_EXTENSIONS: Final[dict[str, Any]] = {"http.response.trailers": {}}
_STREAMS: Final = (b"application/connect+", b"application/grpc")

_logger = logging.getLogger("connectplugin.in_process")


class InProcessTransport:
    """A `pyqwest.Transport` over an ASGI application.

    A caller that is cancelled, or closes its stream, cancels the handler at once, and does not wait
    for what the handler does about it.

    Args:
        app: The application. `start` runs the startup of its lifespan, `aclose` its shutdown.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._state: dict[str, Any] = {}
        self._lifespan: _Lifespan | None = None
        self._exchanges: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Run the application's startup.

        Raises:
            RuntimeError: It failed; the text is the application's.
        """
        lifespan = _Lifespan(self._app, self._state)
        await lifespan.startup()
        self._lifespan = lifespan

    async def execute(self, request: Request) -> Response:
        """Call the application; return when the head of its response has come."""
        if self._closed:
            msg = "the transport is closed"
            raise RuntimeError(msg)
        exchange = _Exchange(request)
        loop = asyncio.get_running_loop()
        scope = _scope(request, dict(self._state))
        task = loop.create_task(exchange.run(self._app, scope), context=Context())
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        exchange.task = task
        try:
            return await exchange.response()
        except BaseException:
            exchange.abandon()
            raise

    async def aclose(self) -> None:
        """Cancel what still runs, and run the application's shutdown."""
        self._closed = True
        running = list(self._exchanges)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CLOSING_GRACE)
        lifespan, self._lifespan = self._lifespan, None
        if lifespan is not None:
            await lifespan.shutdown()


class _Exchange:
    """One request and its response, between the caller's tasks and the application's."""

    def __init__(self, request: Request) -> None:
        content = request.content
        self._body = content if isinstance(content, bytes) else None
        self._requests: asyncio.Queue[Message] = asyncio.Queue(_QUEUE)
        self._pump: asyncio.Task[None] | None = None
        if not isinstance(content, bytes):
            # In the caller's context: the caller's generator runs in it.
            self._pump = asyncio.get_running_loop().create_task(self._send_requests(content))
        self._head: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._responses: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUE)
        self._whole: list[bytes] | None = None
        self._started = False
        self._finished = False
        self._expects_trailers = False
        self._error: Exception | None = None
        self.trailers = Headers()
        self.task: asyncio.Task[None] | None = None

    async def _send_requests(self, content: AsyncIterator[bytes]) -> None:
        put = self._requests.put
        try:
            async for chunk in content:
                await put({"type": "http.request", "body": chunk, "more_body": True})
        except Exception as error:  # noqa: BLE001  # the caller's own, whatever it is
            failure = WriteError(f"the request's stream failed: {error}")
            failure.__cause__ = error
            self._fail(failure)
            if self.task is not None:
                self.task.cancel()
        else:
            await put({"type": "http.request", "body": b"", "more_body": False})
        finally:
            await close(content)

    async def receive(self) -> Message:
        """The application's `receive`."""
        if self._pump is not None:
            return await self._requests.get()
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        # A caller that goes away cancels the task; so there is nothing more to receive.
        return await self._requests.get()

    async def send(self, message: Message) -> None:
        """The application's `send`; waits while the caller is behind."""
        match message["type"]:
            case "http.response.start":
                self._started = True
                self._expects_trailers = message.get("trailers", False)
                if _is_stream(message.get("headers", ())):
                    self._resolve(message)
                else:
                    self._whole = []
                    self._start = message
            case "http.response.body":
                await self._send_body(
                    message.get("body", b""), more=message.get("more_body", False)
                )
            case "http.response.trailers":
                for name, value in message.get("headers", ()):
                    self.trailers.add(name.decode("latin-1"), value.decode("latin-1"))
                if not message.get("more_trailers", False):
                    await self._finish()
            case _:
                pass

    async def _send_body(self, body: bytes, *, more: bool) -> None:
        if self._whole is not None:
            self._whole.append(body)
        elif body:
            await self._responses.put(body)
        if not more and not self._expects_trailers:
            await self._finish()

    async def _finish(self) -> None:
        self._finished = True
        if self._whole is not None:
            self._resolve(self._start)
        else:
            await self._responses.put(None)

    async def run(self, app: ASGIApp, scope: Message) -> None:
        """The application's task."""
        try:
            await app(scope, self.receive, self.send)
        except Exception:
            _logger.exception("the application has failed on %s", scope["path"])
            self._over()
        else:
            self._over()
        finally:
            self._fail(ReadError("the application has ended its response before its end"))

    def _over(self) -> None:
        if self._started:
            return
        # As a server does for an application that says nothing.
        text = b"Internal Server Error"
        self._whole = [text]
        self._finished = True
        self._resolve({"status": 500, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})

    def _resolve(self, head: Message) -> None:
        if not self._head.done():
            self._head.set_result(head)

    def _fail(self, error: Exception) -> None:
        """The response breaks off here, if it is not complete."""
        if self._finished or self._error is not None:
            return
        self._error = error
        if not self._head.done():
            self._head.set_exception(error)
        elif self._responses.empty():
            self._responses.put_nowait(None)

    async def response(self) -> Response:
        """The response, as soon as it has a head; a whole one with its body."""
        head = await self._head
        headers = Headers(
            [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in head.get("headers", ())
            ]
        )
        if self._whole is not None:
            self._stop_requests()
            return Response(
                status=head["status"],
                http_version=HTTPVersion.HTTP1,
                headers=headers,
                content=b"".join(self._whole),
            )
        return Response(
            status=head["status"],
            http_version=HTTPVersion.HTTP2,
            headers=headers,
            content=_Body(self),
            trailers=self.trailers,
        )

    async def next_chunk(self) -> bytes | None:
        """The next part of the body; None at its end.

        Raises:
            ReadError: The application has broken off.
            WriteError: The caller's stream of requests has failed.
        """
        if self._error is not None and self._responses.empty():
            raise self._error
        chunk = await self._responses.get()
        if chunk is None and self._error is not None:
            raise self._error
        return chunk

    def _stop_requests(self) -> None:
        if self._pump is not None and not self._pump.done():
            self._pump.cancel()

    def abandon(self) -> None:
        """The caller is gone: cancel the handler."""
        self._stop_requests()
        if not self._head.done():
            self._head.cancel()
        if self.task is not None and not self._finished:
            self.task.cancel()

    def complete(self) -> None:
        """The caller has read everything."""
        self._stop_requests()


class _Body(AsyncIterator[bytes]):
    """A response's body; no generator, so that `aclose` works unread."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange: _Exchange | None = exchange

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        if exchange is None:
            raise StopAsyncIteration
        try:
            chunk = await exchange.next_chunk()
        except BaseException:
            await self.aclose()
            raise
        if chunk is None:
            self._exchange = None
            exchange.complete()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.abandon()


class _Lifespan:
    """The application's lifespan, in a task for as long as the transport is open."""

    def __init__(self, app: ASGIApp, state: dict[str, Any]) -> None:
        self._app = app
        self._scope = {"type": "lifespan", "asgi": _ASGI, "state": state}
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    async def _run(self) -> None:
        try:
            await self._app(self._scope, self._to_app.get, self._from_app.put)
        except Exception as error:  # noqa: BLE001  # ASGI: who raises here supports no lifespan
            _logger.debug("the application supports no lifespan: %r", error)
        finally:
            self._from_app.put_nowait({"type": "unsupported"})

    async def startup(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())
        self._to_app.put_nowait({"type": "lifespan.startup"})
        answer = await self._from_app.get()
        if answer["type"] == "lifespan.startup.failed":
            await self._task
            msg = f"the application's startup has failed: {answer.get('message', '')}"
            raise RuntimeError(msg)

    async def shutdown(self) -> None:
        if self._task is None or self._task.done():
            return
        self._to_app.put_nowait({"type": "lifespan.shutdown"})
        answer = await self._from_app.get()
        await self._task
        if answer["type"] == "lifespan.shutdown.failed":
            msg = f"the application's shutdown has failed: {answer.get('message', '')}"
            raise RuntimeError(msg)


def _is_stream(headers: Any) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(_STREAMS) for name, value in headers
    )


def _scope(request: Request, state: dict[str, Any]) -> Message:
    url = urlsplit(request.url)
    path = url.path or "/"
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in request.headers.items()
    ]
    if "host" not in request.headers:
        headers.append((b"host", url.netloc.encode("latin-1")))
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
        "client": ("127.0.0.1", 0),
        "server": (url.hostname or "in-process", url.port or 80),
        "extensions": dict(_EXTENSIONS),
        "state": state,
    }
