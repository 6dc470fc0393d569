"""Every row of the table that classifies failures, and every reason to give up."""

from asyncio import CancelledError
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import ConnectTimeout, ReadError, RemoteProtocolError, WriteError

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors.call import AttemptKind
from connectplugin_interceptors.errors import OverloadedError, RateLimitedError
from connectplugin_interceptors.outcome import Cause, Verdict, classify
from connectplugin_interceptors.pushback import FORBIDDEN, NO_PUSHBACK, Pushback
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.retry.machine import (
    Decision,
    FailedAttempt,
    GiveUp,
    GiveUpReason,
    Retry,
    backoff_ceiling,
    decide,
)

HINT = Pushback(0.0)
DEFAULT = RetryPolicy(budget=None)
EVERY_OPT_IN = RetryPolicy(
    budget=None, retryable_errors=[Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS, Code.ABORTED]
)


@dataclass
class Seen:
    """What a transport's tap would have seen."""

    entered: bool = True
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])

    def response_header(self, name: str) -> str | None:
        return self.headers.get(name)


NACKED = Seen(status=503, headers={"x-connectplugin-nack": "overloaded"})
LEAVING = Seen(status=503, headers={"x-connectplugin-nack": "draining"})
ANSWERED = Seen(status=200)
NEVER_ENTERED = Seen(entered=False)


def error(code: Code, cause: BaseException | None = None) -> ConnectError:
    made = ConnectError(code, "it failed")
    made.__cause__ = cause
    return made


def ask(
    verdict: Verdict,
    *,
    policy: RetryPolicy = DEFAULT,
    number: int = 1,
    idempotent: bool = True,
    committed: bool = False,
    pushback: Pushback = NO_PUSHBACK,
    remaining: float | None = None,
    untried: bool = False,
    rnd: float = 0.5,
    now: float = 0.0,
    budget: RetryBudget | None = None,
) -> Decision:
    failed = FailedAttempt(
        verdict=verdict,
        number=number,
        idempotent=idempotent,
        committed=committed,
        pushback=pushback,
        remaining=remaining,
        untried=untried,
    )
    return decide(policy, failed, rnd=rnd, now=now, budget=budget)


YES = "retry"
NEVER = GiveUpReason.NON_RETRYABLE.value
UNSAFE = GiveUpReason.NOT_IDEMPOTENT.value
FORBID = GiveUpReason.PUSHBACK.value


def word(decision: Decision) -> str:
    return YES if isinstance(decision, Retry) else decision.reason.value


@dataclass(frozen=True)
class Row:
    """Evidence, and what becomes of an idempotent and of a non-idempotent call by default and
    with every code opted in."""

    evidence: str
    error: BaseException
    default: tuple[str, str]
    opted_in: tuple[str, str] | None = None
    seen: Seen | None = field(default_factory=Seen)
    pushback: Pushback = NO_PUSHBACK


BUSINESS = (
    Code.INVALID_ARGUMENT,
    Code.NOT_FOUND,
    Code.ALREADY_EXISTS,
    Code.PERMISSION_DENIED,
    Code.FAILED_PRECONDITION,
    Code.OUT_OF_RANGE,
    Code.UNIMPLEMENTED,
    Code.CANCELED,
)
CERTIFICATE = ConnectionError("invalid peer certificate: UnknownIssuer")
OWN_TIMER = error(Code.DEADLINE_EXCEEDED, TimeoutError())
EXHAUSTED = error(Code.RESOURCE_EXHAUSTED)


