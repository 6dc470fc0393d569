"""From which share of refusals on a client refuses its own calls, and how many of them."""

from dataclasses import dataclass

from connectplugin_interceptors import validation


@dataclass(frozen=True, kw_only=True, slots=True)
class ThrottlePolicy:
    """Refuse calls here that the server would most likely refuse (Google SRE, chapter 21).

    ```
    p(refuse) = max(0, (requests - multiplier * accepts) / (requests + 1))     over the last window
    ```
    Requests are all that were made, also those that were refused here, but for those in flight.
    Accepted is whatever was answered, but for `unavailable` and `resource_exhausted`; a call that
    was cancelled, or refused by another policy of this side, counts as neither. Each service of a
    client counts for itself.

    Attributes:
        multiplier: Requests that are allowed per accepted one. Default 2; at least 1. The lower,
            the fewer calls are sent in vain, and the later a recovery is seen.
        window: Seconds that are remembered. Default 120; at least the longest call.
        max_rejection: The highest share of calls that are refused here. Default 0.8; below 1, or
            nothing would ever tell that the server is back.

    Raises:
        ConfigError: A number is out of its range.
    """

    multiplier: float = 2.0
    window: float = 120.0
    max_rejection: float = 0.8

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "multiplier", minimum=1.0, unit="requests per accepted one")
        validation.number(self, "window", minimum=1.0, unit="seconds")
        validation.number(self, "max_rejection", above=0.0, maximum=0.99)
