"""What happened, as frozen data, for whoever wants to know; a listener can never break a call."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.errors import Delivery
from connectplugin_interceptors.outcome import Cause, Outcome


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all events.

    Attributes:
        client: The client's name (`stack.client(..., name=...)`); of a server's event the server's
            (`ServerStack(name=...)`).
        method: `package.Service/Method`.
    """

    client: str
    method: str


@dataclass(frozen=True, slots=True)
class AttemptEnded(Event):
    """One attempt is over; `duration` in seconds, `cause` is None if it succeeded.

    `endpoint` is the one that the balancer had picked; empty where there is no balancer.
    """

    number: int
    kind: AttemptKind
    duration: float
    outcome: Outcome
    cause: Cause | None
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class RetryScheduled(Event):
    """Another attempt will follow after `delay` seconds."""

    number: int
    kind: AttemptKind
    delay: float
    cause: Cause


@dataclass(frozen=True, slots=True)
class RetryStopped(Event):
    """A failed call gets no further attempt; `reason` says which rule decided."""

    attempts: int
    reason: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class HedgeStarted(Event):
    """Another attempt starts beside those that are out, or after one that failed.

    `elapsed` is in seconds, since the call's first attempt; `cause` is of the failure that it
    follows, None if the attempt before is merely slow.
    """

    number: int
    elapsed: float
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class HedgeSuppressed(Event):
    """An attempt is slow, and no other starts beside it; `reason` says which rule decided."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class WaitingForReady(Event):
    """A call begins to wait until something can be reached."""


@dataclass(frozen=True, slots=True)
class CallEnded(Event):
    """The call is over; `duration` in seconds. `outcome` is neutral if it was cancelled."""

    duration: float
    attempts: int
    outcome: Outcome
    cause: Cause | None
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """A policy on this side refused the call.

    `enforced` is False in a dry run: it would have been refused, and was let through.
    """

    policy: str
    reason: str
    retry_after: float | None
    enforced: bool = True


@dataclass(frozen=True, slots=True)
class CircuitChanged(Event):
    """A circuit went from one state to another (`closed`, `open`, `half_open`, `isolated`).

    `method` is what of the endpoint it guards: `package.Service/*`, or one method, or empty for all
    of it.
    """

    endpoint: str
    before: str
    after: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndpointChanged(Event):
    """An endpoint of the balancer went from one `EndpointState` to another (their values).

    `method` is that of the call that noticed it.
    """

    endpoint: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Waited(Event):
    """A policy let something in after a wait of `duration` seconds."""

    policy: str
    duration: float


@dataclass(frozen=True, slots=True)
class FaultInjected(Event):
    """Something goes wrong on purpose, after `latency` seconds.

    `fault` is a code, or `refuse`, `disconnect`, `drop`, or `latency` if that is all.
    """

    fault: str
    latency: float


@dataclass(frozen=True, slots=True)
class FallbackUsed(Event):
    """A fallback has stood in for a failed call, or has failed too.

    `source` is `value` or `call`, `cause` that of the call's failure.
    """

    source: str
    cause: Cause
    succeeded: bool


@dataclass(frozen=True, slots=True)
class CallRefused(Event):
    """A server has refused a call before anything of it was processed.

    `reason` is what the client reads (`draining`, `expired`, `rate_limited`, `overloaded`);
    `retry_after` the seconds after which it may ask again, None if it was not told.
    """

    reason: str
    retry_after: float | None


Listener: TypeAlias = Callable[[Event], None]
Emit: TypeAlias = Callable[[Event], None]

_logger = logging.getLogger("connectplugin.interceptors")


class Emitter:
    """Hands each event to each listener; what a listener raises is counted and logged.

    Attributes:
        failures: How often a listener has raised.
    """

    __slots__ = ("_listeners", "failures")

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)
        self.failures = 0

    def __call__(self, event: Event) -> None:
        """Tell every listener."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:  # a guest must not fail a call, whatever it does
                self.failures += 1
                _logger.exception("a listener failed on %s", type(event).__name__)


def emitter(listeners: Sequence[Listener]) -> Emit | None:
    """One `Emit` for all listeners; None if there are none, so that no event is ever built."""
    return Emitter(listeners) if listeners else None
