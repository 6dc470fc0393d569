"""The throttle's decision: two counts over the recent past, and a roll of the dice.

What if an answer comes late? It counts when it comes: for a while a slow server looks worse than it
is, which is what `multiplier` leaves room for. Never? Then the request stays unanswered. Cancelled?
`dismiss` takes the request back. Twice? Whoever has begun a request ends it once.
"""

from typing import Final

from connectplugin_interceptors._window import BucketWindow
from connectplugin_interceptors.throttle.config import ThrottlePolicy

_BUCKETS: Final = 40


class ThrottleMachine:
    """Requests and accepts of one service."""

    __slots__ = ("_accepts", "_dismissed", "_policy", "_requests")

    def __init__(self, policy: ThrottlePolicy) -> None:
        width = policy.window / _BUCKETS
        self._policy = policy
        # What was counted at a request's end must not be forgotten before the request is.
        self._requests = BucketWindow(width=width, buckets=_BUCKETS)
        self._accepts = BucketWindow(width=width, buckets=_BUCKETS)
        self._dismissed = BucketWindow(width=width, buckets=_BUCKETS)

    def rejection(self, now: float) -> float:
        """The share of calls that are refused now."""
        accepts = self._accepts.counts(now)[1]
        dismissed = self._dismissed.counts(now)[1]
        requests = self._requests.counts(now)[1] - dismissed
        over = (
            (requests - self._policy.multiplier * accepts) / (requests + 1) if requests > 0 else 0
        )
        return min(self._policy.max_rejection, max(0.0, over))

    def request(self, now: float, rnd: float) -> bool:
        """Count a request, and say whether it may be sent.

        Args:
            now: Monotonic seconds.
            rnd: A random number in [0, 1).
        """
        refused = rnd < self.rejection(now)
        self._requests.add(now)
        return not refused

    def accept(self, now: float) -> None:
        """The server has answered it."""
        self._accepts.add(now)

    def dismiss(self, now: float) -> None:
        """It has taught nothing."""
        self._dismissed.add(now)

    def __repr__(self) -> str:
        requests, accepts = self._requests.latest[1], self._accepts.latest[1]
        return f"<Throttle {accepts} accepted of {requests}>"
