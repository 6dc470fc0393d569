"""When a failed call is tried again, how long it waits before, and how often in all."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from connectrpc.code import Code

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError

MOST_ATTEMPTS: Final = 5
"""As gRPC's service config caps it: attempts 4 and 5 rarely help, and each adds load."""

# Naming the last two changes nothing: they are retried already, when the method is idempotent.
_MAY_OPT_IN: Final = (
    Code.UNKNOWN,
    Code.INTERNAL,
    Code.DATA_LOSS,
    Code.ABORTED,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
)

# A code that is in neither place is the application's answer, or the caller's own wish to stop.
_WHY_NEVER: Final = {
    Code.RESOURCE_EXHAUSTED: "it is retried when the server says how long to wait, never otherwise",
    Code.UNAUTHENTICATED: "the credentials must be renewed first, which is not a retry's business",
}
_WHY_NEVER_OTHERWISE: Final = "the same call would get the same answer"


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryBudgetPolicy:
    """How many retries the successes of the recent past allow.

    Retries withdraw from `ratio * successes + reserve * window`, both counted over the last
    `window` seconds. Successes pay, not requests: a budget that is fed by requests would keep
    paying throughout an outage.

    Attributes:
        ratio: Retries per successful call. Default 0.1; from 0 to 1.
        window: Seconds that successes and retries are remembered, in ten buckets. Default 10;
            at least 0.1.
        reserve: Retries per second that are allowed without any success, so that a client with
            little traffic can retry too. Default 1 (ten per window).

    Raises:
        ConfigError: A field is out of its bounds, or nothing would ever be granted.
    """

    ratio: float = 0.1
    window: float = 10.0
    reserve: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "ratio", minimum=0, maximum=1, unit="retries per success")
        validation.number(self, "window", minimum=0.1, unit="seconds")
        validation.number(self, "reserve", minimum=0, unit="retries per second")
        if self.ratio == 0 and self.reserve * self.window < 1:
            msg = (
                f"RetryBudgetPolicy.ratio is {self.ratio!r} and reserve * window is "
                f"{self.reserve * self.window:g}: no retry would ever be granted; raise one of "
                "them, or turn retries off with RetryPolicy(max_attempts=1)"
            )
            raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetryPolicy:
    """When a failed call is tried again.

    Without any opt-in a retry follows if the call was provably not sent or not processed (any
    method); or if the method is idempotent and the transport broke, an attempt's deadline ran out,
    the server was unavailable, or it was exhausted and said when to come back. Before retry n the
    client waits a random time between 0 and
    `min(initial_backoff * backoff_multiplier ** (n - 1), max_backoff)`, never less than the server
    asks for, and never past the deadline: a wait that does not fit it is not begun.

    Attributes:
        max_attempts: Calls in total, the first included. Default 2; 0 and 1 mean no retry; at
            most 5.
        initial_backoff: Seconds, the ceiling of the first wait. Default 0.05.
        max_backoff: Seconds, the ceiling of every wait of our own. Default 20.
        backoff_multiplier: Growth of the ceiling from wait to wait. Default 2; at least 1.
        retryable_errors: Codes to retry beyond those above; any iterable, kept as a frozenset.
            `UNKNOWN`, `INTERNAL` and `DATA_LOSS` only for idempotent methods (`DATA_LOSS` stands
            also for an answer that could not be decoded, whatever its code); `ABORTED` for any
            method, since the server says that it did not do it. Default none.
        throttle_initial_backoff: Seconds, in the place of `initial_backoff` after a
            `resource_exhausted`. Default 1.
        idempotent: Whether methods may be executed twice; None (default) believes the
            `idempotency_level` option in their .proto. `True` belongs into an override for single
            methods (`ClientStack.for_method`): for all of them it promises more than most can hold.
        budget: What retries are paid from, shared by all calls of a client. None: no budget, so
            an outage multiplies the load by `max_attempts`.

    Raises:
        ConfigError: A field is of the wrong type or out of its bounds.
    """

    max_attempts: int = 2
    initial_backoff: float = 0.05
    max_backoff: float = 20.0
    backoff_multiplier: float = 2.0
    retryable_errors: Collection[Code] = frozenset[Code]()
    throttle_initial_backoff: float = 1.0
    idempotent: bool | None = None
    budget: RetryBudgetPolicy | None = RetryBudgetPolicy()

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.integer(self, "max_attempts", minimum=0, maximum=MOST_ATTEMPTS)
        for field in ("initial_backoff", "max_backoff", "throttle_initial_backoff"):
            validation.number(self, field, minimum=0, unit="seconds")
        validation.number(self, "backoff_multiplier", minimum=1)
        validation.instance(self, "idempotent", bool, optional=True)
        validation.instance(self, "budget", RetryBudgetPolicy, optional=True)
        if self.initial_backoff > self.max_backoff:
            msg = (
                f"RetryPolicy.initial_backoff is {self.initial_backoff!r}, above max_backoff "
                f"({self.max_backoff!r}): raise max_backoff, or start lower"
            )
            raise ConfigError(msg)
        object.__setattr__(self, "retryable_errors", _codes(self.retryable_errors))

    @property
    def retries_malformed(self) -> bool:
        """Whether an answer that could not be decoded was opted in."""
        return Code.DATA_LOSS in self.retryable_errors


def _codes(given: Any) -> frozenset[Code]:
    """The codes opted in, checked one by one."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        msg = (
            f"RetryPolicy.retryable_errors is {given!r}; it must be a collection of "
            "connectrpc.code.Code, such as {Code.ABORTED}"
        )
        raise ConfigError(msg)
    codes: list[Any] = list(given)  # pyright: ignore[reportUnknownArgumentType]  # checked below
    for code in codes:
        if not isinstance(code, Code):
            msg = (
                f"RetryPolicy.retryable_errors holds {code!r}; it must hold members of "
                "connectrpc.code.Code, such as Code.ABORTED"
            )
            raise ConfigError(msg)
        if code not in _MAY_OPT_IN:
            allowed = ", ".join(f"Code.{allowed.name}" for allowed in _MAY_OPT_IN)
            msg = (
                f"RetryPolicy.retryable_errors holds Code.{code.name}, which is never retried by "
                f"opt-in: {_WHY_NEVER.get(code, _WHY_NEVER_OTHERWISE)}; it may hold {allowed}"
            )
            raise ConfigError(msg)
    return frozenset(codes)
