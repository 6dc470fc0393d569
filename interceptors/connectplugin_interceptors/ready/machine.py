"""Who may try the connection next, of all the calls that wait for one.

While nothing can be reached, all waiting calls of a client share one pace, so that a thousand of
them knock as often as one. Once something is reached they are not let loose at once, which would
overload a server that has just started: each success lets two more go (as TCP's slow start), and no
more than `MOST_RELEASED` at a time.

What if a try never ends, or its caller is cancelled? The next turn comes all the same: a turn is no
lock, and a released call that is gone is told by `ended`. What if the news comes late, or twice?
`unreachable` closes a gate that is open, and delays nobody further; `reachable` opens it, whoever
says so.
"""

from typing import Final

SHORTEST_INTERVAL: Final = 0.05
"""Seconds from a failure to the first turn; doubles with each turn."""

LONGEST_INTERVAL: Final = 0.25

SHORTEST_WAIT: Final = 0.001
"""Seconds; no wait for a turn is shorter."""

MOST_WAITING: Final = 1_000
"""Calls that may wait, per client; more are refused."""

MOST_RELEASED: Final = 64
"""Calls that have waited and are under way: below what a plugin server takes at once (100)."""

GRANTS_PER_SUCCESS: Final = 2


class ReadyGate:
    """The pace of tries, and the count of those who wait.

    Attributes:
        open: Whether the last news was good.
        waiting: The calls that have joined, those that are trying included.
        trying: Those of them that are under way.
    """

    __slots__ = ("_granted", "_interval", "_next_turn", "open", "trying", "waiting")

    def __init__(self) -> None:
        self.open = True
        self.waiting = 0
        self.trying = 0
        self._granted = 0
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
        """0 if it is this caller's turn to try, who then must; else the seconds to wait.

        Pair a turn with `ended`.
        """
        if self._granted:
            self._granted -= 1
        elif now >= self._next_turn:
            self._interval = min(self._interval * 2.0, LONGEST_INTERVAL)
            self._next_turn = now + self._interval
        else:
            # A clock may be coarser than what is left, and would not have moved when we ask again.
            return max(self._next_turn - now, SHORTEST_WAIT)
        self.trying += 1
        return 0.0

    def ended(self) -> None:
        """The try of a turn is over, however."""
        self.trying -= 1

    def unreachable(self, now: float) -> None:
        """A try has failed."""
        self._granted = 0
        if self.open:
            self.open = False
            self._interval = SHORTEST_INTERVAL
            self._next_turn = now + SHORTEST_INTERVAL

    def reachable(self) -> int:
        """Something was reached; how many of the waiting may go now, and should be woken."""
        self.open = True
        asleep = self.waiting - self.trying
        if asleep <= 0:
            return 0
        room = MOST_RELEASED - self.trying
        granted = self._granted + GRANTS_PER_SUCCESS
        self._granted = max(0, min(granted, room, asleep))
        return self._granted

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<ReadyGate {state} waiting={self.waiting} trying={self.trying}>"
