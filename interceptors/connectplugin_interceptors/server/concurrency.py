"""The bulkhead in a server's chain: a metadata interceptor, so that no refused body is read."""

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.bulkhead.interceptor import Bulkhead, Full
from connectplugin_interceptors.bulkhead.machine import Place
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.inbound import inbound
from connectplugin_interceptors.server.answer import expired, push_back, refuse_unprocessed


class ServerBulkhead:
    """Bounds the calls in flight; what is refused or expires in the queue was not processed."""

    def __init__(
        self, policy: BulkheadPolicy, *, name: str = "", clock: Clock | None = None
    ) -> None:
        self._policy = policy
        self._name = name
        self._bulkhead = Bulkhead(slots=policy.max_in_flight, queue=policy.max_queue, clock=clock)

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._bulkhead.in_flight

    @property
    def waiting(self) -> int:
        """Calls that wait for one."""
        return self._bulkhead.waiting

    async def on_start(self, ctx: Ctx) -> Place:
        """Wait for a slot, at most `max_wait` and within the call's deadline."""
        call = inbound.get()
        left = None if call is None else call.remaining()
        try:
            place = await self._bulkhead.acquire(self._policy.max_wait, left)
        except Full:
            if left is not None and call is not None and (call.remaining() or 0.0) <= 0.0:
                raise expired(ctx) from None
            refuse_unprocessed(ctx, "overloaded")
            push_back(ctx, self._policy.pushback)
            whose = f"plugin {self._name!r}" if self._name else "the server"
            msg = f"{whose} is at its limit of {self._policy.max_in_flight} calls in flight"
            raise ConnectError(Code.UNAVAILABLE, msg) from None
        if call is not None and (left := call.remaining()) is not None and left <= 0.0:
            self._bulkhead.release(place)
            raise expired(ctx)
        return place

    async def on_end(self, token: Place, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Hand the slot on."""
        self._bulkhead.release(token)

    def __repr__(self) -> str:
        return f"<ServerBulkhead {self._name} {self._bulkhead!r}>"
