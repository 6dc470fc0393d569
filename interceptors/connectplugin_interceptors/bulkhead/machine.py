"""The bulkhead's decision: who is inside, who waits, who goes next.

A slot that becomes free while somebody waits is handed over in the same step, so between a release
and the wake-up of the next there is no free slot that a newcomer could take (no barging).

What if a place is left twice, or late? The second time says nothing. What if a waiter gives up in
the very step in which it was granted its slot? Its `leave` finds it inside and hands the slot on,
so that none is lost. What if a place is never left? Its slot is gone: whoever enters must leave, in
a `finally`.
"""

import enum
from collections import deque
from dataclasses import dataclass, field


class At(enum.Enum):
    """Where a call stands."""

    WAITING = "waiting"
    INSIDE = "inside"
    GONE = "gone"


@dataclass(eq=False, slots=True)
class Place:
    """One call's place; `at` is changed by the machine only."""

    at: At

    @property
    def inside(self) -> bool:
        """Whether it holds a slot."""
        return self.at is At.INSIDE


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

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def enter(self) -> Place | None:
        """Ask for a slot: a place inside, a place in the queue, or None for a refusal."""
        if self.closed:
            return None
        if self.inside < self.slots:
            self.inside += 1
            return Place(At.INSIDE)
        if len(self._waiting) >= self.queue:
            return None
        place = Place(At.WAITING)
        self._waiting.append(place)
        return place

    def leave(self, place: Place) -> Place | None:
        """Give a place up; returns the waiter that is inside now because of it."""
        was, place.at = place.at, At.GONE
        if was is At.WAITING:
            self._waiting.remove(place)
        if was is not At.INSIDE:
            return None
        if not self._waiting:
            self.inside -= 1
            return None
        following = self._waiting.popleft()
        following.at = At.INSIDE
        return following

    def close(self) -> list[Place]:
        """Refuse newcomers, and send the waiting away; who is inside stays. Returns those sent."""
        self.closed = True
        sent = list(self._waiting)
        self._waiting.clear()
        for place in sent:
            place.at = At.GONE
        return sent
