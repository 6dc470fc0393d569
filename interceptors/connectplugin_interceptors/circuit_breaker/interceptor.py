"""The breaker's shell: asks the endpoint's circuit before an attempt, and tells it after."""

import math
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from connectplugin_interceptors.admission import Admission, verdict_of
from connectplugin_interceptors.call import AttemptKind, Call, CallContext, Ctx, context_of
from connectplugin_interceptors.circuit_breaker.breakers import Breakers, Circuit
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.machine import CircuitState, Closed, Permit
from connectplugin_interceptors.errors import CircuitOpenError
from connectplugin_interceptors.events import Emit, Rejected
from connectplugin_interceptors.outcome import UNREACHED, Cause, Outcome
from connectplugin_interceptors.shapes import Stream, Unary

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # `rng` is one, handed in

    from connectplugin_interceptors.clock import Clock

Q = TypeVar("Q")
R = TypeVar("R")

Held: TypeAlias = tuple[Circuit, Permit]

_POLICY: Final = "circuit_breaker"
_NOWHERE: Final = "endpoint"  # where neither a balancer nor connectrpc tells one

# To look up a member of an enum costs as much as the rest of `settle` (3.11).
_NEUTRAL: Final = Outcome.NEUTRAL
_SUCCESS: Final = Outcome.SUCCESS


class CircuitBreaker(Admission[Held | None]):
    """Guards each service of each endpoint; which policy is in force is the method's affair.

    The endpoint is the one that the balancer has picked for the attempt, else the client's address.

    Attributes:
        breakers: The circuits, to look at and to move by hand.
    """

    def __init__(self, *, name: str, clock: "Clock", rng: "Random", emit: Emit | None) -> None:
        self.breakers = Breakers(name=name, clock=clock, rng=rng, emit=emit)
        self._clock = clock
        self._emit = emit

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await an admitted call; without a policy nothing stands between."""
        own = ctx if type(ctx) is CallContext else context_of(ctx)
        policy = own.call.settings.circuit_breaker
        if policy is None:
            return await call_next(request, own)
        circuit = self._circuit(policy, own)
        phase = circuit.machine.calm
        if phase is None:
            response: R = await super().intercept_unary(call_next, request, own)
            return response
        started = self._clock.now()
        try:
            response = await call_next(request, own)
        except BaseException as error:
            outcome = verdict_of(own, error).outcome if isinstance(error, Exception) else _NEUTRAL
            self.settle((circuit, Permit(phase, started)), outcome, own)
            raise
        self.passed(circuit, phase)
        return response

    intercept_client_stream: Any = intercept_unary

    def passed(self, circuit: Circuit, phase: Closed) -> None:
        """A call that needed no permit has succeeded: the short form of acquire and settle."""
        circuit.machine.succeeded(phase, self._clock.now())

    async def acquire(self, ctx: CallContext) -> Held | None:
        """Ask the circuit.

        Raises:
            CircuitOpenError: It is not closed, and this is no probe.
        """
        policy = ctx.call.settings.circuit_breaker
        return None if policy is None else self._admit(policy, ctx)

    def _circuit(self, policy: CircuitBreakerPolicy, ctx: CallContext) -> Circuit:
        endpoint = ctx.attempt.endpoint
        key = (ctx.server_address or _NOWHERE) if endpoint is None else endpoint.key
        return self.breakers.circuit(policy, key, ctx.call.plan.guarded)

    def _admit(self, policy: CircuitBreakerPolicy, ctx: CallContext) -> Held | None:
        call = ctx.call
        circuit = self._circuit(policy, ctx)
        machine = circuit.machine
        permit = machine.acquire(self._clock.now())
        ready = circuit.unreachable and ctx.attempt.kind is AttemptKind.READY
        if ready and not isinstance(permit, Permit):
            # It is open because nothing could be reached, and this is a try to reach something, at
            # the pace that all waiting calls share: as good as a health check.
            machine.probe_now(self._clock.now())
            permit = machine.acquire(self._clock.now())
        if isinstance(permit, Permit):
            if machine.moves:
                circuit.tell()
            return circuit, permit
        self._refuse(circuit, call, permit, enforced=not policy.dry_run)
        return None

    def responded(self, permit: Held | None, ctx: CallContext) -> None:
        """A stream's first response: a probe has succeeded."""
        del ctx
        if permit is not None:
            circuit, leave = permit
            circuit.machine.responded(leave, self._clock.now())
            circuit.tell()

    def settle(self, permit: Held | None, outcome: Outcome, ctx: CallContext) -> None:
        """Tell the circuit."""
        if permit is None:
            return
        circuit, leave = permit
        if outcome is _SUCCESS:
            machine = circuit.machine
            machine.release(leave, outcome, self._clock.now())
            if machine.moves:
                circuit.tell()
            return
        attempt = ctx.attempt
        verdict, pushback = attempt.verdict, attempt.pushback
        expired = verdict is not None and verdict.cause is Cause.DEADLINE
        if verdict is None or (expired and ctx.call.observed and not attempt.entered):
            # It was over before the transport was asked: while credentials were fetched, say, or
            # while it waited for a quota of this side. The endpoint has no part in that.
            outcome = Outcome.NEUTRAL
        elif outcome is Outcome.FAILURE:
            circuit.unreachable = verdict.cause in UNREACHED
        hint = 0.0 if pushback is None or pushback.delay is None else pushback.delay
        self.breakers.release(circuit, leave, outcome, expired=expired, hint=hint)

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over an admitted call's responses; without a policy nothing stands between."""
        own = context_of(ctx)
        if own.call.settings.circuit_breaker is None:
            return call_next(request, own)
        return super().intercept_server_stream(call_next, request, own)

    intercept_bidi_stream: Any = intercept_server_stream

    def _refuse(self, circuit: Circuit, call: Call, wait: float, *, enforced: bool) -> None:
        retry_after = None if math.isinf(wait) else wait
        state = circuit.machine.state
        if self._emit is not None:
            self._emit(
                Rejected(call.name, call.path, _POLICY, state.value, retry_after, enforced=enforced)
            )
        if enforced:
            raise CircuitOpenError(
                _refusal(call.path, circuit.endpoint, state, retry_after),
                reason=state.value,
                retry_after=retry_after,
            )

    def __repr__(self) -> str:
        return f"<CircuitBreaker {list(self.breakers)!r}>"


def _refusal(path: str, endpoint: str, state: CircuitState, retry_after: float | None) -> str:
    """What a refused call is told."""
    when = "until it is reset" if retry_after is None else f"try again in {retry_after:.3f} s"
    return f"{path}: the circuit of {endpoint} is {state.value.replace('_', ' ')}; {when}"


def breakers_of(source: object) -> Breakers:
    """The circuits of a client: to look at (`status()`), to isolate, to open, to reset.

    Args:
        source: A client that `ClientStack.client` made, or the list that
            `ClientStack.interceptors` returned.

    Raises:
        TypeError: It is something else.
    """
    chain: Any = getattr(getattr(source, "connectplugin_recipe", None), "chain", source)
    if isinstance(chain, list | tuple):
        links: list[object] = list(chain)  # pyright: ignore[reportUnknownArgumentType]  # asked below
        for link in links:
            if isinstance(link, CircuitBreaker):
                return link.breakers
    msg = (
        "breakers_of takes a client made by ClientStack.client, or the list of "
        f"ClientStack.interceptors; got {type(source).__name__}"
    )
    raise TypeError(msg)
