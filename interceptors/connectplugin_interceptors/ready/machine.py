"""Who may try the connection next, of all the calls that wait for one.

All waiting calls of a client share one pace, so that a thousand of them knock as often as one.
What if a try never ends? Then nothing failed, and the next one may go soon: a slow answer to the
first call must not hold the others. What if the news comes late, or twice? `unreachable` only ever
moves the next try later by one interval, and the next success clears it.
"""

from typing import Final

SHORTEST_INTERVAL: Final = 0.05
"""Seconds between a failed try and the next; doubles with each failure."""

LONGEST_INTERVAL: Final = 0.25

SPREAD: Final = 0.01
"""Seconds between tries of which none has failed yet."""

MOST_WAITING: Final = 1_000
"""Calls that may wait, per client; more are refused."""


class ReadyGate:
    """The pace of tries, and the count of those who wait."""

    __slots__ = ("_failures", "_next_try", "waiting")

    def __init__(self) -> None:
        self.waiting = 0
        self._failures = 0
        self._next_try = 0.0

    def join(self) -> bool:
        """Take a place among the waiting; False if there is none. Pair it with `leave`."""
        if self.waiting >= MOST_WAITING:
            return False
        self.waiting += 1
        return True

    def leave(self) -> None:
        """Give the place back."""
        self.waiting -= 1

    def turn(self, now: float) -> float:
        """0 if it is this caller's turn to try, who then must; else the seconds to wait."""
        if now < self._next_try:
            return self._next_try - now
        self._next_try = now + SPREAD
        return 0.0

    def unreachable(self, now: float) -> None:
        """A try has failed."""
        interval = min(SHORTEST_INTERVAL * 2.0 ** min(self._failures, 16), LONGEST_INTERVAL)
        self._failures += 1
        self._next_try = max(self._next_try, now + interval)

    def reachable(self) -> None:
        """A try has reached something."""
        if self._failures:
            self._failures = 0
            self._next_try = 0.0

    def __repr__(self) -> str:
        return f"<ReadyGate waiting={self.waiting} failures={self._failures}>"
