"""The ring: equal keys stay, shares are fair, a change moves few."""

from collections import Counter
from dataclasses import dataclass

import pytest

from connectplugin_interceptors.balance.ring import HashRing


@dataclass(frozen=True)
class Host:
    key: str


def hosts(count: int) -> list[Host]:
    return [Host(f"http://host-{number}") for number in range(count)]


KEYS = [f"tenant-{number}" for number in range(4_000)]


def homes(ring: HashRing[Host]) -> dict[str, str]:
    return {key: next(ring.walk(key)).key for key in KEYS}


def test_an_empty_ring_leads_nowhere() -> None:
    assert list(HashRing[Host]([]).walk("a")) == []


def test_a_walk_meets_each_host_once() -> None:
    walked = [host.key for host in HashRing(hosts(7)).walk("a")]
    assert sorted(walked) == sorted(host.key for host in hosts(7))


def test_the_order_in_which_hosts_are_given_changes_nothing() -> None:
    assert homes(HashRing(hosts(5))) == homes(HashRing(hosts(5)[::-1]))


@pytest.mark.parametrize("count", [2, 5, 20])
def test_each_host_gets_its_share(count: int) -> None:
    counts = Counter(homes(HashRing(hosts(count))).values())
    fair = len(KEYS) / count
    assert len(counts) == count
    assert 0.6 * fair < min(counts.values()) < max(counts.values()) < 1.5 * fair


def test_a_host_that_leaves_takes_only_its_own_keys_along() -> None:
    before = homes(HashRing(hosts(6)))
    after = homes(HashRing(hosts(5)))
    moved = {key for key in KEYS if before[key] != after[key]}
    assert moved == {key for key in KEYS if before[key] == "http://host-5"}


def test_the_next_on_the_walk_is_where_the_key_goes_when_the_first_is_gone() -> None:
    full, without = HashRing(hosts(6)), HashRing(hosts(5))
    for key in KEYS[:200]:
        first, second, *_ = full.walk(key)
        if first.key == "http://host-5":
            assert next(without.walk(key)).key == second.key


def test_a_large_ring_has_fewer_points_for_each() -> None:
    counts = Counter(homes(HashRing(hosts(1_000))).values())
    assert len(counts) > 900
