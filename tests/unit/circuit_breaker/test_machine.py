"""The breaker's rules one by one, in numbers; `tests/properties` holds them all against a model."""

import math
from itertools import pairwise
from random import Random

import pytest

from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.machine import (
    BreakerMachine,
    CircuitState,
    MoveReason,
    Open,
    Permit,
)
from connectplugin_interceptors.outcome import Outcome

OK, FAIL = Outcome.SUCCESS, Outcome.FAILURE
ANSWERED, NEUTRAL = Outcome.ANSWERED, Outcome.NEUTRAL
REFUSED = Outcome.REFUSED
CLOSED, OPEN = CircuitState.CLOSED, CircuitState.OPEN
HALF_OPEN, ISOLATED = CircuitState.HALF_OPEN, CircuitState.ISOLATED


def machine(**fields: float | None) -> BreakerMachine:
    return BreakerMachine(CircuitBreakerPolicy(**fields))  # type: ignore[arg-type]  # by name


def admitted(breaker: BreakerMachine, now: float) -> Permit:
    permit = breaker.acquire(now)
    assert isinstance(permit, Permit)
    return permit


def call(breaker: BreakerMachine, outcome: Outcome, now: float, *, hint: float = 0.0) -> None:
    breaker.release(admitted(breaker, now), outcome, now, hint=hint)


def opened(now: float = 0.0, **fields: float | None) -> BreakerMachine:
    breaker = machine(**fields)
    while breaker.state is CLOSED:
        call(breaker, FAIL, now)
    return breaker


def until(breaker: BreakerMachine) -> float:
    assert isinstance(breaker.phase, Open)
    return breaker.phase.until


def reasons(breaker: BreakerMachine) -> list[str]:
    return [move.reason.value for move in breaker.moves]


def test_five_failures_in_a_row_open_it() -> None:
    breaker = machine()
    for _ in range(4):
        call(breaker, FAIL, 0.0)
    call(breaker, OK, 0.0)
    for _ in range(4):
        call(breaker, FAIL, 0.0)
    assert breaker.state is CLOSED
    call(breaker, FAIL, 0.0)
    assert breaker.state is OPEN
    assert reasons(breaker) == ["failure_threshold"]


def test_half_of_twenty_open_it() -> None:
    breaker = machine()
    for number in range(20):
        assert breaker.state is CLOSED
        call(breaker, FAIL if number % 2 else OK, number / 4)
    assert reasons(breaker) == ["failure_rate"]


@pytest.mark.parametrize(("first", "opens"), [(0.0, False), (0.95, False), (1.0, True)])
def test_the_window_has_ten_buckets(first: float, opens: bool) -> None:
    breaker = machine(failure_threshold=None)
    for _ in range(19):
        call(breaker, FAIL, first)
    call(breaker, FAIL, 10.0)
    assert (breaker.state is OPEN) == opens


@pytest.mark.parametrize(("failures", "opens"), [(6, False), (7, True)])
def test_a_share_that_floats_cannot_spell_is_met_exactly(failures: int, opens: bool) -> None:
    breaker = machine(failure_threshold=None, failure_rate=0.07, minimum_calls=100)
    for _ in range(100 - failures):
        call(breaker, OK, 0.0)
    for _ in range(failures):
        call(breaker, FAIL, 0.0)
    assert (breaker.state is OPEN) == opens


def test_a_business_error_breaks_no_run_and_heals_none() -> None:
    breaker = machine()
    for _ in range(4):
        call(breaker, FAIL, 0.0)
    call(breaker, ANSWERED, 0.0)
    call(breaker, NEUTRAL, 0.0)
    call(breaker, REFUSED, 0.0)
    assert breaker.state is CLOSED
    call(breaker, FAIL, 0.0)
    assert breaker.state is OPEN


def test_the_time_open_doubles_up_to_its_cap_with_jitter_within() -> None:
    shortest, longest = [1.0, 2.0, 10 / 3, 10 / 3], [1.5, 3.0, 5.0, 5.0]
    for rnd, expected in ((0.0, shortest), (1.0, longest)):
        breaker = machine()
        now, waits = 0.0, list[float]()
        for failures in (5, 1, 1, 1):
            for _ in range(failures):
                breaker.release(admitted(breaker, now), FAIL, now, rnd=rnd)
            waits.append(until(breaker) - now)
            now = until(breaker)
        assert waits == pytest.approx(expected)


