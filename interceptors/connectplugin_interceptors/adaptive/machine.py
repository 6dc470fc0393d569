"""The adaptive limit's decision, after TCP Vegas: window by window, from latency and throughput.

What lies in a queue, here or behind, is told by how much longer calls take than they lately did:

```
queue = limit * (1 - baseline / recent)      recent: 90th percentile of a window; baseline: its EWMA
queue <= log10(limit)         raise by 6 log10(limit)     nothing waits: there is room
queue <  3 log10(limit)       raise by   log10(limit)
queue <= 6 log10(limit)       leave it
queue >  6 log10(limit)       lower it by what waits above 3 log10(limit), at most by half
```

Vegas alone has faults, and each has its guard here:

- It chases its own tail: a baseline that is measured while a queue stands follows it upwards. So a
  window that shows a queue moves the baseline five times more slowly, a faster one three times
  faster; and where lately more calls in flight meant more latency but no more throughput
  (correlations over 50 windows), the limit is lowered whatever the baseline says.
- It cannot tell a queue from work that has become slower. So when lowering the limit by a quarter
  or more has not made calls faster, there was no queue: the limit goes back, and the baseline is
  set to what was measured.
- It runs to the bottom: it never goes below what the throughput needs at the least latency seen
  lately (Little's law), nor is it raised above five times the calls that are really there.
- It moves by hearsay: while less than half of the limit is used the limit decides nothing, so what
  is slow then is no queue that it could shorten, and it stands.
- When one call in ten runs into its deadline, latencies say nothing any more, and the limit is
  halved.

What if a result comes late? A call that began before the window did was measured under another
limit, and is left out. Never? It keeps its slot, and says nothing until its deadline ends it.
Cancelled? It teaches nothing. Twice? `sample` cannot tell: whoever samples does so once.
"""

import enum
import math
from collections import deque
from dataclasses import dataclass
from typing import Final

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy

FEWEST_SAMPLES: Final = 50
LONGEST_WINDOW: Final = 30.0
"""Seconds; too few samples in so long a time are thrown away: they tell of no one state."""

_MOST_SAMPLES: Final = 512
_HISTORY: Final = 50
_FEWEST_FOR_CORRELATION: Final = 10
_PERCENTILE: Final = 0.9
_DROPPED_SHARE: Final = 0.1
_IN_FLIGHT_FACTOR: Final = 5.0

_AGE: Final = 10.0
_AGE_QUEUEING: Final = 50.0
_AGE_FASTER: Final = 3.0

_DEEP_CUT: Final = 0.75
_CORRELATED: Final = 0.5
_UNCORRELATED: Final = 0.3


class Release(enum.Enum):
    """How a call ended, for a limit that learns from it."""

    SUCCESS = "success"
    """It was answered: its duration is a sample."""

    IGNORE = "ignore"
    """Its duration says nothing: a stream, a cancelled call, one that failed at once."""

    DROPPED = "dropped"
    """It ran into its deadline."""


_IGNORE: Final = Release.IGNORE
_DROPPED: Final = Release.DROPPED


class Reason(enum.Enum):
    """Why the limit is what it is since the last window."""

    INITIAL = "initial"
    RAISED = "raised"
    KEPT = "kept"
    QUEUE = "queue"
    DROPPED = "dropped"
    DRIFT = "drift"
    SLOWER = "slower"
    """Calls have become slower by themselves; a cut was taken back."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one window has shown.

    Attributes:
        in_flight: The most calls at a time.
        throughput: Successes per second.
        recent: The 90th percentile of the durations, in seconds.
        dropped: Whether one in ten ran into its deadline.
        limited: Whether the limit has refused anybody, or made somebody wait.
    """

    in_flight: int
    throughput: float
    recent: float
    dropped: bool
    limited: bool


