"""Percentiles, shares, windows: exact, also where there is little or nothing."""

from dataclasses import replace

import pytest

from connectplugin_chaos.check import stats
from connectplugin_chaos.record.model import Fault, History, Ledger, Operation
from tests.chaos.clean import executed, operation


def read(op: int, due: float, *, well: bool = True) -> Operation:
    made = replace(operation(op, 0.0), method="read", idempotent=True, sent=0, received=())
    return replace(
        made,
        due=due,
        called=due,
        ended=due + 0.05,
        outcome="ok" if well else "info",
        code="ok" if well else "unavailable",
    )


def load(seconds: float, *bad: tuple[float, float], healed: float = 4.0) -> History:
    """Ten reads a second; those that are due in one of the spans fail."""
    dues = [n / 10 for n in range(round(seconds * 10))]
    return History(
        scenario="T",
        arm="stack",
        seed=7,
        phases={"base": (0.0, 2.0), "fault": (2.0, 4.0), "recovery": (4.0, seconds)},
        operations=tuple(
            read(n, due, well=not any(a <= due < b for a, b in bad)) for n, due in enumerate(dues)
        ),
        faults=(Fault(name="f", began=2.0, ended=healed),),
        end=seconds,
    )


@pytest.mark.parametrize(
    ("count", "share", "found"),
    [
        (100, 0.99, 99), (100, 0.5, 50), (100, 0.999, 100), (100, 1.0, 100), (100, 0.0, 1),
        (101, 0.99, 100), (3, 0.5, 2), (2, 0.5, 1), (2, 0.51, 2), (1, 0.99, 1), (1, 0.0, 1),
    ],
)  # fmt: skip
def test_a_percentile_is_a_value_that_was_seen(count: int, share: float, found: int) -> None:
    assert stats.percentile(list(range(count, 0, -1)), share) == found


def test_nothing_has_no_percentile_no_failures_and_no_attempts() -> None:
    assert stats.percentile([], 0.99) == 0.0
    assert stats.success([]) == 1.0
    assert stats.amplification([]) == 0.0


def test_what_never_ended_took_no_time_that_could_be_counted() -> None:
    ended = replace(read(1, 1.0), called=1.02)
    hung = replace(ended, ended=None)
    assert stats.durations([ended, hung]) == [pytest.approx(0.03)]
    assert stats.latencies([ended, hung]) == [pytest.approx(0.05)]
    assert stats.success([ended, hung]) == 0.5


def test_windows_are_whole_seconds() -> None:
    history = load(3.0, (1.0, 1.5))
    assert stats.windows(history, 0.0) == [(0.0, 1.0), (1.0, 0.5), (2.0, 1.0)]
    # The last call was due at 2.9: a window that ends at 3.1 is not whole.
    assert stats.windows(history, 0.1) == [(0.1, 0.9), (1.1, 0.6)]
    assert stats.windows(history, 0.0, width=0.5)[2:4] == [(1.0, 0.0), (1.5, 1.0)]
    assert stats.windows(replace(history, operations=()), 0.0) == []
    # One that is due at the end of a window belongs to the next one.
    assert stats.windows(load(2.0, (1.0, 1.01)), 0.0) == [(0.0, 1.0), (1.0, 0.9)]


@pytest.mark.parametrize(
    ("until", "seconds"), [(4.0, 0.0), (4.1, 0.25), (5.0, 1.0), (5.05, 1.25), (5.35, 1.5)]
)
def test_recovery_is_three_good_seconds_in_a_row(until: float, seconds: float) -> None:
    assert stats.recovery(load(20.0, (2.0, until)), to=0.99) == seconds


def test_a_relapse_is_no_recovery() -> None:
    # Two good seconds, and one bad call in the third.
    assert stats.recovery(load(20.0, (2.0, 4.0), (6.5, 6.55)), to=0.99) == 2.75
    assert stats.recovery(load(20.0, (2.0, 4.0), (7.0, 7.05)), to=0.99) == 0.0
    # One call of ten is a tenth: well enough for 90 %, not for more.
    assert stats.recovery(load(20.0, (2.0, 4.0), (4.5, 4.55)), to=0.9) == 0.0
    assert stats.recovery(load(20.0, (2.0, 4.0), (4.5, 4.55)), to=0.91) == 0.75


def test_recovery_needs_the_time_to_be_seen() -> None:
    assert stats.recovery(load(8.0, (2.0, 5.0)), to=0.99) == 1.0
    assert stats.recovery(load(7.9, (2.0, 5.0)), to=0.99) is None
    assert stats.recovery(load(8.0, (2.0, 5.1)), to=0.99) is None
    assert stats.recovery(replace(load(8.0), operations=()), to=0.99) is None
    # A second without any call shows nothing.
    quiet = load(20.0)
    few = tuple(o for o in quiet.operations if not 4.0 <= o.due < 5.0)
    assert stats.recovery(replace(quiet, operations=few), to=0.99) == 0.25


def test_duplicates_are_of_what_must_not_be_repeated() -> None:
    appended = replace(operation(3, 1.0), method="append", idempotent=False)
    other = replace(appended, op=2)
    history = replace(load(1.0), operations=(appended, other, read(1, 1.0)))
    runs = (executed(appended), executed(appended), executed(other), executed(other))
    reads = (executed(read(1, 1.0)), executed(read(1, 1.0)))
    ledger = Ledger(executions=(*runs, *reads))
    assert stats.duplicates(history, ledger) == [2, 3]
    assert stats.duplicates(history, Ledger(executions=runs[:1])) == []


def test_dead_work_begins_after_the_deadline_of_a_call_that_is_known() -> None:
    call = read(1, 1.0)
    history = replace(load(1.0), operations=(call,))
    due = executed(call)
    until = call.called + call.deadline
    at, after = replace(due, started=until), replace(due, started=until + 0.001)
    stranger = replace(after, op=99)
    assert stats.dead_work(history, Ledger(executions=(due, at, after, stranger))) == [1]
