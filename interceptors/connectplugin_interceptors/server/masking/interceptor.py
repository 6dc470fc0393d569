"""The shell of error masking: the outermost link of a server's chain."""

import logging
import secrets
from typing import TYPE_CHECKING, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.errors import DeadlineExceededError, RejectedError
from connectplugin_interceptors.server.answer import push_back
from connectplugin_interceptors.server.masking.config import MaskingPolicy
from connectplugin_interceptors.server.masking.machine import Masking, mask

if TYPE_CHECKING:
    from types import TracebackType

_logger = logging.getLogger("connectplugin.server")

_CLIENT_MODULES: Final = frozenset({"connectrpc._client_async", "connectrpc._client_sync"})


def is_outbound(error: BaseException) -> bool:
    """Whether an error came out of a call that the handler made.

    Told by the frames that it passed through: every call of a generated client goes through
    connectrpc's client, and an error that the handler raises itself does not.
    """
    if isinstance(error, RejectedError | DeadlineExceededError):
        return True
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") in _CLIENT_MODULES:
            return True
        trace = trace.tb_next
    return False


class ErrorMasking:
    """A metadata interceptor that replaces errors in `on_end`.

    It does nothing in `on_start`, so that every error of the links behind it comes past.
    """

    def __init__(self, policy: MaskingPolicy) -> None:
        self._policy = policy

    async def on_start(self, ctx: Ctx) -> None:
        """Nothing yet."""

    async def on_end(self, token: None, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Raise what the client may know in place of what happened."""
        if error is None:
            return
        outbound = is_outbound(error)
        code = error.code if isinstance(error, ConnectError) else None
        verdict = mask(
            None if code is None else code.value,
            outbound=outbound,
            has_cause=error.__cause__ is not None,
        )
        if verdict is Masking.PASS:
            return
        if self._policy.no_retry_after_outbound and (outbound or verdict is Masking.OUTBOUND):
            push_back(ctx, None)
        reference = secrets.token_hex(6)
        _log(reference, ctx, error, verdict)
        if verdict is Masking.INTERNAL:
            masked = ConnectError(Code.INTERNAL, f"internal error (reference {reference})")
        elif verdict is Masking.OUTBOUND and code is not None:
            masked = ConnectError(code, f"a call behind this one failed (reference {reference})")
        else:
            masked = ConnectError(
                Code.UNAVAILABLE, f"a call behind this one was cut off (reference {reference})"
            )
        raise masked from None

    def __repr__(self) -> str:
        return "ErrorMasking()"


def _log(reference: str, ctx: Ctx, error: Exception, verdict: Masking) -> None:
    method = f"{ctx.method.service_name}/{ctx.method.name}"
    if verdict is Masking.INTERNAL:
        _logger.error("%s failed (reference %s)", method, reference, exc_info=error)
    else:
        # The tier below logs its own failure; here it is one line, not a traceback per call.
        _logger.warning("%s failed (reference %s): a call behind it: %s", method, reference, error)
