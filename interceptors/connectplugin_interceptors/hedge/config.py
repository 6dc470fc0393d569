"""When a call that is slow gets a second attempt beside the first."""

from dataclasses import dataclass
from typing import Final

from connectplugin_interceptors import validation
from connectplugin_interceptors.retry.config import MOST_ATTEMPTS, RetryBudgetPolicy

_MOST_HEDGES: Final = MOST_ATTEMPTS - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class HedgePolicy:
    """When a slow call gets another attempt, on an endpoint that it has not tried.

    Only calls that may be executed twice are hedged (by their .proto option, or
    `RetryPolicy.idempotent`): unary calls, and server streams until their first message. They are
    not retried: an attempt that fails is followed by the next one at once. All other calls are
    left to `retry_policy`. The first answer wins, be it a success or the application's own error;
    what a broken peer makes (`unavailable`, `internal`, ...) is no answer while another attempt is
    out. If all fail, the call raises the first attempt's error.

    Attributes:
        delay: Seconds after which an attempt is slow. None (default): learned, as the `percentile`
            of the method's own recent latencies; before there are `min_samples` of them, only an
            attempt that has failed is followed by another.
        max_hedges: Attempts beyond the first. Default 1; at most 4.
        percentile: Default 0.95: one call of twenty is hedged.
        min_samples: Default 100.
        min_delay: Seconds, the shortest delay that is learned. Default 0.001.
        budget: What hedges are paid from: the same account as retries, if the policies are equal,
            but without its reserve. None: no budget.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    delay: float | None = None
    max_hedges: int = 1
    percentile: float = 0.95
    min_samples: int = 100
    min_delay: float = 0.001
    budget: RetryBudgetPolicy | None = RetryBudgetPolicy()

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "delay", minimum=0.001, optional=True, unit="seconds")
        validation.integer(self, "max_hedges", minimum=1, maximum=_MOST_HEDGES)
        validation.number(self, "percentile", minimum=0.5, maximum=0.999)
        validation.integer(self, "min_samples", minimum=1)
        validation.number(self, "min_delay", minimum=0.001, unit="seconds")
        validation.instance(self, "budget", RetryBudgetPolicy, optional=True)
