"""The bulkhead's shell: waits for a slot, and wakes who has got one."""

import asyncio
from collections.abc import Iterable

from connectplugin_interceptors.bulkhead.machine import At, BulkheadMachine, Place
from connectplugin_interceptors.clock import Clock, SystemClock


class Full(Exception):  # noqa: N818  # never leaves the chain: each side makes its own error of it
    """No slot.

    Attributes:
        reason: `queue_full`, `wait_over`, `too_late` (by what is known of the queue, the slot would
            come after the deadline) or `closed`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Bulkhead:
    """`acquire` a place, `release` it; for calls of one event loop."""

    def __init__(self, *, slots: int, queue: int, clock: Clock | None = None) -> None:
        self._machine = BulkheadMachine(slots, queue)
        self._clock: Clock = SystemClock() if clock is None else clock
        self._waiters: dict[Place, asyncio.Future[None]] = {}

    @property
    def slots(self) -> int:
        """Calls that may be inside."""
        return self._machine.slots

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._machine.inside

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return self._machine.waiting

    def enter(self) -> Place:
        """A place inside, or one to `wait` at; either must be released, whatever happens.

        Raises:
            Full: There is neither.
        """
        place = self._machine.enter(self._clock.now())
        if place is None:
            raise Full("closed" if self._machine.closed else "queue_full")
        return place

    def take(self) -> bool:
        """A slot without a place, for the many calls that find room; give it back with `give`."""
        return self._machine.take()

    def give(self) -> None:
        """Give back what `take` has taken, once."""
        if not self._machine.give():
            self.release(Place(At.INSIDE))

    async def acquire(self, patience: float | None, remaining: float | None = None) -> Place:
        """Enter, and wait for a slot if need be.

        Args:
            patience: Seconds to wait at most; None to wait as long as it takes.
            remaining: Seconds until the call's deadline; None if there is none.

        Raises:
            Full: There is no slot, and no room or time to wait for one.
        """
        place = self.enter()
        if not place.inside:
            await self.wait(place, patience, remaining)
        return place

    async def wait(
        self, place: Place, patience: float | None, remaining: float | None = None
    ) -> None:
        """Wait until a place is inside; if it comes to nothing, the place is released."""
        if remaining is not None:
            expected = self._machine.expected_wait()
            if expected is not None and expected >= remaining:
                self.release(place)
                raise Full("too_late")
            patience = remaining if patience is None else min(patience, remaining)
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

    def release(self, place: Place) -> None:
        """Give a place back; harmless if it was given back before."""
        following = self._machine.leave(place, self._clock.now())
        if following is not None:
            self._wake((following,))

    def resize(self, slots: int) -> None:
        """Have another number of slots; who is inside stays."""
        self._wake(self._machine.resize(slots, self._clock.now()))

    def close(self) -> None:
        """Refuse newcomers and all who wait."""
        self._wake(self._machine.close())

    def _wake(self, places: Iterable[Place]) -> None:
        for place in places:
            waiter = self._waiters.get(place)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    def __repr__(self) -> str:
        machine = self._machine
        return f"<Bulkhead {machine.inside}/{machine.slots} inside, {machine.waiting} waiting>"
