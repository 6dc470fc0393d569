"""Tells listeners of the calls that a server has refused before anything of them was processed."""

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.events import CallRefused, Emit
from connectplugin_interceptors.wire import NACK_HEADER, PUSHBACK_HEADER


class Refusals:
    """A metadata interceptor, outside of all that refuse: it reads what they write to the client.

    Args:
        name: The server's name in events.
        emit: Who is told.
    """

    def __init__(self, *, name: str, emit: Emit) -> None:
        self._name = name
        self._emit = emit

    async def on_start(self, ctx: Ctx) -> None:
        """Nothing yet."""

    async def on_end(self, token: None, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Tell of a refusal."""
        reason = None if error is None else ctx.response_headers.get(NACK_HEADER)
        if reason is None:
            return
        after = ctx.response_headers.get(PUSHBACK_HEADER)
        method = f"{ctx.method.service_name}/{ctx.method.name}"
        retry_after = None if after is None else int(after) / 1000.0
        self._emit(CallRefused(self._name, method, reason, retry_after))

    def __repr__(self) -> str:
        return "Refusals()"
