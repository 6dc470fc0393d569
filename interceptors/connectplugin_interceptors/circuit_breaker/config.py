"""When an endpoint is left alone, for how long, and what brings it back."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError

Scope: TypeAlias = Literal["service", "method", "endpoint"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CircuitBreakerPolicy:
    """When a circuit opens, and how it closes again.

    A circuit opens after `failure_threshold` failures in a row, or when `failure_rate` of at least
    `minimum_calls` calls within `window` have failed. While it is open, calls are refused at once
    (`CircuitOpenError`). After `timeout` it is half open: `probes` calls at a time are let through,
    the rest is refused, and `success_threshold` successes close it, while one failure opens it
    again for twice as long, up to `max_timeout`.

    Only what the peer or the way to it has done wrong is a failure, an expired deadline included.
    An error of the application (`not_found`, ...), a cancellation by the caller and a refusal by a
    policy, of this side or of the server's (overload, a quota, work that came too late), are none;
    only the refusal of a server that drains is one, since that instance goes away. A probe that is
    refused leaves the circuit half open; the next goes when the server wants it, and after a
    `lease` of nothing but refusals the circuit closes.

    Attributes:
        failure_threshold: Failures in a row that open the circuit. Default 5; None: a run of
            failures alone does not open it.
        failure_rate: Share of failures that opens the circuit, above 0 and at most 1. Default 0.5;
            None: no share does.
        minimum_calls: Calls that must lie within the window before a share counts. Default 20.
        window: Seconds that calls are remembered, in ten buckets. Default 10.
        timeout: Seconds that the circuit stays open the first time, at least; it doubles each time
            that a probe fails, and starts anew once the circuit has closed. Default 1.
        max_timeout: Seconds that it stays open at most, jitter included. Default 5: a probe each
            five seconds costs nothing, and an outage must not last much longer on this side than
            on the other.
        jitter: Share of the time that is added to it at most, by chance, so that many clients do
            not come back together. Default 0.5; from 0 to 1.
        success_threshold: Probes that must succeed to close the circuit. Default 1.
        probes: Probes that may be out at a time. Default 1.
        lease: Seconds after which the place of a probe that never came back is given to another.
            Default 10. Not less than the deadline of an attempt.
        slow_call_duration: Seconds from which a call counts as slow; for a stream of responses
            until its first message. A slow probe counts as failed. Default None: no call is slow,
            and added latency alone opens no circuit.
        slow_call_rate: Share of slow calls that opens the circuit, above 0 and at most 1. Given
            together with `slow_call_duration`, or not at all.
        min_blame_timeout: An expired deadline counts against the peer only if it was given this
            many seconds. Default 0. Raise it if callers' deadlines undercut what the peer
            normally takes.
        max_hint: Seconds that a server may ask to be left alone (`retry-after`, ...); a hint
            raises the time that the circuit stays open, above `max_timeout` too. Default 300.
        scope: What of an endpoint one circuit guards. `"service"` (default): each of its services
            (each plugin) has its own, since one that hangs must not take its neighbours along; of a
            dead endpoint each learns by itself, by a few failures. `"method"`: each method.
            `"endpoint"`: all of it together.
        dry_run: Whether to let everything through, and only tell in events what would have been
            refused. Default False.

    Raises:
        ConfigError: A field is out of its bounds, or two of them do not go together.
    """

    failure_threshold: int | None = 5
    failure_rate: float | None = 0.5
    minimum_calls: int = 20
    window: float = 10.0
    timeout: float = 1.0
    max_timeout: float = 5.0
    jitter: float = 0.5
    success_threshold: int = 1
    probes: int = 1
    lease: float = 10.0
    slow_call_duration: float | None = None
    slow_call_rate: float | None = None
    min_blame_timeout: float = 0.0
    max_hint: float = 300.0
    scope: Scope = "service"
    dry_run: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.integer(self, "failure_threshold", minimum=1, optional=True)
        for field in ("minimum_calls", "success_threshold", "probes"):
            validation.integer(self, field, minimum=1)
        for field in ("failure_rate", "slow_call_rate"):
            validation.number(self, field, above=0, maximum=1, optional=True)
        validation.number(self, "window", minimum=0.1, unit="seconds")
        for field in ("timeout", "max_timeout", "lease"):
            validation.number(self, field, minimum=0.001, unit="seconds")
        validation.number(self, "slow_call_duration", above=0, optional=True, unit="seconds")
        validation.number(self, "jitter", minimum=0, maximum=1)
        for field in ("min_blame_timeout", "max_hint"):
            validation.number(self, field, minimum=0, unit="seconds")
        validation.instance(self, "dry_run", bool)
        if self.scope not in get_args(Scope):
            known = ", ".join(map(repr, get_args(Scope)))
            msg = f"CircuitBreakerPolicy.scope is {self.scope!r}; it must be one of {known}"
            raise ConfigError(msg)
        self._check_together()

    def part(self, path: str) -> str:
        """What of an endpoint the circuit of a method guards.

        Args:
            path: `package.Service/Method`.

        Returns:
            The path, `package.Service/*`, or nothing for all of it.
        """
        match self.scope:
            case "method":
                return path
            case "service":
                return path.partition("/")[0] + "/*"
            case "endpoint":
                return ""

    def _check_together(self) -> None:
        if self.timeout > self.max_timeout:
            msg = (
                f"CircuitBreakerPolicy.timeout is {self.timeout!r}, above max_timeout "
                f"({self.max_timeout!r}): raise max_timeout, or start lower"
            )
            raise ConfigError(msg)
        if (self.slow_call_duration is None) != (self.slow_call_rate is None):
            msg = (
                f"CircuitBreakerPolicy.slow_call_duration is {self.slow_call_duration!r} and "
                f"slow_call_rate is {self.slow_call_rate!r}: one means nothing without the other; "
                "give both, or neither"
            )
            raise ConfigError(msg)
        if self.failure_threshold is None and self.failure_rate is None:
            msg = (
                "CircuitBreakerPolicy.failure_threshold and failure_rate are both None: no failure "
                "would ever open the circuit; give one of them, or turn the breaker off with "
                "circuit_breaker=None"
            )
            raise ConfigError(msg)
