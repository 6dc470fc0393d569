"""One classifier for all policies: what happened, was it sent, and whose failure is it.

The same Connect code has several meanings: a refused connection and a server that answers
`unavailable` share one. So (code, cause, what the transport saw) decide together, once, here.
"""

import enum
from asyncio import CancelledError
from dataclasses import dataclass
from typing import Final, Protocol

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ReadError, RemoteProtocolError, StreamError, StreamErrorCode, WriteError

from connectplugin_interceptors.errors import DeadlineExceededError, Delivery, RejectedError
from connectplugin_interceptors.wire import DRAINING, NACK_HEADER


class Outcome(enum.Enum):
    """What a call teaches about its peer."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The peer, or the way to it, failed."""

    ANSWERED = "answered"
    """The peer is alive and answered with an error of the application's (not found, ...)."""

    REFUSED = "refused"
    """The peer is alive, and by its own policy did not do this call: too much to do, a quota used
    up, too late.

    To a circuit breaker that is no failure: a server that sheds load goes on doing all that it can,
    and clients that stayed away from it would leave a part of that unused. It is no success either,
    and says nothing of how fast the peer works: whoever spreads load goes elsewhere for a while.
    """

    NEUTRAL = "neutral"
    """Nothing is learned: cancelled, refused on this side, or the caller's own mistake."""


class Cause(enum.Enum):
    """Why a call failed; a row of the table that decides on retries and on blame."""

    CONNECTION = "connection"
    """No connection could be made: provably not sent."""

    CERTIFICATE = "certificate"
    """The TLS handshake failed over a certificate: not sent, and it will not get better."""

    REFUSED = "refused"
    """The server refused before processing (nack header, HTTP/2 REFUSED_STREAM).

    A nack's outcome is `REFUSED`, whatever reason it gives, one that is not known here included:
    who can say no is alive, and the only refusal that means the contrary has a name of its own,
    `DRAINING`. REFUSED_STREAM stays a `FAILURE`: a connection that goes down gives it as well.
    """

    DRAINING = "draining"
    """The server stops: it refused before processing, and will refuse all that follows (nack)."""

    TRANSPORT = "transport"
    """The connection broke after bytes may have left."""

    DEADLINE = "deadline"
    """A deadline ran out, ours or the server's."""

    UNAVAILABLE = "unavailable"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"
    """The server failed in a way that says nothing: unknown, internal, data_loss."""

    ABORTED = "aborted"
    UNAUTHENTICATED = "unauthenticated"
    BUSINESS = "business"
    """An answer of the application: not_found, invalid_argument, a `canceled` that it sent, ..."""

    MALFORMED = "malformed"
    """The peer answered with something that cannot be understood."""

    BUG = "bug"
    """The caller's mistake, found before the transport was entered."""

    REJECTED = "rejected"
    """Refused by a policy on this side."""

    CANCELLED = "cancelled"
    """The caller does not want the answer any more."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The classifier's answer about one failed attempt."""

    cause: Cause
    outcome: Outcome
    delivery: Delivery
    code: Code


class Seen(Protocol):
    """What the transport saw of an attempt; `None` wherever there is no tap."""

    @property
    def entered(self) -> bool:
        """Whether the transport was asked to send."""
        ...

    @property
    def status(self) -> int | None:
        """The HTTP status of the response, once its head has come."""
        ...

    def response_header(self, name: str) -> str | None:
        """A header of the response."""
        ...


UNREACHED: Final = frozenset({Cause.CONNECTION, Cause.DRAINING})
"""Nothing was sent, or nothing was done with it, and nobody is there who would: so the call may go
elsewhere at once, and whoever waits for readiness waits on."""

_BUSINESS = frozenset(
    {
        Code.INVALID_ARGUMENT,
        Code.NOT_FOUND,
        Code.ALREADY_EXISTS,
        Code.PERMISSION_DENIED,
        Code.FAILED_PRECONDITION,
        Code.OUT_OF_RANGE,
        Code.UNIMPLEMENTED,
        Code.CANCELED,
    }
)
_CERTIFICATE_MARKS = ("invalid peer certificate", "CERTIFICATE_VERIFY_FAILED")

_FIXED = {
    Cause.CONNECTION: (Outcome.FAILURE, Delivery.NOT_SENT),
    Cause.CERTIFICATE: (Outcome.FAILURE, Delivery.NOT_SENT),
    Cause.REFUSED: (Outcome.REFUSED, Delivery.NOT_SENT),
    Cause.DRAINING: (Outcome.FAILURE, Delivery.NOT_SENT),
    Cause.TRANSPORT: (Outcome.FAILURE, Delivery.MAYBE),
    Cause.DEADLINE: (Outcome.FAILURE, Delivery.MAYBE),
    Cause.UNAVAILABLE: (Outcome.FAILURE, Delivery.MAYBE),
    Cause.THROTTLED: (Outcome.REFUSED, Delivery.MAYBE),
    Cause.UNKNOWN: (Outcome.FAILURE, Delivery.MAYBE),
    Cause.ABORTED: (Outcome.ANSWERED, Delivery.ANSWERED),
    Cause.UNAUTHENTICATED: (Outcome.ANSWERED, Delivery.ANSWERED),
    Cause.BUSINESS: (Outcome.ANSWERED, Delivery.ANSWERED),
    Cause.MALFORMED: (Outcome.FAILURE, Delivery.ANSWERED),
    Cause.BUG: (Outcome.NEUTRAL, Delivery.NOT_SENT),
    Cause.REJECTED: (Outcome.NEUTRAL, Delivery.NOT_SENT),
    Cause.CANCELLED: (Outcome.NEUTRAL, Delivery.MAYBE),
}


