"""Which endpoints are outliers: gRPC's A50, without its blind spot.

A50's first rule compares success rates with `mean - 1.9 stdev`. Several dead hosts make the spread
so large that the threshold is negative, and then the more are dead the fewer are ejected
(grpc-java#12537). So the second rule, a plain share of failures, is asked first, and whom it finds
is left out of mean and deviation; and the worst are ejected first, so that the cap on ejections is
spent on them.

What if a result comes late? It counts in the interval in which it comes. Never? It does not count;
the attempt's deadline sees to it that it comes. Cancelled? It says nothing and is not counted.
Twice? Whoever counts settles each attempt once.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import floor, sqrt
from typing import Generic, TypeVar

from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Tally(Generic[K]):
    """How an endpoint's calls ended in one interval; only of those that are not ejected."""

    key: K
    succeeded: int
    failed: int

    @property
    def calls(self) -> int:
        """How many have taught something."""
        return self.succeeded + self.failed

    @property
    def success_rate(self) -> float:
        """From 0 to 1; needs calls."""
        return self.succeeded / self.calls


def outliers(
    policy: OutlierEjectionPolicy, tallies: Sequence[Tally[K]], *, ejected: int
) -> list[K]:
    """The endpoints to eject now, worst first.

    Args:
        policy: The rules.
        tallies: Of all endpoints that are not ejected.
        ejected: How many are.
    """
    room = max(1, floor(policy.max_ejected * (len(tallies) + ejected) + 1e-9)) - ejected
    if room <= 0:
        return []
    dead = _failing(policy, tallies)
    found = [*dead, *(tally for tally in _below_peers(policy, tallies, dead) if tally not in dead)]
    found.sort(key=lambda tally: (tally.success_rate, -tally.failed))
    return [tally.key for tally in found[:room]]


def ejection_time(policy: OutlierEjectionPolicy, number: int) -> float:
    """Seconds that an endpoint's n-th ejection lasts."""
    return min(policy.base_ejection * number, policy.max_ejection)


def _failing(policy: OutlierEjectionPolicy, tallies: Sequence[Tally[K]]) -> list[Tally[K]]:
    if policy.failure_share is None:
        return []
    judged = [tally for tally in tallies if tally.calls >= policy.failure_calls]
    if len(judged) < policy.failure_hosts:
        return []
    return [tally for tally in judged if tally.failed >= policy.failure_share * tally.calls - 1e-9]


def _below_peers(
    policy: OutlierEjectionPolicy, tallies: Sequence[Tally[K]], dead: Sequence[Tally[K]]
) -> list[Tally[K]]:
    if policy.success_rate_stdevs is None:
        return []
    judged = [tally for tally in tallies if tally.calls >= policy.success_rate_calls]
    if len(judged) < policy.success_rate_hosts:
        return []
    peers = [tally.success_rate for tally in judged if tally not in dead]
    if not peers:
        return []
    mean = sum(peers) / len(peers)
    deviation = sqrt(sum((rate - mean) ** 2 for rate in peers) / len(peers))
    threshold = mean - policy.success_rate_stdevs * deviation
    return [tally for tally in judged if tally.success_rate < threshold]
