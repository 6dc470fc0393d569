"""The plugin that is called and broken: seven methods of all shapes, and an emulated capacity."""

import asyncio
import itertools
import json
import os
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

from connectplugin_chaos._gen.chaos_target.v1 import target_pb as pb
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.receipts import Receipts
from connectplugin_interceptors.wire import NACK_HEADER

Ctx = RequestContext[Any, Any]

Forward: TypeAlias = Callable[[str, int, str], Awaitable[None]]

LAG_EVERY = 0.02
"""Seconds between two looks at the event loop's delay; so often that the burst of a heal, which is
the scenario's own doing, is no hundredth part of them."""


class LedgerFile:
    """A line for each thing that happens, written before it is answered: SIGKILL loses nothing."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._runs = itertools.count(1)

    def run(self) -> int:
        """The number of another execution."""
        return next(self._runs)

    def write(self, kind: str, **fields: Any) -> None:
        """Append a line; a single write, so that lines of a killed process are whole."""
        line = json.dumps({"t": kind, "at": time.monotonic(), **fields}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")


class TargetImpl:
    """An implementation of `TargetService`.

    Args:
        name: Of the server, in the ledger.
        ledger: Where executions are taken down.
        faults: What goes wrong, once a worker is free.
        receipts: Of payments.
        workers: Calls that are worked on at a time; the others wait, first come first served.
        service_time: Seconds that each takes.
        earlier: Keys and operations that took effect before a restart.

    Attributes:
        kept: What has taken effect: operations by key.
        forward: Calls the next server of a chain, with method, operation and key; None at its end.
    """

    def __init__(
        self,
        name: str,
        ledger: LedgerFile,
        faults: AppFaults,
        receipts: Receipts,
        *,
        workers: int,
        service_time: float,
        earlier: Iterable[tuple[str, int]] = (),
    ) -> None:
        self._faults = faults
        self.forward: Forward | None = None
        self.kept: dict[str, list[int]] = {}
        self._receipts = receipts
        self._name = name
        self._ledger = ledger
        self._slots = asyncio.Semaphore(workers)
        self._service_time = service_time
        for key, op in earlier:
            self.kept.setdefault(key, []).append(op)

    async def work(
        self,
        method: str,
        op: int,
        key: str,
        ctx: Ctx,
        effect: Callable[[], tuple[bool, str]],
        *,
        slots: asyncio.Semaphore | None = None,
    ) -> str:
        """Wait for a worker, work, and take it down; what `effect` answers."""
        left = ctx.timeout_ms
        deadline_at = None if left is None else time.monotonic() + left / 1000
        async with slots or self._slots:
            await self._faults.before(method)
            run = self._ledger.run()
            self._ledger.write(
                "begin", run=run, op=op, m=method, k=key, s=self._name, d=deadline_at
            )
            try:
                await asyncio.sleep(self._service_time * self._faults.slower)
                if self.forward is not None:
                    await self.forward(method, op, key)
            except asyncio.CancelledError:
                self._ledger.write("cut", run=run, s=self._name)
                raise
            changed, reply = effect()
            # One write: the effect and its entry are there both, or neither.
            self._ledger.write("end", run=run, s=self._name, e=changed, r=reply)
            return reply

    def _keep(self, key: str, op: int) -> tuple[bool, str]:
        self.kept.setdefault(key, []).append(op)
        return True, ""

    def _pay(self, key: str, op: int) -> tuple[bool, str]:
        new, receipt = self._receipts.claim(key, f"{self._name}-{op}")
        if new:
            self.kept.setdefault(key, []).append(op)
        return new, receipt

    async def read(self, request: pb.ReadRequest, ctx: Ctx, /) -> pb.ReadResponse:
        key = request.key
        value = await self.work("read", request.op, key, ctx, lambda: (False, key))
        return pb.ReadResponse(value=value)

    async def write(self, request: pb.WriteRequest, ctx: Ctx, /) -> pb.WriteResponse:
        key, op = request.key, request.op
        await self.work("write", op, key, ctx, lambda: self._keep(key, op))
        return pb.WriteResponse()

    async def pay(self, request: pb.PayRequest, ctx: Ctx, /) -> pb.PayResponse:
        key, op = request.key, request.op
        reply = await self.work("pay", op, key, ctx, lambda: self._pay(key, op))
        return pb.PayResponse(receipt=reply)

    async def append(self, request: pb.AppendRequest, ctx: Ctx, /) -> pb.AppendResponse:
        key, op = request.key, request.op
        await self.work("append", op, key, ctx, lambda: self._keep(key, op))
        return pb.AppendResponse()

    async def watch(self, request: pb.WatchRequest, ctx: Ctx, /) -> AsyncIterator[pb.WatchResponse]:
        await self.work("watch", request.op, "", ctx, lambda: (False, ""))
        padding = b"x" * request.padding
        for number in range(request.count):
            yield pb.WatchResponse(number=number, padding=padding)
            await asyncio.sleep(request.interval_seconds)

    async def load(self, request: AsyncIterator[pb.LoadRequest], ctx: Ctx, /) -> pb.LoadResponse:
        count, op = 0, 0
        async for message in request:
            if message.number != count:
                raise ConnectError(
                    Code.DATA_LOSS, f"message {message.number} where {count} was expected"
                )
            count, op = count + 1, message.op
        await self.work("load", op, "", ctx, lambda: (False, ""))
        return pb.LoadResponse(count=count)

    async def sync(
        self, request: AsyncIterator[pb.SyncRequest], ctx: Ctx, /
    ) -> AsyncIterator[pb.SyncResponse]:
        async for message in request:
            if message.number == 0:
                await self.work("sync", message.op, "", ctx, lambda: (False, ""))
            yield pb.SyncResponse(number=message.number)


class Witness:
    """The server's outermost link: takes down what was refused before any processing."""

    def __init__(self, ledger: LedgerFile) -> None:
        self._ledger = ledger

    async def on_start(self, ctx: Ctx) -> None:
        """Nothing yet."""

    async def on_end(self, _token: None, ctx: Ctx, error: Exception | None, /) -> None:
        """Look at how it ended."""
        reason = ctx.response_headers.get(NACK_HEADER)
        if reason is not None:
            self._ledger.write("refused", reason=reason)
        elif error is not None and not isinstance(error, ConnectError):
            told = "".join(traceback.format_exception_only(error)).strip()
            self._ledger.write("crash", detail=told)


async def watch_lag(ledger: LedgerFile) -> None:
    """Take down how late the event loop is, and how much of that it did not compute itself.

    The first is what callers feel; the second is the machine's doing, and not that of the calls.
    """
    while True:
        before, spent = time.monotonic(), time.thread_time()
        await asyncio.sleep(LAG_EVERY)
        late = time.monotonic() - before - LAG_EVERY
        own = time.thread_time() - spent
        ledger.write("lag", value=round(late, 4))
        ledger.write("starved", value=round(max(0.0, late - own), 4))


class NeighbourImpl:
    """Another plugin on the same server: workers of its own, and the same faults if they name it.

    Args:
        target: The plugin that it is beside.
        workers: Of its own.
    """

    def __init__(self, target: TargetImpl, *, workers: int) -> None:
        self._target = target
        self._slots = asyncio.Semaphore(workers)

    async def peek(self, request: pb.PeekRequest, ctx: Ctx, /) -> pb.PeekResponse:
        key = request.key
        value = await self._target.work(
            "peek", request.op, key, ctx, lambda: (False, key), slots=self._slots
        )
        return pb.PeekResponse(value=value)
