"""The pick: from an immutable snapshot of the endpoints, one for an attempt.

What if an answer comes late? It counts when it comes; whether it says that an endpoint is well
again depends on when its call began (`Endpoint.trial_since`). Never? It stays pending, and what
is pending makes an endpoint less likely to be picked. Cancelled? It was sent, it is pending no
longer, and nothing else is learned. Twice? Each pick is settled once, by its shell.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, TypeAlias

from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.balance.endpoint import Endpoint, EndpointState
from connectplugin_interceptors.balance.ring import HashRing

Blocked: TypeAlias = Callable[[Endpoint], float]
"""0 if an endpoint's circuit breaker admits a call now, else the seconds until it may; infinite if
only a person can change it."""

Draw: TypeAlias = Callable[[], float]
"""Random numbers in [0, 1), handed in."""

_FEW: Final = 32
"""So many endpoints are looked at one by one when the two that were drawn will not do."""

_MORE_DRAWS: Final = 6
"""So many more are drawn when both that were drawn are failing."""

_DRAWS: Final = 16
"""Of more endpoints so many are drawn before all are looked at: nearly all of them are out then."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What can be picked from; made anew on each change.

    Attributes:
        members: All that are in the set.
        usable: Those to pick from.
        others: Connected, but ejected or unhealthy: only if none of `usable` can be had.
        panic: Whether so few are well that the ejected and unhealthy ones are usable too.
    """

    members: tuple[Endpoint, ...] = ()
    usable: tuple[Endpoint, ...] = ()
    others: tuple[Endpoint, ...] = ()
    panic: bool = False

    @classmethod
    def of(cls, members: Sequence[Endpoint], panic_threshold: float) -> "Snapshot":
        """The snapshot of a set of endpoints."""
        connected = [endpoint for endpoint in members if not endpoint.connecting]
        # If none has shaken hands yet, the call itself goes ahead, and does it.
        connected = connected or list(members)
        well = [e for e in connected if e.healthy and e.ejected_until is None]
        panic = len(well) < panic_threshold * len(connected)
        if panic or not well:
            return cls(tuple(members), tuple(connected), (), panic)
        others = tuple(e for e in connected if not (e.healthy and e.ejected_until is None))
        return cls(tuple(members), tuple(well), others, panic)


@dataclass(frozen=True, slots=True)
class Nobody:
    """No endpoint can be had.

    Attributes:
        retry_after: Seconds until the first circuit breaker admits a call; None if nobody knows.
    """

    retry_after: float | None


@dataclass(frozen=True, slots=True)
class Move:
    """An endpoint has changed its state."""

    endpoint: Endpoint
    before: EndpointState
    after: EndpointState


def two_choices(  # noqa: PLR0917  # names cost time, and this is asked for each attempt
    usable: tuple[Endpoint, ...],
    policy: BalancePolicy,
    now: float,
    draw: Draw,
    tried: Sequence[Endpoint],
    blocked: Blocked | None,
) -> Endpoint | None:
    """Of two drawn at random the one with the lower load; None if none can be had."""
    count = len(usable)
    if count < 2:  # noqa: PLR2004  # two to choose from
        return first_fit(usable, tried, blocked)
    at = int(draw() * count)
    other = int(draw() * (count - 1))
    if other >= at:
        other += 1
    one, two = usable[at], usable[other]
    decay, initial = policy.decay, policy.initial_rtt
    best = one if one.load(now, decay, initial) <= two.load(now, decay, initial) else two
    if best.failing:
        best = _better(best, usable, policy, now, draw)
    if best not in tried and (blocked is None or not blocked(best)):
        return best
    fit = _some_fits(usable, draw, tried, blocked)
    if len(fit) > 2:  # noqa: PLR2004  # two to choose from
        at = int(draw() * len(fit))
        other = int(draw() * (len(fit) - 1))
        fit = [fit[at], fit[other if other < at else other + 1]]
    return min(fit, key=lambda endpoint: endpoint.load(now, decay, initial), default=None)


def _better(
    best: Endpoint, usable: tuple[Endpoint, ...], policy: BalancePolicy, now: float, draw: Draw
) -> Endpoint:
    """Both that were drawn fail: draw on. With half of them dead that is a quarter of all picks."""
    decay, initial = policy.decay, policy.initial_rtt
    least = best.load(now, decay, initial)
    for _ in range(_MORE_DRAWS):
        other = usable[int(draw() * len(usable))]
        load = other.load(now, decay, initial)
        if load < least:
            best, least = other, load
            if not best.failing:
                break
    return best


def _some_fits(
    usable: tuple[Endpoint, ...], draw: Draw, tried: Sequence[Endpoint], blocked: Blocked | None
) -> list[Endpoint]:
    """All that can be had if there are few, two of them if there are many."""
    count = len(usable)
    if count > _FEW:
        found: list[Endpoint] = []
        for _ in range(_DRAWS):
            endpoint = usable[int(draw() * count)]
            if endpoint not in found and fits(endpoint, tried, blocked):
                found.append(endpoint)
                if len(found) == 2:  # noqa: PLR2004  # two to choose from
                    return found
    return [endpoint for endpoint in usable if fits(endpoint, tried, blocked)]


def in_turn(
    usable: tuple[Endpoint, ...], turn: int, tried: Sequence[Endpoint], blocked: Blocked | None
) -> Endpoint | None:
    """The one whose turn it is, or the next that can be had."""
    count = len(usable)
    for offset in range(count):
        endpoint = usable[(turn + offset) % count]
        if fits(endpoint, tried, blocked):
            return endpoint
    return None


def by_hash(
    ring: HashRing[Endpoint],
    key: str,
    usable: frozenset[Endpoint],
    tried: Sequence[Endpoint],
    blocked: Blocked | None,
) -> Endpoint | None:
    """The first on the ring that can be had."""
    for endpoint in ring.walk(key):
        if endpoint in usable and fits(endpoint, tried, blocked):
            return endpoint
    return None


def first_fit(
    usable: Sequence[Endpoint], tried: Sequence[Endpoint], blocked: Blocked | None
) -> Endpoint | None:
    """The first that can be had."""
    for endpoint in usable:
        if fits(endpoint, tried, blocked):
            return endpoint
    return None


def fits(endpoint: Endpoint, tried: Sequence[Endpoint], blocked: Blocked | None) -> bool:
    """Whether an attempt can be sent there."""
    return endpoint not in tried and (blocked is None or not blocked(endpoint))


def shortest_wait(snapshot: Snapshot, blocked: Blocked | None) -> float | None:
    """Seconds until the first circuit breaker admits a call; None if nobody knows.

    Asked when nobody can be had, so each breaker is in the way.
    """
    if blocked is None:
        return None
    waits = [blocked(endpoint) for endpoint in (*snapshot.usable, *snapshot.others)]
    shortest = min(waits, default=inf)
    return None if shortest == inf else shortest