def test_the_time_open_is_spread_even_at_its_cap() -> None:
    rng = Random(5)  # noqa: S311  # chance, not a secret
    waits = set[float]()
    for _ in range(200):
        breaker, now = opened(), 0.0
        for _ in range(6):
            now = until(breaker)
            breaker.release(admitted(breaker, now), FAIL, now, rnd=rng.random())
        waits.add(until(breaker) - now)
    assert len(waits) > 100
    assert min(waits) >= 10 / 3 - 1e-9
    assert max(waits) <= 5.0


def test_a_constant_time_is_kept() -> None:
    breaker = machine(timeout=3.0, max_timeout=3.0)
    now = 0.0
    for failures in (5, 1, 1, 1):
        for _ in range(failures):
            breaker.release(admitted(breaker, now), FAIL, now, rnd=0.9)
        assert until(breaker) - now == pytest.approx(3.0)
        now = until(breaker)


def test_growth_starts_anew_once_it_has_closed() -> None:
    breaker = opened()
    for _ in range(3):
        call(breaker, FAIL, until(breaker))
    now = until(breaker)
    call(breaker, OK, now)
    assert breaker.state is CLOSED
    for _ in range(5):
        call(breaker, FAIL, now)
    assert until(breaker) - now == pytest.approx(1.0)


@pytest.mark.parametrize(("hint", "waits"), [(0.5, 1.0), (60.0, 60.0), (1e9, 300.0)])
def test_a_servers_hint_raises_the_time_open(hint: float, waits: float) -> None:
    breaker = machine(failure_threshold=1)
    call(breaker, FAIL, 0.0, hint=hint)
    assert until(breaker) == pytest.approx(waits)


@pytest.mark.parametrize("start", [0.0, 1e-9, 12345.678901234567, 1e7 / 3, 4e8 / 7])
def test_waiting_exactly_as_long_as_told_is_enough(start: float) -> None:
    """The hint that is one tick too early (flask-limiter#62), in floats."""
    for step in range(200):
        asked = start + step * 0.00713
        breaker = opened(start)
        wait = breaker.acquire(asked)
        if isinstance(wait, Permit):
            break
        assert isinstance(breaker.acquire(asked + wait), Permit)


def test_one_probe_passes_and_its_success_closes() -> None:
    breaker = opened()
    probe = admitted(breaker, 1.0)
    assert breaker.state is HALF_OPEN
    assert breaker.acquire(1.0) == pytest.approx(1.0)
    breaker.release(probe, OK, 1.1)
    assert breaker.state is CLOSED
    assert reasons(breaker)[1:] == ["timeout", "probes_succeeded"]


def test_as_many_successes_as_asked_for_close_it() -> None:
    breaker = opened(probes=2, success_threshold=3)
    first, second = admitted(breaker, 1.0), admitted(breaker, 1.0)
    assert not isinstance(breaker.acquire(1.0), Permit)
    breaker.release(first, OK, 1.0)
    breaker.release(second, OK, 1.0)
    assert breaker.state is HALF_OPEN
    call(breaker, OK, 1.0)
    assert breaker.state is CLOSED


def test_a_lapsed_lease_frees_its_place() -> None:
    """resilience4j #903: a probe that never came back held the circuit half open for ever."""
    breaker = opened(lease=10.0)
    lost = admitted(breaker, 1.0)
    assert breaker.acquire(10.9) == pytest.approx(0.1)
    second = admitted(breaker, 11.0)
    assert not isinstance(breaker.acquire(11.0), Permit)
    breaker.release(second, NEUTRAL, 11.5)
    breaker.release(lost, OK, 11.5)  # late, but nothing was decided meanwhile
    assert breaker.state is CLOSED


def test_nothing_but_business_errors_close_it_after_a_lease() -> None:
    breaker = opened()
    now = 1.0
    while breaker.state is not CLOSED:
        call(breaker, ANSWERED, now)
        now += 1.0
        assert now < 20.0
    assert now == 12.0
    assert breaker.moves[-1].reason is MoveReason.ANSWERED


def test_a_server_that_refuses_everything_opens_nothing() -> None:
    breaker = machine()
    for number in range(1_000):
        call(breaker, REFUSED, number / 100, hint=5.0)
    assert breaker.moves == []


@pytest.mark.parametrize(("hint", "pause"), [(0.0, 0.0625), (0.1, 0.1), (3.0, 3.0), (60.0, 5.0)])
def test_a_refused_probe_is_followed_by_the_next_when_the_server_wants_it(
    hint: float, pause: float
) -> None:
    breaker = opened()
    call(breaker, REFUSED, 1.0, hint=hint)
    assert breaker.state is HALF_OPEN
    assert breaker.peek(1.0) == pytest.approx(pause)
    assert breaker.acquire(1.0 + pause / 2) == pytest.approx(pause / 2)
    call(breaker, OK, 1.0 + pause)
    assert breaker.state is CLOSED
    assert breaker.moves[-1].reason is MoveReason.PROBES_SUCCEEDED