_NOTED = "_connectplugin_verdict"


def note_verdict(error: BaseException, verdict: Verdict) -> None:
    """Write onto an error what it means, where everything that tells is still known."""
    error.__dict__[_NOTED] = verdict


def noted_verdict(error: BaseException) -> Verdict | None:
    """What an error was found to mean when its attempt failed; None for one of another origin."""
    noted: Verdict | None = error.__dict__.get(_NOTED)
    return noted


def _verdict(cause: Cause, code: Code) -> Verdict:
    outcome, delivery = _FIXED[cause]
    return Verdict(cause, outcome, delivery, code)


def classify(error: BaseException, seen: Seen | None = None) -> Verdict:
    """Say what an error of one attempt means.

    Args:
        error: What the attempt raised.
        seen: What the transport's tap saw of the attempt. Without it an unknown cause counts as
            `Delivery.MAYBE`, never as not sent.
    """
    if not isinstance(error, ConnectError):
        if isinstance(error, CancelledError | GeneratorExit):
            return _cancelled(Code.CANCELED, seen)
        # connectrpc lets only ConnectErrors out; this one is an interceptor's or a request's own.
        entered = seen is None or seen.entered
        verdict = _verdict(Cause.BUG, Code.UNKNOWN)
        if entered:
            return Verdict(Cause.BUG, verdict.outcome, Delivery.MAYBE, Code.UNKNOWN)
        return verdict
    code = error.code
    if isinstance(error, RejectedError):
        return _verdict(Cause.REJECTED, code)
    if isinstance(error, DeadlineExceededError):
        return Verdict(Cause.DEADLINE, Outcome.FAILURE, error.delivery, code)
    nack = None if seen is None else seen.response_header(NACK_HEADER)
    if nack is not None:
        return _verdict(Cause.DRAINING if nack == DRAINING else Cause.REFUSED, code)
    cause = error.__cause__
    if isinstance(cause, CancelledError):
        return _cancelled(code, seen)
    if cause is not None:
        return _by_cause(cause, code, seen)
    return _answered(code, seen)


def _answered(code: Code, seen: Seen | None) -> Verdict:
    """The error itself is all there is: the peer's word, if it was asked."""
    verdict = _verdict(_by_code(code), code)
    if seen is None:
        return verdict
    if not seen.entered:
        # Raised by an interceptor on this side, in the peer's vocabulary.
        return Verdict(verdict.cause, verdict.outcome, Delivery.NOT_SENT, code)
    if verdict.cause is Cause.THROTTLED and seen.status is None:
        # Nobody has answered: connectrpc itself found the request too large to be sent.
        return Verdict(verdict.cause, Outcome.NEUTRAL, verdict.delivery, code)
    return verdict


def _cancelled(code: Code, seen: Seen | None) -> Verdict:
    if seen is not None and not seen.entered:
        return Verdict(Cause.CANCELLED, Outcome.NEUTRAL, Delivery.NOT_SENT, code)
    return _verdict(Cause.CANCELLED, code)


def _by_code(code: Code) -> Cause:
    """The peer spoke, or something in its name that was not Connect."""
    if code in _BUSINESS:
        return Cause.BUSINESS
    match code:
        case Code.UNAVAILABLE:
            return Cause.UNAVAILABLE
        case Code.RESOURCE_EXHAUSTED:
            return Cause.THROTTLED
        case Code.DEADLINE_EXCEEDED:
            return Cause.DEADLINE
        case Code.ABORTED:
            return Cause.ABORTED
        case Code.UNAUTHENTICATED:
            return Cause.UNAUTHENTICATED
        case _:
            return Cause.UNKNOWN


def _by_cause(cause: BaseException, code: Code, seen: Seen | None) -> Verdict:
    """The transport, the codec or the caller's program raised."""
    # Before TimeoutError: pyqwest's ConnectTimeout is both, and nothing was sent.
    if isinstance(cause, ConnectionError):
        bad = any(mark in str(cause) for mark in _CERTIFICATE_MARKS)
        return _verdict(Cause.CERTIFICATE if bad else Cause.CONNECTION, code)
    if isinstance(cause, TimeoutError):
        verdict = _verdict(Cause.DEADLINE, code)
        if seen is not None and not seen.entered:
            # Time ran out while the call was still on this side.
            return Verdict(Cause.DEADLINE, verdict.outcome, Delivery.NOT_SENT, code)
        return verdict
    if isinstance(cause, StreamError) and cause.code == StreamErrorCode.REFUSED_STREAM:
        return Verdict(Cause.REFUSED, Outcome.FAILURE, Delivery.NOT_SENT, code)
    if isinstance(cause, StreamError | RemoteProtocolError | ReadError | WriteError):
        return _verdict(Cause.TRANSPORT, code)
    if seen is not None and seen.status is not None:
        return _verdict(Cause.MALFORMED, code)
    if seen is not None and not seen.entered:
        return _verdict(Cause.BUG, code)
    # Raised by the transport itself, or by the caller's request stream while it was sent; without
    # a tap it may as well be the peer's nonsense. So nobody is blamed, and nothing is sent twice.
    return Verdict(Cause.BUG, Outcome.NEUTRAL, Delivery.MAYBE, code)
