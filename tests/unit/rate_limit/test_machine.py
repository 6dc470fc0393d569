"""What the rate limit promises that a random walk would be long in finding."""

import math
import sys

from connectplugin_interceptors.rate_limit.machine import MOST_KEYS, RateLimitMachine

ONCE_PER_SECOND = RateLimitMachine(per_second=1.0, burst=1.0)


def drained(machine: RateLimitMachine, now: float = 0.0, key: str = "k") -> RateLimitMachine:
    while machine.admit(key, 1.0, now) == 0.0:
        pass
    return machine


def test_a_bucket_begins_full_and_holds_no_more_than_its_burst() -> None:
    machine = RateLimitMachine(per_second=10.0, burst=3.0)
    assert [machine.admit("k", 1.0, 0.0) for _ in range(3)] == [0.0] * 3
    assert math.isclose(machine.admit("k", 1.0, 0.0), 0.1)
    assert [machine.admit("k", 1.0, 1000.0) for _ in range(3)] == [0.0] * 3
    assert machine.admit("k", 1.0, 1000.0) > 0


def test_asking_in_vain_costs_nothing() -> None:
    machine = drained(RateLimitMachine(per_second=10.0, burst=1.0))
    for _ in range(10_000):
        machine.admit("k", 1.0, 0.05)
    assert machine.admit("k", 1.0, 0.1) == 0.0


def test_a_wait_that_was_told_is_enough_at_any_phase() -> None:
    """Guards against flask-limiter #62: waiting as told led to another refusal."""
    for number in range(2_000):
        now = 1e6 + number * 0.0137
        machine = drained(RateLimitMachine(per_second=2.0 + number * 0.001, burst=1.0), now)
        later = now + machine.admit("k", 1.0, now)
        assert machine.admit("k", 1.0, later) == 0.0


def test_calls_that_are_a_token_apart_all_pass_for_a_day() -> None:
    """Guards against rounding that adds up."""
    machine = RateLimitMachine(per_second=3.0, burst=1.0)
    passed = sum(machine.admit("k", 1.0, 5e5 + tick / 3) == 0.0 for tick in range(300_000))
    assert passed == 300_000


def test_time_that_goes_back_by_an_hour_does_not_close_the_limit_for_an_hour() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=5.0), 7200.0)
    assert math.isclose(machine.admit("k", 1.0, 3600.0), 1.0)
    assert machine.admit("k", 1.0, 3601.0) == 0.0


def test_time_that_leaps_ahead_fills_the_bucket_and_no_more() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=5.0))
    assert sum(machine.admit("k", 1.0, 3600.0) == 0.0 for _ in range(100)) == 5


def test_more_than_a_bucket_holds_is_never_to_be_had() -> None:
    assert ONCE_PER_SECOND.admit("k", 1.5, 0.0) == math.inf


def test_a_big_waiter_is_not_starved_by_small_ones() -> None:
    """Part 4, big waiter: aiolimiter orders waiters by amount, and lets it wait 4.5 s."""
    machine = drained(RateLimitMachine(per_second=10.0, burst=5.0))
    assert math.isclose(machine.admit("k", 5.0, 0.0), 0.5)
    big = machine.enqueue("k", 5.0)
    small = [machine.enqueue("k", 1.0) for _ in range(10)]
    assert machine.take(small[0], 0.3) is None
    assert machine.take(big, 0.4) != 0.0
    assert machine.take(big, 0.5) == 0.0
    assert math.isclose(machine.take(small[0], 0.5) or 0.0, 0.1)


def test_who_leaves_the_queue_makes_room_for_those_behind() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=1.0))
    machine.admit("k", 1.0, 0.0)
    first, second, third = (machine.enqueue("k", 1.0) for _ in range(3))
    assert math.isclose(machine.admit("k", 1.0, 0.0), 4.0)
    machine.leave(first)
    assert math.isclose(machine.admit("k", 1.0, 0.0), 3.0)
    assert machine.take(third, 1.0) is None
    assert machine.take(second, 1.0) == 0.0
    assert machine.take(third, 2.0) == 0.0


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=1.0))
    turn = machine.enqueue("k", 1.0)
    assert machine.admit("k", 1.0, 1.0) > 0.0
    assert machine.take(turn, 1.0) == 0.0