def test_a_shorter_pause_cuts_a_longer_one_not_short() -> None:
    breaker = opened(probes=2)
    first, second = admitted(breaker, 1.0), admitted(breaker, 1.0)
    breaker.release(first, REFUSED, 1.5, hint=2.0)
    breaker.release(second, REFUSED, 1.5, hint=0.5)
    assert breaker.peek(1.5) == pytest.approx(2.0)


def test_a_server_that_refuses_for_a_whole_lease_is_alive() -> None:
    """One probe at a time would keep from a busy server even what it would have served."""
    breaker = opened(lease=10.0)
    now = 1.0
    while breaker.state is not CLOSED:
        call(breaker, REFUSED, now, hint=0.5)
        now += 0.5
        assert now < 20.0
    assert now == 11.5
    assert breaker.moves[-1].reason is MoveReason.ANSWERED


def test_a_failure_after_refusals_opens_it_again() -> None:
    breaker = opened()
    call(breaker, REFUSED, 1.0)
    call(breaker, FAIL, 1.5)
    assert breaker.state is OPEN
    assert until(breaker) == pytest.approx(3.5)


def test_health_opens_the_door_for_a_probe_and_no_further() -> None:
    breaker = opened()
    breaker.probe_now(0.2)
    assert breaker.state is HALF_OPEN
    assert breaker.peek(0.2) == 0
    breaker.probe_now(0.2)
    probe = admitted(breaker, 0.2)
    breaker.probe_now(0.2)
    assert breaker.state is HALF_OPEN
    assert not isinstance(breaker.acquire(0.2), Permit)
    breaker.release(probe, FAIL, 0.3)
    assert breaker.state is OPEN
    assert until(breaker) - 0.3 == pytest.approx(2.0)


def test_health_neither_closes_nor_frees_what_was_isolated() -> None:
    breaker = machine()
    breaker.probe_now(0.0)
    assert breaker.state is CLOSED
    breaker.isolate()
    breaker.probe_now(0.0)
    breaker.force_open(0.0)
    assert breaker.state is ISOLATED
    assert breaker.acquire(1e9) == math.inf
    breaker.reset()
    assert breaker.state is CLOSED
    assert [move.reason for move in breaker.moves] == [MoveReason.BY_HAND] * 2


def test_opened_by_hand_it_recovers_like_any_other() -> None:
    breaker = machine()
    breaker.force_open(0.0)
    assert breaker.acquire(0.5) == pytest.approx(0.5)
    breaker.force_open(0.5)
    call(breaker, OK, 2.5)
    assert breaker.state is CLOSED
    assert [(move.before, move.after) for move in breaker.moves] == [
        (CLOSED, OPEN),
        (OPEN, HALF_OPEN),
        (HALF_OPEN, CLOSED),
    ]


def test_slow_calls_open_it_only_if_asked_to() -> None:
    for fields, state in (
        ({}, CLOSED),
        ({"slow_call_duration": 1.0, "slow_call_rate": 0.8}, OPEN),
    ):
        breaker = machine(**fields)
        for _ in range(20):
            breaker.release(admitted(breaker, 0.0), OK, 1.0)
        assert breaker.state is state
    assert reasons(breaker) == ["slow_call_rate"]


def test_a_long_stream_is_not_slow_if_its_first_message_was_quick() -> None:
    breaker = machine(slow_call_duration=1.0, slow_call_rate=0.5, minimum_calls=1)
    permit = admitted(breaker, 0.0)
    breaker.responded(permit, 0.1)
    breaker.release(permit, OK, 3600.0)
    assert breaker.state is CLOSED


def test_a_slow_probe_has_failed() -> None:
    breaker = opened(slow_call_duration=1.0, slow_call_rate=0.5)
    breaker.release(admitted(breaker, 1.0), OK, 2.0)
    assert breaker.state is OPEN
    assert breaker.moves[-1].reason is MoveReason.PROBE_FAILED


def test_a_deadline_shorter_than_may_be_blamed_teaches_nothing() -> None:
    breaker = machine(failure_threshold=1, min_blame_timeout=1.0)
    breaker.release(admitted(breaker, 100.0), FAIL, 100.9, expired=True)
    assert breaker.state is CLOSED
    breaker.release(admitted(breaker, 100.0), FAIL, 101.0, expired=True)
    assert breaker.state is OPEN
    breaker.reset()
    breaker.release(admitted(breaker, 100.0), FAIL, 100.9)
    assert breaker.state is OPEN


