"""Time, the only door to it: policies take a `Clock`, machines take `now`."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic time in seconds, and a way to wait for it."""

    def now(self) -> float:
        """Seconds on a clock that never goes back; its zero means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait; a cancelled caller is woken at once with `asyncio.CancelledError`."""
        ...


def wall_time() -> float:
    """Seconds since 1970: only to read a date that a peer has sent, never to measure with."""
    return time.time()


class SystemClock:
    """The machine's monotonic clock.

    Not `loop.time()`: under uvloop that is cached for each turn of the loop and steps by 1 ms.
    """

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait for so many seconds."""
        await asyncio.sleep(seconds)

    def __repr__(self) -> str:
        return "SystemClock()"