def test_ten_thousand_waiters_that_leave_at_once_cost_no_quadratic_time() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=1.0))
    turns = [machine.enqueue("k", 1.0) for _ in range(50_000)]
    for turn in reversed(turns):
        machine.leave(turn)
    turns = [machine.enqueue("k", 1.0) for _ in range(50_000)]
    for turn in turns:
        machine.leave(turn)
    assert machine.admit("k", 1.0, 1.0) == 0.0


def test_a_million_keys_do_not_grow_memory() -> None:
    machine = RateLimitMachine(per_second=1.0, burst=1.0)
    for number in range(MOST_KEYS):
        machine.admit(f"key-{number}", 1.0, 0.0)
    blocks = sys.getallocatedblocks()
    for number in range(MOST_KEYS, 300_000):
        machine.admit(f"key-{number}", 1.0, number * 1e-6)
    assert machine.keys == MOST_KEYS
    assert sys.getallocatedblocks() - blocks < 1_000


def test_a_key_in_use_survives_a_flood_of_others() -> None:
    """A drained bucket is not forgotten, or its owner could have it filled by a flood."""
    machine = RateLimitMachine(per_second=0.001, burst=2.0, most_keys=100)
    drained(machine, key="greedy")
    for number in range(10_000):
        assert machine.admit(f"once-{number}", 1.0, 0.0) == 0.0
    assert machine.admit("greedy", 1.0, 0.0) > 0.0


def test_keys_with_waiters_are_kept_and_newcomers_refused_when_there_are_only_such() -> None:
    machine = RateLimitMachine(per_second=1.0, burst=1.0, most_keys=3)
    turns = [drained(machine, key=key).enqueue(key, 1.0) for key in "abc"]
    assert machine.admit("d", 1.0, 0.0) == math.inf
    machine.leave(turns[1])
    assert machine.admit("d", 1.0, 0.0) == 0.0
    assert machine.keys == 3
    assert machine.take(turns[0], 1.0) == 0.0


def test_the_quota_of_a_key_nobody_knows_is_whole() -> None:
    quota = ONCE_PER_SECOND.quota("unknown", 5.0)
    assert (quota.limit, quota.remaining, quota.full_in) == (1, 1, 0.0)


def test_repr_is_for_a_person_at_night() -> None:
    machine = drained(RateLimitMachine(per_second=10.0, burst=1.0))
    machine.enqueue("k", 1.0)
    assert repr(machine) == "<RateLimit 10/s, burst 1, 1 keys, 1 waiting>"


def test_a_bucket_that_owes_more_than_it_holds_is_empty_for_its_waiters_too() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=10.0), 1_000.0)
    assert machine.admit("k", 1.0, 1_000.0) == 1.0
    turn = machine.enqueue("k", 1.0)
    assert machine.take(turn, 0.0) == 1.0  # time went back
    assert machine.take(turn, 1.0) == 0.0
    assert machine.quota("k", 1.0).full_in == 10.0


def test_roundings_are_forgiven_and_do_not_add_up() -> None:
    """Each call comes a hair too early: together they come earlier than one call may."""
    machine = drained(RateLimitMachine(per_second=1.0, burst=10.0))
    for number in range(1, 5_000):
        now = number * (1.0 - 4e-10)
        assert machine.admit("k", 1.0, now) == 0.0, number
        assert machine.admit("k", 1.0, now) > 0.9, number


def test_nor_do_those_of_callers_who_have_waited() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=10.0))
    for number in range(1, 5_000):
        now = number * (1.0 - 4e-10)
        assert machine.take(machine.enqueue("k", 1.0), now) == 0.0, number
        assert machine.admit("k", 1.0, now) > 0.9, number


def test_who_has_waited_leaves_nothing_owed() -> None:
    machine = drained(RateLimitMachine(per_second=1.0, burst=10.0))
    turn = machine.enqueue("k", 0.1)
    machine.leave(turn)
    again = machine.enqueue("k", 1.0)
    assert again.bucket.owed == 1.0
    machine.leave(again)
    assert again.bucket.owed == 0.0
    assert machine.head(again.bucket) is None
