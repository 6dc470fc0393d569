"""Limits of calls in flight in a server's chain: metadata interceptors, so no refused body is read.

Beside the policies' own folders, since the policies are those of the client's chain too.
"""

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.interceptor import AdaptiveLimit
from connectplugin_interceptors.adaptive.machine import Release
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.bulkhead.interceptor import Bulkhead, Full
from connectplugin_interceptors.bulkhead.machine import Place
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.inbound import inbound
from connectplugin_interceptors.outcome import Outcome, classify
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
        return await _acquire(self._bulkhead, self._policy, ctx, self._name, "limit")

    async def on_end(self, token: Place, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Hand the slot on."""
        self._bulkhead.release(token)

    def __repr__(self) -> str:
        return f"<ServerBulkhead {self._name} {self._bulkhead!r}>"


class ServerAdaptiveLimit:
    """As many calls in flight as do not have to wait for each other, learned from their latency."""

    def __init__(
        self, policy: AdaptiveLimitPolicy, *, name: str = "", clock: Clock | None = None
    ) -> None:
        self._policy = policy
        self._name = name
        time = SystemClock() if clock is None else clock
        self._limiter = AdaptiveLimit(policy, clock=time)

    @property
    def limit(self) -> int:
        """Short calls that may be in flight now."""
        return self._limiter.limit

    @property
    def in_flight(self) -> int:
        """Calls that hold a slot."""
        return self._limiter.in_flight

    async def on_start(self, ctx: Ctx) -> Place:
        """Take a slot, or wait for one as the policy allows."""
        place = await _acquire(self._limiter, self._policy, ctx, self._name, "adaptive limit")
        if ctx.method.stream_type is not StreamType.UNARY:
            self._limiter.keep(place)
        return place

    async def on_end(self, token: Place, ctx: Ctx, error: Exception | None, /) -> None:  # noqa: ARG002
        """Hand the slot on, and learn from how long it was held."""
        self._limiter.finish(token, _release(error))

    def __repr__(self) -> str:
        return f"<ServerAdaptiveLimit {self._name} {self._limiter!r}>"


def _release(error: Exception | None) -> Release:
    if error is None:
        return Release.SUCCESS
    if isinstance(error, ConnectError):
        if error.code is Code.DEADLINE_EXCEEDED:
            return Release.DROPPED
        if classify(error).outcome is Outcome.ANSWERED:
            return Release.SUCCESS
    return Release.IGNORE


async def _acquire(
    limiter: Bulkhead,
    policy: BulkheadPolicy | AdaptiveLimitPolicy,
    ctx: Ctx,
    name: str,
    kind: str,
) -> Place:
    """A slot of the limiter, within the call's deadline.

    Raises:
        ConnectError: There is none; marked as not processed.
    """
    call = inbound.get()
    left = None if call is None else call.remaining()
    try:
        place = await limiter.acquire(policy.max_wait, left)
    except Full:
        if left is not None and call is not None and (call.remaining() or 0.0) <= 0.0:
            raise expired(ctx) from None
        refuse_unprocessed(ctx, "overloaded")
        push_back(ctx, policy.pushback)
        whose = f"plugin {name!r}" if name else "the server"
        msg = f"{whose} is at its {kind} of {limiter.slots} calls in flight"
        raise ConnectError(Code.UNAVAILABLE, msg) from None
    if call is not None and (left := call.remaining()) is not None and left <= 0.0:
        limiter.release(place)
        raise expired(ctx)
    return place
