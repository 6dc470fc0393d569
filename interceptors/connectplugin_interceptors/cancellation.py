"""Innermost: cancellation stays cancellation, and the caller's own exceptions stay the caller's.

connectrpc turns `CancelledError` into `ConnectError(CANCELED)`. Left so, `asyncio.timeout` leaks a
ConnectError, a TaskGroup reports one error too many, and a retry would swallow the cancellation
and call again. This link turns it back. A `canceled` that the *server* sent has no cause, and
stays what it is: an answer.

And on Python 3.11 `asyncio.wait_for`, which connectrpc awaits a unary response with, forgets a
cancellation that meets the response, or the connection's failure, in one turn of the loop: the task
would go on as if nobody had cancelled it. This link remembers it.

It also turns a third thing back: what the caller's own stream of requests has raised reaches a
transport, which says that the wire has failed. It has not, and nobody above may think so.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any, Final, TypeVar

from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import CallContext, Ctx
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


def _restore(error: ConnectError) -> None:
    cause = error.__cause__
    task = asyncio.current_task()
    # `cancelling()` tells a cancellation of this task from a CancelledError that some inner task
    # of the transport died of.
    if isinstance(cause, asyncio.CancelledError) and task is not None and task.cancelling():
        raise cause from None


def _mistake(ctx: Ctx) -> Exception | None:
    """What the caller's own stream of requests has raised."""
    return ctx.call.request_error if isinstance(ctx, CallContext) else None


# Asking for the task costs as much as three links, so newer versions, which forget no cancellation,
# are not asked.
_FORGETS: Final = sys.version_info < (3, 12)


class CancellationRestore:
    """Raises the `CancelledError`, or the caller's own error, that was wrapped or lost below it."""

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the rest of the chain."""
        task = asyncio.current_task() if _FORGETS else None
        before = 0 if task is None else task.cancelling()
        try:
            response = await call_next(request, ctx)
        except ConnectError as error:
            _restore(error)
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError from error
            mistake = _mistake(ctx)
            if mistake is None:
                raise
        else:
            if task is not None and task.cancelling() > before:
                raise asyncio.CancelledError
            return response
        raise mistake

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the rest of the chain."""
        try:
            async with closing(call_next(request, ctx)) as messages:
                async for message in messages:
                    yield message
        except ConnectError as error:
            _restore(error)
            mistake = _mistake(ctx)
            if mistake is None:
                raise
        else:
            return
        raise mistake

    intercept_bidi_stream: Any = intercept_server_stream

    def __repr__(self) -> str:
        return "CancellationRestore()"
