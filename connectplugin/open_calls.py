"""Calls that are under way when their client is closed end then, and say why."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Final, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.errors import RejectedError
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.shapes import Stream, Unary, close

Q = TypeVar("Q")
R = TypeVar("R")

_GRACE: Final = 1.0
"""Seconds that `aclose` waits for calls which do not end when they are cancelled."""


class _Open:
    """One call: the task that waits in it, and its responses if it is a stream."""

    __slots__ = ("closed", "path", "responses", "task")

    def __init__(self, path: str) -> None:
        self.path = path
        self.task: asyncio.Task[Any] | None = None
        self.responses: AsyncIterator[Any] | None = None
        self.closed = False

    async def wait(self, waiting: Awaitable[R]) -> R:
        """Await in the caller's task, until the client is closed.

        As `asyncio.timeout` does: a cancellation of ours is taken back, another's goes on.
        """
        task = asyncio.current_task()
        if task is None:
            msg = "a call needs a task to wait in"
            raise RuntimeError(msg)
        before = task.cancelling()
        self.task = task
        try:
            return await waiting
        except asyncio.CancelledError as error:
            if self.closed and task.uncancel() <= before:
                raise self.error() from error
            raise
        finally:
            self.task = None

    def error(self) -> ConnectError:
        """What the caller is told."""
        return ConnectError(
            Code.CANCELED, f"{self.path}: the Client was closed while the call was under way"
        )

    async def end(self) -> None:
        """Cancel who waits; close a stream that nobody reads just now."""
        self.closed = True
        if self.task is not None:
            self.task.cancel()
        elif self.responses is not None:
            await close(self.responses)


class OpenCalls(Link):
    """Outermost but for the deadline: knows the calls that are under way, and ends them.

    Closing a transport does not end what goes on in it: without this a stream with no deadline
    would wait for ever on a client that is gone.
    """

    def __init__(self) -> None:
        self._open: set[_Open] = set()
        self._closed = False
        self._all_ended = asyncio.Event()

    def _begin(self, own: CallContext) -> _Open:
        path = own.call.path
        if self._closed:
            msg = f"{path}: the Client is closed; call inside 'async with Client(config)'"
            raise RejectedError(msg, reason="closed")
        call = _Open(path)
        self._open.add(call)
        return call

    def _end(self, call: _Open) -> None:
        self._open.discard(call)
        if self._closed and not self._open:
            self._all_ended.set()

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the call while the client is open."""
        call = self._begin(context_of(ctx))
        try:
            return await call.wait(call_next(request, ctx))
        finally:
            self._end(call)

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the responses while the client is open."""
        call = self._begin(context_of(ctx))
        call.responses = responses = call_next(request, ctx)
        try:
            while not call.closed:
                try:
                    response = await call.wait(anext(responses))
                except StopAsyncIteration:
                    return
                yield response
            raise call.error()
        finally:
            self._end(call)
            if not call.closed:
                await close(responses)

    intercept_bidi_stream: Any = intercept_server_stream

    async def aclose(self) -> None:
        """End all calls; returns when they have ended, and after a second at the latest."""
        self._closed = True
        calls = tuple(self._open)
        suspended = [call for call in calls if call.task is None]
        await asyncio.gather(*(call.end() for call in calls), return_exceptions=True)
        for call in suspended:
            self._end(call)
        if self._open:
            try:
                async with asyncio.timeout(_GRACE):
                    await self._all_ended.wait()
            except TimeoutError:
                pass

    def __repr__(self) -> str:
        return "OpenCalls()"