def rows() -> Iterable[Row]:
    yield Row("refused", error(Code.UNAVAILABLE, ConnectionRefusedError()), (YES, YES))
    yield Row("connect timeout", error(Code.DEADLINE_EXCEEDED, ConnectTimeout()), (YES, YES))
    yield Row("certificate", error(Code.UNAVAILABLE, CERTIFICATE), (NEVER, NEVER))
    yield Row("nack, unavailable", error(Code.UNAVAILABLE), (YES, YES), seen=NACKED)
    yield Row("nack, draining", error(Code.UNAVAILABLE), (YES, YES), seen=LEAVING)
    yield Row("nack, exhausted", EXHAUSTED, (YES, YES), seen=NACKED)
    yield Row("nack, hint", EXHAUSTED, (YES, YES), seen=NACKED, pushback=HINT)
    for broken in (ReadError("x"), WriteError("x"), RemoteProtocolError("x")):
        named = f"transport, {type(broken).__name__}"
        yield Row(named, error(Code.UNAVAILABLE, broken), (YES, UNSAFE))
    yield Row("own timer", OWN_TIMER, (YES, UNSAFE))
    yield Row("own timer before it was sent", OWN_TIMER, (YES, YES), seen=NEVER_ENTERED)
    yield Row("deadline, from the server", error(Code.DEADLINE_EXCEEDED), (YES, UNSAFE))
    yield Row("unavailable", error(Code.UNAVAILABLE), (YES, UNSAFE))
    yield Row("unavailable, hint", error(Code.UNAVAILABLE), (YES, UNSAFE), pushback=HINT)
    yield Row("exhausted, hint", EXHAUSTED, (YES, UNSAFE), pushback=HINT)
    yield Row("exhausted, said no", EXHAUSTED, (FORBID, UNSAFE), pushback=FORBIDDEN)
    yield Row("exhausted, or too large here", EXHAUSTED, (NEVER, NEVER), seen=None)
    for code in (Code.UNKNOWN, Code.INTERNAL, Code.DATA_LOSS):
        yield Row(code.value, error(code), (NEVER, NEVER), (YES, UNSAFE))
        yield Row(f"{code.value}, hint", error(code), (NEVER, NEVER), (YES, UNSAFE), pushback=HINT)
    yield Row("aborted", error(Code.ABORTED), (NEVER, NEVER), (YES, YES))
    yield Row("unauthenticated", error(Code.UNAUTHENTICATED), (NEVER, NEVER))
    for code in BUSINESS:
        yield Row(code.value, error(code), (NEVER, NEVER))
        yield Row(f"{code.value}, hint", error(code), (NEVER, NEVER), pushback=HINT)
    own_bug = error(Code.UNAVAILABLE, AttributeError("no field"))
    yield Row("own bug", own_bug, (NEVER, NEVER), seen=NEVER_ENTERED)
    yield Row("own bug or nonsense, no tap", own_bug, (NEVER, NEVER), seen=None)
    garbage = error(Code.INVALID_ARGUMENT, ValueError("garbage"))
    yield Row("malformed", garbage, (NEVER, NEVER), (YES, UNSAFE), seen=ANSWERED)
    yield Row("rejected here", OverloadedError("full", reason="queue_full"), (NEVER, NEVER))
    limited = RateLimitedError("quota", reason="rate", retry_after=1.0)
    yield Row("limited here", limited, (NEVER, NEVER), pushback=HINT)


TABLE = list(rows())


@pytest.mark.parametrize("row", TABLE, ids=[row.evidence for row in TABLE])
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "not idempotent"])
def test_the_table_of_classification(row: Row, *, idempotent: bool) -> None:
    verdict = classify(row.error, row.seen)
    place = 0 if idempotent else 1
    by_default = ask(verdict, idempotent=idempotent, pushback=row.pushback)
    assert word(by_default) == row.default[place]
    wanted = row.default if row.opted_in is None else row.opted_in
    with_opt_in = ask(verdict, policy=EVERY_OPT_IN, idempotent=idempotent, pushback=row.pushback)
    assert word(with_opt_in) == wanted[place]


def test_the_table_has_a_row_for_every_cause_but_the_caller_s_cancel() -> None:
    causes = {classify(row.error, row.seen).cause for row in TABLE}
    assert causes == set(Cause) - {Cause.CANCELLED}


def test_opting_in_one_code_opts_in_no_other() -> None:
    policy = RetryPolicy(budget=None, retryable_errors={Code.INTERNAL})
    assert word(ask(classify(error(Code.INTERNAL)), policy=policy)) == YES
    for code in (Code.UNKNOWN, Code.DATA_LOSS, Code.ABORTED):
        assert word(ask(classify(error(code)), policy=policy)) == NEVER
    garbage = classify(error(Code.INTERNAL, ValueError("garbage")), ANSWERED)
    assert word(ask(garbage, policy=policy)) == NEVER


UNAVAILABLE = classify(error(Code.UNAVAILABLE))
REFUSED_CONNECTION = classify(error(Code.UNAVAILABLE, ConnectionRefusedError()))
THROTTLED = classify(EXHAUSTED)


