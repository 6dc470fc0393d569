"""The throttle's decision: two counts over the recent past, and a roll of the dice.

A request counts from its beginning, but only once its end is known: were those in flight counted as
not accepted, a client that begins with a hundred calls at once would refuse eighty of them, with
nothing wrong anywhere.

What if an answer comes late? Until then the request says nothing. Never? Its deadline ends it.
Cancelled? `dismiss` takes the request back. Twice? Whoever has begun a request ends it once.
"""

from typing import Final

from connectplugin_interceptors._window import BucketWindow
from connectplugin_interceptors.throttle.config import ThrottlePolicy

_BUCKETS: Final = 40


class ThrottleMachine:
    """Requests and accepts of one service."""

    __slots__ = ("_accepts", "_dismissed", "_pending", "_policy", "_requests")

    def __init__(self, policy: ThrottlePolicy) -> None:
        width = policy.window / _BUCKETS
        self._policy = policy
        self._pending = 0
        self._requests = BucketWindow(width=width, buckets=_BUCKETS)
        self._accepts = BucketWindow(width=width, buckets=_BUCKETS)
        self._dismissed = BucketWindow(width=width, buckets=_BUCKETS)

    def rejection(self, now: float) -> float:
        """The share of calls that are refused now."""
        accepts = self._accepts.counts(now)[1]
        dismissed = self._dismissed.counts(now)[1]
        requests = self._requests.counts(now)[1] - dismissed - self._pending
        over = (
            (requests - self._policy.multiplier * accepts) / (requests + 1) if requests > 0 else 0
        )
        return min(self._policy.max_rejection, max(0.0, over))

    def request(self, now: float, rnd: float) -> bool:
        """Count a request, and say whether it may be sent; if so, its end must be told.

        Args:
            now: Monotonic seconds.
            rnd: A random number in [0, 1).
        """
        refused = rnd < self.rejection(now)
        self._requests.add(now)
        if not refused:
            self._pending += 1
        return not refused

    def accept(self, now: float) -> None:
        """The server has answered it."""
        self._pending -= 1
        self._accepts.add(now)

    def refuse(self) -> None:
        """The server has refused it, or has not answered."""
        self._pending -= 1

    def dismiss(self, now: float) -> None:
        """It has taught nothing."""
        self._pending -= 1
        self._dismissed.add(now)

    def __repr__(self) -> str:
        requests, accepts = self._requests.latest[1], self._accepts.latest[1]
        return f"<Throttle {accepts} accepted of {requests}>"
