"""The bulkhead's shell: waits for a slot, and wakes who has got one."""

import asyncio

from connectplugin_interceptors.bulkhead.machine import BulkheadMachine, Place


class Full(Exception):  # noqa: N818  # never leaves the chain: each side makes its own error of it
    """No slot.

    Attributes:
        reason: `queue_full`, `wait_over` or `closed`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bulkhead:
    """`acquire` a place, `release` it; for calls of one event loop."""

    def __init__(self, *, slots: int, queue: int) -> None:
        self._machine = BulkheadMachine(slots, queue)
        self._waiters: dict[Place, asyncio.Future[None]] = {}

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._machine.inside

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return self._machine.waiting

    async def acquire(self, patience: float | None) -> Place:
        """Wait for a slot.

        Args:
            patience: Seconds to wait at most; None to wait as long as it takes.

        Raises:
            Full: There is none, and no room or time to wait for one.
        """
        place = self._machine.enter()
        if place is None:
            raise Full("closed" if self._machine.closed else "queue_full")
        if place.inside:
            return place
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[place] = waiter
        try:
            async with asyncio.timeout(patience):
                await waiter
        except TimeoutError:
            # Granted in the very step in which the time ran out: then it is granted.
            if not place.inside:
                self.release(place)
                raise Full("wait_over") from None
        except BaseException:
            # Cancelled; if in the very step of the grant, the slot goes on to the next.
            self.release(place)
            raise
        finally:
            self._waiters.pop(place, None)
        if not place.inside:
            raise Full("closed")
        return place

    def release(self, place: Place) -> None:
        """Give a place back; harmless if it was given back before."""
        self._wake(self._machine.leave(place))

    def close(self) -> None:
        """Refuse newcomers and all who wait."""
        for place in self._machine.close():
            self._wake(place)

    def _wake(self, place: Place | None) -> None:
        waiter = None if place is None else self._waiters.get(place)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __repr__(self) -> str:
        machine = self._machine
        return f"<Bulkhead {machine.inside}/{machine.slots} inside, {machine.waiting} waiting>"
