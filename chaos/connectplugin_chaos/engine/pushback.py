"""A server that refuses, and says when to come back."""

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from protobuf.wkt import Duration

from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_interceptors._gen.google.rpc.error_details_pb import RetryInfo
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.server.answer import push_back

_OWN = ("connectplugin.", "grpc.health.")


class PushBack:
    """Refuses calls before their body is read, for as long as the fault `pushback` is there.

    It does not mark them as unprocessed: a client has to obey what is said, and nothing else.
    """

    def __init__(self, faults: AppFaults) -> None:
        self._faults = faults

    async def on_start(self, ctx: Ctx) -> None:
        """Refuse, or not.

        Raises:
            ConnectError: With the time in header and detail, or the word that nobody should retry.
        """
        if ctx.method.service_name.startswith(_OWN):
            return
        fault = self._faults.draw(("pushback",), ctx.method.name)
        if fault is None:
            return
        code = Code(fault.get("code", "unavailable"))
        delay: float | None = fault.get("delay")
        push_back(ctx, delay)
        if delay is None:
            raise ConnectError(code, "the chaos harness said: do not come back")
        seconds, nanos = divmod(round(delay * 1e9), 1_000_000_000)
        raise ConnectError(
            code,
            f"the chaos harness said: come back in {delay:g} s",
            [RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))],
        )

    async def on_end(self, _token: None, _ctx: Ctx, _error: Exception | None, /) -> None:
        """Nothing."""
