"""When each endpoint is looked at next: soonest first."""

from heapq import heappop, heappush
from math import inf

from connectplugin_interceptors.balance.endpoint import Endpoint


class Looks:
    """An agenda; each endpoint is on it once at most.

    Attributes:
        next: When the first is due; infinite if none is.
    """

    __slots__ = ("_entries", "_number", "next")

    def __init__(self) -> None:
        self.next = inf
        # Entries of endpoints that were put forward since are stale, and passed over.
        self._entries: list[tuple[float, int, Endpoint]] = []
        self._number = 0

    def plan(self, endpoint: Endpoint, at: float) -> None:
        """Have an endpoint looked at, unless it is before that anyhow."""
        if at >= endpoint.due or endpoint.draining:
            return
        endpoint.due = at
        self._number += 1  # two that are due at the same time need not be compared
        heappush(self._entries, (at, self._number, endpoint))
        self.next = min(self.next, at)

    def take(self, now: float) -> Endpoint | None:
        """The first that is due, taken off the agenda; None if none is."""
        entries = self._entries
        while entries and entries[0][0] <= now:
            at, _, endpoint = heappop(entries)
            if at == endpoint.due:
                endpoint.due = inf
                self.next = entries[0][0] if entries else inf
                return endpoint
        self.next = entries[0][0] if entries else inf
        return None

    def __repr__(self) -> str:
        return f"<Looks {len(self._entries)} next={self.next}>"
