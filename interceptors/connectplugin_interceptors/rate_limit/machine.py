"""The rate limit's decision: GCRA, one number per key.

A bucket of tokens is told by the time at which it will be full again (in GCRA: the theoretical
arrival time). Taking tokens moves that time on, waiting lets it come nearer by itself; so nothing
is refilled, and an idle bucket costs nothing.

Who has to wait stands in the bucket's queue, and only its head is let in, so a caller that wants
many tokens is not starved by those who want few. What if a waiter leaves, is cancelled, or never
comes back for its turn? Nothing was taken for it: the others move up. Leaving twice, or after the
turn has come, says nothing. What if time goes back? A bucket can never owe more than it holds, so
one that seems to is empty; should time leap ahead, it is at most full.
"""

import heapq
import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MOST_KEYS: Final = 10_000

ROUNDING: Final = 1e-6
"""Seconds that a caller may come too early: floats, and a hint that was cut. What it takes is
charged in full all the same, so it adds up to nothing."""

_NOISE: Final = 1e-9
"""Seconds that are no more than the rounding of one sum: forgiven, or they would add up too."""


class Turn:
    """One caller's place in a bucket's queue."""

    __slots__ = ("amount", "bucket")

    def __init__(self, bucket: "Bucket", amount: float) -> None:
        self.bucket = bucket
        self.amount = amount


class Bucket:
    """One key's tokens.

    Attributes:
        key: Whose it is.
        full_at: When it will be full, if nothing more is taken.
        owed: Tokens that those in the queue wait for.
        queue: Who waits, first come first; None while nobody ever has.
        listed: Whether it is among those that may be forgotten.
    """

    __slots__ = ("full_at", "key", "listed", "owed", "queue")

    def __init__(self, key: str, now: float) -> None:
        self.key = key
        self.full_at = now
        self.owed = 0.0
        self.queue: OrderedDict[Turn, None] | None = None
        self.listed = True


@dataclass(frozen=True, slots=True)
class Quota:
    """What a key has left.

    Attributes:
        limit: Tokens that a bucket holds.
        remaining: Whole tokens in it.
        full_in: Seconds until it is full.
    """

    limit: int
    remaining: int
    full_in: float


