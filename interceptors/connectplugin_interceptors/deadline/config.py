"""How long a call and each of its attempts may take."""

from dataclasses import dataclass
from typing import Final

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError

_DEFAULT_ATTEMPT: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadlinePolicy:
    """Limits of time, all in seconds; None is no limit.

    The call's deadline is the least of what the caller asked for (`timeout_ms=`,
    `with_options(timeout=)`), what is left of the inbound call whose handler makes this one, and
    `total`. Every wait inside the chain (backoff, queues) is paid from it.

    Attributes:
        total: For the whole call with one response (unary, client stream). Default 30, as the
            standard resilience handler of Microsoft.Extensions.Http.
        attempt: For one attempt. Default 10, or `total` where that is less. It ends with the first
            message of a stream of responses, or with the head of the response if the server sends
            that earlier: what flows is not cut.
        stream_total: For the whole of a call with a stream of responses (server stream, bidi).
            Default None: a watch is silent by design.

    Raises:
        ConfigError: A limit is not a positive number, or `attempt` is above `total`.
    """

    total: float | None = 30.0
    attempt: float | None = _DEFAULT_ATTEMPT
    stream_total: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for field in ("total", "attempt", "stream_total"):
            # The wire's unit is the millisecond.
            validation.number(self, field, minimum=0.001, optional=True, unit="seconds")
        if self.attempt is None or self.total is None or self.attempt <= self.total:
            return
        # By identity: who names an attempt's limit is told that it cannot be.
        if self.attempt is _DEFAULT_ATTEMPT:
            object.__setattr__(self, "attempt", self.total)
        else:
            msg = (
                f"DeadlinePolicy.attempt is {self.attempt!r}, above total ({self.total!r}): no "
                "attempt can last longer than its call; set attempt <= total, or attempt=None"
            )
            raise ConfigError(msg)
