"""The circuit breaker's decision: closed, open, half open.

Each phase is an object of its own, and a permit holds the phase that granted it: that is its
generation. So these have an answer by construction:

- What if the result comes late? It belongs to another phase than the present one, and is dropped:
  a success that was on its way when the circuit opened closes nothing, a failure reopens nothing
  and prolongs nothing.
- What if it never comes? A probe holds its place by a lease; when that has lapsed the place is
  free. Should the probe come back all the same while nothing has been decided, its word counts: it
  is news of this phase.
- What if the call is cancelled? NEUTRAL gives the place back, and teaches nothing.
- What if the server refuses a probe, because it has too much to do? It is alive, but to let all
  calls loose on it now would make it worse. So the circuit stays half open, the next probe goes
  when the server wants it (`hint`, at most `max_timeout`), and the first that is served closes the
  circuit. Not for ever: when the server has refused for a whole lease the circuit closes, since it
  is there for dead servers, and one probe at a time would keep from a busy one even the calls that
  it would have served.
- What if it is given back twice? The first word counts. (The first response of a stream's probe is
  such a first word: else a watch would hold the circuit half open for hours.)
"""

import enum
import math
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from connectplugin_interceptors._window import BucketWindow
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.outcome import Outcome

_BUCKETS: Final = 10

# Who waits exactly as long as he was told must not be told to wait again, whatever the floats made
# of the sum.
_TICK: Final = 1e-6

# 0.07 * 100 is 7.000000000000001 in floats; 7 of 100 must still be 7 %.
_ROUNDING: Final = 1e-9

_MOST_DOUBLINGS: Final = 30

_LEAST_PAUSE: Final = 0.0625
"""Seconds between a probe that was refused and the next, if the server does not ask for more."""

# To look up a member of an enum costs as much as all the rest of a successful call (3.11).
_SUCCESS: Final = Outcome.SUCCESS


class CircuitState(enum.Enum):
    """What a circuit does with calls; `value` is for labels."""

    CLOSED = "closed"
    """They pass."""

    OPEN = "open"
    """They are refused, until its time is over."""

    HALF_OPEN = "half_open"
    """A few pass, as probes."""

    ISOLATED = "isolated"
    """They are refused, until somebody calls `reset()`."""


class MoveReason(enum.Enum):
    """Why a circuit went from one state to another."""

    FAILURE_THRESHOLD = "failure_threshold"
    FAILURE_RATE = "failure_rate"
    SLOW_CALL_RATE = "slow_call_rate"
    TIMEOUT = "timeout"
    """It was open long enough."""

    HEALTH = "health"
    """A health check has succeeded, so it is worth asking before the time is over."""

    PROBE_FAILED = "probe_failed"
    PROBES_SUCCEEDED = "probes_succeeded"
    ANSWERED = "answered"
    """For a whole lease the peer answered, if only with errors of the application or refusals."""

    BY_HAND = "by_hand"


@dataclass(frozen=True, slots=True)
class Move:
    """A transition that has happened."""

    before: CircuitState
    after: CircuitState
    reason: MoveReason


@dataclass(eq=False, slots=True)
class Closed:
    """Calls pass, and are counted."""

    calls: BucketWindow
    slow: BucketWindow | None
    run: int = 0


@dataclass(eq=False, frozen=True, slots=True)
class Open:
    """Nothing passes before `until`."""

    until: float


@dataclass(eq=False, slots=True)
class HalfOpen:
    """Probes pass; `leases` says when the place of each is free again.

    None passes before `paused`, when the server that has refused one wants to be asked again.
    """

    since: float
    leases: dict["Permit", float] = field(default_factory=dict["Permit", float])
    good: int = 0
    paused: float = -math.inf


@dataclass(eq=False, frozen=True, slots=True)
class Isolated:
    """Nothing passes."""


Phase: TypeAlias = Closed | Open | HalfOpen | Isolated


class Permit:
    """One call's leave to go ahead, to be released."""

    __slots__ = ("done", "phase", "responded", "started")

    def __init__(self, phase: Phase, started: float) -> None:
        self.phase = phase
        self.started = started
        self.responded: float | None = None
        self.done = False