class RateLimitMachine:
    """Buckets by key, of which there are never more than `most_keys`.

    When there is no room for another key the fullest bucket is forgotten: a full one is as good as
    a new one, so nobody gains by it. One with a queue is kept; if all have one, newcomers with
    another key are refused.

    Args:
        per_second: Tokens that each bucket gains.
        burst: Tokens that each bucket holds.
        most_keys: The bound.
    """

    __slots__ = ("_buckets", "_fullest", "_holds", "_interval", "_limit", "_most_keys", "_serial")

    def __init__(self, *, per_second: float, burst: float, most_keys: int = MOST_KEYS) -> None:
        self._interval = 1.0 / per_second
        self._holds = burst * self._interval
        self._limit = burst
        self._most_keys = most_keys
        self._buckets: dict[str, Bucket] = {}
        # By `full_at` as it was when the entry was made, which only grows later: so an entry is
        # corrected when it comes to the top, and taking tokens costs nothing here.
        self._fullest: list[tuple[float, int, Bucket]] = []
        self._serial = 0

    @property
    def per_second(self) -> float:
        """Tokens that each bucket gains."""
        return 1.0 / self._interval

    @property
    def limit(self) -> int:
        """Whole tokens that each bucket holds."""
        return math.floor(self._limit)

    @property
    def keys(self) -> int:
        """How many keys there are."""
        return len(self._buckets)

    def admit(self, key: str, amount: float, now: float) -> float:
        """Take tokens now, if they are there and nobody waits for them.

        Returns:
            0.0 if they were taken. Else the seconds that the caller would have to wait, and
            nothing was taken; infinite if the bucket never holds so many, or has no room.
        """
        cost = amount * self._interval
        if cost > self._holds + ROUNDING:
            return math.inf
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._new(key, now)
            if bucket is None:
                return math.inf
        full_at = bucket.full_at
        if full_at < now:
            full_at = now
        elif full_at - now > self._holds + ROUNDING:
            full_at = bucket.full_at = now + self._holds
        wait = full_at + cost - self._holds - now
        if bucket.queue:
            # Behind the others, even if the tokens for this one alone were there.
            return max(wait + bucket.owed * self._interval, ROUNDING)
        if wait > ROUNDING:
            return wait
        bucket.full_at = full_at + cost
        if 0.0 < wait <= _NOISE:
            bucket.full_at -= wait
        return 0.0

    def enqueue(self, key: str, amount: float) -> Turn:
        """Wait for tokens behind all others of the key; only right after `admit` said how long."""
        bucket = self._buckets[key]
        turn = Turn(bucket, amount)
        if bucket.queue is None:
            bucket.queue = OrderedDict()
        bucket.queue[turn] = None
        bucket.owed += amount
        return turn

    def take(self, turn: Turn, now: float) -> float | None:
        """Ask whether the turn has come.

        Returns:
            0.0 if the tokens were taken and the turn is over; else seconds to wait, or None while
            others stand in front, who will make way.
        """
        bucket = turn.bucket
        if self.head(bucket) is not turn:
            return None
        full_at = max(bucket.full_at, now)
        if full_at - now > self._holds + ROUNDING:
            full_at = bucket.full_at = now + self._holds
        wait = full_at + turn.amount * self._interval - self._holds - now
        if wait > ROUNDING:
            return wait
        bucket.full_at = full_at + turn.amount * self._interval
        if 0.0 < wait <= _NOISE:
            bucket.full_at -= wait
        self.leave(turn)
        return 0.0

    def leave(self, turn: Turn) -> None:
        """Give up a turn, or end it; harmless when it is over already."""
        bucket = turn.bucket
        if not bucket.queue or turn not in bucket.queue:
            return
        del bucket.queue[turn]
        bucket.owed -= turn.amount
        if not bucket.queue:
            bucket.owed = 0.0  # what rounding has left
            if not bucket.listed:
                self._list(bucket)

    @staticmethod
    def head(bucket: Bucket) -> Turn | None:
        """Who is next."""
        return next(iter(bucket.queue)) if bucket.queue else None

    def quota(self, key: str, now: float) -> Quota:
        """What a key has left, for headers."""
        bucket = self._buckets.get(key)
        full_in = 0.0 if bucket is None else min(max(0.0, bucket.full_at - now), self._holds)
        tokens = (self._holds - full_in + ROUNDING) / self._interval
        return Quota(self.limit, min(self.limit, math.floor(tokens)), full_in)

    def _new(self, key: str, now: float) -> Bucket | None:
        if len(self._buckets) >= self._most_keys and not self._forget():
            return None
        bucket = self._buckets[key] = Bucket(key, now)
        self._list(bucket)
        return bucket

    def _list(self, bucket: Bucket) -> None:
        bucket.listed = True
        self._serial += 1
        heapq.heappush(self._fullest, (bucket.full_at, self._serial, bucket))

    def _forget(self) -> bool:
        """Forget the bucket that is, or will be, full before all others."""
        fullest = self._fullest
        while fullest:
            listed_at, serial, bucket = fullest[0]
            if bucket.queue:
                heapq.heappop(fullest)
                bucket.listed = False
            elif bucket.full_at > listed_at:
                heapq.heapreplace(fullest, (bucket.full_at, serial, bucket))
            else:
                heapq.heappop(fullest)
                del self._buckets[bucket.key]
                return True
        return False

    def __repr__(self) -> str:
        waiting = sum(len(bucket.queue) for bucket in self._buckets.values() if bucket.queue)
        rate = f"{self.per_second:g}/s, burst {self._limit:g}"
        return f"<RateLimit {rate}, {len(self._buckets)} keys, {waiting} waiting>"
