from bisect import bisect_left

import pytest

from connectplugin_interceptors._budget import RetryBudget
from connectplugin_interceptors._window import BucketWindow


def budget(ratio: float = 0.1, window: float = 10.0, reserve: float = 1.0) -> RetryBudget:
    return RetryBudget(ratio=ratio, window=window, reserve=reserve)


def withdraw_all(account: RetryBudget, now: float, *, reserve: bool = True) -> int:
    count = 0
    while account.withdraw(now, reserve=reserve):
        count += 1
        assert count < 10_000
    return count


def test_a_new_client_has_its_reserve() -> None:
    # Ten in ten seconds: as many as gRPC's maxTokens in its own documentation.
    account = budget()
    assert account.balance(0.0) == 10.0
    assert withdraw_all(account, 0.0) == 10
    assert account.balance(0.0) == 0.0


def test_ten_successes_pay_for_one_retry() -> None:
    account = budget(reserve=0.0)
    for _ in range(9):
        account.deposit(0.0)
    assert not account.withdraw(0.0)
    account.deposit(0.0)
    assert account.withdraw(0.0)
    assert not account.withdraw(0.0)


@pytest.mark.parametrize(("ratio", "successes", "paid"), [(0.29, 100, 29), (0.7, 10, 7)])
def test_rounding_of_floats_costs_no_retry(ratio: float, successes: int, paid: int) -> None:
    account = budget(ratio=ratio, reserve=0.0)
    for _ in range(successes):
        account.deposit(0.0)
    assert withdraw_all(account, 0.0) == paid


def test_a_refused_withdrawal_costs_nothing() -> None:
    account = budget(ratio=0.0, reserve=0.1)
    assert account.withdraw(0.0)
    for _ in range(50):
        assert not account.withdraw(1.0)
    assert account.balance(1.0) == 0.0


def test_hedges_may_not_touch_the_reserve() -> None:
    account = budget()
    assert not account.withdraw(0.0, reserve=False)
    for _ in range(20):
        account.deposit(0.0)
    assert account.balance(0.0, reserve=False) == 2.0
    assert withdraw_all(account, 0.0, reserve=False) == 2
    assert account.balance(0.0) == 10.0


def test_successes_are_forgotten_after_the_window() -> None:
    account = budget(reserve=0.0)
    for _ in range(100):
        account.deposit(0.5)
    assert account.balance(9.99) == 10.0
    assert account.balance(10.0) == 0.0


def test_a_withdrawal_weighs_at_least_a_full_window() -> None:
    # Guards against a reserve spent at 0.99 s and again at 10.0 s, twenty in nine seconds.
    account = budget()
    assert withdraw_all(account, 0.99) == 10
    assert withdraw_all(account, 10.0) == 0
    assert withdraw_all(account, 10.99) == 0
    assert withdraw_all(account, 11.0) == 10


def test_debts_are_possible_when_successes_expire_first() -> None:
    account = budget(reserve=0.0)
    for _ in range(100):
        account.deposit(0.0)
    assert withdraw_all(account, 9.0) == 10
    assert account.balance(10.0) == -10.0
    assert not account.withdraw(10.0)


def test_a_clock_that_stands_still_keeps_the_balance() -> None:
    account = budget()
    for _ in range(1000):
        account.deposit(5.0)
    assert withdraw_all(account, 5.0) == 110
    assert withdraw_all(account, 5.0) == 0


@pytest.mark.parametrize("leap", [3600.0, 1e9, 1e15])
def test_a_leap_of_the_clock_is_a_fresh_start_and_costs_no_loop(leap: float) -> None:
    account = budget()
    for _ in range(1000):
        account.deposit(5.0)
    withdraw_all(account, 5.0)
    assert account.balance(5.0 + leap) == 10.0


def test_a_step_back_loses_and_gains_nothing() -> None:
    account = budget(reserve=0.0)
    for _ in range(10):
        account.deposit(100.0)
    assert account.balance(100.0) == 1.0
    assert account.withdraw(50.0)
    assert account.balance(100.0) == 0.0


def test_an_outage_ends_the_retries_within_a_window() -> None:
    """The acceptance figures of the reference, at 100 calls a second and a total outage at 20 s.

    Attempts per call over any 10 s are at most 1.1 + 10/N; and once the outage has lasted for
    10 s, at most 1 + 10/N: guards against a budget that is fed by requests, or a reserve that is
    granted twice.
    """
    account = budget()
    calls: list[float] = []
    retries: list[float] = []
    for tick in range(8000):
        now = tick / 100
        calls.append(now)
        if now < 20.0:
            account.deposit(now)
        elif account.withdraw(now):
            retries.append(now)
    for tenth in range(700):
        start = tenth / 10
        made = bisect_left(calls, start + 10) - bisect_left(calls, start)
        again = bisect_left(retries, start + 10) - bisect_left(retries, start)
        assert made == 1000
        assert again <= 0.1 * made + 10
        if start >= 30.0:
            assert again <= 10


def test_its_repr_tells_the_account() -> None:
    account = budget()
    account.deposit(0.0)
    account.withdraw(0.0)
    assert repr(account) == "<RetryBudget 1 successes, 1 withdrawals>"


class TestBucketWindow:
    """Also the breaker's: bad events and all events."""

    def test_it_counts_bad_events_and_all_events(self) -> None:
        window = BucketWindow(width=1.0, buckets=10)
        window.add(0.0, bad=True)
        window.add(0.5)
        window.add(3.0, bad=True)
        assert window.counts(3.0) == (2, 3)
        assert window.counts(9.9) == (2, 3)
        assert window.counts(10.0) == (1, 1)
        assert window.counts(13.0) == (0, 0)
        assert repr(window) == "<BucketWindow 0 bad of 0>"

    def test_buckets_begin_at_multiples_of_their_width_whenever_the_first_event_comes(self) -> None:
        window = BucketWindow(width=2.0, buckets=2)
        window.add(103.9)
        assert window.counts(105.9) == (0, 1)
        assert window.counts(106.0) == (0, 0)

    def test_an_event_at_the_edge_belongs_to_the_bucket_that_begins(self) -> None:
        window = BucketWindow(width=1.0, buckets=2)
        window.add(0.0)
        window.add(1.0)
        assert window.counts(2.0) == (0, 1)

    @pytest.mark.parametrize("start", [-1000.5, 0.0, 1e6 + 0.3])
    def test_the_zero_of_the_clock_means_nothing(self, start: float) -> None:
        window = BucketWindow(width=0.1, buckets=10)
        for step in range(100):
            window.add(start + step * 0.05)
        assert 18 <= window.counts(start + 99 * 0.05)[1] <= 20
