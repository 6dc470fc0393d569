"""Single steps of the adaptive limit."""

import pytest

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.machine import (
    FEWEST_SAMPLES,
    AdaptiveLimitMachine,
    Reason,
    Release,
    _correlation,  # pyright: ignore[reportPrivateUsage]  # as pure as a formula can be
)


class Driver:
    """Windows of fifty calls each."""

    def __init__(self, **fields: int) -> None:
        self.now = 0.0
        self.machine = AdaptiveLimitMachine(AdaptiveLimitPolicy(**fields), 0.0)

    def why(self) -> Reason:
        return self.machine.reason

    def window(
        self, duration: float, *, in_flight: int = 100, full: bool = True, dropped: int = 0
    ) -> int:
        """The limit after a window of calls that all took as long."""
        length = 1.001 * max(1.0, 2.0 * (self.machine.baseline or 0.0), duration)
        begun = self.now
        for number in range(FEWEST_SAMPLES):
            # The last one ends the window; none began before the window did.
            self.now = begun + duration + (length - duration) * number / (FEWEST_SAMPLES - 1)
            if full:
                self.machine.full()
            release = Release.DROPPED if number < dropped else Release.SUCCESS
            self.machine.sample(
                now=self.now, duration=duration, release=release, in_flight=in_flight
            )
        return self.machine.limit


def test_it_is_lowered_while_calls_wait_for_each_other_and_raised_when_they_do_not() -> None:
    driver = Driver(max_limit=200, initial_limit=100)
    assert driver.window(0.01) > 100
    before = driver.machine.limit
    lowered = driver.window(0.1)
    assert before / 2 - 1 <= lowered < before
    assert driver.why() is Reason.QUEUE
    assert driver.window(0.01) > lowered
    assert driver.why() is Reason.RAISED


def test_a_cut_that_made_nothing_faster_is_taken_back() -> None:
    driver = Driver(max_limit=100)
    for _ in range(5):
        driver.window(0.01)
    cut = driver.window(0.1)
    assert cut <= 75
    assert driver.window(0.1) == 100
    assert driver.why() is Reason.SLOWER
    assert driver.machine.baseline == pytest.approx(0.1)


def test_one_call_in_ten_at_its_deadline_halves_it() -> None:
    driver = Driver(max_limit=100)
    assert driver.window(0.01, dropped=4) == 100
    assert driver.window(0.01, dropped=5) == 50
    assert driver.why() is Reason.DROPPED


def test_it_is_not_raised_above_five_times_what_is_there() -> None:
    driver = Driver(max_limit=1000, initial_limit=40)
    for _ in range(30):
        driver.window(0.01, in_flight=25, full=False)
    # At 50 the 25 are half of it, and beyond that it decides nothing.
    assert driver.machine.limit <= 63
    assert driver.window(0.01, in_flight=1) <= 63


def test_calls_that_began_before_the_window_are_left_out() -> None:
    machine = AdaptiveLimitMachine(AdaptiveLimitPolicy(), 100.0)
    for number in range(200):
        assert not machine.sample(
            now=101.0 + number / 100, duration=50.0, release=Release.SUCCESS, in_flight=200
        )
    assert machine.baseline is None


def test_too_few_samples_in_too_long_a_time_tell_nothing() -> None:
    machine = AdaptiveLimitMachine(AdaptiveLimitPolicy(), 0.0)
    for number in range(1, 400):
        machine.sample(now=number * 1.0, duration=0.5, release=Release.DROPPED, in_flight=200)
    assert machine.limit == 200
    assert machine.baseline is None


def test_so_many_samples_that_they_are_thinned_out_still_tell_the_percentile() -> None:
    machine = AdaptiveLimitMachine(AdaptiveLimitPolicy(), 0.0)
    for number in range(10_001):
        duration = 0.2 if number % 5 == 0 else 0.1
        machine.sample(
            now=number / 10_000,
            duration=min(duration, number / 10_000),
            release=Release.SUCCESS,
            in_flight=10,
        )
    assert machine.baseline == pytest.approx(0.2)


