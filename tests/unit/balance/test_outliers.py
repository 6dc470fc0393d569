"""Who is an outlier: the two rules, the cap, and the case in which A50 goes blind."""

import pytest

from connectplugin_interceptors import ConfigError, OutlierEjectionPolicy
from connectplugin_interceptors.outlier_ejection.machine import Tally, ejection_time, outliers

POLICY = OutlierEjectionPolicy()
HALF = OutlierEjectionPolicy(max_ejected=0.5)


def tallies(*rates: int, calls: int = 200) -> list[Tally[int]]:
    """Success rates in percent, by position."""
    return [
        Tally(number, calls * rate // 100, calls - calls * rate // 100)
        for number, rate in enumerate(rates)
    ]


def test_who_fails_most_of_its_calls_is_one() -> None:
    assert outliers(POLICY, tallies(100, 100, 100, 100, 15), ejected=0) == [4]
    assert (
        outliers(
            OutlierEjectionPolicy(success_rate_stdevs=None),
            tallies(100, 100, 100, 100, 16),
            ejected=0,
        )
        == []
    )


def test_who_is_far_below_its_peers_is_one() -> None:
    assert outliers(POLICY, tallies(100, 100, 100, 100, 99), ejected=0) == [4]
    assert outliers(POLICY, tallies(99, 98, 100, 99, 97, 99), ejected=0) == []
    only_failures = OutlierEjectionPolicy(success_rate_stdevs=None)
    assert outliers(only_failures, tallies(100, 100, 100, 100, 50), ejected=0) == []


def test_if_all_fail_alike_nobody_is_one_by_success_rate() -> None:
    assert outliers(OutlierEjectionPolicy(failure_share=None), tallies(*[0] * 6), ejected=0) == []


def test_few_hosts_or_few_calls_say_nothing() -> None:
    assert outliers(POLICY, tallies(100, 100, 100, 0), ejected=0) == []
    assert outliers(POLICY, tallies(100, 100, 100, 100, 0, calls=49), ejected=0) == []
    assert outliers(POLICY, tallies(100, 100, 100, 100, 0, calls=50), ejected=0) == [4]


@pytest.mark.parametrize(
    ("hosts", "cap"), [(5, 1), (9, 1), (10, 1), (19, 1), (20, 2), (30, 3), (100, 10)]
)
def test_at_most_a_tenth_and_at_least_one(hosts: int, cap: int) -> None:
    dead = tallies(*[0] * (hosts // 2), *[100] * (hosts - hosts // 2))
    assert len(outliers(POLICY, dead, ejected=0)) == cap
    assert len(outliers(POLICY, dead[1:], ejected=1)) == cap - 1
    assert len(outliers(POLICY, dead[cap:], ejected=cap)) == 0


def test_the_worst_are_ejected_first() -> None:
    assert outliers(POLICY, tallies(100, 100, 10, 5, 100, 12), ejected=0) == [3]
    # Of two that are equally bad, it is the one that spoils more calls.
    two = [*tallies(100, 100, 100, 100), Tally(4, 0, 200), Tally(5, 0, 400)]
    assert outliers(POLICY, two, ejected=0) == [5]


def test_a_share_is_met_exactly_and_missed_by_one_call() -> None:
    only_failures = OutlierEjectionPolicy(success_rate_stdevs=None, failure_share=0.85)
    well = tallies(100, 100, 100, 100)
    assert outliers(only_failures, [*well, Tally(4, 30, 170)], ejected=0) == [4]
    assert outliers(only_failures, [*well, Tally(4, 31, 169)], ejected=0) == []


def test_a_hundred_calls_are_enough_to_be_held_against_the_peers() -> None:
    only_peers = OutlierEjectionPolicy(failure_share=None)
    for calls, found in ((100, [4]), (99, [])):
        assert outliers(only_peers, tallies(100, 100, 100, 100, 0, calls=calls), ejected=0) == found


def test_the_more_hosts_are_dead_the_fewer_are_ejected_no_more() -> None:
    # grpc/grpc-java#12537: mean - 1.9 stdev is negative here.
    found = outliers(HALF, tallies(100, 100, 100, 20, 0, 0), ejected=0)
    assert found[:2] == [4, 5]
    assert 0 not in found


def test_dead_hosts_do_not_hide_the_ailing_ones() -> None:
    ailing = tallies(100, 99, 100, 99, 100, 99, 100, 60, 0, 0, 0)
    assert outliers(HALF, ailing, ejected=0) == [8, 9, 10, 7]


def test_the_time_out_grows_up_to_its_cap() -> None:
    assert [ejection_time(POLICY, number) for number in (1, 2, 10, 11)] == [30, 60, 300, 300]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("interval", 0),
        ("base_ejection", -1),
        ("max_ejection", 10),
        ("max_ejected", 1.5),
        ("success_rate_hosts", 1),
        ("failure_share", 0),
        ("failure_calls", 0),
        ("success_rate_stdevs", float("nan")),
    ],
)
def test_what_cannot_work_is_refused(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"OutlierEjectionPolicy.{field}"):
        OutlierEjectionPolicy(**{field: value})  # type: ignore[arg-type]
