"""An endpoint: who it is, whether it may be picked, and what its answers have taught.

A file beside config, machine and interceptor, since pool, transport and session know endpoints
too. As pure as the machine: time is an argument, and every step is synchronous.
"""

import enum
from dataclasses import dataclass
from math import exp, inf
from typing import Any, Final

_LEAST_RTT: Final = 0.0001
"""Seconds. Below, times tell nothing; and an estimate that has faded to nothing must not hide how
many calls (or open streams) an endpoint has."""


FIRST_PAUSE: Final = 1.0
"""Seconds from an endpoint's failure until a call looks whether it still fails, if none comes there
anyhow."""


class EndpointState(enum.Enum):
    """What an endpoint is to the balancer; the worst of what is true of it."""

    CONNECTING = "connecting"
    """Not ready yet: it waits for its handshake."""

    READY = "ready"
    DRAINING = "draining"
    """No longer in the set: it gets no new calls, and is let go when those it has are over."""

    EJECTED = "ejected"
    """It does much worse than its peers; back after a while."""

    UNHEALTHY = "unhealthy"
    """A health check says so."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a source of endpoints tells about one.

    Attributes:
        key: Its name, the same for as long as it is the same endpoint; in events and in errors.
        url: Where requests go: `http://` or `https://`, host, and perhaps a path.
        target: What its transport is made of: the URL, if not told otherwise.
    """

    key: str
    url: str
    target: Any = None


class Endpoint:
    """One endpoint of a pool. Only the pool changes it.

    Attributes:
        key: Its name.
        url: Where requests go, without a slash at the end.
        target: What its transport is made of.
        connecting: Whether it waits for its handshake.
        draining: Whether it has left the set.
        healthy: What a health check says.
        failing: Whether no call that was sent after its last failure (or refusal) was answered.
        failed_at: When that failure was.
        pause: Seconds until a call looks after it while it fails; doubles with each.
        ejected_until: When its ejection ends; None if it is not ejected.
        ejections: How often it was ejected, less the intervals that it was good since.
        pending: Attempts that have been sent there and are not over.
        picked: When it was picked last.
        trial_since: From when on a call's success says that it is well again, whatever it was
            before; infinite if nothing waits for that.
        succeeded: Calls of this interval.
        failed: Calls of this interval.
        due: When the pool looks at it next.
    """

    __slots__ = (
        "_penalty",
        "_rtt",
        "_updated",
        "connecting",
        "draining",
        "due",
        "ejected_until",
        "ejections",
        "failed",
        "failed_at",
        "failing",
        "healthy",
        "key",
        "pause",
        "pending",
        "picked",
        "succeeded",
        "target",
        "trial_since",
        "url",
    )

    def __init__(self, address: Address, *, connecting: bool = False) -> None:
        self.key = address.key
        self.url = address.url.rstrip("/")
        self.target = self.url if address.target is None else address.target
        self.connecting = connecting
        self.draining = False
        self.healthy = True
        self.failing = False
        self.failed_at = -inf
        self.pause = FIRST_PAUSE
        self.ejected_until: float | None = None
        self.ejections = 0
        self.pending = 0
        self.picked = -inf
        self.trial_since = inf
        self.succeeded = 0
        self.failed = 0
        self.due = inf
        # The estimate as of its last change; None before the first answer.
        self._rtt: float | None = None
        self._updated = 0.0
        self._penalty = 0.0

    @property
    def state(self) -> EndpointState:
        """What it is to the balancer."""
        if self.draining:
            return EndpointState.DRAINING
        if self.connecting:
            return EndpointState.CONNECTING
        if not self.healthy:
            return EndpointState.UNHEALTHY
        return EndpointState.READY if self.ejected_until is None else EndpointState.EJECTED

    def rtt(self, now: float, decay: float, initial: float) -> float:
        """Seconds that an answer is expected to take; what was measured fades with time.

        While it fails at least what is left of the penalty.
        """
        rtt = initial
        if self._rtt is not None:
            rtt = max(self._rtt * exp((self._updated - now) / decay), _LEAST_RTT)
        return max(rtt, self._penalty_at(now, decay)) if self.failing else rtt

    def load(self, now: float, decay: float, initial: float) -> float:
        """What a call that is sent there adds to: the lower, the better."""
        rtt = self._rtt  # as `rtt` has it: asked twice for each pick, and a call less is a third
        if rtt is None:
            rtt = initial
        else:
            rtt *= exp((self._updated - now) / decay)
            if rtt < _LEAST_RTT:  # noqa: PLR1730  # max() costs as much as all the rest
                rtt = _LEAST_RTT
        if self.failing:
            rtt = max(rtt, self._penalty_at(now, decay))
        return rtt * (self.pending + 1)

    def _penalty_at(self, now: float, decay: float) -> float:
        return self._penalty * exp((self.failed_at - now) / decay)

    def observe(self, rtt: float, now: float, decay: float) -> None:
        """Take down an answer: a slower one counts at once, a faster one with time (peak EWMA)."""
        known = self._rtt
        if known is not None:
            passed = now - self._updated
            weight = exp(-passed / decay) if passed > 0 else 1.0
            known *= weight
            if rtt < known:
                rtt = known + rtt * (1.0 - weight)
        self._rtt = rtt
        self._updated = now

    def fail(self, penalty: float, now: float, decay: float) -> None:
        """Take down a failure or refusal: like an answer of so many seconds, until there is one.

        Kept apart from what was measured of answers, so that the first one takes it back: mixed
        with them, 5 s would keep the balancer away for a minute from a server that is well again.
        """
        known = self._penalty_at(now, decay) if self.failing else 0.0
        self._penalty = max(penalty, known)
        self.failed_at = now
        self.failing = True

    def answered(self, started: float) -> None:
        """A call has been answered that was sent at this time: what failed before it is over."""
        if self.failing and started >= self.failed_at:
            self.failing = False
            self.pause = FIRST_PAUSE

    def forget(self) -> None:
        """Somebody else is there now: nothing is known of it."""
        self._rtt = None
        self.failing = False
        self.pause = FIRST_PAUSE

    def begin_anew(self, rtt: float, now: float) -> None:
        """Forget what was measured before: it was somebody else, or is well again."""
        self._rtt = rtt
        self._updated = now

    def __repr__(self) -> str:
        return f"<Endpoint {self.key} {self.state.value} pending={self.pending}>"
