"""When each endpoint is looked at next, soonest first; and whether a call should see how it is."""

from heapq import heappop, heappush
from math import inf

from connectplugin_interceptors.balance.config import BalancePolicy
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


def examine(
    endpoint: Endpoint, policy: BalancePolicy, now: float, wait: float, looks: Looks
) -> bool:
    """Whether a call should be sent to an endpoint to see how it is; plans the next look.

    Args:
        endpoint: One that is due.
        policy: Which endpoints are avoided, and how long at most before one is tried.
        now: Monotonic seconds.
        wait: Seconds until its circuit breaker lets a call through.
        looks: Where the next look is planned.
    """
    idle = policy.idle_probe
    if wait > 0:
        endpoint.trial_since = min(endpoint.trial_since, now + wait)
        looks.plan(endpoint, now + min(wait, idle or policy.decay))
        return False
    if endpoint.trial_since > now:
        avoided = endpoint.rtt(now, policy.decay, policy.initial_rtt) > policy.initial_rtt
        if idle is None or not avoided:
            return False
        pause = min(endpoint.pause, idle) if endpoint.failing else idle
        if now < endpoint.picked + pause:
            looks.plan(endpoint, endpoint.picked + pause)
            return False
        if endpoint.failing:
            # Who failed a moment ago is mostly well by now; who still fails is asked less and less.
            endpoint.pause = min(2.0 * pause, idle)
    looks.plan(endpoint, now + (idle or policy.decay))
    if endpoint.pending or endpoint.connecting or not endpoint.healthy:
        return False
    endpoint.trial_since = min(endpoint.trial_since, now)
    return True
