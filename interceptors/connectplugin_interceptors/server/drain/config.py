"""How a server that is about to stop answers."""

from dataclasses import dataclass

from connectplugin_interceptors import validation


@dataclass(frozen=True, kw_only=True, slots=True)
class DrainPolicy:
    """Refuse new calls once draining has begun, and count those in flight.

    A refused call gets `unavailable` with the header `x-connectplugin-nack: draining`: it was not
    processed, and is safe to send elsewhere whatever its idempotency.

    Attributes:
        pushback: Seconds after which a refused client may ask this server again
            (`grpc-retry-pushback-ms`). Default 0.1.

    Raises:
        ConfigError: `pushback` is negative or above 60 s.
    """

    pushback: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "pushback", minimum=0.0, maximum=60.0, unit="seconds")
