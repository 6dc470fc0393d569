"""Whatever fails, and however it is configured: bounds that no decision leaves."""

from connectrpc.code import Code
from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.errors import Delivery
from connectplugin_interceptors.outcome import Cause, Outcome, Verdict
from connectplugin_interceptors.pushback import FORBIDDEN, NO_PUSHBACK, Pushback
from connectplugin_interceptors.retry.config import MOST_ATTEMPTS, RetryPolicy
from connectplugin_interceptors.retry.machine import (
    LONGEST_OVERWAIT,
    SMALLEST_ATTEMPT,
    FailedAttempt,
    GiveUp,
    GiveUpReason,
    Retry,
    backoff_ceiling,
    decide,
)

OPT_IN = [Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.ABORTED]
NEVER = {
    Cause.CERTIFICATE,
    Cause.UNAUTHENTICATED,
    Cause.BUSINESS,
    Cause.BUG,
    Cause.REJECTED,
    Cause.CANCELLED,
}

seconds = st.floats(min_value=0.0, max_value=1e9)
chance = st.floats(min_value=0.0, max_value=1.0, exclude_max=True)


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    longest = draw(seconds)
    return RetryPolicy(
        max_attempts=draw(st.integers(0, MOST_ATTEMPTS)),
        initial_backoff=draw(st.floats(min_value=0.0, max_value=longest)),
        max_backoff=longest,
        backoff_multiplier=draw(st.floats(min_value=1.0, max_value=1e308)),
        retryable_errors=draw(st.frozensets(st.sampled_from(OPT_IN))),
        throttle_initial_backoff=draw(seconds),
        budget=None,
    )


verdicts = st.builds(
    Verdict,
    st.sampled_from(Cause),
    st.sampled_from(Outcome),
    st.sampled_from(Delivery),
    st.sampled_from(Code),
)
pushbacks = st.one_of(st.just(NO_PUSHBACK), st.just(FORBIDDEN), st.builds(Pushback, seconds))
failures = st.builds(
    FailedAttempt,
    verdict=verdicts,
    number=st.integers(1, MOST_ATTEMPTS + 1),
    idempotent=st.booleans(),
    committed=st.booleans(),
    pushback=pushbacks,
    remaining=st.none() | st.floats(min_value=-10.0, max_value=1e9),
    untried=st.booleans(),
)


@given(policies(), failures, chance)
def test_a_wait_is_within_its_bounds(
    policy: RetryPolicy, failed: FailedAttempt, rnd: float
) -> None:
    decision = decide(policy, failed, rnd=rnd, now=0.0, budget=None)
    if isinstance(decision, GiveUp):
        return
    throttled = failed.verdict.code is Code.RESOURCE_EXHAUSTED
    own = rnd * backoff_ceiling(policy, failed.number, throttled=throttled)
    hint = failed.pushback.delay
    assert 0.0 <= own <= policy.max_backoff
    assert 0.0 <= decision.delay <= policy.max_backoff + LONGEST_OVERWAIT
    if decision.kind is AttemptKind.TRANSPARENT:
        assert decision.delay == 0.0
    elif hint is None:
        assert decision.delay == own
    else:
        assert decision.delay == max(own, hint)
    if failed.remaining is not None:
        assert decision.delay + SMALLEST_ATTEMPT <= failed.remaining


@given(policies(), failures, chance)
def test_what_may_have_been_executed_is_repeated_only_if_it_may_be(
    policy: RetryPolicy, failed: FailedAttempt, rnd: float
) -> None:
    decision = decide(policy, failed, rnd=rnd, now=0.0, budget=None)
    if isinstance(decision, Retry):
        unsent = failed.verdict.delivery is Delivery.NOT_SENT
        opted_in = failed.verdict.cause is Cause.ABORTED
        assert failed.idempotent or unsent or opted_in
        assert not failed.committed
        assert failed.verdict.cause not in NEVER
        assert policy.max_attempts > 1
        assert failed.number < policy.max_attempts or decision.kind is AttemptKind.TRANSPARENT


@given(policies(), failures, chance)
def test_pushback_alone_makes_nothing_retriable(
    policy: RetryPolicy, failed: FailedAttempt, rnd: float
) -> None:
    if failed.verdict.cause is Cause.THROTTLED:
        return
    with_it = decide(policy, failed, rnd=rnd, now=0.0, budget=None)
    silent = FailedAttempt(
        verdict=failed.verdict,
        number=failed.number,
        idempotent=failed.idempotent,
        committed=failed.committed,
        remaining=failed.remaining,
        untried=failed.untried,
    )
    without = decide(policy, silent, rnd=rnd, now=0.0, budget=None)
    if isinstance(with_it, Retry):
        assert isinstance(without, Retry)
    if isinstance(with_it, GiveUp):
        assert with_it.retry_after == failed.pushback.delay
        assert with_it.throttle_failure == failed.pushback.forbidden


@given(policies(), failures, chance)
def test_an_empty_budget_stops_retries_and_a_full_one_stops_none(
    policy: RetryPolicy, failed: FailedAttempt, rnd: float
) -> None:
    free = decide(policy, failed, rnd=rnd, now=0.0, budget=None)
    full = RetryBudget(ratio=0.0, window=10.0, reserve=1.0)
    before = full.balance(0.0)
    assert decide(policy, failed, rnd=rnd, now=0.0, budget=full) == free
    paid = isinstance(free, Retry) and free.kind is AttemptKind.RETRY
    assert before - full.balance(0.0) == (1 if paid else 0)
    empty = RetryBudget(ratio=0.0, window=10.0, reserve=0.0)
    stopped = decide(policy, failed, rnd=rnd, now=0.0, budget=empty)
    if paid:
        assert stopped == GiveUp(GiveUpReason.BUDGET, failed.pushback.delay)
    else:
        assert stopped == free


@given(policies(), st.lists(verdicts, min_size=12, max_size=12), chance)
def test_a_call_makes_no_more_attempts_than_allowed(
    policy: RetryPolicy, verdict_list: list[Verdict], rnd: float
) -> None:
    """Three endpoints: at most two transparent retries come on top."""
    number, untried, calls = 1, 2, 0
    for verdict in verdict_list:
        calls += 1
        failed = FailedAttempt(verdict=verdict, number=number, idempotent=True, untried=untried > 0)
        decision = decide(policy, failed, rnd=rnd, now=0.0, budget=None)
        if isinstance(decision, GiveUp):
            break
        if decision.kind is AttemptKind.TRANSPARENT:
            untried -= 1
        else:
            number += 1
    assert number <= max(1, policy.max_attempts)
    assert calls <= max(1, policy.max_attempts) + 2