class AdaptiveLimitMachine:
    """The limit, and the window that is being measured.

    Attributes:
        reason: Why the limit is what it is.
        baseline: Seconds that calls take while nothing queues, as far as known.
    """

    __slots__ = (
        "_cut",
        "_dropped",
        "_history",
        "_in_flight",
        "_limit",
        "_limited",
        "_policy",
        "_samples",
        "_seen",
        "_start",
        "_stride",
        "_successes",
        "_windows",
        "baseline",
        "reason",
    )

    def __init__(self, policy: AdaptiveLimitPolicy, now: float) -> None:
        self._policy = policy
        self._limit = float(policy.first_limit)
        self.reason = Reason.INITIAL
        self.baseline: float | None = None
        self._windows = 0
        self._in_flight = 0
        self._history: deque[Window] = deque(maxlen=_HISTORY)
        # The limit and the latency before the last deep cut, until the next window has judged it.
        self._cut: tuple[float, float] | None = None
        self._begin(now)

    @property
    def limit(self) -> int:
        """Calls that may be in flight."""
        return int(self._limit)

    def full(self) -> None:
        """Somebody found no slot."""
        self._limited = True

    def sample(self, *, now: float, duration: float, release: Release, in_flight: int) -> bool:
        """Take down how a call ended.

        Args:
            now: Monotonic seconds.
            duration: Seconds that it held its slot.
            release: How it ended.
            in_flight: Calls inside, this one included.

        Returns:
            Whether the limit is another one because of it.
        """
        if release is _IGNORE:
            return False
        start = self._start
        if now - duration < start:
            return False
        self._seen += 1
        if release is _DROPPED:
            self._dropped += 1
        else:
            self._successes += 1
        self._in_flight = max(self._in_flight, in_flight)
        if self._seen % self._stride == 0:
            self._keep(duration)
        if now - start < self._length():
            return False
        if self._seen >= FEWEST_SAMPLES:
            return self._close(now)
        if now - start > LONGEST_WINDOW:
            self._begin(now)
        return False

    def _keep(self, duration: float) -> None:
        """Keep a sample; when there are too many, every second one, so that all times count."""
        self._samples.append(duration)
        if len(self._samples) >= _MOST_SAMPLES:
            del self._samples[::2]
            self._stride *= 2

    def _length(self) -> float:
        shortest = self._policy.window
        if self.baseline is None:
            return shortest
        return min(LONGEST_WINDOW, max(shortest, 2.0 * self.baseline))

    def _begin(self, now: float) -> None:
        self._start = now
        self._samples: list[float] = []
        self._stride = 1
        self._seen = 0
        self._successes = 0
        self._dropped = 0
        self._in_flight = 0
        self._limited = False

    def _close(self, now: float) -> bool:
        samples = sorted(self._samples)
        window = Window(
            in_flight=self._in_flight,
            throughput=self._successes / (now - self._start),
            recent=samples[int(len(samples) * _PERCENTILE)],
            dropped=self._dropped >= _DROPPED_SHARE * self._seen,
            limited=self._limited,
        )
        self._history.append(window)
        before = self.limit
        self._adjust(window)
        self._windows += 1
        self._begin(now)
        return self.limit != before

    def _adjust(self, window: Window) -> None:
        limit, recent = self._limit, window.recent
        cut, self._cut = self._cut, None
        baseline = recent if self.baseline is None else self.baseline
        if cut is not None and _is_slower(window, limit, cut):
            self.reason = Reason.SLOWER
            self.baseline = recent
            self._limit = cut[0]
            return
        step = max(1.0, math.log10(limit))
        queue = limit * max(0.0, 1.0 - baseline / recent) if recent > 0.0 else 0.0
        self.reason, wanted = self._decide(window, queue, step, baseline)
        self._limit = min(float(self._policy.max_limit), max(self._policy.min_limit, wanted))
        if self._limit <= _DEEP_CUT * limit and not window.dropped:
            self._cut = (limit, recent)
        queueing = self.reason in (Reason.QUEUE, Reason.DROPPED)
        slowly = _AGE_QUEUEING if queueing else _AGE
        age = _AGE_FASTER if recent < baseline else slowly
        # A young baseline is the plain mean of what there was.
        self.baseline = baseline + (recent - baseline) / min(age, self._windows + 1.0)

    def _decide(
        self, window: Window, queue: float, step: float, baseline: float
    ) -> tuple[Reason, float]:
        limit = self._limit
        if 2 * window.in_flight < limit:
            return Reason.KEPT, limit
        if window.dropped:
            return Reason.DROPPED, limit / 2.0
        if queue > 6.0 * step:
            wanted = max(limit / 2.0, limit - max(step, queue - 3.0 * step))
            return Reason.QUEUE, min(limit, max(wanted, self._needed(window)))
        if window.limited and window.recent >= baseline and self._is_drifting():
            return Reason.DRIFT, min(limit, max(limit - step, self._needed(window)))
        if queue < 3.0 * step:
            wanted = limit + (6.0 * step if queue <= step else step)
            # More room than there are calls for would only be found out to be too much.
            return Reason.RAISED, max(limit, min(wanted, _IN_FLIGHT_FACTOR * window.in_flight))
        return Reason.KEPT, limit

    def _needed(self, window: Window) -> float:
        """Calls in flight that the throughput needs if none of them waits."""
        return window.throughput * min(past.recent for past in self._history)

    def _is_drifting(self) -> bool:
        """Whether more calls in flight have lately brought latency, and no throughput."""
        past = self._history
        if len(past) < _FEWEST_FOR_CORRELATION:
            return False
        in_flight = [float(window.in_flight) for window in past]
        slower = _correlation(in_flight, [window.recent for window in past])
        more = _correlation(in_flight, [window.throughput for window in past])
        return slower > _CORRELATED and more < _UNCORRELATED

    def __repr__(self) -> str:
        known = "unknown" if self.baseline is None else f"{self.baseline * 1000.0:.1f} ms"
        return f"<AdaptiveLimit {self.limit} ({self.reason.value}), baseline {known}>"


def _is_slower(window: Window, limit: float, cut: tuple[float, float]) -> bool:
    """Whether a cut has failed to make calls faster.

    With a queue the latency falls as the limit does; without one it stays. The measure lies half
    way between the two, in ratios.
    """
    before, latency = cut
    if window.dropped or not window.limited:
        return False
    return window.recent > latency * math.sqrt(limit / before)


def _correlation(left: list[float], right: list[float]) -> float:
    """Pearson's; 0 where one side does not vary."""
    count = len(left)
    mean_left, mean_right = sum(left) / count, sum(right) / count
    both = sum((a - mean_left) * (b - mean_right) for a, b in zip(left, right, strict=True))
    spread_left = sum((a - mean_left) ** 2 for a in left)
    spread_right = sum((b - mean_right) ** 2 for b in right)
    if spread_left <= 0.0 or spread_right <= 0.0:
        return 0.0
    return both / math.sqrt(spread_left * spread_right)
