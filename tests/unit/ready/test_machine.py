"""The gate of `wait_for_ready`, step by step: its pace, its places, whom it lets go."""

import pytest

from connectplugin_interceptors.ready.machine import (
    MOST_RELEASED,
    MOST_WAITING,
    SHORTEST_WAIT,
    ReadyGate,
)


def waiting_gate(calls: int, *, now: float = 0.0) -> ReadyGate:
    """A gate that has closed just now, before so many calls."""
    gate = ReadyGate()
    gate.unreachable(now)
    for _ in range(calls):
        assert gate.join()
    return gate


def let_go(gate: ReadyGate, now: float) -> int:
    """How many calls may go at this time, if all that wait ask."""
    gone = 0
    for _ in range(gate.waiting - gate.trying):
        gone += gate.turn(now) == 0.0
    return gone


def test_it_begins_open_and_tells_what_it_is() -> None:
    gate = ReadyGate()
    assert gate.open is True
    assert repr(gate) == "<ReadyGate open waiting=0 trying=0>"
    gate.unreachable(0.0)
    assert gate.open is False
    gate.join()
    assert repr(gate) == "<ReadyGate closed waiting=1 trying=0>"
    gate.reachable()
    assert gate.open is True


def test_a_gate_that_never_closed_lets_go_at_once_but_keeps_the_pace() -> None:
    gate = ReadyGate()
    assert gate.turn(0.0) == 0.0
    assert gate.turn(0.0) == pytest.approx(0.1)


def test_the_turns_come_ever_more_slowly_up_to_a_quarter_of_a_second() -> None:
    gate = waiting_gate(9, now=10.0)
    times: list[float] = []
    now = 10.0
    for _ in range(6):
        now += (wait := gate.turn(now))
        assert wait > 0.0
        assert gate.turn(now) == 0.0
        times.append(now)
    assert times == pytest.approx([10.05, 10.15, 10.35, 10.6, 10.85, 11.1])


def test_a_wait_is_never_too_short_for_a_clock() -> None:
    gate = waiting_gate(1)
    assert gate.turn(0.0499999) == SHORTEST_WAIT


def test_a_gate_that_closes_anew_begins_with_the_shortest_pace() -> None:
    gate = waiting_gate(5)
    for now in (1.0, 2.0, 3.0):
        assert gate.turn(now) == 0.0
        gate.ended()
    gate.reachable()
    gate.unreachable(4.0)
    assert gate.turn(4.0) == pytest.approx(0.05)
    # News that comes twice delays nobody.
    gate.unreachable(4.04)
    assert gate.turn(4.05) == 0.0


def test_places_are_bounded_and_given_back() -> None:
    gate = waiting_gate(MOST_WAITING)
    assert gate.join() is False
    assert gate.waiting == MOST_WAITING
    gate.leave()
    assert gate.join() is True


def test_each_success_lets_two_go() -> None:
    gate = waiting_gate(10)
    assert gate.reachable() == 2
    assert let_go(gate, 0.0) == 2
    assert gate.trying == 2
    # Two more for each, and what was not used yet is kept.
    assert gate.reachable() == 2
    assert gate.reachable() == 4
    assert let_go(gate, 0.0) == 4
    assert let_go(gate, 0.0) == 0


def test_nobody_is_let_go_who_does_not_wait() -> None:
    gate = waiting_gate(1)
    assert gate.reachable() == 1
    assert let_go(gate, 0.0) == 1
    assert gate.reachable() == 0
    assert ReadyGate().reachable() == 0


def test_no_more_are_under_way_than_a_server_takes() -> None:
    gate = waiting_gate(200)
    for _ in range(100):
        gate.reachable()
    assert let_go(gate, 0.0) == MOST_RELEASED
    assert gate.reachable() == 0
    assert let_go(gate, 0.0) == 0
    gate.ended()
    gate.leave()
    assert gate.reachable() == 1


def test_the_turns_of_the_pace_count_among_those_under_way() -> None:
    gate = waiting_gate(200)
    for number in range(MOST_RELEASED + 2):
        assert gate.turn(number + 1.0) == 0.0
    assert gate.reachable() == 0


def test_bad_news_takes_back_what_was_granted() -> None:
    gate = waiting_gate(10)
    assert gate.reachable() == 2
    gate.unreachable(1.0)
    assert let_go(gate, 1.0) == 0
    assert gate.reachable() == 2
