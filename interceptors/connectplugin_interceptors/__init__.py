"""Resilience for any client and server of connectrpc: chains of policies, inside the process."""

from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.errors import (
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    Delivery,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    delivery,
    retry_after,
)
from connectplugin_interceptors.options import with_options
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryBudgetPolicy, RetryPolicy
from connectplugin_interceptors.server import (
    BulkheadPolicy,
    DrainPolicy,
    MaskingPolicy,
    ServerDeadlinePolicy,
    ServerStack,
)
from connectplugin_interceptors.stack import ClientStack
from connectplugin_interceptors.transport import TapTransport, make_transport

__all__ = (
    "AttemptKind",
    "BulkheadPolicy",
    "Cause",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "ClientStack",
    "Clock",
    "ConfigError",
    "DeadlineExceededError",
    "DeadlinePolicy",
    "Delivery",
    "DrainPolicy",
    "MaskingPolicy",
    "Outcome",
    "OverloadedError",
    "RateLimitPolicy",
    "RateLimitedError",
    "RejectedError",
    "RetryBudgetPolicy",
    "RetryPolicy",
    "ServerDeadlinePolicy",
    "ServerStack",
    "SystemClock",
    "TapTransport",
    "delivery",
    "make_transport",
    "retry_after",
    "with_options",
)
