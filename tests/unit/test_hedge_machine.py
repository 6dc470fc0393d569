"""Hedging's decisions: what is learned, what a failure means, when the next attempt starts."""

from random import Random

import pytest
from connectrpc.code import Code

from connectplugin_interceptors import ConfigError, Delivery, HedgePolicy, Outcome
from connectplugin_interceptors.hedge.machine import (
    HedgedCall,
    LatencyEstimator,
    Meaning,
    StopReason,
    meaning,
)
from connectplugin_interceptors.outcome import Cause, Verdict
from connectplugin_interceptors.pushback import FORBIDDEN, NO_PUSHBACK, Pushback


class TestTheEstimator:
    def test_knows_nothing_at_first(self) -> None:
        assert LatencyEstimator().quantile(0.95) is None

    @pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
    def test_is_within_five_percent(self, share: float) -> None:
        rng = Random(3)  # noqa: S311
        samples = [rng.lognormvariate(-4, 1) for _ in range(500)]
        estimator = LatencyEstimator()
        for sample in samples:
            estimator.observe(sample)
        exact = sorted(samples)[int(share * len(samples)) - 1]
        estimate = estimator.quantile(share)
        assert estimate is not None
        assert exact <= estimate * 1.001
        assert estimate <= exact * 1.06

    def test_forgets_what_was_a_thousand_samples_ago(self) -> None:
        estimator = LatencyEstimator()
        for _ in range(500):
            estimator.observe(1.0)
        for _ in range(1_000):
            estimator.observe(0.01)
        assert estimator.quantile(0.99) == pytest.approx(0.01, rel=0.06)

    def test_what_is_far_out_is_kept_in_bounds(self) -> None:
        estimator = LatencyEstimator()
        for latency in (0.0, -1.0, 1e-9, 1e9):
            estimator.observe(latency)
        for share in (0.5, 0.999):
            quantile = estimator.quantile(share)
            assert quantile is not None
            assert 0 < quantile < 1_100

    def test_holds_the_last_500_at_least_and_no_more_than_the_last_1_000(self) -> None:
        estimator = LatencyEstimator()
        for _ in range(500):
            estimator.observe(1.0)
        for number in range(500):
            assert estimator.quantile(0.999) == pytest.approx(1.0, rel=0.06), number
            estimator.observe(0.01)
        assert estimator.quantile(0.999) == pytest.approx(0.01, rel=0.06)
        assert repr(estimator) == "<LatencyEstimator 1000 samples>"

    def test_adds_both_generations_up(self) -> None:
        estimator = LatencyEstimator()
        for _ in range(510):
            estimator.observe(0.01)
        for _ in range(20):
            estimator.observe(1.0)
        assert estimator.quantile(0.95) == pytest.approx(0.01, rel=0.06)

    def test_counts_each_sample_once(self) -> None:
        estimator = LatencyEstimator()
        for _ in range(19):
            estimator.observe(0.01)
        estimator.observe(1.0)
        assert estimator.quantile(0.95) == pytest.approx(0.01, rel=0.06)

    def test_looks_anew_after_every_tenth_sample(self) -> None:
        estimator = LatencyEstimator()
        for _ in range(10):
            estimator.observe(0.01)
        for _ in range(10):
            assert estimator.quantile(0.99) == pytest.approx(0.01, rel=0.06)
            estimator.observe(1.0)
        assert estimator.quantile(0.99) == pytest.approx(1.0, rel=0.06)

    def test_knows_nothing_shorter_than_ten_microseconds(self) -> None:
        for latency in (0.0, 1e-5, 1.04e-5):
            estimator = LatencyEstimator()
            estimator.observe(latency)
            assert estimator.quantile(0.5) == pytest.approx(1.05e-5, rel=1e-6)

    def test_different_shares_are_told_apart(self) -> None:
        estimator = LatencyEstimator()
        for number in range(100):
            estimator.observe(0.01 if number < 90 else 1.0)
        low, high = estimator.quantile(0.5), estimator.quantile(0.95)
        assert low == pytest.approx(0.01, rel=0.06)
        assert high == pytest.approx(1.0, rel=0.06)


def verdict(cause: Cause) -> Verdict:
    return Verdict(cause, Outcome.FAILURE, Delivery.MAYBE, Code.UNKNOWN)


@pytest.mark.parametrize(
    ("cause", "means"),
    [
        (Cause.REFUSED, Meaning.REPEATABLE),
        (Cause.TRANSPORT, Meaning.REPEATABLE),
        (Cause.UNAVAILABLE, Meaning.REPEATABLE),
        (Cause.DEADLINE, Meaning.REPEATABLE),
        (Cause.THROTTLED, Meaning.USELESS),
        (Cause.BUSINESS, Meaning.FINAL),
        (Cause.ABORTED, Meaning.FINAL),
        (Cause.UNAUTHENTICATED, Meaning.FINAL),
        (Cause.BUG, Meaning.FINAL),
        (Cause.CANCELLED, Meaning.FINAL),
        (Cause.UNKNOWN, Meaning.USELESS),
        (Cause.MALFORMED, Meaning.USELESS),
        (Cause.CERTIFICATE, Meaning.USELESS),
        (Cause.REJECTED, Meaning.USELESS),
    ],
)
def test_what_a_failure_means(cause: Cause, means: Meaning) -> None:
    assert meaning(verdict(cause), pushback=NO_PUSHBACK, untried=True) is means


