"""Between which bounds the limit may move, and how fast it is learned."""

from dataclasses import dataclass

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveLimitPolicy:
    """A limit of calls in flight that follows the latency.

    When calls begin to take longer than they lately did, they wait for each other somewhere, and
    the limit is lowered until they do not; while they take no longer it is raised. Only unary calls
    are measured; a stream holds a slot until it ends. What finds no slot is refused unprocessed.

    Attributes:
        min_limit: Calls in flight that are always let in. Default 1.
        max_limit: Calls in flight that are never exceeded. Default 200.
        initial_limit: Where the limit begins. Default None: at `max_limit`, so that nobody is
            refused before something is known.
        window: Seconds that are measured for each change, at least; longer while calls take long,
            and until there are 50 samples. Default 1; from 0.1 to 30.
        max_queue: Calls that may wait for a slot, first come first served. Default 0.
        max_wait: Seconds that a call waits at most. Default 1. Without meaning while `max_queue`
            is 0.
        pushback: Seconds after which a refused client may ask again. Default 0.1.

    Raises:
        ConfigError: A number is out of its range, or they contradict each other.
    """

    min_limit: int = 1
    max_limit: int = 200
    initial_limit: int | None = None
    window: float = 1.0
    max_queue: int = 0
    max_wait: float = 1.0
    pushback: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.integer(self, "min_limit", minimum=1)
        validation.integer(self, "max_limit", minimum=1)
        validation.integer(self, "initial_limit", minimum=1, optional=True)
        validation.number(self, "window", minimum=0.1, maximum=30.0, unit="seconds")
        validation.integer(self, "max_queue", minimum=0)
        validation.number(self, "max_wait", minimum=0.0, unit="seconds")
        validation.number(self, "pushback", minimum=0.0, maximum=60.0, unit="seconds")
        if not self.min_limit <= self.first_limit <= self.max_limit:
            msg = (
                f"AdaptiveLimitPolicy has min_limit={self.min_limit}, initial_limit="
                f"{self.initial_limit}, max_limit={self.max_limit}; they must not be below one "
                "another in this order"
            )
            raise ConfigError(msg)
        if self.max_queue and not self.max_wait:
            msg = (
                f"AdaptiveLimitPolicy.max_wait is 0 with max_queue={self.max_queue!r}: nobody could"
                " ever wait; give max_wait > 0, or max_queue=0"
            )
            raise ConfigError(msg)

    @property
    def first_limit(self) -> int:
        """Where the limit begins."""
        return self.max_limit if self.initial_limit is None else self.initial_limit
