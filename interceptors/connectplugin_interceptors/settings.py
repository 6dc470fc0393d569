"""The policies in force for one method, and one call's changes to them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from connectplugin_interceptors import validation
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
        validation.instance(self, "fallback", FallbackPolicy, optional=True)
        validation.instance(self, "deadline", DeadlinePolicy, optional=True)
        validation.instance(self, "throttle", ThrottlePolicy, optional=True)
        validation.instances(
            self, "concurrency", (BulkheadPolicy, AdaptiveLimitPolicy), optional=True
        )
        validation.instance(self, "retry_policy", RetryPolicy, optional=True)
        validation.instance(self, "circuit_breaker", CircuitBreakerPolicy, optional=True)
        validation.instance(self, "rate_limit", RateLimitPolicy, optional=True)
        validation.instance(self, "fault", FaultPolicy, optional=True)
        validation.instance(self, "hedge", HedgePolicy, optional=True)
        validation.instance(self, "load_balancing", BalancePolicy, optional=True)
        validation.instance(self, "wait_for_ready", bool)


POLICY_NAMES = tuple(Settings.__dataclass_fields__)

Changes: TypeAlias = Mapping[str, Any]
"""Field names of `Settings` with their new values."""


def check_names(changes: Changes, *, also: tuple[str, ...] = ()) -> None:
    """Refuse a policy that does not exist."""
    for name in changes:
        if name not in POLICY_NAMES and name not in also:
            known = ", ".join((*POLICY_NAMES, *also))
            msg = f"there is no option {name!r}; there are: {known}"
            raise ConfigError(msg)


def change(settings: Settings, changes: Changes) -> Settings:
    """Settings with some fields replaced."""
    check_names(changes)
    return replace(settings, **changes)
