"""How many calls may be inside at a time."""

from dataclasses import dataclass

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class BulkheadPolicy:
    """Slots, and a queue before them.

    A stream holds its slot until it ends. What finds the queue full, or waits longer than it may,
    is refused unprocessed; waiting is paid from the call's deadline.

    Attributes:
        max_in_flight: Calls inside at a time. Default 1000.
        max_queue: Calls that may wait for a slot, first come first served. Default 0: queueing is
            latency, and is asked for.
        max_wait: Seconds that a call waits at most. Default 1. Without meaning while `max_queue`
            is 0.
        pushback: Seconds after which a refused client may ask again. Default 0.1.

    Raises:
        ConfigError: A number is out of its range.
    """

    max_in_flight: int = 1000
    max_queue: int = 0
    max_wait: float = 1.0
    pushback: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.integer(self, "max_in_flight", minimum=1)
        validation.integer(self, "max_queue", minimum=0)
        validation.number(self, "max_wait", minimum=0.0, unit="seconds")
        validation.number(self, "pushback", minimum=0.0, maximum=60.0, unit="seconds")
        if self.max_queue and not self.max_wait:
            msg = (
                f"BulkheadPolicy.max_wait is 0 with max_queue={self.max_queue!r}: nobody could ever"
                " wait; give max_wait > 0, or max_queue=0"
            )
            raise ConfigError(msg)
