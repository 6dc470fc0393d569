"""The shell of the drain: it knows the tasks that answer calls, and wakes who waits for them."""

import asyncio

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.server.answer import push_back, refuse_unprocessed
from connectplugin_interceptors.server.cut import cut_off
from connectplugin_interceptors.server.drain.config import DrainPolicy
from connectplugin_interceptors.server.drain.machine import DrainMachine, Kind, Ticket
from connectplugin_interceptors.wire import DRAINING


class Drain:
    """A metadata interceptor, and the handle by which a server stops.

    One instance is shared by all applications of a server.
    """

    def __init__(self, policy: DrainPolicy) -> None:
        self._policy = policy
        self._machine = DrainMachine()
        self._tasks: dict[Ticket, asyncio.Task[object]] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def in_flight(self) -> int:
        """Calls that are being answered."""
        return self._machine.inside

    @property
    def reason(self) -> str | None:
        """Why new calls are refused; None while they are not."""
        return self._machine.reason

    def begin(self, reason: str = "the server is shutting down") -> bool:
        """Refuse new calls from now on; False if that was so already."""
        return self._machine.begin(reason)

    async def wait_idle(self) -> None:
        """Wait until no call is in flight. Only after `begin` does it stay so."""
        await self._idle.wait()

    def end_streams(self, reason: str) -> int:
        """Cancel the handlers of all streams; their clients get `unavailable` and the reason.

        Returns:
            How many were cancelled.
        """
        return self._end({Kind.STREAM}, reason)

    def end_all(self, reason: str) -> int:
        """Cancel every handler; returns how many."""
        return self._end({Kind.SHORT, Kind.STREAM}, reason)

    async def on_start(self, ctx: Ctx) -> Ticket:
        """Admit the call, or refuse it unprocessed."""
        stream = ctx.method.stream_type is not StreamType.UNARY
        ticket = self._machine.enter(Kind.STREAM if stream else Kind.SHORT)
        if ticket is None:
            refuse_unprocessed(ctx, DRAINING)
            push_back(ctx, self._policy.pushback)
            raise ConnectError(Code.UNAVAILABLE, f"draining: {self._machine.reason}")
        self._idle.clear()
        if (task := asyncio.current_task()) is not None:
            self._tasks[ticket] = task
        return ticket

    async def on_end(self, token: Ticket, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Count the call out; an error of one that was cut off is told as what it is."""
        self._tasks.pop(token, None)
        if self._machine.leave(token):
            self._idle.set()
        if token.cut is not None and error is not None:
            raise ConnectError(Code.UNAVAILABLE, f"draining: {token.cut}") from None

    def _end(self, kinds: set[Kind], reason: str) -> int:
        cut = self._machine.cut(kinds, reason)
        for ticket in cut:
            task = self._tasks.get(ticket)
            # A call that ends itself in this very step has nothing left to cancel.
            if task is not None and task is not asyncio.current_task():
                cut_off(task, "draining")
        return len(cut)

    def __repr__(self) -> str:
        state = "serving" if self.reason is None else f"draining ({self.reason})"
        return f"<Drain {state}, {self.in_flight} in flight>"
