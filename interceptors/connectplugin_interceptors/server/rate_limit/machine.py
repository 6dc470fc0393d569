"""What a refused client is told, so that the moment it is told is never too early.

Nothing is kept here; the buckets are those of `connectplugin_interceptors.rate_limit.machine`. What
if the client comes later than told, or never? Its bucket is fuller, and that is all.
"""

import math
from dataclasses import dataclass

_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hint:
    """One wait in three units, each rounded up.

    Attributes:
        seconds: Whole, and never 0: "at once" would be refused again.
        milliseconds: Whole.
        nanoseconds: Whole.
    """

    seconds: int
    milliseconds: int
    nanoseconds: int


def hint(wait: float) -> Hint:
    """Spell a wait of so many seconds, which is positive."""
    nanoseconds = math.ceil(wait * _NANOS)
    return Hint(
        max(1, -(-nanoseconds // _NANOS)), max(1, -(-nanoseconds // 1_000_000)), nanoseconds
    )


def address_key(client_address: str | None) -> str | None:
    """The address without its port; None for a peer that has none.

    Every connection of a client has a port of its own: kept, it would give each a fresh quota.
    A port of 0 is no TCP peer, but an application that is called in this process.
    """
    if client_address is None:
        return None
    host, _, port = client_address.rpartition(":")
    return None if port == "0" else host
