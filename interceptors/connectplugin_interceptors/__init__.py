"""Resilience for any client and server of connectrpc: chains of policies, inside the process."""

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.circuit_breaker.breakers import Breakers, CircuitStatus
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.interceptor import breakers_of
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.errors import (
    CircuitOpenError,
    ConfigError,
    DeadlineExceededError,
    Delivery,
    NoEndpointError,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    delivery,
    retry_after,
)
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fault.config import Fault, FaultPolicy
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.options import with_options
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryBudgetPolicy, RetryPolicy
from connectplugin_interceptors.routing import RoutingTransport
from connectplugin_interceptors.server import (
    BulkheadPolicy,
    DrainPolicy,
    MaskingPolicy,
    Quota,
    ServerDeadlinePolicy,
    ServerRateLimit,
    ServerRateLimitPolicy,
    ServerStack,
)
from connectplugin_interceptors.stack import ClientStack
from connectplugin_interceptors.throttle.config import ThrottlePolicy
from connectplugin_interceptors.transport import TapTransport, make_transport

__all__ = (
    "AdaptiveLimitPolicy",
    "AttemptKind",
    "BalancePolicy",
    "Breakers",
    "BulkheadPolicy",
    "Cause",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "CircuitStatus",
    "ClientStack",
    "Clock",
    "ConfigError",
    "DeadlineExceededError",
    "DeadlinePolicy",
    "Delivery",
    "DrainPolicy",
    "EndpointPool",
    "FallbackPolicy",
    "Fault",
    "FaultPolicy",
    "HedgePolicy",
    "MaskingPolicy",
    "NoEndpointError",
    "Outcome",
    "OutlierEjectionPolicy",
    "OverloadedError",
    "Quota",
    "RateLimitPolicy",
    "RateLimitedError",
    "RejectedError",
    "RetryBudgetPolicy",
    "RetryPolicy",
    "RoutingTransport",
    "ServerDeadlinePolicy",
    "ServerRateLimit",
    "ServerRateLimitPolicy",
    "ServerStack",
    "SystemClock",
    "TapTransport",
    "ThrottlePolicy",
    "breakers_of",
    "delivery",
    "make_transport",
    "retry_after",
    "with_options",
)