class BreakerMachine:
    """One circuit.

    Every step is synchronous and deterministic: `now` is monotonic seconds, `rnd` is in [0, 1).

    Attributes:
        policy: What it goes by.
        moves: Transitions that nobody has been told of yet; whoever tells, clears them.
    """

    __slots__ = ("_phase", "_trips", "moves", "policy")

    def __init__(self, policy: CircuitBreakerPolicy) -> None:
        self.policy = policy
        self.moves: list[Move] = []
        self._trips = 0  # since it was closed last
        self._phase: Phase = self._closed()

    @property
    def phase(self) -> Phase:
        """The present phase; look, and leave it as it is."""
        return self._phase

    @property
    def state(self) -> CircuitState:
        """The present state."""
        return _state(self._phase)

    @property
    def calm(self) -> Closed | None:
        """The phase, if it is closed and does not look for slow calls.

        Then a call may go ahead without a permit, as nearly all do: it says `succeeded` at its end;
        or, if it was anything else, gets its `Permit` of this phase then, and releases that.
        """
        phase = self._phase
        return phase if type(phase) is Closed and phase.slow is None else None

    def succeeded(self, phase: Closed, now: float) -> None:
        """A call that went ahead in a calm phase has succeeded; if late, it says nothing."""
        if phase is self._phase:
            phase.run = 0
            phase.calls.add(now)

    def acquire(self, now: float) -> Permit | float:
        """Ask for leave: a permit, or the seconds to wait before it is worth asking again.

        These are infinite if the circuit is isolated.
        """
        phase = self._phase
        if type(phase) is Closed:
            return Permit(phase, now)
        wait = self.peek(now)
        if wait > 0:
            return wait
        if not isinstance(phase, HalfOpen):
            phase = HalfOpen(now)
            self._move(phase, MoveReason.TIMEOUT)
        permit = Permit(phase, now)
        lease = self.policy.lease
        phase.leases = {
            probe: lapses for probe, lapses in phase.leases.items() if now < lapses - _TICK
        }
        phase.leases[permit] = now + lease
        return permit

    def peek(self, now: float) -> float:
        """0 if `acquire` would give a permit, else the seconds it would give; changes nothing."""
        match self._phase:
            case Closed():
                return 0.0
            case Open(until):
                return 0.0 if now >= until - _TICK else until - now
            case HalfOpen(_, leases, _, paused):
                if now < paused - _TICK:
                    return paused - now
                held = [lapses for lapses in leases.values() if now < lapses - _TICK]
                if len(held) < self.policy.probes:
                    return 0.0
                # Nobody knows when a probe comes back: after a lease at the latest, but mostly
                # sooner.
                return min(self.policy.timeout, min(held) - now)
            case Isolated():
                return math.inf

    def responded(self, permit: Permit, now: float) -> None:
        """The first response of a stream has come: for a probe that is a success."""
        if type(permit.phase) is HalfOpen:
            self.release(permit, Outcome.SUCCESS, now)
        else:
            permit.responded = now

    def release(
        self,
        permit: Permit,
        outcome: Outcome,
        now: float,
        *,
        expired: bool = False,
        hint: float = 0.0,
        rnd: float = 0.0,
    ) -> None:
        """Say how a call that had leave has ended.

        Args:
            permit: Its permit.
            outcome: What it has taught.
            now: Monotonic seconds.
            expired: Whether it failed because its deadline ran out.
            hint: Seconds for which the server asks to be left alone.
            rnd: Where the jitter comes from, should the circuit open.
        """
        if permit.done:
            return
        permit.done = True
        phase = self._phase
        if permit.phase is not phase:
            return
        if expired and now - permit.started < self.policy.min_blame_timeout - _TICK:
            outcome = Outcome.NEUTRAL
        if type(phase) is Closed:
            reason = self._count(phase, permit, outcome, now)
            if reason is not None:
                self._trip(now, reason, hint=hint, rnd=rnd)
        elif type(phase) is HalfOpen:
            phase.leases.pop(permit, None)
            if outcome is Outcome.FAILURE or self._is_slow(permit, outcome, now):
                self._trip(now, MoveReason.PROBE_FAILED, hint=hint, rnd=rnd)
            else:
                self._probed(phase, outcome, now, hint)

    def probe_now(self, now: float) -> None:
        """A health check has succeeded: if the circuit is open, let a probe through at once.

        Never more than that: health checks and calls may take different ways through a server, so
        only a call can close the circuit.
        """
        if isinstance(self._phase, Open):
            self._move(HalfOpen(now), MoveReason.HEALTH)

    def isolate(self) -> None:
        """Refuse everything until `reset`."""
        if not isinstance(self._phase, Isolated):
            self._move(Isolated(), MoveReason.BY_HAND)

    def force_open(self, now: float, *, rnd: float = 0.0) -> None:
        """Open as if calls had failed: after the usual time a probe is let through.

        An isolated circuit stays isolated.
        """
        if not isinstance(self._phase, Isolated):
            self._trip(now, MoveReason.BY_HAND, hint=0.0, rnd=rnd)

    def reset(self) -> None:
        """Close, and forget what was."""
        self._close(MoveReason.BY_HAND)

    def _count(
        self, phase: Closed, permit: Permit, outcome: Outcome, now: float
    ) -> MoveReason | None:
        """Count a call that ended while closed, and say whether that is one failure too many."""
        policy = self.policy
        failed = outcome is Outcome.FAILURE
        if not failed and outcome is not Outcome.SUCCESS:
            return None  # a business error or a refusal breaks no run, and heals none
        phase.run = phase.run + 1 if failed else 0
        phase.calls.add(now, bad=failed)
        slow = self._is_slow(permit, outcome, now)
        if phase.slow is not None:
            phase.slow.add(now, bad=slow)
        if failed:
            if policy.failure_threshold is not None and phase.run >= policy.failure_threshold:
                return MoveReason.FAILURE_THRESHOLD
            if self._too_many(phase.calls, policy.failure_rate, now):
                return MoveReason.FAILURE_RATE
        if slow and phase.slow and self._too_many(phase.slow, policy.slow_call_rate, now):
            return MoveReason.SLOW_CALL_RATE
        return None

    def _too_many(self, window: BucketWindow, rate: float | None, now: float) -> bool:
        bad, total = window.counts(now)
        return (
            rate is not None
            and total >= self.policy.minimum_calls
            and bad >= rate * total - _ROUNDING
        )

    def _is_slow(self, permit: Permit, outcome: Outcome, now: float) -> bool:
        limit = self.policy.slow_call_duration
        if limit is None or outcome not in {Outcome.SUCCESS, Outcome.FAILURE}:
            return False
        ended = now if permit.responded is None else permit.responded
        return ended - permit.started >= limit

    def _probed(self, phase: HalfOpen, outcome: Outcome, now: float, hint: float) -> None:
        if outcome is Outcome.SUCCESS:
            phase.good += 1
            if phase.good >= self.policy.success_threshold:
                self._close(MoveReason.PROBES_SUCCEEDED)
        elif outcome is Outcome.NEUTRAL:
            return
        elif now - phase.since >= self.policy.lease - _TICK:
            # A peer that is asked for nothing but what it must refuse would never get well.
            self._close(MoveReason.ANSWERED)
        elif outcome is Outcome.REFUSED:
            pause = max(_LEAST_PAUSE, min(hint, self.policy.max_timeout))
            phase.paused = max(phase.paused, now + pause)

    def _trip(self, now: float, reason: MoveReason, *, hint: float, rnd: float) -> None:
        self._trips += 1
        policy = self.policy
        doubled = policy.timeout * 2.0 ** min(self._trips - 1, _MOST_DOUBLINGS)
        # The jitter lies below the cap, so that there is some at the cap too.
        least = max(policy.timeout, min(doubled, policy.max_timeout / (1.0 + policy.jitter)))
        most = min(least * (1.0 + policy.jitter), policy.max_timeout)
        wait = max(least + (most - least) * rnd, min(hint, policy.max_hint))
        self._move(Open(now + wait), reason)

    def _close(self, reason: MoveReason) -> None:
        self._trips = 0
        self._move(self._closed(), reason)

    def _closed(self) -> Closed:
        slow = None if self.policy.slow_call_duration is None else self._window()
        return Closed(self._window(), slow)

    def _window(self) -> BucketWindow:
        return BucketWindow(width=self.policy.window / _BUCKETS, buckets=_BUCKETS)

    def _move(self, phase: Phase, reason: MoveReason) -> None:
        before = self.state
        self._phase = phase
        after = self.state
        if after is not before:  # by hand a circuit may be opened, or closed, once more
            self.moves.append(Move(before, after, reason))

    def __repr__(self) -> str:
        policy = self.policy
        match self._phase:
            case Closed(calls, _, run):
                bad, total = calls.latest
                return f"closed, {bad} of {total} failed, {run} in a row"
            case Open(until):
                return f"open until {until:.3f}"
            case HalfOpen(_, leases, good, _):
                probes = f"half-open {len(leases)}/{policy.probes} probes"
                if policy.success_threshold > 1:
                    return f"{probes}, {good}/{policy.success_threshold} successes"
                return probes
            case Isolated():
                return "isolated"


def _state(phase: Phase) -> CircuitState:
    match phase:
        case Closed():
            return CircuitState.CLOSED
        case Open():
            return CircuitState.OPEN
        case HalfOpen():
            return CircuitState.HALF_OPEN
        case Isolated():
            return CircuitState.ISOLATED
