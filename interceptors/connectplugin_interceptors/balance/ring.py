"""A ring of hashes: equal keys meet the same endpoint, and a change moves few of them.

A file of its own, since only one of the ways to pick needs it.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Final, Generic, Protocol, TypeVar

_MOST_POINTS: Final = 128
"""Per endpoint: with so many, shares differ by some 9 % (one part in the root of it)."""

_ALL_POINTS: Final = 16_384
"""On the whole ring: large sets have fewer per endpoint, so that a change stays cheap."""

_LEAST_POINTS: Final = 8


class Keyed(Protocol):
    """What a ring is made of."""

    @property
    def key(self) -> str:
        """Its name, by which it is placed."""
        ...


E = TypeVar("E", bound=Keyed)


class HashRing(Generic[E]):
    """Immutable; made anew when the set of endpoints changes."""

    __slots__ = ("_owners", "_points")

    def __init__(self, endpoints: Sequence[E]) -> None:
        each = max(_LEAST_POINTS, min(_MOST_POINTS, _ALL_POINTS // max(1, len(endpoints))))
        placed = sorted(
            ((point, endpoint) for endpoint in endpoints for point in _points(endpoint.key, each)),
            key=lambda pair: (pair[0], pair[1].key),
        )
        self._points = [point for point, _ in placed]
        self._owners = [endpoint for _, endpoint in placed]

    def walk(self, key: str) -> Iterator[E]:
        """The endpoints for a key, best first, each once."""
        if not self._owners:
            return
        (point,) = _points(key, 1)
        start = bisect_right(self._points, point)
        seen: set[str] = set()
        owners = self._owners
        for offset in range(len(owners)):
            owner = owners[(start + offset) % len(owners)]
            if owner.key not in seen:
                seen.add(owner.key)
                yield owner


def _points(key: str, count: int) -> list[int]:
    """So many 64-bit numbers for a key; a digest holds eight of them."""
    points: list[int] = []
    encoded = key.encode()
    for block in range((count + 7) // 8):
        digest = blake2b(encoded, salt=block.to_bytes(4, "big")).digest()
        points += [int.from_bytes(digest[at : at + 8], "big") for at in range(0, 64, 8)]
    return points[:count]
