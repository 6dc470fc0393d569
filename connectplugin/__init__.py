"""Remote-first plugins over Connect RPC, with the resilience of a service mesh in the process.

All policies, stacks and errors of `connectplugin_interceptors` are here too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectplugin.binding import PluginDefinitionError
    from connectplugin.client import Client
    from connectplugin.config import ClientConfig
    from connectplugin.errors import (
        HandshakeError,
        IncompatibleVersionError,
        MissingCapabilityError,
        PluginError,
        PluginUnavailableError,
    )
    from connectplugin.plugin import BoundPlugin, ConnectPlugin, Plugin, PluginSet
    from connectplugin.serve_config import ServeConfig
    from connectplugin.server import Server, serve
    from connectplugin.serving.app import create_app
    from connectplugin_interceptors import (
        AdaptiveLimitPolicy,
        AttemptKind,
        BalancePolicy,
        Breakers,
        BulkheadPolicy,
        Cause,
        CircuitBreakerPolicy,
        CircuitOpenError,
        CircuitStatus,
        ClientStack,
        Clock,
        ConfigError,
        DeadlineExceededError,
        DeadlinePolicy,
        Delivery,
        DrainPolicy,
        EndpointPool,
        FallbackPolicy,
        Fault,
        FaultPolicy,
        HedgePolicy,
        MaskingPolicy,
        NoEndpointError,
        Outcome,
        OutlierEjectionPolicy,
        OverloadedError,
        Quota,
        RateLimitedError,
        RateLimitPolicy,
        RejectedError,
        RetryBudgetPolicy,
        RetryPolicy,
        RoutingTransport,
        ServerDeadlinePolicy,
        ServerRateLimit,
        ServerRateLimitPolicy,
        ServerStack,
        SystemClock,
        TapTransport,
        ThrottlePolicy,
        breakers_of,
        delivery,
        make_transport,
        retry_after,
        with_options,
    )

__all__ = (
    "AdaptiveLimitPolicy",
    "AttemptKind",
    "BalancePolicy",
    "BoundPlugin",
    "Breakers",
    "BulkheadPolicy",
    "Cause",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "CircuitStatus",
    "Client",
    "ClientConfig",
    "ClientStack",
    "Clock",
    "ConfigError",
    "ConnectPlugin",
    "DeadlineExceededError",
    "DeadlinePolicy",
    "Delivery",
    "DrainPolicy",
    "EndpointPool",
    "FallbackPolicy",
    "Fault",
    "FaultPolicy",
    "HandshakeError",
    "HedgePolicy",
    "IncompatibleVersionError",
    "MaskingPolicy",
    "MissingCapabilityError",
    "NoEndpointError",
    "Outcome",
    "OutlierEjectionPolicy",
    "OverloadedError",
    "Plugin",
    "PluginDefinitionError",
    "PluginError",
    "PluginSet",
    "PluginUnavailableError",
    "Quota",
    "RateLimitPolicy",
    "RateLimitedError",
    "RejectedError",
    "RetryBudgetPolicy",
    "RetryPolicy",
    "RoutingTransport",
    "ServeConfig",
    "Server",
    "ServerDeadlinePolicy",
    "ServerRateLimit",
    "ServerRateLimitPolicy",
    "ServerStack",
    "SystemClock",
    "TapTransport",
    "ThrottlePolicy",
    "breakers_of",
    "create_app",
    "delivery",
    "make_transport",
    "retry_after",
    "serve",
    "with_options",
)

_OWN = {
    "PluginDefinitionError": "connectplugin.binding",
    "Client": "connectplugin.client",
    "ClientConfig": "connectplugin.config",
    "HandshakeError": "connectplugin.errors",
    "IncompatibleVersionError": "connectplugin.errors",
    "MissingCapabilityError": "connectplugin.errors",
    "PluginError": "connectplugin.errors",
    "PluginUnavailableError": "connectplugin.errors",
    "BoundPlugin": "connectplugin.plugin",
    "ConnectPlugin": "connectplugin.plugin",
    "Plugin": "connectplugin.plugin",
    "PluginSet": "connectplugin.plugin",
    "ServeConfig": "connectplugin.serve_config",
    "Server": "connectplugin.server",
    "serve": "connectplugin.server",
    "create_app": "connectplugin.serving.app",
}


def __getattr__(name: str) -> Any:
    """Import on first use: the command line does not need what takes half a second to load."""
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(_OWN.get(name, "connectplugin_interceptors")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
