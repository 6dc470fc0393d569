"""Header names that this package reads and writes."""

from typing import Final

ATTEMPTS_HEADER = "grpc-previous-rpc-attempts"
"""How many attempts of this call went before (gRPC A6); absent on the first."""

CONNECT_TIMEOUT_HEADER = "connect-timeout-ms"
GRPC_TIMEOUT_HEADER = "grpc-timeout"

PUSHBACK_HEADER = "grpc-retry-pushback-ms"
"""Milliseconds to wait before a retry; negative means "do not retry" (gRPC A6)."""

RETRY_AFTER_HEADER = "retry-after"

NACK_HEADER = "x-connectplugin-nack"
"""Set by a server that refused a call before any of it was processed; the value says why.

A call so refused may be sent again whatever its idempotency (compare Finagle's nacks).
"""

DRAINING: Final = "draining"
"""The nack of a server that stops: this instance will not answer any more calls."""

INSTANCE_HEADER = "x-connectplugin-instance"
"""On every response of a connectplugin server: which start of which process answered."""
