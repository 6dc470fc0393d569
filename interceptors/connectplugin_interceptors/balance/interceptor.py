"""The balancer's shell: picks an endpoint for each attempt, and takes down how it ended.

Outermost of the attempt's scope: what the circuit breaker below thinks of an endpoint is asked
before the pick, so an open one costs no attempt.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.balance.machine import Blocked
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.call import AttemptKind, CallContext, Ctx, context_of
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import CircuitOpenError, NoEndpointError
from connectplugin_interceptors.events import Emit, EndpointChanged, Rejected
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.outcome import Cause, Outcome
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.shapes import Stream, Unary, closing

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # `rng` is one, handed in

Q = TypeVar("Q")
R = TypeVar("R")

Peek: TypeAlias = Callable[..., float]
"""What `Breakers.peek` is: of a policy, an endpoint's key, a part and the time, the seconds until
a call is admitted; 0 if it is now."""


# Members of an enumeration are looked up slowly, and these are asked for with each attempt.
_NEUTRAL: Final = Outcome.NEUTRAL
_SUCCESS: Final = Outcome.SUCCESS
_INITIAL: Final = AttemptKind.INITIAL
_READY: Final = AttemptKind.READY


class Balance(Link):
    """Picks from a pool; shared by all calls of a client.

    Args:
        pool: The endpoints.
        ejection: The rules for outliers; None for none.
        peek: Asks the circuit breakers; None if there are none.
        clock: Where time comes from.
        rng: Where chance comes from.
        emit: Where events go.
    """

    def __init__(
        self,
        pool: EndpointPool,
        *,
        ejection: OutlierEjectionPolicy | None,
        peek: Peek | None,
        clock: Clock,
        rng: "Random",
        emit: Emit | None,
    ) -> None:
        self.pool = pool
        self._ejection = ejection
        self._peek = peek
        self._clock = clock
        self._draw = rng.random
        self._emit = emit

    def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> Awaitable[R]:
        """Pick an endpoint for a call; where there is only one nothing stands between."""
        own = ctx if type(ctx) is CallContext else context_of(ctx)
        sole = self.pool.sole
        if sole is not None:
            own.attempt.endpoint = sole
            return call_next(request, own)
        return self._single(call_next, request, own, request)

    def intercept_client_stream(
        self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /
    ) -> Awaitable[R]:
        """Pick an endpoint for a call."""
        own = context_of(ctx)
        sole = self.pool.sole
        if sole is not None:
            own.attempt.endpoint = sole
            return call_next(request, own)
        return self._single(call_next, request, own, None)

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Pick an endpoint for a call."""
        own = context_of(ctx)
        sole = self.pool.sole
        if sole is not None:
            own.attempt.endpoint = sole
            return call_next(request, own)
        return self._stream(call_next, request, own, request)

    def intercept_bidi_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Pick an endpoint for a call."""
        own = context_of(ctx)
        sole = self.pool.sole
        if sole is not None:
            own.attempt.endpoint = sole
            return call_next(request, own)
        return self._stream(call_next, request, own, None)

    async def _single(
        self, call_next: Unary[Q, R], request: Q, own: CallContext, message: object
    ) -> R:
        started = self._clock.now()
        endpoint = self._pick(own, message, started)
        outcome = _NEUTRAL  # stands unless the attempt itself ends
        try:
            response = await call_next(request, own)
            outcome = _SUCCESS
        except Exception:
            outcome = self._failed(own)
            raise
        finally:
            if outcome is _SUCCESS and self._emit is None:
                policy = own.call.settings.load_balancing
                self.pool.succeeded(endpoint, policy, started, self._clock.now())
            else:
                self._settle(own, endpoint, outcome, started=started)
        return response

    async def _stream(
        self, call_next: Stream[Q, R], request: Q, own: CallContext, message: object
    ) -> AsyncIterator[R]:
        started = self._clock.now()
        endpoint = self._pick(own, message, started)
        outcome = _NEUTRAL
        responded = False
        try:
            async with closing(call_next(request, own)) as responses:
                async for response in responses:
                    if not responded:
                        # How long a stream lasts says nothing, once it has begun.
                        responded = True
                        self._responded(own, endpoint, started)
                    yield response
            outcome = _SUCCESS
        except Exception:
            outcome = self._failed(own)
            raise
        finally:
            self._settle(own, endpoint, outcome, started=started, responded=responded)

    def _pick(self, own: CallContext, message: object, now: float) -> Endpoint:
        call, attempt = own.call, own.attempt
        policy = call.settings.load_balancing
        key = "" if policy is None or policy.key is None else str(policy.key(message, own))
        found = self.pool.pick(
            policy,
            now,
            self._draw,
            tried=call.visited,
            blocked=self._blocked(own, now),
            key=key,
            probe=attempt.kind is _INITIAL,
            ejection=self._ejection,
        )
        if self._emit is not None:
            self._tell(own)
        if not isinstance(found, Endpoint):
            raise self._refusal(own, found.retry_after)
        attempt.endpoint = found
        call.visited = (*call.visited, found)
        return found

    def _blocked(self, own: CallContext, now: float) -> Blocked | None:
        peek = self._peek
        policy = own.call.settings.circuit_breaker
        if peek is None or policy is None:
            return None
        part = own.call.plan.guarded
        ready = own.attempt.kind is _READY
        return lambda endpoint: peek(policy, endpoint.key, part, now, ready=ready)

    def _responded(self, own: CallContext, endpoint: Endpoint, started: float) -> None:
        policy = own.call.settings.load_balancing
        self.pool.responded(endpoint, policy, started=started, now=self._clock.now())

    def _failed(self, own: CallContext) -> Outcome:
        call, attempt = own.call, own.attempt
        verdict = attempt.verdict
        if verdict is None:
            return Outcome.NEUTRAL  # refused between here and the transport
        attempt.untried = self.pool.untried(call.visited, self._blocked(own, self._clock.now()))
        if verdict.cause is Cause.DEADLINE and call.observed and not attempt.entered:
            return Outcome.NEUTRAL  # it was over before the endpoint had any part in it
        return verdict.outcome

    def _settle(
        self,
        own: CallContext,
        endpoint: Endpoint,
        outcome: Outcome,
        *,
        started: float,
        responded: bool = False,
    ) -> None:
        pushback = own.attempt.pushback
        self.pool.settle(
            endpoint,
            own.call.settings.load_balancing,
            outcome,
            started=started,
            now=self._clock.now(),
            responded=responded,
            hint=None if pushback is None else pushback.delay,
        )
        if self._emit is not None:
            self._tell(own)

    def _refusal(self, own: CallContext, retry_after: float | None) -> Exception:
        path, endpoints = own.call.path, self.pool.endpoints
        if not endpoints:
            return self._rejected(own, NoEndpointError, f"{path}: there are no endpoints", None)
        if all(endpoint.connecting for endpoint in endpoints):
            told = f"{path}: each of {len(endpoints)} endpoints has yet to shake hands"
            return self._rejected(own, NoEndpointError, told, None)
        when = "" if retry_after is None else f"; try again in {retry_after:.3f} s"
        told = f"{path}: the circuit of each of {len(endpoints)} endpoints is open{when}"
        return self._rejected(own, CircuitOpenError, told, retry_after)

    def _rejected(
        self,
        own: CallContext,
        kind: type[NoEndpointError] | type[CircuitOpenError],
        message: str,
        retry_after: float | None,
    ) -> Exception:
        reason = "all_open" if kind is CircuitOpenError else "no_endpoint"
        if self._emit is not None:
            call = own.call
            self._emit(Rejected(call.name, call.path, "load_balancing", reason, retry_after))
        return kind(message, reason=reason, retry_after=retry_after)

    def _tell(self, own: CallContext) -> None:
        if self._emit is None:
            return
        for move in self.pool.moves():
            call = own.call
            self._emit(
                EndpointChanged(
                    call.name, call.path, move.endpoint.key, move.before.value, move.after.value
                )
            )

    def __repr__(self) -> str:
        return f"<Balance {self.pool!r}>"
