"""Limits of calls in flight in a server's chain.

A request that is read whole (unary, server stream) takes its slot when it is there: else a few
hundred connections that dribble their bodies would hold all slots, and do nothing with them. How
much of such bodies is kept meanwhile `Arrivals` bounds. A stream of requests is read by its
handler, so it has its slot from the beginning.

Beside the policies' own folders, since the policies are those of the client's chain too.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

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
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


class _Slots(ABC):
    """A slot for each call while its handler runs."""

    @abstractmethod
    async def _enter(self, ctx: Ctx, *, streams: bool) -> Place:
        """A slot, or a refusal."""

    @abstractmethod
    def _leave(self, place: Place, release: Release) -> None:
        """Hand the slot on."""

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Run the handler in a slot."""
        return await self._single(call_next, request, ctx, streams=False)

    async def intercept_client_stream(
        self, call_next: Unary[AsyncIterator[Q], R], request: AsyncIterator[Q], ctx: Ctx, /
    ) -> R:
        """Run the handler in a slot, while the requests arrive."""
        return await self._single(call_next, request, ctx, streams=True)

    async def _single(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, *, streams: bool) -> R:
        place = await self._enter(ctx, streams=streams)
        release = Release.IGNORE
        try:
            response = await call_next(request, ctx)
            release = Release.SUCCESS
        except BaseException as error:
            release = _release(error)
            raise
        finally:
            self._leave(place, release)
        return response

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Run the handler in a slot, until its stream has ended."""
        place = await self._enter(ctx, streams=True)
        try:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
        finally:
            self._leave(place, Release.IGNORE)

    intercept_bidi_stream: Any = intercept_server_stream


class ServerBulkhead(_Slots):
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

    async def _enter(self, ctx: Ctx, *, streams: bool) -> Place:  # noqa: ARG002  # all alike
        """Wait for a slot, at most `max_wait` and within the call's deadline."""
        return await _acquire(self._bulkhead, self._policy, ctx, self._name, "limit")

    def _leave(self, place: Place, release: Release) -> None:  # noqa: ARG002  # learns nothing
        self._bulkhead.release(place)

    def __repr__(self) -> str:
        return f"<ServerBulkhead {self._name} {self._bulkhead!r}>"


class ServerAdaptiveLimit(_Slots):
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

    async def _enter(self, ctx: Ctx, *, streams: bool) -> Place:
        """Take a slot, or wait for one as the policy allows."""
        place = await _acquire(self._limiter, self._policy, ctx, self._name, "adaptive limit")
        if streams:
            self._limiter.keep(place)
        return place

    def _leave(self, place: Place, release: Release) -> None:
        self._limiter.finish(place, release)

    def __repr__(self) -> str:
        return f"<ServerAdaptiveLimit {self._name} {self._limiter!r}>"


def _release(error: BaseException) -> Release:
    if isinstance(error, asyncio.CancelledError):
        # By the client, or by connectrpc's timer of the client's deadline.
        call = inbound.get()
        left = None if call is None else call.remaining()
        return Release.DROPPED if left is not None and left <= 0.0 else Release.IGNORE
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