class TestReasonsInTheirOrder:
    """Each gives up by one rule, and the earlier rule wins; the budget pays only at the end."""

    def test_a_stream_that_has_begun_is_not_begun_again(self) -> None:
        # Guards against stamina's replay: [0, 1, 0, 1, 0, 1, 2].
        assert ask(UNAVAILABLE, committed=True) == GiveUp(GiveUpReason.STREAM_STARTED)
        assert ask(REFUSED_CONNECTION, committed=True, untried=True) == GiveUp(
            GiveUpReason.STREAM_STARTED
        )

    @pytest.mark.parametrize("attempts", [0, 1])
    def test_zero_and_one_attempt_mean_no_retry_of_any_kind(self, attempts: int) -> None:
        policy = RetryPolicy(max_attempts=attempts, budget=None)
        assert ask(UNAVAILABLE, policy=policy) == GiveUp(GiveUpReason.MAX_ATTEMPTS)
        assert ask(REFUSED_CONNECTION, policy=policy, untried=True) == GiveUp(
            GiveUpReason.MAX_ATTEMPTS
        )

    @pytest.mark.parametrize("attempts", [2, 3, 5])
    def test_max_attempts_is_the_number_of_calls(self, attempts: int) -> None:
        # Guards against hyx: attempts=10 makes 11 calls.
        policy = RetryPolicy(max_attempts=attempts, budget=None)
        calls = 1
        while isinstance(ask(UNAVAILABLE, policy=policy, number=calls), Retry):
            calls += 1
        assert calls == attempts

    def test_the_budget_is_asked_last_and_pays_only_for_what_happens(self) -> None:
        budget = RetryBudget(ratio=0.0, window=10.0, reserve=0.1)
        for forbidden in (
            ask(UNAVAILABLE, budget=budget, number=2),
            ask(UNAVAILABLE, budget=budget, idempotent=False),
            ask(UNAVAILABLE, budget=budget, committed=True),
            ask(UNAVAILABLE, budget=budget, pushback=FORBIDDEN),
            ask(UNAVAILABLE, budget=budget, remaining=0.001),
        ):
            assert isinstance(forbidden, GiveUp)
            assert forbidden.reason is not GiveUpReason.BUDGET
        assert isinstance(ask(UNAVAILABLE, budget=budget), Retry)
        assert ask(UNAVAILABLE, budget=budget) == GiveUp(GiveUpReason.BUDGET)

    def test_the_earlier_rule_gives_its_name(self) -> None:
        empty = RetryBudget(ratio=0.0, window=10.0, reserve=0.0)
        assert word(
            ask(UNAVAILABLE, budget=empty, remaining=0.0, pushback=FORBIDDEN, number=2)
        ) == ("max_attempts")
        assert word(ask(UNAVAILABLE, budget=empty, remaining=0.0, pushback=FORBIDDEN)) == "pushback"
        assert word(ask(UNAVAILABLE, budget=empty, remaining=0.0)) == "deadline"
        assert word(ask(UNAVAILABLE, budget=empty)) == "budget"

    def test_the_reasons_are_exactly_the_seven(self) -> None:
        assert [reason.value for reason in GiveUpReason] == [
            "non_retryable",
            "not_idempotent",
            "stream_started",
            "max_attempts",
            "pushback",
            "deadline",
            "budget",
        ]


class TestWaits:
    def test_the_first_wait_is_uniform_from_nothing_to_fifty_milliseconds(self) -> None:
        # Guards against stamina's U(0, 1) s on top of 0.1 s, and against no jitter at all.
        assert ask(UNAVAILABLE, rnd=0.0) == Retry(0.0, AttemptKind.RETRY)
        assert ask(UNAVAILABLE, rnd=0.5) == Retry(0.025, AttemptKind.RETRY)

    def test_the_ceiling_grows_to_its_maximum(self) -> None:
        policy = RetryPolicy(max_backoff=0.15)
        ceilings = [backoff_ceiling(policy, number, throttled=False) for number in range(1, 6)]
        assert ceilings == [0.05, 0.1, 0.15, 0.15, 0.15]

    def test_a_throttling_server_gets_a_second(self) -> None:
        assert ask(THROTTLED, pushback=HINT, rnd=0.5) == Retry(0.5, AttemptKind.RETRY)
        nacked = classify(EXHAUSTED, NACKED)
        assert ask(nacked, rnd=0.5) == Retry(0.5, AttemptKind.RETRY)

    def test_max_backoff_bounds_a_throttled_wait_too(self) -> None:
        assert backoff_ceiling(RetryPolicy(max_backoff=0.3), 1, throttled=True) == 0.3

    @pytest.mark.parametrize("multiplier", [1e308, 10**300, 1e200])
    def test_huge_multipliers_do_not_overflow(self, multiplier: float) -> None:
        policy = RetryPolicy(max_attempts=5, backoff_multiplier=multiplier, max_backoff=7.0)
        assert backoff_ceiling(policy, 4, throttled=False) == 7.0
        assert backoff_ceiling(policy, 10**9, throttled=False) == 7.0
        endless = RetryPolicy(backoff_multiplier=multiplier, max_backoff=1e308)
        assert backoff_ceiling(endless, 4, throttled=False) == 1e308

    def test_no_backoff_at_all_stays_none(self) -> None:
        policy = RetryPolicy(initial_backoff=0.0, backoff_multiplier=1e308, budget=None)
        assert ask(UNAVAILABLE, policy=policy) == Retry(0.0, AttemptKind.RETRY)


