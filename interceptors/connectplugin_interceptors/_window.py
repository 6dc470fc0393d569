"""Counts over the recent past, in exact buckets of time: for the retry budget and the breaker.

Not a moving average: what an average says depends on how often it is fed, and it never quite
forgets. A count in buckets does neither.
"""

import math
from typing import Final

_BEFORE_ALL_TIME: Final = -(2**63)


class BucketWindow:
    """How many events, and how many bad ones, fell into the current bucket and those before it.

    With `buckets` of `width` seconds the counts cover at least `(buckets - 1) * width` seconds, and
    less than `buckets * width`: the current bucket is still filling. Time is an argument. It may
    stand still or leap ahead, both cost next to nothing; should it go back, events are counted in
    the newest bucket there is.
    """

    __slots__ = (
        "_bad",
        "_edge",
        "_index",
        "_old",
        "_old_bad",
        "_old_total",
        "_size",
        "_total",
        "_width",
    )

    def __init__(self, *, width: float, buckets: int) -> None:
        self._width = width
        self._size = buckets
        # Of the current bucket: its number since time zero, the time at which it ends, its counts.
        self._index = _BEFORE_ALL_TIME
        self._edge = -math.inf
        self._bad = 0
        self._total = 0
        # Of the buckets before it that the window still covers: (bad, total) in a ring by the
        # bucket's number, and their sums. Sums of their own keep `add` to one increment.
        self._old = [(0, 0)] * buckets
        self._old_bad = 0
        self._old_total = 0

    def add(self, now: float, *, bad: bool = False) -> None:
        """Count an event."""
        if now >= self._edge:
            self._roll(now)
        self._total += 1
        if bad:
            self._bad += 1

    def counts(self, now: float) -> tuple[int, int]:
        """The bad events and all events within the window."""
        if now >= self._edge:
            self._roll(now)
        return self.latest

    @property
    def latest(self) -> tuple[int, int]:
        """The counts as of the last call that brought a time; for a `repr`."""
        return self._old_bad + self._bad, self._old_total + self._total

    def _roll(self, now: float) -> None:
        """Begin the bucket that `now` belongs to, and forget those that have left the window."""
        index = int(now // self._width)
        for number in range(self._index, min(index, self._index + self._size)):
            self._old[number % self._size] = (self._bad, self._total)
            self._old_bad += self._bad
            self._old_total += self._total
            self._bad = self._total = 0
            # The next bucket takes the place of the one that now leaves the window.
            place = (number + 1) % self._size
            bad, total = self._old[place]
            self._old_bad -= bad
            self._old_total -= total
            self._old[place] = (0, 0)
        if index > self._index:
            self._index = index
            self._edge = (index + 1) * self._width

    def __repr__(self) -> str:
        bad, total = self.latest
        return f"<BucketWindow {bad} bad of {total}>"
