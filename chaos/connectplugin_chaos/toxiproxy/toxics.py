"""The toxics, as values that cannot hurt the server.

Some values kill toxiproxy v2.12.0 (a slicer's average size of 0, a negative rate), and unknown
attributes are dropped in silence: so each toxic is a dataclass that refuses what cannot work.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar, Final, Literal, TypeAlias

Stream: TypeAlias = Literal["upstream", "downstream"]
"""`upstream` is from the client to the server, `downstream` back."""

FROZEN_MS: Final = 3_600_000
"""A latency of an hour: nothing moves, and nothing is lost."""

_MOST_MS: Final = FROZEN_MS


class ToxicError(ValueError):
    """A toxic with a value that cannot work, or that would kill the server."""


def _check(toxic: object, field: str, minimum: int, maximum: int = 2**53, why: str = "") -> None:
    value = getattr(toxic, field)
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        reason = f": {why}" if why else ""
        msg = (
            f"{type(toxic).__name__}.{field} is {value!r}; it must be a whole number from {minimum}"
            f" to {maximum}{reason}"
        )
        raise ToxicError(msg)


@dataclass(frozen=True, slots=True)
class Latency:
    """Delays each chunk; order is kept. `latency` and `jitter` in milliseconds."""

    type: ClassVar[str] = "latency"
    latency: int
    jitter: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check(self, "latency", 0, _MOST_MS)
        _check(self, "jitter", 0, self.latency, "it is added or taken away")


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits each connection to `rate` kilobytes a second."""

    type: ClassVar[str] = "bandwidth"
    rate: int

    def __post_init__(self) -> None:
        """Refuse what kills the server."""
        _check(self, "rate", 1, why="0 freezes by accident, a negative rate kills toxiproxy")


@dataclass(frozen=True, slots=True)
class Timeout:
    """Drops what is sent; closes after `timeout` milliseconds without data, with 0 never."""

    type: ClassVar[str] = "timeout"
    timeout: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check(self, "timeout", 0, _MOST_MS)


@dataclass(frozen=True, slots=True)
class SlowClose:
    """Delays the close of a connection by `delay` milliseconds, and nothing else."""

    type: ClassVar[str] = "slow_close"
    delay: int = FROZEN_MS

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check(self, "delay", 0, _MOST_MS)


@dataclass(frozen=True, slots=True)
class ResetPeer:
    """Resets connections that were opened after it was added, on their first data."""

    type: ClassVar[str] = "reset_peer"
    timeout: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check(self, "timeout", 0, _MOST_MS)


@dataclass(frozen=True, slots=True)
class LimitData:
    """Lets exactly `bytes` through on each connection, then closes it."""

    type: ClassVar[str] = "limit_data"
    bytes: int

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check(self, "bytes", 0)


@dataclass(frozen=True, slots=True)
class Slicer:
    """Cuts chunks into pieces of about `average_size` bytes, `delay` microseconds apart."""

    type: ClassVar[str] = "slicer"
    average_size: int
    size_variation: int = 0
    delay: int = 0

    def __post_init__(self) -> None:
        """Refuse what kills the server."""
        _check(self, "average_size", 1, why="0 kills toxiproxy")
        _check(
            self,
            "size_variation",
            0,
            self.average_size - 1,
            "a variation of the average or more kills toxiproxy",
        )
        _check(self, "delay", 0)


Toxic: TypeAlias = Latency | Bandwidth | Timeout | SlowClose | ResetPeer | LimitData | Slicer


def attributes(toxic: Toxic) -> dict[str, int]:
    """As the API wants them."""
    return asdict(toxic)
