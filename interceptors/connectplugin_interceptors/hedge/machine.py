"""Hedging's decisions: what is slow, and what follows a failure.

What if an attempt's answer comes late? The call is over then, and its attempt was cancelled; how
long it had been out counts as a latency all the same, since it would have taken longer: without
that the slow ones would drop out of what is learned, and the delay would shrink and shrink. Never?
The next attempt starts when the delay is over, and the deadline ends them all. Cancelled? The
caller wants no answer; nothing is learned. Twice? Each attempt is told of once, by its shell.
"""

import enum
from dataclasses import dataclass
from math import ceil, exp, inf, log
from typing import Final

from connectplugin_interceptors.outcome import Cause, Verdict
from connectplugin_interceptors.pushback import NO_PUSHBACK, Pushback

SMALLEST_ATTEMPT: Final = 0.001
"""Seconds that must be left for an attempt: the wire knows no shorter deadline."""

LONGEST_PAUSE: Final = 5.0
"""Seconds that a server may hold off the next attempt; who asks for more is told to the caller."""

# Who has waited as long as was asked must not be told to wait again, whatever floats made of it.
_TICK: Final = 1e-6

_LEAST: Final = 1e-5
_GROWTH: Final = log(1.05)
_BUCKETS: Final = ceil(log(1000.0 / _LEAST) / _GROWTH)
_GENERATION: Final = 500
_EVERY: Final = 10


class LatencyEstimator:
    """A percentile of the latencies of late, to 5 %.

    Two generations of a histogram: when the younger one has 500 samples it becomes the elder, and
    the elder is forgotten. So the last 500 to 1,000 count.
    """

    __slots__ = ("_asked", "_elder", "_known", "_young", "count")

    def __init__(self) -> None:
        self.count = 0
        self._young: dict[int, int] = {}
        self._elder: dict[int, int] = {}
        self._known: float | None = None
        self._asked: tuple[float, int] = (inf, 0)

    def observe(self, latency: float) -> None:
        """Take down how long an attempt took, in seconds."""
        bucket = 0 if latency <= _LEAST else min(int(log(latency / _LEAST) / _GROWTH), _BUCKETS)
        self._young[bucket] = self._young.get(bucket, 0) + 1
        self.count += 1
        if self.count % _GENERATION == 0:
            self._elder, self._young = self._young, {}

    def quantile(self, share: float) -> float | None:
        """Seconds within which so large a share was done; None while there are no samples.

        Computed anew after every tenth sample only.
        """
        asked = (share, self.count // _EVERY)
        if self._known is None or asked != self._asked:
            self._asked = asked
            self._known = self._compute(share)
        return self._known

    def _compute(self, share: float) -> float | None:
        counts = dict(self._elder)
        for bucket, count in self._young.items():
            counts[bucket] = counts.get(bucket, 0) + count
        wanted = share * sum(counts.values())
        if not wanted:
            return None
        for bucket in sorted(counts):
            wanted -= counts[bucket]
            if wanted <= 1e-9:  # noqa: PLR2004  # 0.95 * 20 is 19.0 or a hair less
                return _LEAST * exp(_GROWTH * (bucket + 1))
        return None

    def __repr__(self) -> str:
        return f"<LatencyEstimator {self.count} samples>"


class Meaning(enum.Enum):
    """What a failed attempt means to its call."""

    FINAL = "final"
    """It is the answer, whoever else is out."""

    REPEATABLE = "repeatable"
    """Another endpoint may do better, at once."""

    UNSENT = "unsent"
    """It never left this side, and there is somebody else to ask: nothing is repeated."""

    USELESS = "useless"
    """No answer, and no reason to ask anybody else; those that are out may still do better."""


def meaning(verdict: Verdict, *, pushback: Pushback, untried: bool) -> Meaning:
    """What a failed attempt means.

    Args:
        verdict: The classifier's.
        pushback: What the server said.
        untried: Whether there is an endpoint that the call has not tried.
    """
    match verdict.cause:
        case Cause.CONNECTION | Cause.DRAINING:
            return Meaning.UNSENT if untried else Meaning.REPEATABLE
        case Cause.REFUSED | Cause.TRANSPORT | Cause.UNAVAILABLE | Cause.DEADLINE:
            return Meaning.REPEATABLE
        case Cause.THROTTLED:
            # Without a hint it is a quota that is used up, for the next attempt too.
            return Meaning.USELESS if pushback == NO_PUSHBACK else Meaning.REPEATABLE
        case Cause.BUSINESS | Cause.ABORTED | Cause.UNAUTHENTICATED | Cause.BUG | Cause.CANCELLED:
            return Meaning.FINAL
        case Cause.UNKNOWN | Cause.MALFORMED | Cause.CERTIFICATE | Cause.REJECTED:
            return Meaning.USELESS


class StopReason(enum.Enum):
    """Why no further attempt is started."""

    NON_RETRYABLE = "non_retryable"
    MAX_ATTEMPTS = "max_attempts"
    PUSHBACK = "pushback"
    DEADLINE = "deadline"
    BUDGET = "budget"


@dataclass(slots=True)
class HedgedCall:
    """When one call's next attempt starts.

    Attributes:
        limit: Attempts in all that are paid for or the first.
        delay: Seconds after which an attempt is slow; None if nobody knows.
        deadline: When the call must have ended; None for never.
        started: Attempts so far that count towards the limit.
        next_at: When the next attempt starts; None if nothing but a failure can start one.
        free: Whether the next attempt replaces one that was never sent, and costs nothing.
        after_failure: Whether the next attempt follows a failure; else it is for slowness, and
            pointless when nobody is out any more.
        stopped: Why no further attempt starts; None while one may.
    """

    limit: int
    delay: float | None
    deadline: float | None
    started: int = 0
    next_at: float | None = None
    free: bool = False
    after_failure: bool = False
    stopped: StopReason | None = None

    def begun(self, now: float) -> None:
        """An attempt has been started."""
        if self.free:
            self.free = False
        else:
            self.started += 1
        self.next_at = None
        self.after_failure = False
        if self.stopped is None and self.started < self.limit and self.delay is not None:
            self._plan(now + self.delay)

    def due(self, now: float) -> bool:
        """Whether the next attempt starts now."""
        return self.next_at is not None and now >= self.next_at - _TICK

    def stop(self, reason: StopReason) -> None:
        """No further attempt: the budget is empty, say. Those that are out go on."""
        if self.stopped is None:
            self.stopped = reason
        self.next_at = None
        self.free = False
        self.after_failure = False

    def failed(self, what: Meaning, pushback: Pushback, now: float) -> None:
        """An attempt has failed in a way that is not final: see when the next one starts."""
        if self.stopped is not None:
            return
        if pushback.forbidden:
            self.stop(StopReason.PUSHBACK)
            return
        if what is Meaning.UNSENT:
            self.free = True
            self._plan(now, after_failure=True)
            return
        if what is Meaning.USELESS:
            return  # a hedge that is planned still comes, as long as somebody else is out
        if self.started >= self.limit:
            self.stop(StopReason.MAX_ATTEMPTS)
            return
        pause = pushback.delay or 0.0
        if pause > (self.delay or 0.0) + LONGEST_PAUSE:
            self.stop(StopReason.PUSHBACK)
            return
        self._plan(now + pause, after_failure=True)

    def _plan(self, at: float, *, after_failure: bool = False) -> None:
        if self.deadline is not None and at + SMALLEST_ATTEMPT > self.deadline:
            self.stop(StopReason.DEADLINE)
        else:
            self.next_at = at
            self.after_failure = after_failure