class TestDeadline:
    def test_a_wait_must_leave_the_smallest_attempt(self) -> None:
        policy = RetryPolicy(initial_backoff=1.0, budget=None)
        assert ask(UNAVAILABLE, policy=policy, rnd=0.25, remaining=0.251) == Retry(
            0.25, AttemptKind.RETRY
        )
        assert ask(UNAVAILABLE, policy=policy, rnd=0.25, remaining=0.2509) == GiveUp(
            GiveUpReason.DEADLINE
        )

    def test_budget_of_half_a_second_attempts_of_three_tenths_wait_of_two(self) -> None:
        # Guards against overrunning the total: stamina 0.80 s, pyresilience 2.14 s; ours ends at
        # 0.30 s, when the first attempt has failed.
        policy = RetryPolicy(max_attempts=5, initial_backoff=0.4, budget=None)
        first = ask(classify(OWN_TIMER), policy=policy, rnd=0.5, remaining=0.5 - 0.3)
        assert first == GiveUp(GiveUpReason.DEADLINE)

    def test_two_seconds_do_not_fit_a_quarter(self) -> None:
        # Guards against sleeping to the deadline and then losing the cause: all eight peers.
        policy = RetryPolicy(initial_backoff=4.0, budget=None)
        assert ask(UNAVAILABLE, policy=policy, rnd=0.5, remaining=0.25) == GiveUp(
            GiveUpReason.DEADLINE
        )

    def test_a_deadline_that_is_over(self) -> None:
        assert word(ask(UNAVAILABLE, rnd=0.0, remaining=-1.0)) == "deadline"
        assert word(ask(UNAVAILABLE, rnd=0.0, remaining=0.0)) == "deadline"
        assert word(ask(REFUSED_CONNECTION, untried=True, remaining=0.0005)) == "deadline"


class TestPushback:
    def test_the_server_s_wait_is_a_minimum(self) -> None:
        assert ask(UNAVAILABLE, pushback=Pushback(0.3)) == Retry(0.3, AttemptKind.RETRY)
        assert ask(UNAVAILABLE, pushback=Pushback(0.01)) == Retry(0.025, AttemptKind.RETRY)

    def test_five_seconds_more_than_our_own_are_waited_and_no_longer(self) -> None:
        assert ask(UNAVAILABLE, rnd=0.0, pushback=Pushback(5.0)) == Retry(5.0, AttemptKind.RETRY)
        assert ask(UNAVAILABLE, rnd=0.0, pushback=Pushback(5.01)) == GiveUp(
            GiveUpReason.PUSHBACK, retry_after=5.01
        )

    def test_a_hint_of_one_second_in_three_tenths_fails_now_and_says_when(self) -> None:
        # Guards against sleeping through the limit: stamina 1.0 s, httpx-retries 2.01 s.
        assert ask(UNAVAILABLE, pushback=Pushback(1.0), remaining=0.3) == GiveUp(
            GiveUpReason.PUSHBACK, retry_after=1.0
        )

    def test_a_hint_that_leaves_no_time_for_the_attempt(self) -> None:
        assert ask(UNAVAILABLE, pushback=Pushback(0.3), remaining=0.3) == GiveUp(
            GiveUpReason.DEADLINE, retry_after=0.3
        )

    def test_no_means_no_and_counts_as_a_throttle_failure(self) -> None:
        assert ask(UNAVAILABLE, pushback=FORBIDDEN) == GiveUp(
            GiveUpReason.PUSHBACK, throttle_failure=True
        )
        answered = ask(classify(error(Code.NOT_FOUND)), pushback=FORBIDDEN)
        assert answered == GiveUp(GiveUpReason.NON_RETRYABLE, throttle_failure=True)

    def test_no_is_obeyed_after_a_nack_too(self) -> None:
        nacked = classify(error(Code.UNAVAILABLE), NACKED)
        assert word(ask(nacked, untried=True, pushback=FORBIDDEN)) == "pushback"

    def test_whoever_gives_up_passes_the_hint_on(self) -> None:
        for decision in (
            ask(UNAVAILABLE, number=2, pushback=Pushback(1.0)),
            ask(UNAVAILABLE, idempotent=False, pushback=Pushback(1.0)),
            ask(classify(error(Code.NOT_FOUND)), pushback=Pushback(1.0)),
        ):
            assert isinstance(decision, GiveUp)
            assert decision.retry_after == 1.0

    def test_three_tiers_multiply_nothing(self) -> None:
        # Guards against 27 calls for one: whoever has spent its retries tells the tier above not
        # to try again. With the defaults the bottom tier is called twice.
        calls = 0

        def tier(depth: int) -> Pushback:
            nonlocal calls
            number = 1
            while True:
                if depth == 0:
                    calls += 1
                    return NO_PUSHBACK
                pushback = tier(depth - 1)
                decision = ask(UNAVAILABLE, number=number, pushback=pushback)
                if isinstance(decision, GiveUp):
                    return FORBIDDEN
                number += 1

        tier(3)
        assert calls == 2


