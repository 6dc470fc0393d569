"""How many calls a second a server takes from whom."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from connectplugin_interceptors import validation
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.patterns import check_pattern

ServerRateLimitKey: TypeAlias = Literal["address", "method"] | Callable[[Ctx], str | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A rate, and how much of it may come at once.

    Attributes:
        per_second: Calls that are gained each second. At least 0.000001.
        burst: Calls that may come at once. Default None: what is gained in one second, at least 1.

    Raises:
        ConfigError: A number is out of its range.
    """

    per_second: float
    burst: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_rate(self)

    @property
    def bucket(self) -> float:
        """Calls that may come at once."""
        return max(1.0, self.per_second) if self.burst is None else self.burst


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerRateLimitPolicy:
    """Refuse who calls too often; a server never lets him wait.

    A refused call gets `resource_exhausted` and, to the tick, when there will be room: in
    `google.rpc.RetryInfo`, `grpc-retry-pushback-ms`, `retry-after` and `x-ratelimit-reset` (these
    two in whole seconds, rounded up). It was not processed: `x-connectplugin-nack: rate_limited`.

    Attributes:
        per_second: Calls that each key gains each second. At least 0.000001.
        burst: Calls of a key that may come at once. Default None: what is gained in one second, at
            least 1.
        key: Who counts together: all calls from one `"address"` (default; without its port), all
            of one `"method"`, or those for which a function of the context returns the same text.
            Calls without an address (unix sockets, in this process), or for which the function
            returns None, are not limited. At most 10,000 keys are known at a time; beyond, the
            ones that have most left are forgotten.
        methods: Quotas of their own for `package.Service/Method`, or together for all of
            `package.Service/*`; None: not limited. What counts here does not count above.
        tell_quota: Whether the headers `x-ratelimit-limit`, `-remaining` and `-reset` (seconds
            until the quota is whole) stand on every response, not on refusals only. Default False.

    Raises:
        ConfigError: A field cannot work.
    """

    per_second: float
    burst: float | None = None
    key: ServerRateLimitKey = "address"
    methods: Mapping[str, Quota | None] = field(default_factory=dict[str, Quota | None])
    tell_quota: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_rate(self)
        validation.instance(self, "tell_quota", bool)
        key: Any = self.key
        if not callable(key) and key not in ("address", "method"):
            msg = (
                f"ServerRateLimitPolicy.key is {key!r}; it must be 'address', 'method', or a "
                "function of the context that returns a str or None"
            )
            raise ConfigError(msg)
        validation.instance(self, "methods", Mapping)
        object.__setattr__(self, "methods", dict(self.methods))
        for pattern, quota in self.methods.items():
            check_pattern(pattern, "ServerRateLimitPolicy.methods")
            given: Any = quota
            if given is not None and not isinstance(given, Quota):
                msg = (
                    f"ServerRateLimitPolicy.methods[{pattern!r}] is {given!r}; it must be a Quota, "
                    "such as Quota(per_second=10, burst=20), or None"
                )
                raise ConfigError(msg)

    @property
    def quota(self) -> Quota:
        """What holds for methods that are not named."""
        return Quota(per_second=self.per_second, burst=self.burst)


def check_rate(owner: Quota | ServerRateLimitPolicy) -> None:
    """Refuse a rate or a burst that makes no sense."""
    validation.number(owner, "per_second", minimum=1e-6, maximum=1e9, unit="calls per second")
    validation.number(owner, "burst", minimum=1.0, maximum=1e9, optional=True, unit="calls")
