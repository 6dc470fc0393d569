"""Open loop: each operation is called when it is due, and never waits for an earlier one."""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from connectrpc.errors import ConnectError

from connectplugin import PluginUnavailableError
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.custom import CustomCalls
from connectplugin_chaos.load.schedule import IDEMPOTENT, Planned
from connectplugin_chaos.record.model import Operation, Outcome
from connectplugin_chaos.record.recorder import Recorder, Tries, current
from connectplugin_interceptors.errors import Delivery, delivery

MOST_IN_FLIGHT: Final = 5000
_LAG_EVERY: Final = 0.02
_GC_FULL: Final = 1000
"""Looks of the garbage collector at what is younger, before it looks at everything."""

_LAST_CALLS: Final = 15.0
"""Seconds after the last arrival in which calls may end; what has not is hung."""

Caller = Callable[[Planned, Answer], Awaitable[None]]
"""How an arm makes a call; it raises what the caller of an application would see."""


class OpenLoop:
    """Calls a schedule, and takes down what became of each operation.

    Args:
        planned: The schedule.
        call: Makes one call.
        recorder: Where time and attempts are taken down.
        deadline: Seconds that an operation of a method has.
        custom: Tells which methods may be executed twice, if the scenario brings them along.
    """

    def __init__(
        self,
        planned: Sequence[Planned],
        call: Caller,
        recorder: Recorder,
        deadline: Callable[[str], float],
        custom: CustomCalls | None = None,
    ) -> None:
        self._planned = planned
        self._call = call
        self._recorder = recorder
        self._deadline = deadline
        self._idempotent = IDEMPOTENT if custom is None else custom.idempotent
        self._changing = frozenset[str]() if custom is None else custom.changing
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[int, tuple[Planned, float, Tries]] = {}
        self._tries: dict[int, Tries] = {}
        self.operations: list[Operation] = []
        self.lateness: list[float] = []
        self.lags: list[tuple[float, float]] = []
        self.dropped = 0

    @property
    def in_flight(self) -> int:
        """Calls that are under way."""
        return len(self._tasks)

    async def run(self) -> None:
        """Make all calls, and wait for the last."""
        thresholds = gc.get_threshold()
        lag = asyncio.create_task(self._watch_lag(), name="loop lag")
        try:
            await self._issue()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_LAST_CALLS)
        finally:
            lag.cancel()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=5.0)
            gc.set_threshold(*thresholds)
            gc.unfreeze()
        for planned, called, tries in self._open.values():
            self._note(planned, called, tries, Answer(), None, ended=None)
        # Only now: what has lost against a hedge is over a moment after its call.
        self.operations = [
            replace(operation, attempts=self._recorder.attempts(self._tries[operation.op]))
            for operation in sorted(self.operations, key=lambda operation: operation.op)
        ]

    async def _issue(self) -> None:
        frozen = False
        for planned in self._planned:
            wait = planned.due - self._recorder.now()
            if wait > 0:
                await asyncio.sleep(wait)
            if not frozen and planned.due >= 0:
                gc.collect()
                gc.freeze()
                # What is taken down is kept: a look through all of it is long, and finds nothing.
                gc.set_threshold(*gc.get_threshold()[:2], _GC_FULL)
                frozen = True
            if len(self._tasks) >= MOST_IN_FLIGHT:
                self.dropped += 1
                continue
            task = asyncio.create_task(self._one(planned), name=f"op {planned.op}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _one(self, planned: Planned) -> None:
        tries = Tries(planned.op)
        token = current.set(tries)
        answer = Answer()
        called = self._recorder.now()
        if planned.due >= 0:  # the warm-up opens connections, and is judged by nothing
            self.lateness.append(called - planned.due)
        self._open[planned.op] = (planned, called, tries)
        error: Exception | None = None
        patience = asyncio.timeout(planned.patience)
        try:
            async with patience:
                await self._call(planned, answer)
        except Exception as raised:  # noqa: BLE001  # whatever the caller would see is a result
            error = raised
        finally:
            current.reset(token)
        del self._open[planned.op]
        ended = self._recorder.now()
        cancelled: float | None = None
        if patience.expired() and planned.patience is not None:
            cancelled = called + planned.patience
            # What `asyncio.timeout` raises for a cancellation that stayed one.
            if type(error) is TimeoutError:
                error = None
        self._note(planned, called, tries, answer, error, ended=ended, cancelled=cancelled)

    def _note(
        self,
        planned: Planned,
        called: float,
        tries: Tries,
        answer: Answer,
        error: Exception | None,
        *,
        ended: float | None,
        cancelled: float | None = None,
    ) -> None:
        outcome: Outcome = "ok"
        code, name = "ok", ""
        if cancelled is not None and error is None:
            outcome, code = "info", "canceled"
        elif ended is None:
            outcome, code = "info", ""
        elif error is not None:
            outcome, code = _told(error)
            name = type(error).__name__
        self.operations.append(
            Operation(
                op=planned.op,
                method=planned.method,
                key=planned.key,
                idempotent=planned.method in self._idempotent,
                changes=planned.method in self._changing,
                due=planned.due,
                called=called,
                ended=ended,
                cancelled=cancelled,
                deadline=self._deadline(planned.method),
                outcome=outcome,
                code=code,
                error=name,
                reply=answer.reply,
                sent=answer.sent,
                received=tuple(answer.received),
            )
        )
        self._tries[planned.op] = tries

    async def _watch_lag(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                before = time.monotonic()
                await asyncio.sleep(_LAG_EVERY)
                late = time.monotonic() - before - _LAG_EVERY
                self.lags.append((self._recorder.now(), late))


def _told(error: Exception) -> tuple[Outcome, str]:
    """What an error says of the operation; without a code, it is none that is documented."""
    if isinstance(error, PluginUnavailableError):
        return "fail", "unavailable"  # no handshake, so nothing was called
    if isinstance(error, ConnectError):
        sure = delivery(error) is Delivery.NOT_SENT
        return ("fail" if sure else "info"), error.code.value
    return "info", ""
