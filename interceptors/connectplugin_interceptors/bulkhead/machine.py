"""The bulkhead's decision: who is inside, who waits, who goes next.

A slot that becomes free while somebody waits is handed over in the same step, so between a release
and the wake-up of the next there is no free slot that a newcomer could take (no barging).

What if a place is left twice, or late? The second time says nothing. What if a waiter gives up in
the very step in which it was granted its slot? Its `leave` finds it inside and hands the slot on,
so that none is lost. What if a place is never left? Its slot is gone: whoever enters must leave, in
a `finally`. What if there are fewer slots than before? Nobody is sent away; the next ones to leave
are not followed.
"""

import enum
from collections import deque
from dataclasses import dataclass, field
from typing import Final

_FEWEST_GAPS: Final = 10
_AGE: Final = 10.0


class At(enum.Enum):
    """Where a call stands."""

    WAITING = "waiting"
    INSIDE = "inside"
    GONE = "gone"


# Looking a member of an enum up takes longer than all else here (3.11).
_WAITING: Final = At.WAITING
_INSIDE: Final = At.INSIDE
_GONE: Final = At.GONE


@dataclass(eq=False, slots=True)
class Place:
    """One call's place; `at` is changed by the machine only.

    Attributes:
        at: Where it stands.
        since: When it got its slot, in monotonic seconds.
    """

    at: At
    since: float = 0.0

    @property
    def inside(self) -> bool:
        """Whether it holds a slot."""
        return self.at is _INSIDE


@dataclass(slots=True)
class BulkheadMachine:
    """Slots and a first-come-first-served queue.

    Attributes:
        slots: How many may be inside.
        queue: How many may wait.
        inside: How many are inside.
        closed: Whether newcomers are refused.
    """

    slots: int
    queue: int
    inside: int = 0
    closed: bool = False
    _waiting: deque[Place] = field(default_factory=deque[Place])
    # Of the times between one release and the next while all slots were taken: how many there
    # were, their moving average, and when the current one began.
    _gaps: int = 0
    _gap: float = 0.0
    _full_since: float = 0.0

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self, now: float) -> Place | None:
        """Ask for a slot: a place inside, a place in the queue, or None for a refusal."""
        if self.closed:
            return None
        if self.inside < self.slots:
            self.inside += 1
            if self.inside >= self.slots:
                self._full_since = now
            return Place(_INSIDE, now)
        if len(self._waiting) >= self.queue:
            return None
        place = Place(_WAITING)
        self._waiting.append(place)
        return place

    def take(self) -> bool:
        """Take a slot without a place, if it is not the last one: then there is nothing to decide.

        Most calls find room, and those need neither a place nor the time. Pair it with `give`.
        """
        if self.inside >= self.slots - 1 or self.closed:
            return False
        self.inside += 1
        return True

    def give(self) -> bool:
        """Give a slot without a place back, if nobody could be waiting for it.

        If not, it is to be given back as `leave(Place(At.INSIDE), now)`.
        """
        if self.inside >= self.slots:
            return False
        self.inside -= 1
        return True

    def expected_wait(self) -> float | None:
        """Seconds that who waits last will wait, going by how fast slots came free lately.

        None while too few have. Asked of releases and not of how long calls take, since a stream
        that holds its slot for a day says nothing about the next free one.
        """
        return self._gap * len(self._waiting) if self._gaps >= _FEWEST_GAPS else None

    def leave(self, place: Place, now: float) -> Place | None:
        """Give a place up; returns the waiter that is inside now because of it."""
        was, place.at = place.at, _GONE
        if was is _WAITING:
            self._waiting.remove(place)
        if was is not _INSIDE:
            return None
        if self.inside >= self.slots:
            self._measure(now)
        if not self._waiting or self.inside > self.slots:
            self.inside -= 1
            return None
        return self._next(now)

    def resize(self, slots: int, now: float) -> list[Place]:
        """Have another number of slots; returns the waiters that are inside now because of it."""
        self.slots = slots
        granted: list[Place] = []
        while self._waiting and self.inside < self.slots:
            self.inside += 1
            granted.append(self._next(now))
        return granted

    def close(self) -> list[Place]:
        """Refuse newcomers, and send the waiting away; who is inside stays. Returns those sent."""
        self.closed = True
        sent = list(self._waiting)
        self._waiting.clear()
        for place in sent:
            place.at = _GONE
        return sent

    def _next(self, now: float) -> Place:
        following = self._waiting.popleft()
        following.at = _INSIDE
        following.since = now
        return following

    def _measure(self, now: float) -> None:
        self._gaps += 1
        self._gap += (now - self._full_since - self._gap) / min(_AGE, self._gaps)
        self._full_since = now
