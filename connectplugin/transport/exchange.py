"""One request and its response between a client and an ASGI application in the same loop."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Final, TypeAlias

from pyqwest import Headers, ReadError, WriteError

from connectplugin.serving.layers import ASGIApp, Message, Scope

_MOST_BYTES: Final = 64 * 1024
"""What may lie between the two, in each direction, before the writer has to wait."""

Buffer: TypeAlias = bytes | bytearray | memoryview


class Exchange:
    """The two halves meet here: the application's task, and whoever reads the response.

    What happens between two awaits is atomic, so there is nothing to lock. `close` may come at any
    time, twice, or late; from then on nobody waits here.

    Attributes:
        head: The start of the response; None until it is there.
        trailers: Filled when they come, behind the last of the body.
        complete: Whether all of the response is there.
    """

    def __init__(self, scope: Scope) -> None:
        self.head: Message | None = None
        self.trailers = Headers()
        self.complete = False
        self._scope = scope
        self._awaits_trailers = False
        self._ended = False
        self._failure: BaseException | None = None
        self._closed = False
        self._requests: deque[bytes] = deque()
        self._requests_size = 0
        self._requests_done = False
        self._request_end_told = False
        self._request_error: Exception | None = None
        self._responses: deque[bytes] = deque()
        self._responses_size = 0
        self._app_asks = False
        self._waiting: list[asyncio.Future[None]] = []
        self._app_task: asyncio.Task[None] | None = None
        self._request_task: asyncio.Task[None] | None = None

    # The application's half

    def answered_by(self, task: asyncio.Task[None]) -> None:
        """The task that `run` runs in."""
        self._app_task = task

    async def run(self, app: ASGIApp) -> None:
        """Run the application; what it raises is told to who reads the response."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001  # the application's; an HTTP server would log it
            self._failure = error
        finally:
            self._ended = True
            self._stop_requests()
            self._wake()

    async def receive(self) -> Message:
        """ASGI's `receive`."""
        self._app_asks = True
        try:
            while True:
                if self._closed or self._request_error is not None or self.complete:
                    return {"type": "http.disconnect"}
                if self._requests:
                    chunk = self._requests.popleft()
                    self._requests_size -= len(chunk)
                    self._wake()
                    return self._request(chunk)
                if self._requests_done and not self._request_end_told:
                    return self._request(b"")
                await self._wait()
        finally:
            self._app_asks = False

    def _request(self, chunk: bytes) -> Message:
        self._request_end_told = self._requests_done and not self._requests
        return {"type": "http.request", "body": chunk, "more_body": not self._request_end_told}

    async def send(self, message: Message) -> None:
        """ASGI's `send`; waits while the client reads slowly."""
        if self._closed:
            # The task has been cancelled; what ignores that must not go on for ever.
            msg = "the client is gone"
            raise OSError(msg)
        kind = message["type"]
        if kind == "http.response.start":
            self.head = message
            self._awaits_trailers = bool(message.get("trailers", False))
        elif kind == "http.response.body":
            if body := message.get("body", b""):
                self._responses.append(bytes(body))
                self._responses_size += len(body)
            if not message.get("more_body", False) and not self._awaits_trailers:
                self._finish()
        elif kind == "http.response.trailers":
            for name, value in message.get("headers", ()):
                self.trailers.add(name.decode("latin-1"), value.decode("latin-1"))
            if not message.get("more_trailers", False):
                self._finish()
        self._wake()
        while self._responses_size > _MOST_BYTES and not (self._closed or self.complete):
            await self._wait()

    def _finish(self) -> None:
        self.complete = True
        self._stop_requests()

    # The client's half

    def give(self, body: bytes) -> None:
        """The whole of the request's body."""
        self._requests.append(body)
        self._requests_done = True

    def take_from(self, source: AsyncIterator[Buffer]) -> None:
        """The request's body, as it comes; read in the caller's context, in a task of its own."""
        loop = asyncio.get_running_loop()
        self._request_task = loop.create_task(self._read_requests(source), name="request stream")

    async def _read_requests(self, source: AsyncIterator[Buffer]) -> None:
        try:
            async for chunk in source:
                self._requests.append(bytes(chunk))
                self._requests_size += len(chunk)
                self._wake()
                while self._requests_size > _MOST_BYTES:
                    await self._wait()
            self._requests_done = True
        except Exception as error:  # noqa: BLE001  # the caller's own, told to the reader
            self._request_error = error
            if not self._app_asks:
                self._cancel_app()
        finally:
            self._wake()
            aclose: Any = getattr(source, "aclose", None)
            if aclose is not None:
                await aclose()

    async def wait_head(self) -> None:
        """Wait until the response begins, or until it is certain that it never will.

        Raises:
            WriteError: The request's own stream raised.
        """
        while self.head is None and not self._ended:
            if self._request_error is not None:
                msg = f"request failed: {self._request_error}"
                raise WriteError(msg) from self._request_error
            await self._wait()

    def take_all(self) -> bytes:
        """What has come of the response's body so far."""
        whole = b"".join(self._responses)
        self._responses.clear()
        self._responses_size = 0
        return whole

    async def read(self) -> bytes | None:
        """The next of the response's body; None behind the last.

        Raises:
            ReadError: The application has ended without completing its response, or the request's
                own stream raised.
        """
        while True:
            if self._responses:
                chunk = self._responses.popleft()
                self._responses_size -= len(chunk)
                self._wake()
                return chunk
            if self.complete:
                return None
            if self._request_error is not None:
                msg = f"request failed: {self._request_error}"
                raise ReadError(msg) from self._request_error
            if self._ended or self._closed:
                msg = "the response ended before it was complete"
                raise ReadError(msg) from self._failure
            await self._wait()

    def close(self) -> list[asyncio.Task[None]]:
        """The client wants no more: cancel what runs; returns that."""
        if not self._closed:
            self._closed = True
            if not self.complete:
                self._cancel_app()
            self._stop_requests()
            self._wake()
        both = (self._app_task, self._request_task)
        return [task for task in both if task is not None and not task.done()]

    def _cancel_app(self) -> None:
        if self._app_task is not None:
            self._app_task.cancel("the client is gone")

    def _stop_requests(self) -> None:
        task = self._request_task
        # Once: a second cancellation would interrupt the clean-up of the caller's generator.
        if task is not None and not task.done() and not task.cancelling():
            task.cancel()

    # Both

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def _wait(self) -> None:
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            # Cancelled while waiting: nobody wakes it.
            with contextlib.suppress(ValueError):
                self._waiting.remove(future)
