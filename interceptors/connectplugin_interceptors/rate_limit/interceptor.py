"""The rate limit's shell: lets attempts in as tokens allow, and waits where that is worth it."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable
from typing import Any, ClassVar, TypeVar

from connectplugin_interceptors._per_policy import PerPolicy
from connectplugin_interceptors.call import SMALLEST_TIMEOUT, CallContext, Ctx, context_of
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import RateLimitedError
from connectplugin_interceptors.events import Emit, Rejected, Waited
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.rate_limit.machine import RateLimitMachine, Turn
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")

_NAME = "rate_limit"


class RateLimit(Link):
    """Every attempt pays its tokens before it is sent; what they were paid for is not asked again.

    Methods with equal policies share their buckets. An attempt that is let in at once costs no
    frame of its own: the next link's awaitable is handed on.
    """

    only_for: ClassVar[str | None] = "rate_limit"

    def __init__(self, *, clock: Clock, emit: Emit | None) -> None:
        self._clock = clock
        self._emit = emit
        self._machines = PerPolicy[RateLimitPolicy, RateLimitMachine](_machine)
        self._waiters: dict[Turn, asyncio.Future[None]] = {}

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Let an attempt in, at once or when its turn has come."""
        own = context_of(ctx)
        policy = own.call.settings.rate_limit
        if policy is None:
            return call_next(request, own)
        machine = self._machines.of(policy)
        if machine.admit(_key(policy, own), _amount(policy, own), self._clock.now()) == 0.0:
            return call_next(request, own)
        return self._unary(policy, call_next, request, own)

    intercept_client_stream: Any = intercept_unary

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Let a stream in; only its beginning pays."""
        own = context_of(ctx)
        policy = own.call.settings.rate_limit
        if policy is None:
            return call_next(request, own)
        return self._stream(policy, call_next, request, own)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _unary(
        self, policy: RateLimitPolicy, call_next: Unary[Q, R], request: Q, ctx: CallContext
    ) -> R:
        await self._pay(policy, ctx)
        return await call_next(request, ctx)

    async def _stream(
        self, policy: RateLimitPolicy, call_next: Stream[Q, R], request: Q, ctx: CallContext
    ) -> AsyncIterator[R]:
        await self._pay(policy, ctx)
        async with closing(call_next(request, ctx)) as responses:
            async for response in responses:
                yield response

    async def _pay(self, policy: RateLimitPolicy, ctx: CallContext) -> None:
        """Take the tokens, now or after a wait; raise if the wait makes no sense."""
        machine = self._machines.of(policy)
        key = _key(policy, ctx)
        amount = _amount(policy, ctx)
        now = self._clock.now()
        wait = machine.admit(key, amount, now)
        if wait == 0.0:
            return
        remaining = ctx.call.remaining(now)
        late = remaining is not None and wait + SMALLEST_TIMEOUT > remaining
        if late or wait == math.inf or (policy.max_wait is not None and wait > policy.max_wait):
            raise self._refusal(policy, ctx, wait, amount)
        # From here to the queue's end nothing may happen that could leave the turn behind.
        await self._wait(machine, machine.enqueue(key, amount), now)
        if self._emit is not None:
            call = ctx.call
            self._emit(Waited(call.name, call.path, _NAME, self._clock.now() - now))

    def _refusal(
        self, policy: RateLimitPolicy, ctx: CallContext, wait: float, amount: float
    ) -> RateLimitedError:
        retry_after: float | None = None
        if wait < math.inf:
            reason, retry_after = "rate_limited", wait
            told = f"there will be tokens in {wait:.3f} s, later than this call can wait"
        elif amount > policy.bucket:
            reason = "above_burst"
            told = f"it costs {amount:g} tokens, and a bucket holds {policy.bucket:g}"
        else:
            reason = "too_many_keys"
            told = "in each bucket there are calls that wait, so there is no room for another key"
        call = ctx.call
        if self._emit is not None:
            self._emit(Rejected(call.name, call.path, _NAME, reason, retry_after))
        return RateLimitedError(
            f"{call.path}: over this side's limit of {policy.per_second:g} a second: {told}",
            reason=reason,
            retry_after=retry_after,
        )

    async def _wait(self, machine: RateLimitMachine, turn: Turn, now: float) -> None:
        clock = self._clock
        try:
            while (wait := machine.take(turn, now)) != 0.0:
                if wait is None:
                    await self._woken(turn)
                else:
                    await clock.sleep(wait)
                now = clock.now()
        finally:
            # If cancelled, nothing was taken; in any case the others move up.
            machine.leave(turn)
            self._wake(machine.head(turn.bucket))

    async def _woken(self, turn: Turn) -> None:
        """Wait until those in front are gone."""
        waiter = self._waiters[turn] = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            del self._waiters[turn]

    def _wake(self, turn: Turn | None) -> None:
        waiter = None if turn is None else self._waiters.get(turn)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __repr__(self) -> str:
        return f"RateLimit({self._machines!r})"


def _machine(policy: RateLimitPolicy) -> RateLimitMachine:
    return RateLimitMachine(per_second=policy.per_second, burst=policy.bucket)


def _key(policy: RateLimitPolicy, ctx: CallContext) -> str:
    match policy.key:
        case "endpoint":
            endpoint = ctx.attempt.endpoint
            return (ctx.server_address or "") if endpoint is None else endpoint.key
        case "method":
            return ctx.call.path
        case function:
            return function(ctx)


def _amount(policy: RateLimitPolicy, ctx: CallContext) -> float:
    amount = policy.amount
    if not callable(amount):
        return amount
    told = amount(ctx)
    if not 0.0 <= told < math.inf:
        msg = f"RateLimitPolicy.amount told {told!r} for {ctx.call.path}; it must be >= 0 tokens"
        raise ValueError(msg)
    return told
