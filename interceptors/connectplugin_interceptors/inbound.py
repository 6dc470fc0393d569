"""The call that this server answers now, for outbound calls that its handler makes.

A handler that calls another service passes on what is left of its own deadline. A job that the
handler leaves behind does not: it was not promised that time, and the end of the inbound call says
nothing about it. So the deadline is inherited only in the task that the handler itself runs in, and
only until the handler has ended.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock


class InboundCall:
    """One call that is being answered; mutable, shared by the policies of the server's chain.

    Attributes:
        clock: The time that `deadline` is told in.
        deadline: When the call must have ended, in seconds of `clock`; None for never.
        task: The task in which the server answers the call.
        started: Whether the handler has been entered. Until then the call was not processed.
        ended: Whether the call is over.
        own_timer: Whether the deadline is the server's own limit, which no one else enforces.
        arrival: The timer that ends the wait for the request; None if nothing limits that.
        given_up: Whether that timer has ended the call.
    """

    __slots__ = (
        "arrival",
        "clock",
        "deadline",
        "ended",
        "given_up",
        "own_timer",
        "started",
        "task",
    )

    def __init__(self, clock: Clock, deadline: float | None, *, own_timer: bool = False) -> None:
        self.clock = clock
        self.deadline = deadline
        self.own_timer = own_timer
        self.task = asyncio.current_task()
        self.arrival: asyncio.TimerHandle | None = None
        self.given_up = False
        self.started = False
        self.ended = False

    def start(self) -> None:
        """The handler is entered."""
        self.started = True
        self._stop_waiting()

    def end(self) -> None:
        """Nobody inherits from this call any more."""
        self.ended = True
        self.task = None
        self._stop_waiting()

    def _stop_waiting(self) -> None:
        if self.arrival is not None:
            self.arrival.cancel()
            self.arrival = None

    def remaining(self) -> float | None:
        """Seconds left; negative when late, None without a deadline."""
        return None if self.deadline is None else self.deadline - self.clock.now()

    def __repr__(self) -> str:
        left = self.remaining()
        state = "ended" if self.ended else "running" if self.started else "waiting"
        return f"<InboundCall {state} {'no deadline' if left is None else f'{left:.3f} s left'}>"


inbound: ContextVar[InboundCall | None] = ContextVar("connectplugin_inbound", default=None)
"""The call that is answered in this context. Holds on in tasks that the handler starts, so ask
`inherited_deadline` rather than reading it."""

stream_started: ContextVar[Callable[[Ctx], None] | None] = ContextVar(
    "connectplugin_stream_started", default=None
)
"""Told when the handler of a stream of responses is entered, past all that may refuse the call. Set
by what lies below the application, in the task that answers the call."""


def inherited_deadline(clock: Clock) -> float | None:
    """The deadline that an outbound call made here and now inherits, in seconds of `clock`.

    None outside of a handler, in a task that the handler has started (`asyncio.create_task`,
    `TaskGroup`, and on Python 3.11 `asyncio.wait_for`), after the handler's end, and for an inbound
    call without a deadline.
    """
    call = inbound.get()
    if call is None or call.ended or call.deadline is None:
        return None
    if call.task is not asyncio.current_task():
        return None
    if call.clock is clock:
        return call.deadline
    return clock.now() + (call.deadline - call.clock.now())
