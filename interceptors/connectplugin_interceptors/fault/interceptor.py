"""The client's shell of fault injection, innermost in the chain; `server/fault.py` is the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from random import Random  # noqa: TID251  # a policy's seed makes one
from typing import Any, ClassVar, NoReturn, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ReadError

from connectplugin_interceptors._per_policy import PerPolicy
from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.events import Emit, FaultInjected
from connectplugin_interceptors.fault.config import FaultError, FaultPolicy
from connectplugin_interceptors.fault.machine import FaultMachine, Plan
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


class FaultInjection(Link):
    """The client's link: what it does to an attempt, the layers above take for the network's doing.

    So errors have the causes that the transport gives them, the attempt counts as sent, and what
    hangs is ended by the attempt's deadline, as a request that hangs would be.
    """

    only_for: ClassVar[str | None] = "fault"

    def __init__(self, *, clock: Clock, rng: Random, emit: Emit | None) -> None:
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._dice = PerPolicy[FaultPolicy, Dice](self._make)

    def _make(self, policy: FaultPolicy) -> "Dice":
        return Dice(policy, self._rng)

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Await an attempt, or what has become of it."""
        own = context_of(ctx)
        policy = own.call.settings.fault
        if policy is None:
            return call_next(request, own)
        return self._single(policy, call_next, request, own)

    intercept_client_stream: Any = intercept_unary

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over an attempt's responses, as far as they come."""
        own = context_of(ctx)
        policy = own.call.settings.fault
        if policy is None:
            return call_next(request, own)
        return self._stream(policy, call_next, request, own)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _single(
        self, policy: FaultPolicy, call_next: Unary[Q, R], request: Q, ctx: CallContext
    ) -> R:
        dice = self._dice.of(policy)
        plan = dice.plan(ctx.call.path, streams_responses=False)
        if plan is None:
            return await call_next(request, ctx)
        try:
            await self._strike(plan, ctx)
            if plan.error is None:
                return await call_next(request, ctx)
            if plan.after_reply:
                await call_next(request, ctx)
            await self._fail(plan.error, ctx)
        finally:
            dice.leave()

    async def _stream(
        self, policy: FaultPolicy, call_next: Stream[Q, R], request: Q, ctx: CallContext
    ) -> AsyncIterator[R]:
        dice = self._dice.of(policy)
        plan = dice.plan(ctx.call.path, streams_responses=True)
        if plan is None:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    yield response
            return
        try:
            await self._strike(plan, ctx)
            left = plan.truncate_after
            if left != 0 and (plan.error is None or plan.after_reply or left is not None):
                async with closing(call_next(request, ctx)) as responses:
                    async for response in responses:
                        if plan.after_reply:
                            continue
                        yield response
                        if left is not None and (left := left - 1) == 0:
                            break
            if plan.error is not None:
                await self._fail(plan.error, ctx)
        finally:
            dice.leave()

    async def _strike(self, plan: Plan, ctx: CallContext) -> None:
        if self._emit is not None:
            call = ctx.call
            self._emit(FaultInjected(call.name, call.path, plan.name, plan.latency))
        if plan.latency <= 0.0:
            return
        left = self._left(ctx)
        if left is not None and plan.latency >= left:
            await self._hang(ctx)
        await self._clock.sleep(plan.latency)

    async def _fail(self, error: FaultError, ctx: CallContext) -> NoReturn:
        ctx.attempt.entered = True
        match error:
            case "drop":
                await self._hang(ctx)
            case "refuse":
                cause: Exception = ConnectionError("connection refused (injected)")
                raise ConnectError(Code.UNAVAILABLE, str(cause)) from cause
            case "disconnect":
                cause = ReadError("connection reset (injected)")
                raise ConnectError(Code.UNAVAILABLE, str(cause)) from cause
            case code:
                raise ConnectError(code, f"{code.value} (injected)")

    async def _hang(self, ctx: CallContext) -> NoReturn:
        """Nothing comes any more: until the deadline, as connectrpc's own timer would end it."""
        ctx.attempt.entered = True
        left = self._left(ctx)
        if left is None:
            await asyncio.get_running_loop().create_future()
        await self._clock.sleep(max(0.0, left or 0.0))
        told = "Request timed out (injected)"
        raise ConnectError(Code.DEADLINE_EXCEEDED, told) from TimeoutError()

    def _left(self, ctx: CallContext) -> float | None:
        return None if ctx.deadline is None else ctx.deadline - self._clock.now()

    def __repr__(self) -> str:
        return f"FaultInjection({self._dice!r})"


class Dice:
    """A policy's machine with its own chance, if the policy has a seed."""

    def __init__(self, policy: FaultPolicy, rng: Random) -> None:
        self._machine = FaultMachine(policy)
        self._roll = (rng if policy.seed is None else Random(policy.seed)).random  # noqa: S311
        self.leave = self._machine.leave

    def plan(self, method: str, *, streams_responses: bool) -> Plan | None:
        """What goes wrong with a call that begins now; None if nothing does. Else `leave`."""
        return self._machine.plan(method, streams_responses=streams_responses, roll=self._roll)

    def __repr__(self) -> str:
        return repr(self._machine)
