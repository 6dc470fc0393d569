"""What people write when they retry by hand: naive, textbook, and the Go original's defaults."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.errors import Delivery, delivery, note_delivery

Once = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """A retry loop around a call.

    Attributes:
        attempts: In all.
        first: Seconds before the second attempt.
        jitter: Share of the wait that is left to chance: 1 is full jitter.
        codes: That are tried again; None for all.
        most: Seconds of a wait at most.
    """

    attempts: int
    first: float = 0.0
    jitter: float = 0.0
    codes: frozenset[Code] | None = None
    most: float = 2.0

    async def run(self, once: Once, chance: random.Random) -> None:
        """Call until it is well, or the attempts are used up; the last error is raised."""
        worst: Delivery | None = None
        for number in range(1, self.attempts + 1):
            try:
                await once()
            except ConnectError as error:
                known = delivery(error)
                worst = known if worst is None else worst.worst(known)
                last = number == self.attempts
                if last or (self.codes is not None and error.code not in self.codes):
                    note_delivery(error, worst)
                    raise
            else:
                return
            wait = min(self.first * 2 ** (number - 1), self.most)
            wait *= 1 - self.jitter * chance.random()
            if wait:
                await asyncio.sleep(wait)


NAIVE = Loop(attempts=4)
"""At once, whatever it was, up to four times."""

TEXTBOOK = Loop(attempts=4, first=0.1, jitter=1.0)
"""Exponential backoff with full jitter; no budget, no idempotency."""

GOREF = Loop(
    attempts=3,
    first=0.1,
    jitter=0.5,
    codes=frozenset(
        {
            Code.UNAVAILABLE,
            Code.RESOURCE_EXHAUSTED,
            Code.INTERNAL,
            Code.UNKNOWN,
            Code.DEADLINE_EXCEEDED,
        }
    ),
)
"""The defaults of connect-plugin-go, whatever the idempotency."""


class SimpleBreaker:
    """connect-plugin-go's: 5 failures open it for 10 s, 2 successes close it."""

    def __init__(self) -> None:
        self._failures = 0
        self._successes = 0
        self._opened: float | None = None

    async def run(self, once: Once) -> None:
        """Call, unless it is open."""
        if self._opened is not None:
            if time.monotonic() - self._opened < 10.0:  # noqa: PLR2004  # its default
                error = ConnectError(Code.UNAVAILABLE, "circuit open")
                note_delivery(error, Delivery.NOT_SENT)
                raise error
            half_open = True
        else:
            half_open = False
        try:
            await once()
        except ConnectError:
            self._failures += 1
            if half_open or self._failures >= 5:  # noqa: PLR2004  # its default
                self._opened, self._successes = time.monotonic(), 0
            raise
        self._failures = 0
        if half_open:
            self._successes += 1
            if self._successes >= 2:  # noqa: PLR2004  # its default
                self._opened = None
