"""One logical call, its attempts, and connectrpc's context that carries both down the chain.

connectrpc hands one mutable `RequestContext` through the chain. Ours is a subclass of it, so that
the call's state travels with the context: nothing is kept in a ContextVar above the transport,
where an async generator would leak it into the code that consumes the stream.
"""

import enum
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from connectrpc.code import Code
from connectrpc.method import MethodInfo
from connectrpc.request import Headers, RequestContext

from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.errors import Delivery
from connectplugin_interceptors.outcome import Cause, Outcome, Verdict, classify, note_verdict
from connectplugin_interceptors.wire import (
    ATTEMPTS_HEADER,
    CONNECT_TIMEOUT_HEADER,
    GRPC_TIMEOUT_HEADER,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyqwest import Headers as HTTPHeaders

    from connectplugin_interceptors.balance.endpoint import Endpoint
    from connectplugin_interceptors.policies import Plan
    from connectplugin_interceptors.pushback import Pushback
    from connectplugin_interceptors.streams import RequestReplay

Ctx: TypeAlias = RequestContext[Any, Any]

SMALLEST_TIMEOUT: Final = 0.001
"""Seconds; the wire knows no shorter deadline, so less time than this is none."""

TIMER_GRACE: Final = 0.01
"""Seconds by which a timer around the application's own interceptors is late: connectrpc's, around
what they wrap, goes first."""

# What each dialect can spell: Connect has ten digits of milliseconds, gRPC eight.
_MOST_CONNECT_MS: Final = 9_999_999_999
_MOST_GRPC_MS: Final = 99_999_999


class AttemptKind(enum.Enum):
    """Why an attempt was made."""

    INITIAL = "initial"
    RETRY = "retry"
    TRANSPARENT = "transparent"
    """The one before was provably not sent."""

    HEDGE = "hedge"
    """The one before is slow: whichever answers first is taken."""

    READY = "ready"
    """The call waits for something that can be reached (`wait_for_ready`)."""


class Attempt:
    """One try of a call, and what the transport saw of it.

    Attributes:
        number: 1 for the first.
        kind: Why it was made.
        entered: Whether the transport was asked to send it.
        status: The HTTP status of its response, once the head has come.
        on_head: Called by the transport's tap when the head of the response comes.
        verdict: What its failure means; None while it has not failed.
        endpoint: Where the balancer sends it; None where there is no balancer.
        pushback: What the server said about trying again, once it has failed.
        untried: Whether, now that it has failed, there is an endpoint that the call has not tried.
    """

    __slots__ = (
        "_headers",
        "endpoint",
        "entered",
        "kind",
        "number",
        "on_head",
        "pushback",
        "status",
        "untried",
        "verdict",
    )

    def __init__(self, number: int, kind: AttemptKind) -> None:
        self.number = number
        self.kind = kind
        self.entered = False
        self.status: int | None = None
        self.on_head: Callable[[], None] | None = None
        self.verdict: Verdict | None = None
        self.endpoint: Endpoint | None = None
        self.pushback: Pushback | None = None
        self.untried = False
        self._headers: HTTPHeaders | None = None

    def head(self, status: int, headers: "HTTPHeaders") -> None:
        """Take down the head of the response."""
        self.status = status
        self._headers = headers
        if self.on_head is not None:
            self.on_head()

    @property
    def response_headers(self) -> "HTTPHeaders | None":
        """The response's headers; a unary call's trailers are among them, as `trailer-*`."""
        return self._headers

    def response_header(self, name: str) -> str | None:
        """A header of the response, or None."""
        return None if self._headers is None else self._headers.get(name)

    def __repr__(self) -> str:
        where = "" if self.endpoint is None else f" at {self.endpoint.key}"
        return f"<Attempt {self.number} {self.kind.value}{where} status={self.status}>"


class Call:
    """What is true of a call over all of its attempts.

    Attributes:
        name: The client's name, as in events.
        plan: What was found out once about the method.
        settings: The policies in force for this call.
        clock: The time that `started` and `deadline` are told in.
        started: When the call began, in seconds of `clock`.
        deadline: When it must have ended, in seconds of `clock`; None for never.
        attempts: How many attempts were made so far.
        delivery: The worst of the attempts that have failed; None while none has.
        tried: Whether any attempt was on its way to the transport.
        observed: Whether a `TapTransport` sees the attempts.
        headers: Those that every attempt begins with, where an interceptor of the application's own
            could add to an attempt's; else None.
        requests: The caller's own stream of requests, where there is one.
        visited: The endpoints that attempts were sent to, or are on their way to.
        lingering: How many attempts were cancelled and have not ended yet: a hedged call may be
            over before they are.
    """

    __slots__ = (
        "_at_rest",
        "attempts",
        "clock",
        "deadline",
        "delivery",
        "headers",
        "lingering",
        "method",
        "name",
        "observed",
        "plan",
        "requests",
        "settings",
        "started",
        "tried",
        "visited",
    )

    def __init__(  # noqa: PLR0917  # once per call: by position takes half the time
        self,
        name: str,
        method: MethodInfo[Any, Any],
        plan: "Plan",
        clock: Clock,
        started: float,
        deadline: float | None,
        observed: bool,
    ) -> None:
        self.name = name
        self.method = method
        self.plan = plan
        self.settings = plan.settings
        self.clock = clock
        self.started = started
        self.deadline = deadline
        self.observed = observed
        self.attempts = 1
        self.delivery: Delivery | None = None
        self.tried = False
        self.requests: RequestReplay[Any] | None = None
        self.headers: tuple[tuple[str, str], ...] | None = None
        self.visited: tuple[Endpoint, ...] = ()
        self.lingering = 0
        self._at_rest: Sequence[Callable[[], None]] = ()

    @property
    def path(self) -> str:
        """`package.Service/Method`."""
        return self.plan.path

    @property
    def idempotent(self) -> bool:
        """Whether the call may be executed twice, by its .proto option or an override."""
        return self.plan.idempotent

    @property
    def streams_responses(self) -> bool:
        """Whether there may be any number of responses."""
        return self.plan.streams_responses

    @property
    def request_error(self) -> Exception | None:
        """What the caller's own stream of requests has raised: the call raises the same, untouched.

        A cancellation in there is nobody's mistake.
        """
        if self.requests is None:
            return None
        error = self.requests.error
        return error if isinstance(error, Exception) else None

    def when_at_rest(self, callback: "Callable[[], None]") -> None:
        """Call this when the last attempt has ended, which may be now."""
        if self.lingering:
            self._at_rest = (*self._at_rest, callback)
        else:
            callback()

    def attempt_lingers(self) -> None:
        """An attempt was cancelled and is not awaited by the call; pair it with `attempt_left`."""
        self.lingering += 1

    def attempt_left(self) -> None:
        """It has ended."""
        self.lingering -= 1
        if not self.lingering:
            callbacks, self._at_rest = self._at_rest, ()
            for callback in callbacks:
                callback()

    def remaining(self, now: float) -> float | None:
        """Seconds left of the deadline; None if there is none."""
        return None if self.deadline is None else self.deadline - now

    def failed(self, attempt: Attempt, error: BaseException) -> Verdict:
        """Take down that an attempt has failed, and say what it means."""
        if error is self.request_error:
            # Whatever it is, even another call's error: it is nothing that the peer did.
            entered = attempt.entered or not self.observed
            sent = Delivery.MAYBE if entered else Delivery.NOT_SENT
            verdict = Verdict(Cause.BUG, Outcome.NEUTRAL, sent, Code.UNKNOWN)
        else:
            verdict = classify(error, attempt if self.observed else None)
        attempt.verdict = verdict
        note_verdict(error, verdict)
        known = self.delivery
        self.delivery = verdict.delivery if known is None else known.worst(verdict.delivery)
        return verdict

    @property
    def known_delivery(self) -> Delivery:
        """What can be said of the whole call, given that it has failed."""
        if self.delivery is not None:
            return self.delivery
        # An attempt that did not fail was answered; what failed afterwards is on this side.
        return Delivery.ANSWERED if self.tried else Delivery.NOT_SENT

    def __repr__(self) -> str:
        return f"<Call {self.path} attempts={self.attempts} delivery={self.delivery}>"


class CallContext(RequestContext[Any, Any]):
    """connectrpc's context of one attempt, which knows its call.

    Attributes:
        call: The logical call.
        attempt: The attempt that this context belongs to.
        deadline: When this attempt must have ended, in seconds of the call's clock.
    """

    def __init__(
        self,
        source: Ctx,
        headers: Headers,
        call: Call,
        attempt: Attempt,
        deadline: float | None,
    ) -> None:
        # What `RequestContext.__init__` of connectrpc 0.13 does. To call it, and to read the source
        # through its properties, takes as long as three links; a test holds the two together.
        self._method = source._method  # noqa: SLF001  # of the same base class
        self._http_method = source._http_method  # noqa: SLF001
        self._request_headers = headers
        self._response_headers = None
        self._response_trailers = None
        self._server_address = source._server_address  # noqa: SLF001
        self._client_address = None
        self._end_time = None
        self.call = call
        self.attempt = attempt
        self.deadline = deadline

    @property
    def timeout_ms(self) -> float | None:
        """Milliseconds until this attempt's deadline: what connectrpc arms its timer with.

        Read from the call's clock, where the base class asks `time.monotonic`: so the deadline is
        not rounded to milliseconds, and is virtual when the clock is.
        """
        if self.deadline is None:
            return None
        return (self.deadline - self.call.clock.now()) * 1000.0

    def following(self, attempt: Attempt) -> "CallContext":
        """The context of another attempt: headers of its own, and none of this one's timing."""
        kept = self.call.headers
        headers = Headers(tuple(self.request_headers.allitems()) if kept is None else kept)
        return CallContext(self, headers, self.call, attempt, self.call.deadline)

    def write_timing(self, wire_deadline: float | None, now: float) -> None:
        """Write the time left for the peer, and which attempt this is, into the headers."""
        headers = self._request_headers
        try:
            # Not `get`: that is inherited, and takes as long as a link of the chain.
            grpc = headers["content-type"].startswith("application/grpc")
        except KeyError:
            grpc = False
        name = GRPC_TIMEOUT_HEADER if grpc else CONNECT_TIMEOUT_HEADER
        if wire_deadline is None:
            headers.pop(name, None)
        else:
            milliseconds = int((wire_deadline - now) * 1000.0)
            most = _MOST_GRPC_MS if grpc else _MOST_CONNECT_MS
            if not 1 <= milliseconds <= most:
                milliseconds = 1 if milliseconds < 1 else most
            headers[name] = f"{milliseconds}m" if grpc else str(milliseconds)
        if self.attempt.number > 1:
            headers[ATTEMPTS_HEADER] = str(self.attempt.number - 1)


def context_of(ctx: Ctx) -> CallContext:
    """The chain's own context.

    Raises:
        TypeError: The interceptor stands alone, outside a chain that a `ClientStack` built.
    """
    if isinstance(ctx, CallContext):
        return ctx
    msg = (
        "this interceptor works inside a chain only: take it from ClientStack(...).interceptors(),"
        f" which puts the call's state into the context (got {type(ctx).__name__})"
    )
    raise TypeError(msg)
