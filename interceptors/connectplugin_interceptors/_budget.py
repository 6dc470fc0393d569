"""What retries and hedges are paid from: a share of the recent successes, and a small reserve.

```
balance = ratio * successes(window) + reserve * window - withdrawals(window)
```
Successes pay, not requests: while a server fails nothing is earned, so retries fade to the reserve
within a window instead of multiplying the load for as long as the outage lasts.
"""

from typing import Final

from connectplugin_interceptors._window import BucketWindow

_BUCKETS: Final = 10

# 0.29 * 100 is 28.999999999999996 in floats; that must still pay for 29.
_ROUNDING: Final = 1e-9


class RetryBudget:
    """One account, shared by all calls of a client to a service.

    Every step is synchronous, so concurrent calls need no lock. An attempt that was paid for and
    then came late, never, or was cancelled, stays paid: it may have cost the server its time. A
    budget that is empty fails no call: it only keeps the next attempt from being made.

    Of the window, successes are remembered for nine to ten buckets and withdrawals for ten to
    eleven. So the promise holds for the exact window before every withdrawal, and not only for one
    that begins at a bucket's edge: with ten buckets for both, a reserve of ten could be spent
    twice within little more than nine tenths of the window.
    """

    __slots__ = ("_ratio", "_reserve", "_successes", "_withdrawals")

    def __init__(self, *, ratio: float, window: float, reserve: float) -> None:
        """See `RetryBudgetPolicy`, which checks the numbers.

        Args:
            ratio: Withdrawals per success.
            window: Seconds.
            reserve: Withdrawals per second that need no success.
        """
        width = window / _BUCKETS
        self._ratio = ratio
        self._reserve = reserve * window
        self._successes = BucketWindow(width=width, buckets=_BUCKETS)
        self._withdrawals = BucketWindow(width=width, buckets=_BUCKETS + 1)

    def deposit(self, now: float) -> None:
        """A call has succeeded."""
        self._successes.add(now)

    def balance(self, now: float, *, reserve: bool = True) -> float:
        """How much could be withdrawn; negative when successes have expired and withdrawals not.

        Args:
            now: Monotonic seconds.
            reserve: Whether the reserve counts.
        """
        earned = self._ratio * self._successes.counts(now)[1]
        spent = self._withdrawals.counts(now)[1]
        return earned + (self._reserve if reserve else 0.0) - spent

    def withdraw(self, now: float, *, reserve: bool = True) -> bool:
        """Pay for one attempt beyond the first; False, and nothing is taken, if it cannot be paid.

        Args:
            now: Monotonic seconds.
            reserve: Whether the reserve may be used: for retries, not for hedges, which are a
                luxury.
        """
        if self.balance(now, reserve=reserve) < 1 - _ROUNDING:
            return False
        self._withdrawals.add(now)
        return True

    def __repr__(self) -> str:
        successes, withdrawals = self._successes.latest[1], self._withdrawals.latest[1]
        return f"<RetryBudget {successes} successes, {withdrawals} withdrawals>"
