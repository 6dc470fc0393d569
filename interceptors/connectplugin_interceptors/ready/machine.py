"""Who may try the connection next, of all the calls that wait for one.

All waiting calls of a client share one pace, so that a thousand of them knock as often as one. The
first that reaches something opens the gate for all.

What if a try never ends, or its caller is cancelled? The next turn comes all the same: a turn is
not a lock. What if the news comes late, or twice? `unreachable` closes a gate that is open, and
delays nobody further; `reachable` opens it, whoever says so.
"""

from typing import Final

SHORTEST_INTERVAL: Final = 0.05
"""Seconds from a failure to the first turn; doubles with each turn."""

LONGEST_INTERVAL: Final = 0.25

MOST_WAITING: Final = 1_000
"""Calls that may wait, per client; more are refused."""


class ReadyGate:
    """The pace of tries, and the count of those who wait."""

    __slots__ = ("_interval", "_next_turn", "open", "waiting")

    def __init__(self) -> None:
        self.open = True
        self.waiting = 0
        self._interval = SHORTEST_INTERVAL
        self._next_turn = 0.0

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
        if self.open:
            return 0.0
        if now < self._next_turn:
            return self._next_turn - now
        self._interval = min(self._interval * 2.0, LONGEST_INTERVAL)
        self._next_turn = now + self._interval
        return 0.0

    def unreachable(self, now: float) -> None:
        """A try has failed."""
        if self.open:
            self.open = False
            self._interval = SHORTEST_INTERVAL
            self._next_turn = now + SHORTEST_INTERVAL

    def reachable(self) -> None:
        """A try has reached something."""
        self.open = True

    def __repr__(self) -> str:
        return f"<ReadyGate {'open' if self.open else 'closed'} waiting={self.waiting}>"
