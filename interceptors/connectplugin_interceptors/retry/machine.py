"""Whether a failed attempt is followed by another: one decision, made once per failure.

What if the result comes late? The decision is made from what is known now, and the wait it grants
is checked against the deadline before it begins. Never? The deadline ends the attempt, and that is
the failure decided on here. Cancelled? The caller wants no answer, so no attempt follows. Twice?
Each attempt fails once; nothing here remembers it, except the budget, which keeps what it was paid.
"""

import enum
from dataclasses import dataclass
from typing import Final, TypeAlias

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.errors import Delivery
from connectplugin_interceptors.outcome import UNREACHED, Cause, Verdict
from connectplugin_interceptors.pushback import NO_PUSHBACK, Pushback
from connectplugin_interceptors.retry.config import MOST_ATTEMPTS, RetryPolicy

SMALLEST_ATTEMPT: Final = 0.001
"""Seconds that must be left after the wait: the wire knows no shorter deadline."""

LONGEST_OVERWAIT: Final = 5.0
"""Seconds that a server may add to our own backoff; who asks for more is told to the caller.

The AWS SDKs clamp a longer hint and so come back early. A server that knows when it is ready is
better believed, and a caller is better served by an answer now.
"""


class GiveUpReason(enum.Enum):
    """The first rule that forbade another attempt."""

    NON_RETRYABLE = "non_retryable"
    """An error of this class comes again, or is nobody's outage."""

    NOT_IDEMPOTENT = "not_idempotent"
    """The peer may have acted, and the method must not be executed twice."""

    STREAM_STARTED = "stream_started"
    """Part of the stream was handed to the caller, or was sent and cannot be sent again."""

    MAX_ATTEMPTS = "max_attempts"
    PUSHBACK = "pushback"
    """The server forbids it, or asks for a longer wait than the call can make."""

    DEADLINE = "deadline"
    """The wait and the smallest attempt do not fit into what is left."""

    BUDGET = "budget"
    """Too few calls have succeeded lately to pay for it."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Make another attempt after `delay` seconds; `kind` is `RETRY` or `TRANSPARENT`."""

    delay: float
    kind: AttemptKind


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise the attempt's error.

    Attributes:
        reason: Why.
        retry_after: Seconds after which the server wants to be asked again, whatever the reason;
            None if it did not say.
        throttle_failure: Whether the server said "do not retry", which a client throttle counts
            as a refusal, whatever the code.
    """

    reason: GiveUpReason
    retry_after: float | None = None
    throttle_failure: bool = False


Decision: TypeAlias = Retry | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """All that the decision depends on, but chance and the budget.

    Attributes:
        verdict: The classifier's.
        number: How many attempts have counted so far, this one included: the first, and every
            ordinary retry. A transparent retry has the number of the attempt that it repeats.
        idempotent: Whether the call may be executed twice.
        committed: Whether the stream can no longer be begun anew: the head or a message of the
            response was handed on, or requests were sent that are not kept.
        pushback: What the server said.
        remaining: Seconds until the call's deadline; None if there is none.
        untried: Whether there is an endpoint that this call has not tried.
    """

    verdict: Verdict
    number: int
    idempotent: bool
    committed: bool = False
    pushback: Pushback = NO_PUSHBACK
    remaining: float | None = None
    untried: bool = False


def decide(
    policy: RetryPolicy,
    failed: FailedAttempt,
    *,
    rnd: float,
    now: float,
    budget: RetryBudget | None,
) -> Decision:
    """Whether another attempt follows, when, and otherwise which rule forbids it.

    The rules are asked in the order of `GiveUpReason`, and the budget last: it is the only one that
    costs something.

    Args:
        policy: The method's.
        failed: The attempt.
        rnd: A random number in [0, 1).
        now: Monotonic seconds, for the budget.
        budget: None if there is none, and so no limit.
    """
    reason = _forbidden_by(policy, failed)
    if reason is not None:
        return _give_up(reason, failed)
    if _may_go_on(failed) and policy.max_attempts > 1:
        # It never left this side, or found a server that takes nothing any more, and there is
        # somebody else to ask: so nothing is repeated, there is no wait, and nothing to pay. Once
        # per endpoint, so a call that finds all of them dead ends.
        if not _fits(0.0, failed.remaining):
            return _give_up(GiveUpReason.DEADLINE, failed)
        return Retry(0.0, AttemptKind.TRANSPARENT)
    if failed.number >= policy.max_attempts:
        return _give_up(GiveUpReason.MAX_ATTEMPTS, failed)
    delay = rnd * backoff_ceiling(policy, failed.number, throttled=_throttled(failed.verdict))
    pushback = failed.pushback
    if pushback.forbidden:
        return _give_up(GiveUpReason.PUSHBACK, failed)
    if pushback.delay is not None:
        too_long = pushback.delay > delay + LONGEST_OVERWAIT
        if too_long or (failed.remaining is not None and pushback.delay > failed.remaining):
            return _give_up(GiveUpReason.PUSHBACK, failed)
        delay = max(delay, pushback.delay)
    if not _fits(delay, failed.remaining):
        return _give_up(GiveUpReason.DEADLINE, failed)
    if budget is not None and not budget.withdraw(now):
        return _give_up(GiveUpReason.BUDGET, failed)
    return Retry(delay, AttemptKind.RETRY)


def backoff_ceiling(policy: RetryPolicy, number: int, *, throttled: bool) -> float:
    """The longest wait, in seconds, after attempt `number`: the real one is uniform below it.

    Full jitter: whatever made many calls fail together must not bring them back together.
    """
    ceiling = policy.throttle_initial_backoff if throttled else policy.initial_backoff
    # Step by step and not by `**`, which overflows: here the largest step is infinite, and cut.
    for _ in range(min(number, MOST_ATTEMPTS) - 1):
        ceiling = min(ceiling * policy.backoff_multiplier, policy.max_backoff)
    return float(min(ceiling, policy.max_backoff))


def _forbidden_by(policy: RetryPolicy, failed: FailedAttempt) -> GiveUpReason | None:
    """The rule of class, idempotency or stream that forbids any retry; None if none does."""
    if not _retryable(policy, failed):
        return GiveUpReason.NON_RETRYABLE
    verdict = failed.verdict
    # An aborted call the server says to have undone. And time can run out before anything is sent,
    # for instance while credentials are fetched.
    safe = verdict.delivery is Delivery.NOT_SENT or verdict.cause is Cause.ABORTED
    if not (safe or failed.idempotent):
        return GiveUpReason.NOT_IDEMPOTENT
    return GiveUpReason.STREAM_STARTED if failed.committed else None


def _retryable(policy: RetryPolicy, failed: FailedAttempt) -> bool:
    """Whether an error of this class may go away by itself."""
    match failed.verdict.cause:
        case (
            Cause.CONNECTION
            | Cause.REFUSED
            | Cause.DRAINING
            | Cause.TRANSPORT
            | Cause.UNAVAILABLE
            | Cause.DEADLINE
        ):
            return True
        case Cause.THROTTLED:
            # Without a hint it is a quota that is used up, or our own limit of a message's size.
            return failed.pushback != NO_PUSHBACK
        case Cause.UNKNOWN | Cause.ABORTED:
            return failed.verdict.code in policy.retryable_errors
        case Cause.MALFORMED:
            return policy.retries_malformed
        case (
            Cause.CERTIFICATE
            | Cause.UNAUTHENTICATED
            | Cause.BUSINESS
            | Cause.BUG
            | Cause.REJECTED
            | Cause.CANCELLED
        ):
            return False


def _may_go_on(failed: FailedAttempt) -> bool:
    """Whether the attempt came to nothing where it was, and there is somebody else to ask."""
    unreached = failed.verdict.cause in UNREACHED
    return unreached and failed.untried and not failed.pushback.forbidden


def _throttled(verdict: Verdict) -> bool:
    """Whether the server is short of something: that takes longer than a hiccup (AWS)."""
    return verdict.code.value == "resource_exhausted"


def _fits(delay: float, remaining: float | None) -> bool:
    return remaining is None or delay + SMALLEST_ATTEMPT <= remaining


def _give_up(reason: GiveUpReason, failed: FailedAttempt) -> GiveUp:
    return GiveUp(reason, failed.pushback.delay, throttle_failure=failed.pushback.forbidden)
