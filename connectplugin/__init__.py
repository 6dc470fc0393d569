"""Remote-first plugins over Connect RPC, with the resilience of a service mesh in the process."""

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
    BulkheadPolicy,
    CircuitBreakerPolicy,
    CircuitOpenError,
    ClientStack,
    ConfigError,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    DrainPolicy,
    MaskingPolicy,
    OverloadedError,
    RateLimitedError,
    RejectedError,
    RetryBudgetPolicy,
    RetryPolicy,
    ServerDeadlinePolicy,
    ServerStack,
    delivery,
    retry_after,
    with_options,
)

__all__ = (
    "BoundPlugin",
    "BulkheadPolicy",
    "CircuitBreakerPolicy",
    "CircuitOpenError",
    "Client",
    "ClientConfig",
    "ClientStack",
    "ConfigError",
    "ConnectPlugin",
    "DeadlineExceededError",
    "DeadlinePolicy",
    "Delivery",
    "DrainPolicy",
    "HandshakeError",
    "IncompatibleVersionError",
    "MaskingPolicy",
    "MissingCapabilityError",
    "OverloadedError",
    "Plugin",
    "PluginError",
    "PluginSet",
    "PluginUnavailableError",
    "RateLimitedError",
    "RejectedError",
    "RetryBudgetPolicy",
    "RetryPolicy",
    "ServeConfig",
    "Server",
    "ServerDeadlinePolicy",
    "ServerStack",
    "create_app",
    "delivery",
    "retry_after",
    "serve",
    "with_options",
)