@pytest.mark.parametrize("cause", [Cause.CONNECTION, Cause.DRAINING])
def test_an_attempt_that_never_left_is_replaced_while_there_is_somebody_else(cause: Cause) -> None:
    gone = verdict(cause)
    assert meaning(gone, pushback=NO_PUSHBACK, untried=True) is Meaning.UNSENT
    assert meaning(gone, pushback=NO_PUSHBACK, untried=False) is Meaning.REPEATABLE


def test_a_server_that_says_when_to_come_back_is_asked_again() -> None:
    throttled = verdict(Cause.THROTTLED)
    assert meaning(throttled, pushback=Pushback(0.1), untried=False) is Meaning.REPEATABLE


def begun(limit: int = 3, delay: float | None = 0.1, deadline: float | None = 10.0) -> HedgedCall:
    plan = HedgedCall(limit=limit, delay=delay, deadline=deadline)
    plan.begun(0.0)
    return plan


class TestTheNextAttempt:
    def test_comes_when_the_one_before_is_slow_and_as_often_as_it_may(self) -> None:
        plan = begun()
        assert (plan.next_at, plan.after_failure) == (0.1, False)
        assert not plan.due(0.0999)
        # Who has waited as long as was asked may be a hair early by the clock.
        assert plan.due(0.1 - 1e-6)
        assert plan.due(0.1)
        plan.begun(0.1)
        assert plan.next_at == 0.2
        plan.begun(0.2)
        assert plan.next_at is None
        assert plan.stopped is None

    def test_comes_after_a_failure_only_where_no_delay_is_known(self) -> None:
        plan = begun(delay=None)
        assert not plan.due(9.9)
        plan.failed(Meaning.REPEATABLE, NO_PUSHBACK, 0.03)
        assert (plan.next_at, plan.after_failure) == (0.03, True)

    def test_replaces_one_that_never_left_for_nothing(self) -> None:
        plan = begun(limit=2)
        for _ in range(4):
            plan.failed(Meaning.UNSENT, NO_PUSHBACK, 0.01)
            assert (plan.next_at, plan.free) == (0.01, True)
            plan.begun(0.01)
            assert plan.started == 1
            assert plan.free is False
            assert plan.after_failure is False

    def test_does_not_come_after_what_another_cannot_do_better(self) -> None:
        plan = begun()
        plan.failed(Meaning.USELESS, NO_PUSHBACK, 0.03)
        assert (plan.next_at, plan.after_failure) == (0.1, False)

    def test_does_not_come_when_all_were_made(self) -> None:
        plan = begun(limit=2)
        plan.begun(0.1)
        plan.failed(Meaning.REPEATABLE, NO_PUSHBACK, 0.2)
        assert (plan.next_at, plan.stopped) == (None, StopReason.MAX_ATTEMPTS)

    def test_is_put_off_as_the_server_asks(self) -> None:
        plan = begun()
        plan.failed(Meaning.REPEATABLE, Pushback(2.0), 0.03)
        assert plan.next_at == 2.03

    @pytest.mark.parametrize(
        ("delay", "pause", "comes"),
        [(0.1, 5.1, True), (0.1, 5.11, False), (None, 5.0, True), (None, 5.5, False)],
    )
    def test_is_not_put_off_for_longer_than_five_seconds_and_the_delay(
        self, delay: float | None, pause: float, comes: bool
    ) -> None:
        plan = begun(delay=delay)
        plan.failed(Meaning.REPEATABLE, Pushback(pause), 0.0)
        assert plan.next_at == (pause if comes else None)
        assert plan.stopped is (None if comes else StopReason.PUSHBACK)

    @pytest.mark.parametrize("pushback", [FORBIDDEN, Pushback(6.0)])
    @pytest.mark.parametrize("means", [Meaning.REPEATABLE, Meaning.USELESS, Meaning.UNSENT])
    def test_does_not_come_if_the_server_forbids_it(
        self, pushback: Pushback, means: Meaning
    ) -> None:
        plan = begun()
        plan.failed(means, pushback, 0.03)
        stopped = pushback.forbidden or means is Meaning.REPEATABLE
        assert plan.stopped is (StopReason.PUSHBACK if stopped else None)
        if stopped:
            assert plan.next_at is None

    def test_does_not_come_when_the_deadline_leaves_no_room(self) -> None:
        assert begun(delay=0.5, deadline=0.5 + 0.001).next_at == 0.5
        plan = begun(deadline=0.1005)
        assert (plan.next_at, plan.stopped) == (None, StopReason.DEADLINE)
        plan = begun(deadline=1.0)
        plan.failed(Meaning.REPEATABLE, Pushback(0.9995), 0.0)
        assert plan.stopped is StopReason.DEADLINE

    def test_does_not_come_once_it_was_stopped(self) -> None:
        plan = begun()
        plan.failed(Meaning.UNSENT, NO_PUSHBACK, 0.02)
        plan.stop(StopReason.BUDGET)
        assert plan.free is False
        assert plan.after_failure is False
        plan.stop(StopReason.PUSHBACK)
        plan.failed(Meaning.REPEATABLE, NO_PUSHBACK, 0.03)
        plan.failed(Meaning.UNSENT, NO_PUSHBACK, 0.03)
        assert (plan.next_at, plan.stopped) == (None, StopReason.BUDGET)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delay", 0),
        ("max_hedges", 0),
        ("max_hedges", 5),
        ("percentile", 0.4),
        ("percentile", 1.0),
        ("min_samples", 0),
        ("min_delay", 0.0),
        ("budget", 0.1),
    ],
)
def test_what_cannot_work_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"HedgePolicy.{field}"):
        HedgePolicy(**{field: value})  # type: ignore[arg-type]
