"""What can be raised, and how to ask an error whether the call may have been executed.

```
ConfigError (ValueError)            from constructors only
ConnectError                        the peer or the transport spoke: see code and __cause__
├─ RejectedError                    decided on this side, never sent: .reason, .retry_after
│   ├─ OverloadedError              unavailable
│   ├─ CircuitOpenError             unavailable; `wait_for_ready` waits for it
│   ├─ NoEndpointError              unavailable; `wait_for_ready` waits for it
│   └─ RateLimitedError             resource_exhausted
└─ DeadlineExceededError            also a TimeoutError: .sent
```
A `ConnectError` can be neither copied nor pickled: carry its parts instead.
"""

import enum
from collections.abc import Iterable
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail


class ConfigError(ValueError):
    """A configuration that cannot work; the text names the field, its value and a right one."""


class Delivery(enum.Enum):
    """Whether a failed call may have been executed by its peer."""

    NOT_SENT = "not_sent"
    """It certainly was not: to send it again is safe, whatever the method."""

    ANSWERED = "answered"
    """The peer answered with this error."""

    MAYBE = "maybe"
    """Nobody knows. Only an idempotent call may be sent again."""

    def worst(self, other: "Delivery") -> "Delivery":
        """The one that promises less, of two attempts of one call."""
        return self if _WEIGHT[self] >= _WEIGHT[other] else other


_WEIGHT: Final = {Delivery.NOT_SENT: 0, Delivery.ANSWERED: 1, Delivery.MAYBE: 2}


class RejectedError(ConnectError):
    """A policy on this side refused the call; it was never sent.

    Attributes:
        reason: A short constant that says which rule refused (`queue_full`, ...).
        retry_after: Seconds after which it may be worth to try again; None if nobody knows.
        unready: Whether it means that there is nobody to send the call to right now, which a call
            with `wait_for_ready` waits out.
    """

    code_on_wire: Code = Code.UNAVAILABLE
    unready: bool = False

    def __init__(self, message: str, *, reason: str, retry_after: float | None = None) -> None:
        super().__init__(self.code_on_wire, message)
        self.reason = reason
        self.retry_after = retry_after


class OverloadedError(RejectedError):
    """A queue or a limit of concurrency is full."""


class CircuitOpenError(RejectedError):
    """The circuit breaker is open: of the endpoint, or of all that could be asked."""

    unready = True


class NoEndpointError(RejectedError):
    """There is no endpoint that the call could be sent to."""

    unready = True


class RateLimitedError(RejectedError):
    """A quota of this side is used up."""

    code_on_wire = Code.RESOURCE_EXHAUSTED


class DeadlineExceededError(ConnectError, TimeoutError):
    """The call's deadline ran out.

    Attributes:
        delivery: Over all attempts of the call.
        sent: Whether the peer may have acted.
    """

    def __init__(
        self,
        message: str,
        *,
        delivery: Delivery,
        details: Iterable[ErrorDetail] = (),
    ) -> None:
        super().__init__(Code.DEADLINE_EXCEEDED, message, details)
        self.delivery = delivery

    @property
    def sent(self) -> bool:
        """Whether the peer may have acted."""
        return self.delivery is not Delivery.NOT_SENT


_DELIVERY: Final = "_connectplugin_delivery"


def note_delivery(error: BaseException, delivery: Delivery) -> None:
    """Write onto an error what is known over all attempts of its call."""
    error.__dict__[_DELIVERY] = delivery


def delivery(error: BaseException) -> Delivery:
    """Tell whether the call that raised `error` may have been executed: the worst of its attempts.

    For an error of a call that went through no chain of ours, the error alone is asked; what
    cannot be told then is `Delivery.MAYBE`.
    """
    noted: Any = error.__dict__.get(_DELIVERY)
    if isinstance(noted, Delivery):
        return noted
    if isinstance(error, DeadlineExceededError):
        return error.delivery
    # Imported late: the classifier needs the types above.
    from connectplugin_interceptors.outcome import classify  # noqa: PLC0415

    return classify(error).delivery


_RETRY_AFTER: Final = "_connectplugin_retry_after"


def note_retry_after(error: BaseException, seconds: float | None) -> None:
    """Write onto an error when its peer asked to be tried again."""
    if seconds is not None:
        error.__dict__[_RETRY_AFTER] = seconds


def retry_after(error: BaseException) -> float | None:
    """Seconds after which the peer, or the policy that refused, asks to be tried again, if told."""
    if isinstance(error, RejectedError):
        return error.retry_after
    noted: Any = error.__dict__.get(_RETRY_AFTER)
    return noted if isinstance(noted, float) else None


_THROTTLE_FAILURE: Final = "_connectplugin_throttle_failure"


def note_throttle_failure(error: BaseException) -> None:
    """Write onto an error that its peer said "do not retry"."""
    error.__dict__[_THROTTLE_FAILURE] = True


def is_throttle_failure(error: BaseException) -> bool:
    """Whether the peer said "do not retry", which counts as a refusal whatever the code."""
    return _THROTTLE_FAILURE in error.__dict__


def is_outbound(error: BaseException) -> bool:
    """Whether an error comes out of a chain of ours: of a call that this program made itself."""
    return isinstance(error, RejectedError) or _DELIVERY in error.__dict__