class TestTransparentRetry:
    def test_what_never_left_goes_to_another_endpoint_at_once_and_for_nothing(self) -> None:
        empty = RetryBudget(ratio=0.0, window=10.0, reserve=0.0)
        decision = ask(REFUSED_CONNECTION, idempotent=False, untried=True, budget=empty, number=2)
        assert decision == Retry(0.0, AttemptKind.TRANSPARENT)

    def test_the_smallest_deadline_that_the_wire_knows_is_enough(self) -> None:
        decision = ask(REFUSED_CONNECTION, untried=True, remaining=0.001)
        assert decision == Retry(0.0, AttemptKind.TRANSPARENT)

    def test_with_no_other_endpoint_it_is_an_ordinary_retry(self) -> None:
        # Guards against spinning on one dead endpoint.
        assert ask(REFUSED_CONNECTION, idempotent=False) == Retry(0.025, AttemptKind.RETRY)
        empty = RetryBudget(ratio=0.0, window=10.0, reserve=0.0)
        assert word(ask(REFUSED_CONNECTION, budget=empty)) == "budget"
        assert word(ask(REFUSED_CONNECTION, number=2)) == "max_attempts"

    def test_a_server_that_stops_is_left_at_once_and_for_nothing(self) -> None:
        # Its pushback says when to come back to it, and somebody else is asked.
        leaving = classify(error(Code.UNAVAILABLE), LEAVING)
        empty = RetryBudget(ratio=0.0, window=10.0, reserve=0.0)
        hint = Pushback(0.2)
        decision = ask(leaving, idempotent=False, untried=True, budget=empty, pushback=hint)
        assert decision == Retry(0.0, AttemptKind.TRANSPARENT)
        assert ask(leaving, idempotent=False, pushback=hint) == Retry(0.2, AttemptKind.RETRY)
        assert word(ask(leaving, untried=True, pushback=FORBIDDEN)) == "pushback"

    def test_a_server_that_refused_gets_its_wait_and_is_paid_for(self) -> None:
        # It was reached: going round all endpoints for nothing would multiply an overload.
        nacked = classify(error(Code.UNAVAILABLE), NACKED)
        assert ask(nacked, untried=True, pushback=Pushback(0.2)) == Retry(0.2, AttemptKind.RETRY)

    def test_a_certificate_is_as_bad_everywhere(self) -> None:
        refused = classify(error(Code.UNAVAILABLE, CERTIFICATE))
        assert word(ask(refused, untried=True)) == NEVER


def test_what_is_not_said_of_an_attempt_is_the_plain_case() -> None:
    plain = FailedAttempt(verdict=REFUSED_CONNECTION, number=1, idempotent=False)
    decision = decide(DEFAULT, plain, rnd=0.5, now=0.0, budget=None)
    assert decision == Retry(0.025, AttemptKind.RETRY)


def test_a_cancelled_call_is_never_repeated() -> None:
    # Guards against tenacity's retry_if_not_exception_type, which swallows the cancellation.
    for cancelled in (
        classify(CancelledError()),
        classify(error(Code.CANCELED, CancelledError())),
    ):
        assert cancelled.cause is Cause.CANCELLED
        assert word(ask(cancelled, policy=EVERY_OPT_IN, untried=True)) == NEVER
