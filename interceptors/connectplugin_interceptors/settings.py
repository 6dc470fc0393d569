"""The policies in force for one method, and one call's changes to them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fault.config import FaultPolicy
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.throttle.config import ThrottlePolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One spelling everywhere: these words are `ClientStack`'s, `with_options`'s, `ClientConfig`'s.

    Attributes:
        fallback: See `FallbackPolicy`; None: a failed call has failed.
        deadline: See `DeadlinePolicy`; None turns limits of this side off.
        throttle: See `ThrottlePolicy`; None: what the server refuses is sent all the same.
        concurrency: See `BulkheadPolicy` and `AdaptiveLimitPolicy`; None: no limit of this side.
        retry_policy: See `RetryPolicy`; None: one attempt.
        circuit_breaker: See `CircuitBreakerPolicy`; None: endpoints are asked however they fail.
        rate_limit: See `RateLimitPolicy`; None: no limit of this side.
        hedge: See `HedgePolicy`; None: no hedging. Calls that are hedged are not retried.
        fault: See `FaultPolicy`; None: nothing goes wrong on purpose.
        load_balancing: See `BalancePolicy`; None: the first endpoint that can be had.
        wait_for_ready: A call that cannot be sent, because nothing can be reached, waits within its
            deadline instead of failing. Off by default, as in gRPC.
    """

    fallback: FallbackPolicy | None = None
    deadline: DeadlinePolicy | None = DeadlinePolicy()
    throttle: ThrottlePolicy | None = None
    concurrency: BulkheadPolicy | AdaptiveLimitPolicy | None = BulkheadPolicy()
    retry_policy: RetryPolicy | None = RetryPolicy()
    circuit_breaker: CircuitBreakerPolicy | None = CircuitBreakerPolicy()
    rate_limit: RateLimitPolicy | None = None
    fault: FaultPolicy | None = None
    hedge: HedgePolicy | None = None
    load_balancing: BalancePolicy | None = BalancePolicy()
    wait_for_ready: bool = False

    def __post_init__(self) -> None:
        """Refuse values of the wrong kind, naming the field."""
        check_kinds("Settings.", {name: getattr(self, name) for name in POLICY_NAMES})


POLICY_NAMES = tuple(Settings.__dataclass_fields__)

Changes: TypeAlias = Mapping[str, Any]
"""Field names of `Settings` with their new values."""


_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "fallback": (FallbackPolicy,),
    "deadline": (DeadlinePolicy,),
    "throttle": (ThrottlePolicy,),
    "concurrency": (BulkheadPolicy, AdaptiveLimitPolicy),
    "retry_policy": (RetryPolicy,),
    "circuit_breaker": (CircuitBreakerPolicy,),
    "rate_limit": (RateLimitPolicy,),
    "hedge": (HedgePolicy,),
    "fault": (FaultPolicy,),
    "load_balancing": (BalancePolicy,),
}


def check_kinds(where: str, values: Changes) -> None:
    """Refuse policies of the wrong kind.

    Args:
        where: What the caller has written them in, before the name: `"ClientStack."`.
        values: By the names of `Settings`.
    """
    for name, value in values.items():
        kinds = _KINDS.get(name)
        if kinds is None:
            if name != "wait_for_ready" or isinstance(value, bool):
                continue
            wanted = "bool"
        elif value is None or isinstance(value, kinds):
            continue
        else:
            wanted = " or ".join([*(kind.__name__ for kind in kinds), "None"])
        msg = f"{where}{name} is {value!r}; it must be {wanted}"
        raise ConfigError(msg)


def check_names(changes: Changes, *, also: tuple[str, ...] = ()) -> None:
    """Refuse a policy that does not exist."""
    for name in changes:
        if name not in POLICY_NAMES and name not in also:
            known = ", ".join((*POLICY_NAMES, *also))
            msg = f"there is no option {name!r}; there are: {known}"
            raise ConfigError(msg)


def change(settings: Settings, changes: Changes, where: str = "with_options: ") -> Settings:
    """Settings with some fields replaced; `where` they were written, for errors."""
    check_names(changes)
    check_kinds(where, changes)
    return replace(settings, **changes)
