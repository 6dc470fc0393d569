"""A policy that is off for all methods costs nothing: a client is made without its link."""

from typing import Any

import pytest

from connectplugin_interceptors import (
    ClientStack,
    Fault,
    FaultPolicy,
    RateLimitPolicy,
    ThrottlePolicy,
)
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.generated import needed_links
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.settings import POLICY_NAMES


def optional(links: list[Any]) -> set[str | None]:
    """The policies for which there are links that some chains can do without."""
    return {link.only_for for link in links if isinstance(link, Link) and link.only_for}


def test_by_default_none_of_them_is_there() -> None:
    chain = ClientStack().interceptors()
    assert optional(chain) == {"fallback", "fault", "hedge", "rate_limit", "throttle"}
    assert optional(chain) <= set(POLICY_NAMES)
    assert optional(needed_links(chain, {})) == set()


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("hedge", HedgePolicy()),
        ("throttle", ThrottlePolicy()),
        ("rate_limit", RateLimitPolicy(per_second=1)),
        ("fault", FaultPolicy(faults=[Fault(latency=1.0)])),
    ],
)
def test_one_method_or_option_that_has_a_policy_brings_its_link(name: str, policy: Any) -> None:
    everywhere = ClientStack(**{name: policy}).interceptors()
    somewhere = ClientStack().for_method("kv.v1.KVService/Get", **{name: policy}).interceptors()
    assert optional(needed_links(everywhere, {})) == {name}
    assert optional(needed_links(somewhere, {})) == {name}
    assert optional(needed_links(ClientStack().interceptors(), {name: policy})) == {name}
    assert optional(needed_links(ClientStack().interceptors(), {name: None})) == set()


def test_the_others_stay_in_their_order() -> None:
    chain = ClientStack().interceptors()
    kept = needed_links(chain, {})
    assert kept == [link for link in chain if link in kept]
    assert len(kept) == len(chain) - len(optional(chain))


def test_links_of_no_stack_are_all_kept() -> None:
    links = [object(), object()]
    assert needed_links(links, {}) == links
