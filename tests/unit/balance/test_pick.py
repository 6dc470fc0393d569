"""The pick of two, draw by draw: whom a number in [0, 1) means, and what is done with both."""

from collections.abc import Iterable, Sequence

import pytest

from connectplugin_interceptors import BalancePolicy
from connectplugin_interceptors.balance.endpoint import Address, Endpoint
from connectplugin_interceptors.balance.machine import (
    Snapshot,
    in_turn,
    shortest_wait,
    two_choices,
)

NOW = 100.0
POLICY = BalancePolicy()


def endpoints(*rtts: float) -> tuple[Endpoint, ...]:
    """Endpoints whose answers took so long just now."""
    made = tuple(Endpoint(Address(f"{at}", f"http://host-{at}")) for at in range(len(rtts)))
    for endpoint, rtt in zip(made, rtts, strict=True):
        endpoint.begin_anew(rtt, NOW)
    return made


class Drawn:
    """Random numbers that are told beforehand; fails if more are asked for."""

    def __init__(self, numbers: Iterable[float]) -> None:
        self._left = list(numbers)

    def __call__(self) -> float:
        assert self._left, "more was drawn than expected"
        return self._left.pop(0)

    def none_left(self) -> bool:
        return not self._left


def pick(
    usable: tuple[Endpoint, ...],
    *numbers: float,
    tried: Sequence[Endpoint] = (),
    blocked: Sequence[Endpoint] = (),
) -> str | None:
    draw = Drawn(numbers)
    found = two_choices(
        usable,
        POLICY,
        NOW,
        draw,
        tried,
        (lambda endpoint: 5.0 if endpoint in blocked else 0.0) if blocked else None,
    )
    assert draw.none_left(), "less was drawn than expected"
    return found.key if found else None


def place(at: int, count: int) -> float:
    """The number that means this place of so many."""
    return (at + 0.5) / count


@pytest.mark.parametrize("one", range(5))
@pytest.mark.parametrize("other", range(5))
def test_each_pair_can_be_drawn_and_the_faster_of_it_is_taken(one: int, other: int) -> None:
    if one == other:
        return  # never the same one twice: the second draw leaves the first out
    usable = endpoints(0.05, 0.04, 0.03, 0.02, 0.01)
    second = other if other < one else other - 1
    assert pick(usable, place(one, 5), place(second, 4)) == str(max(one, other))


def test_of_two_that_are_alike_the_first_that_was_drawn_is_taken() -> None:
    usable = endpoints(0.01, 0.01, 0.01)
    assert pick(usable, place(1, 3), place(1, 2)) == "1"  # the other one is 2


def test_nothing_more_is_drawn_if_two_at_most_are_left() -> None:
    usable = endpoints(0.04, 0.03, 0.02, 0.01)
    # Drawn are 3 and 2; 3 is out, and so is 2: of 0 and 1 the faster.
    assert pick(usable, place(3, 4), place(2, 3), tried=(usable[3],), blocked=(usable[2],)) == "1"


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [(0, 0, "1"), (0, 1, "2"), (1, 0, "1"), (1, 1, "2"), (2, 0, "2"), (2, 1, "2")],
)
def test_of_three_that_are_left_two_are_drawn_again(first: int, second: int, found: str) -> None:
    usable = endpoints(0.04, 0.03, 0.02, 0.01)
    drawn = (place(3, 4), place(0, 3), place(first, 3), place(second, 2))
    assert pick(usable, *drawn, tried=(usable[3],)) == found


def test_of_those_left_the_second_may_lie_before_the_first() -> None:
    usable = endpoints(0.02, 0.03, 0.04, 0.01)
    drawn = (place(3, 4), place(0, 3), place(2, 3), place(0, 2))
    assert pick(usable, *drawn, tried=(usable[3],)) == "0"


def test_of_those_left_whoever_has_no_answer_yet_counts_with_what_is_assumed() -> None:
    usable = endpoints(0.04, 0.05, 0.001)
    usable[1].forget()  # 30 ms are assumed
    assert pick(usable, place(2, 3), place(0, 2), tried=(usable[2],)) == "1"


def test_if_both_fail_others_are_drawn_until_one_does_not() -> None:
    usable = endpoints(0.01, 0.01, 0.01, 0.01)
    for endpoint in usable[:2]:
        endpoint.fail(5.0, NOW, POLICY.decay)
    drawn = (place(0, 4), place(0, 3))  # 0 and 1
    assert pick(usable, *drawn, place(1, 4), place(3, 4)) == "3"
    # One that has no answer yet is better than one that fails, too.
    usable[2].forget()
    assert pick(usable, *drawn, place(2, 4)) == "2"
    # Six more at the most; one that is no better changes nothing.
    assert pick(usable, *drawn, *[place(1, 4)] * 6) == "0"


def test_of_failing_ones_that_were_drawn_the_least_bad_is_looked_beyond() -> None:
    usable = endpoints(0.01, 0.01, 0.01)
    for endpoint, penalty in zip(usable, (5.0, 5.0, 2.0), strict=True):
        endpoint.fail(penalty, NOW, POLICY.decay)
    # 2 is better than both, but fails as well: the draws go on.
    assert pick(usable, place(0, 3), place(0, 2), *[place(2, 3)] * 6) == "2"


def test_of_up_to_32_all_are_looked_at_of_more_those_that_are_drawn() -> None:
    few = endpoints(*[0.01] * 32)
    drawn = (place(0, 32), place(0, 31))  # 0, which has been tried; 31 are left
    assert pick(few, *drawn, place(4, 31), place(8, 30), tried=(few[0],)) == "5"
    many = endpoints(*[0.02] * 20, *[0.01] * 13)
    drawn = (place(0, 33), place(0, 32))
    assert pick(many, *drawn, place(7, 33), place(21, 33), tried=(many[0], many[1])) == "21"
    # Who does not fit, or was drawn already, is drawn past.
    past = (place(1, 33), place(7, 33), place(7, 33), place(21, 33))
    assert pick(many, *drawn, *past, tried=(many[0], many[1])) == "21"


def test_in_turn_goes_on_to_the_next() -> None:
    usable = endpoints(0.01, 0.01, 0.01)
    assert in_turn(usable, 1, (), None) is usable[1]
    assert in_turn(usable, 1, (usable[1],), None) is usable[2]
    assert in_turn(usable, 2, (usable[2],), None) is usable[0]


def test_the_ejected_and_the_unhealthy_are_kept_for_when_none_else_can_be_had() -> None:
    members = endpoints(0.01, 0.01, 0.01, 0.01, 0.01)
    members[1].healthy = False
    members[3].ejected_until = 200.0
    snapshot = Snapshot.of(members, 0.5)
    assert snapshot.usable == (members[0], members[2], members[4])
    assert snapshot.others == (members[1], members[3])
    assert snapshot.panic is False


def test_nobody_knows_how_long_to_wait_where_there_is_nobody() -> None:
    assert shortest_wait(Snapshot(), lambda _: 1.0) is None
    one, two = endpoints(0.01, 0.01)
    waits = {one: 3.0, two: 2.0}
    assert shortest_wait(Snapshot(usable=(one,), others=(two,)), waits.__getitem__) == 2.0
