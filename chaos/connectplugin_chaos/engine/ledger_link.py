"""Links of a server of somebody's own: they take down what it executes, and break it."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.target_service import LedgerFile
from connectplugin_chaos.record.recorder import OP_HEADER
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


class FaultLink:
    """Is slow, or fails, before the handler runs; see `AppFaults.before`."""

    def __init__(self, faults: AppFaults) -> None:
        self._faults = faults

    async def on_start(self, ctx: Ctx) -> None:
        """Wait or raise, if a fault says so."""
        await self._faults.before(ctx.method.name)

    async def on_end(self, _token: None, _ctx: Ctx, _error: Exception | None, /) -> None:
        """Nothing."""


class LedgerLink:
    """Takes down each run of a handler: its operation comes in a header.

    Args:
        name: Of the server.
        ledger: Where.
    """

    def __init__(self, name: str, ledger: LedgerFile) -> None:
        self._name = name
        self._ledger = ledger

    def _begin(self, ctx: Ctx) -> int | None:
        told = ctx.request_headers.get(OP_HEADER, "")
        if not told.isdecimal():
            return None  # somebody else's call
        left = ctx.timeout_ms
        deadline_at = None if left is None else time.monotonic() + left / 1000
        run = self._ledger.run()
        self._ledger.write(
            "begin",
            run=run,
            op=int(told),
            m=ctx.method.name,
            k="",
            s=self._name,
            d=deadline_at,
        )
        return run

    def _end(self, run: int | None, error: BaseException | None) -> None:
        if run is None:
            return
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._ledger.write("cut", run=run, s=self._name)
        else:
            # Nobody but the handler knows what it has changed before it failed.
            self._ledger.write("end", run=run, s=self._name, e=error is None, r="")

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Note the run."""
        run = self._begin(ctx)
        try:
            response = await call_next(request, ctx)
        except BaseException as error:
            self._end(run, error)
            raise
        self._end(run, None)
        return response

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Note the run, until its last message."""
        run = self._begin(ctx)
        try:
            async with closing(call_next(request, ctx)) as messages:
                async for message in messages:
                    yield message
        except BaseException as error:
            self._end(run, error)
            raise
        self._end(run, None)

    intercept_bidi_stream: Any = intercept_server_stream
