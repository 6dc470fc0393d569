"""The throttle's shell: rolls the dice before a call, and counts how it was answered."""

from collections.abc import AsyncIterator, Awaitable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar

from connectrpc.code import Code

from connectplugin_interceptors._per_policy import PerPolicy
from connectplugin_interceptors.admission import verdict_of
from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import OverloadedError, is_throttle_failure
from connectplugin_interceptors.events import Emit, Rejected
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.shapes import Stream, Unary, closing
from connectplugin_interceptors.throttle.config import ThrottlePolicy
from connectplugin_interceptors.throttle.machine import ThrottleMachine

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # `rng` is one, handed in

Q = TypeVar("Q")
R = TypeVar("R")

_NAME: Final = "throttle"
_UNSENT: Final = frozenset({Cause.REJECTED, Cause.BUG, Cause.CANCELLED})
_REFUSING: Final = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})


class Throttle(Link):
    """One request counts once, however many attempts are made of it.

    A stream counts as accepted with its first response.
    """

    only_for: ClassVar[str | None] = "throttle"

    def __init__(self, *, clock: Clock, rng: "Random", emit: Emit | None) -> None:
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._machines = PerPolicy[ThrottlePolicy, _Services](_Services)

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Await the call, unless the dice say no."""
        own = context_of(ctx)
        policy = own.call.settings.throttle
        if policy is None:
            return call_next(request, own)
        return self._single(policy, call_next, request, own)

    intercept_client_stream: Any = intercept_unary

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the responses, unless the dice say no."""
        own = context_of(ctx)
        policy = own.call.settings.throttle
        if policy is None:
            return call_next(request, own)
        return self._stream(policy, call_next, request, own)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _single(
        self, policy: ThrottlePolicy, call_next: Unary[Q, R], request: Q, ctx: CallContext
    ) -> R:
        machine = self._begin(policy, ctx)
        try:
            response = await call_next(request, ctx)
        except BaseException as error:
            self._failed(machine, ctx, error)
            raise
        machine.accept(self._clock.now())
        return response

    async def _stream(
        self, policy: ThrottlePolicy, call_next: Stream[Q, R], request: Q, ctx: CallContext
    ) -> AsyncIterator[R]:
        machine = self._begin(policy, ctx)
        answered = False
        try:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    if not answered:
                        answered = True
                        machine.accept(self._clock.now())
                    yield response
        except BaseException as error:
            if not answered:
                self._failed(machine, ctx, error)
            raise
        if not answered:
            machine.accept(self._clock.now())

    def _begin(self, policy: ThrottlePolicy, ctx: CallContext) -> ThrottleMachine:
        call = ctx.call
        machine = self._machines.of(policy).machine(call.method.service_name)
        if machine.request(self._clock.now(), self._rng.random()):
            return machine
        if self._emit is not None:
            self._emit(Rejected(call.name, call.path, _NAME, "throttled", None))
        raise OverloadedError(
            f"{call.path}: throttled here, since the server refuses too much ({machine!r})",
            reason="throttled",
        )

    def _failed(self, machine: ThrottleMachine, ctx: CallContext, error: BaseException) -> None:
        verdict = verdict_of(ctx, error)
        if verdict.cause in _UNSENT:
            machine.dismiss(self._clock.now())
        elif (
            verdict.cause is Cause.DEADLINE
            or verdict.outcome is Outcome.REFUSED
            or verdict.code in _REFUSING
            or is_throttle_failure(error)
        ):
            machine.refuse()
        else:
            machine.accept(self._clock.now())

    def __repr__(self) -> str:
        return f"Throttle({self._machines!r})"


class _Services:
    """A policy's counts, by service: one that fails must not throttle the others."""

    def __init__(self, policy: ThrottlePolicy) -> None:
        self._policy = policy
        self._machines: dict[str, ThrottleMachine] = {}

    def machine(self, service: str) -> ThrottleMachine:
        """The counts of one service."""
        found = self._machines.get(service)
        if found is None:
            found = self._machines[service] = ThrottleMachine(self._policy)
        return found

    def __repr__(self) -> str:
        return repr(self._machines)