def test_the_first_response_of_a_probe_is_its_vote() -> None:
    """A watch would hold the circuit half open for hours; and what it does later is too late."""
    breaker = opened()
    watch = admitted(breaker, 1.0)
    breaker.responded(watch, 1.2)
    assert breaker.state is CLOSED
    breaker.release(watch, FAIL, 3600.0)
    breaker.release(watch, FAIL, 3600.0)
    assert breaker.state is CLOSED


def test_moves_are_in_one_line() -> None:
    breaker = opened()
    for _ in range(3):
        call(breaker, FAIL, until(breaker))
    call(breaker, OK, until(breaker))
    assert all(first.after is second.before for first, second in pairwise(breaker.moves))


def test_its_repr_is_for_the_person_at_night() -> None:
    breaker = machine(probes=2, success_threshold=2, failure_threshold=1)
    assert repr(breaker) == "closed, 0 of 0 failed, 0 in a row"
    call(breaker, FAIL, 0.0)
    assert repr(breaker) == "open until 1.000"
    admitted(breaker, 1.0)
    assert repr(breaker) == "half-open 1/2 probes, 0/2 successes"
    breaker.isolate()
    assert repr(breaker) == "isolated"


def test_given_back_twice_the_first_word_counts() -> None:
    breaker = machine()
    permit = admitted(breaker, 0.0)
    for _ in range(5):
        breaker.release(permit, FAIL, 0.0)
    assert breaker.state is CLOSED
    breaker = opened(success_threshold=2)
    probe = admitted(breaker, 1.0)
    for _ in range(5):
        breaker.release(probe, OK, 1.0)
    assert breaker.state is HALF_OPEN


def test_without_a_hint_the_time_open_is_the_policys() -> None:
    breaker = machine(failure_threshold=1, timeout=0.1)
    breaker.release(admitted(breaker, 0.0), FAIL, 0.0)
    assert until(breaker) == pytest.approx(0.1)
    breaker = machine(timeout=0.1)
    breaker.force_open(0.0)
    assert until(breaker) == pytest.approx(0.1)


def test_it_doubles_each_time() -> None:
    breaker = machine(max_timeout=100.0, jitter=0.0, failure_threshold=1)
    now, waits = 50.0, list[float]()
    for _ in range(8):
        call(breaker, FAIL, now)
        waits.append(until(breaker) - now)
        now = until(breaker)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 64, 100])


def test_watching_for_slow_calls_changes_nothing_about_failures() -> None:
    breaker = machine(slow_call_duration=1.0, slow_call_rate=0.5)
    for _ in range(4):
        call(breaker, FAIL, 100.0)
    call(breaker, OK, 100.0)
    for _ in range(4):
        call(breaker, FAIL, 100.0)
    assert breaker.state is CLOSED
    for _ in range(30):
        call(breaker, OK, 100.0)
    assert breaker.state is CLOSED


def test_a_call_that_went_ahead_without_a_permit_counts_when_it_succeeds() -> None:
    breaker = machine(failure_threshold=3)
    phase = breaker.calm
    assert phase is not None
    for _ in range(2):
        call(breaker, FAIL, 10.0)
    breaker.succeeded(phase, 10.0)
    assert phase.run == 0  # the run of failures is over
    assert phase.calls.counts(10.0) == (2, 3)


def test_a_late_success_of_a_calm_phase_says_nothing() -> None:
    breaker = machine(failure_threshold=1)
    phase = breaker.calm
    assert phase is not None
    call(breaker, FAIL, 10.0)
    assert breaker.state is OPEN
    before = phase.run
    breaker.succeeded(phase, 10.0)
    assert breaker.state is OPEN
    assert phase.run == before


def test_each_move_says_why() -> None:
    breaker = opened(failure_threshold=1)
    breaker.probe_now(0.1)
    breaker.reset()
    breaker.force_open(0.2)
    assert [move.reason for move in breaker.moves] == [
        MoveReason.FAILURE_THRESHOLD,
        MoveReason.HEALTH,
        MoveReason.BY_HAND,
        MoveReason.BY_HAND,
    ]


def test_an_answer_soon_after_health_let_a_probe_through_does_not_close_it_yet() -> None:
    breaker = opened(failure_threshold=1)
    breaker.probe_now(0.1)
    call(breaker, ANSWERED, 0.2)
    assert breaker.state is HALF_OPEN
