"""Machines by policy: methods and calls with equal policies share one, and no others do."""

from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

P = TypeVar("P", bound=Hashable)
M = TypeVar("M")

# `with_options` in a loop, with another number each time, must not grow it for ever.
_MOST: Final = 256


class PerPolicy(Generic[P, M]):
    """Makes a machine when its policy is first seen; of more than 256, the oldest is forgotten.

    Who still uses a machine that was forgotten holds it himself; only its next user gets a new one.
    """

    __slots__ = ("_known", "_last", "_make")

    def __init__(self, make: Callable[[P], M]) -> None:
        self._make = make
        self._known: dict[P, M] = {}
        self._last: tuple[P, M] | None = None

    def of(self, policy: P) -> M:
        """The machine of a policy."""
        # Hashing a dataclass costs more than most machines do, and nearly always it is this one.
        last = self._last
        if last is not None and last[0] is policy:
            return last[1]
        found = self._known.get(policy)
        if found is None:
            found = self._make(policy)
            if len(self._known) >= _MOST:
                del self._known[next(iter(self._known))]
            self._known[policy] = found
        self._last = (policy, found)
        return found

    def all(self) -> list[M]:
        """The machines there are."""
        return list(self._known.values())

    def __repr__(self) -> str:
        return repr(self.all())
