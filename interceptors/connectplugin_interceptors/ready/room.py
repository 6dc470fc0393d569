"""The shell of the gate: where calls sleep until it is their turn, first come first served."""

import asyncio

from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import SMALLEST_TIMEOUT, Call
from connectplugin_interceptors.errors import DeadlineExceededError, OverloadedError
from connectplugin_interceptors.events import Emit, WaitingForReady
from connectplugin_interceptors.ready.machine import MOST_WAITING, ReadyGate


class Place:
    """One call's place in the waiting room."""

    __slots__ = ("joined", "trying")

    def __init__(self) -> None:
        self.joined = False
        self.trying = False


class WaitingRoom:
    """The calls of one client that wait until something can be reached.

    Attributes:
        gate: Decides whose turn it is.
    """

    def __init__(self, emit: Emit | None) -> None:
        self.gate = ReadyGate()
        self._emit = emit
        # In the order in which they lay down; a dict, so that each can leave from its place.
        self._asleep: dict[asyncio.Future[None], None] = {}

    async def turn(self, call: Call, error: ConnectError, place: Place) -> None:
        """Wait after a try that has failed, until the call may try again.

        Raises:
            OverloadedError: Too many wait already.
            DeadlineExceededError: It would not be the call's turn before its deadline.
        """
        gate = self.gate
        now = call.clock.now()
        self.ended(place)
        gate.unreachable(now)
        self._join(call, error, place)
        while (wait := gate.turn(now)) > 0:
            remaining = call.remaining(now)
            last = remaining is not None and wait > remaining - SMALLEST_TIMEOUT
            woken = await self._sleep(wait if remaining is None else max(0.0, min(wait, remaining)))
            if last and not woken:
                raise DeadlineExceededError(
                    f"nothing could be reached; last: {error.message}",
                    delivery=call.known_delivery,
                ) from error
            now = call.clock.now()
        place.trying = True

    def _join(self, call: Call, error: ConnectError, place: Place) -> None:
        if place.joined:
            return
        if not self.gate.join():
            raise OverloadedError(
                f"{call.path}: {MOST_WAITING} calls wait already until something can be "
                f"reached ({error.message})",
                reason="too_many_waiting",
            ) from error
        place.joined = True
        if self._emit is not None:
            self._emit(WaitingForReady(call.name, call.path))

    async def _sleep(self, seconds: float) -> bool:
        """Whether it was woken."""
        alarm: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asleep[alarm] = None
        try:
            async with asyncio.timeout(seconds):
                await alarm
        except TimeoutError:
            return False
        finally:
            self._asleep.pop(alarm, None)
        return True

    def reachable(self) -> None:
        """Something was reached: wake those who may go now."""
        gate = self.gate
        if gate.open and not gate.waiting:
            return  # as nearly always
        granted = gate.reachable()
        while granted and self._asleep:
            alarm = next(iter(self._asleep))
            del self._asleep[alarm]
            if not alarm.done():
                alarm.set_result(None)
                granted -= 1

    def ended(self, place: Place) -> None:
        """The call's try is over."""
        if place.trying:
            place.trying = False
            self.gate.ended()

    def leave(self, place: Place) -> None:
        """The call waits no more, and will not again."""
        self.ended(place)
        if place.joined:
            place.joined = False
            self.gate.leave()

    def __repr__(self) -> str:
        return repr(self.gate)