def test_drift_is_stopped_by_what_more_calls_in_flight_have_brought() -> None:
    """More in flight, more latency, no more throughput: whatever the baseline has become."""
    driver = Driver(max_limit=400, initial_limit=60)
    reasons = set[Reason]()
    for number in range(40):
        limit = driver.machine.limit
        # The latency creeps up with the limit, slowly enough for the baseline to follow.
        driver.window(0.1 + limit / 1000 + number * 1e-4, in_flight=limit)
        reasons.add(driver.why())
    assert Reason.DRIFT in reasons
    assert driver.machine.limit < 200


def test_a_short_queue_is_left_alone() -> None:
    driver = Driver(max_limit=200, initial_limit=100)
    for _ in range(3):
        driver.window(0.1)
    before = driver.machine.limit
    # Of some hundred and forty calls nine wait: more than three steps of log10, less than six.
    assert driver.window(0.1 / (1 - 9 / before)) == before
    assert driver.why() is Reason.KEPT


def test_a_baseline_is_the_mean_while_it_is_young_and_slow_to_rise_later() -> None:
    driver = Driver(max_limit=100)
    for duration in (0.1, 0.2, 0.3):
        driver.window(duration, in_flight=1)
    assert driver.machine.baseline == pytest.approx(0.2)
    for _ in range(20):
        driver.window(0.2, in_flight=1)
    driver.window(0.3, in_flight=1)
    assert driver.machine.baseline == pytest.approx(0.21, abs=0.001)
    driver.window(0.15, in_flight=1)
    assert driver.machine.baseline == pytest.approx(0.19, abs=0.001)


def test_the_limit_never_falls_below_what_the_throughput_needs() -> None:
    driver = Driver(max_limit=100)
    for _ in range(5):
        driver.window(0.5)
    for _ in range(20):
        driver.window(5.0)
    assert driver.machine.limit >= 10


def test_repr_is_for_a_person_at_night() -> None:
    driver = Driver(max_limit=100)
    assert repr(driver.machine) == "<AdaptiveLimit 100 (initial), baseline unknown>"
    driver.window(0.01, in_flight=10)
    assert repr(driver.machine) == "<AdaptiveLimit 100 (kept), baseline 10.0 ms>"


def test_pearsons_correlation() -> None:
    up, down, bent = [1.0, 2.0, 3.0, 4.0], [8.0, 6.0, 4.0, 2.0], [1.0, 2.0, 2.0, 1.0]
    assert _correlation(up, up) == pytest.approx(1.0)
    assert _correlation(up, down) == pytest.approx(-1.0)
    assert _correlation(up, bent) == pytest.approx(0.0)
    # By hand: means 2.5 and 3; products 5; squares 5 and 6.
    assert _correlation(up, [2.0, 3.0, 2.0, 5.0]) == pytest.approx(4.0 / (5.0 * 6.0) ** 0.5)
    # Durations of milliseconds vary by millionths.
    assert _correlation([0.001, 0.002, 0.003], [5.0, 5.1, 5.2]) == pytest.approx(1.0)


def test_what_does_not_vary_is_correlated_with_nothing() -> None:
    assert _correlation([1.0, 2.0], [3.0, 3.0]) == 0.0
    assert _correlation([3.0, 3.0], [1.0, 2.0]) == 0.0


def test_the_throughput_is_the_successes_of_the_window_by_its_length() -> None:
    driver = Driver(max_limit=100)
    driver.window(0.01)
    begun = driver.now
    driver.window(0.01, dropped=4)
    window = driver.machine._history[-1]  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    assert window.throughput == pytest.approx((FEWEST_SAMPLES - 4) / (driver.now - begun))


def test_of_many_samples_every_second_one_is_kept_and_again() -> None:
    machine = AdaptiveLimitMachine(AdaptiveLimitPolicy(), 0.0)
    for number in range(1, 1537):
        # All within the first millisecond, so the window stays open.
        machine.sample(now=0.001, duration=number * 1e-7, release=Release.SUCCESS, in_flight=1)
    # Halved after 512 calls, and after 1,024: from then on one in four is kept.
    samples = machine._samples  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    kept = [round(duration * 1e7) for duration in samples]
    assert kept == list(range(4, 1537, 4))
