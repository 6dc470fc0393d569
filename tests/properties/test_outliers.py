"""Who is ejected, whatever the endpoints' calls came to."""

from math import sqrt

from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors import OutlierEjectionPolicy
from connectplugin_interceptors.outlier_ejection.machine import Tally, outliers

policies = st.builds(
    OutlierEjectionPolicy,
    max_ejected=st.sampled_from([0.1, 0.5, 1.0]),
    success_rate_stdevs=st.sampled_from([None, 1.0, 1.9]),
    failure_share=st.sampled_from([None, 0.5, 0.85, 1.0]),
)
counts = st.tuples(st.integers(0, 300), st.integers(0, 300))


@st.composite
def pools(draw: st.DrawFn) -> list[Tally[int]]:
    return [
        Tally(number, succeeded, failed)
        for number, (succeeded, failed) in enumerate(draw(st.lists(counts, max_size=25)))
    ]


@given(policies, pools(), st.integers(0, 5))
def test_each_has_a_ground_the_worst_come_first_and_there_is_room_for_them(
    policy: OutlierEjectionPolicy, pool: list[Tally[int]], ejected: int
) -> None:
    found = outliers(policy, pool, ejected=ejected)
    assert len(set(found)) == len(found)
    assert len(found) + ejected <= max(
        1, ejected, policy.max_ejected * (len(pool) + ejected) + 1e-6
    )
    dead, ailing = grounds(policy, pool)
    assert set(found) <= dead | ailing
    rates = [pool[key].success_rate for key in found]
    assert rates == sorted(rates)
    left_out = (dead | ailing) - set(found)
    if left_out and found:
        assert min(pool[key].success_rate for key in left_out) >= rates[-1]
    if (dead or ailing) and ejected == 0:
        assert found, "there is always room for one"


def grounds(policy: OutlierEjectionPolicy, pool: list[Tally[int]]) -> tuple[set[int], set[int]]:
    """Those whom either rule names, as gRPC's A50 has them."""
    dead, ailing = set[int](), set[int]()
    judged = [one for one in pool if one.calls >= policy.failure_calls]
    if policy.failure_share is not None and len(judged) >= policy.failure_hosts:
        dead = {one.key for one in judged if one.failed / one.calls >= policy.failure_share - 1e-9}
    judged = [one for one in pool if one.calls >= policy.success_rate_calls]
    rates = [one.success_rate for one in judged if one.key not in dead]
    stdevs = policy.success_rate_stdevs
    if stdevs is not None and len(judged) >= policy.success_rate_hosts and rates:
        mean = sum(rates) / len(rates)
        deviation = sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
        ailing = {one.key for one in judged if one.success_rate < mean - stdevs * deviation}
    return dead, ailing
