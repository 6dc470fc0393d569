"""What a server writes beside an error, so that clients know how to go on."""

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.wire import NACK_HEADER, PUSHBACK_HEADER


def push_back(ctx: Ctx, seconds: float | None) -> None:
    """Tell the client when to try again; None: not at all.

    Written into the response's headers, and for gRPC into its trailers too, which is where stock
    gRPC clients look.
    """
    value = "-1" if seconds is None else str(max(0, round(seconds * 1000.0)))
    ctx.response_headers[PUSHBACK_HEADER] = value
    if ctx.request_headers.get("content-type", "").startswith("application/grpc"):
        ctx.response_trailers[PUSHBACK_HEADER] = value


def refuse_unprocessed(ctx: Ctx, reason: str) -> None:
    """Mark the response as a refusal before any processing: the call is safe to send again."""
    ctx.response_headers[NACK_HEADER] = reason


def expired(ctx: Ctx) -> ConnectError:
    """Mark the response as a refusal, and make its error."""
    refuse_unprocessed(ctx, "expired")
    return ConnectError(Code.DEADLINE_EXCEEDED, "the deadline was over before the call was started")
