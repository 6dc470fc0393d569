"""How many calls a second a client may make, and who counts together."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from connectplugin_interceptors import validation
from connectplugin_interceptors.call import CallContext
from connectplugin_interceptors.errors import ConfigError

RateLimitKey: TypeAlias = Literal["endpoint", "method"] | Callable[[CallContext], str]
RateLimitAmount: TypeAlias = float | Callable[[CallContext], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimitPolicy:
    """A bucket of tokens for each key; every attempt pays, so retries do.

    An attempt that finds too few tokens waits for them, first come first served, if the wait fits
    the call's deadline and `max_wait`; else it is refused at once with a `RateLimitedError`, whose
    `retry_after` says when there would have been enough.

    Attributes:
        per_second: Tokens that a bucket gains each second. At least 0.000001.
        burst: Tokens that a bucket holds, with which it also begins. Default None: what is gained
            in one second, at least 1.
        key: Who shares a bucket: all attempts to one `"endpoint"` (default), all of one `"method"`,
            or those for which a function of the attempt's context returns the same text. There are
            at most 10,000 buckets; beyond, the fullest ones are forgotten, which costs nothing
            where they are full.
        amount: Tokens that an attempt costs, or a function of its context that tells. Default 1.
            What costs more than `burst` is always refused.
        max_wait: Seconds that an attempt waits at most; 0: it never waits. Default None: as long as
            the call's deadline allows.

    Raises:
        ConfigError: A number is out of its range, or `key` is of another kind.
    """

    per_second: float
    burst: float | None = None
    key: RateLimitKey = "endpoint"
    amount: RateLimitAmount = 1.0
    max_wait: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "per_second", minimum=1e-6, maximum=1e9, unit="tokens per second")
        validation.number(self, "burst", minimum=1.0, maximum=1e9, optional=True, unit="tokens")
        validation.number(self, "max_wait", minimum=0.0, optional=True, unit="seconds")
        key: Any = self.key
        if not callable(key) and key not in ("endpoint", "method"):
            msg = (
                f"RateLimitPolicy.key is {key!r}; it must be 'endpoint', 'method', or a function "
                "of the attempt's context that returns a str"
            )
            raise ConfigError(msg)
        if not callable(self.amount):
            validation.number(self, "amount", above=0.0, unit="tokens")
            if self.amount > self.bucket:
                msg = (
                    f"RateLimitPolicy.amount is {self.amount!r}, above the {self.bucket:g} tokens "
                    "that a bucket holds: every call would be refused; raise burst"
                )
                raise ConfigError(msg)

    @property
    def bucket(self) -> float:
        """Tokens that a bucket holds."""
        return max(1.0, self.per_second) if self.burst is None else self.burst
