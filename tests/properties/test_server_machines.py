"""The machines of the serving side against models of them."""

from collections.abc import Iterator
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
)

from connectplugin.handshake.machine import Agreement, Fault, Offer, Refusal, Terms, negotiate
from connectplugin.health.machine import HEALTHY, Health, HealthBook, HealthState
from connectplugin_interceptors.server.drain.machine import DrainMachine, Kind, Ticket

NOTHING = cast("Any", multiple())


class DrainModel(RuleBasedStateMachine):
    """Who is inside, as a set."""

    tickets = Bundle("tickets")

    def __init__(self) -> None:
        super().__init__()
        self.machine = DrainMachine()
        self.inside: set[Ticket] = set()

    @rule(target=tickets, kind=st.sampled_from(Kind))
    def enter(self, kind: Kind) -> object:
        ticket = self.machine.enter(kind)
        assert (ticket is None) == (self.machine.reason is not None)
        if ticket is None:
            return NOTHING
        assert (ticket.kind, ticket.cut) == (kind, None)
        self.inside.add(ticket)
        return ticket

    @rule(ticket=tickets)
    def leave(self, ticket: Ticket) -> None:
        self.inside.discard(ticket)
        assert self.machine.leave(ticket) == (not self.inside)

    @rule(reason=st.sampled_from(["a", "b"]))
    def begin(self, reason: str) -> None:
        before = self.machine.reason
        assert self.machine.begin(reason) == (before is None)
        assert self.machine.reason == (before or reason)

    @rule(kinds=st.sets(st.sampled_from(Kind)), reason=st.sampled_from(["x", "y"]))
    def cut(self, kinds: set[Kind], reason: str) -> None:
        expected = {t for t in self.inside if t.kind in kinds and t.cut is None}
        assert set(self.machine.cut(kinds, reason)) == expected
        assert all(ticket.cut == reason for ticket in expected)

    @invariant()
    def counts_agree(self) -> None:
        assert self.machine.inside == len(self.inside)


class HealthModel(RuleBasedStateMachine):
    """A dictionary of states."""

    def __init__(self) -> None:
        super().__init__()
        self.book = HealthBook()
        self.states = {"": HEALTHY}
        self.revision = self.book.revision

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def add(self, name: str) -> None:
        self.book.add(name, [f"x.{name}.Service"])
        self.states.setdefault(name, HEALTHY)

    @rule(
        name=st.sampled_from(["", "a", "b", "c"]),
        by_service=st.booleans(),
        state=st.sampled_from(HealthState),
        reason=st.sampled_from(["", "why"]),
    )
    def set(self, name: str, by_service: bool, state: HealthState, reason: str) -> None:
        if name not in self.states:
            return
        spelled = f"x.{name}.Service" if by_service and name else name
        news = self.book.set(spelled, Health(state, reason))
        assert news == (self.states[name] != Health(state, reason))
        self.states[name] = Health(state, reason)

    @rule()
    def close(self) -> None:
        was = self.book.closed
        assert self.book.close("bye") == (not was)

    @invariant()
    def reads_are_what_was_written(self) -> None:
        assert self.book.get("nobody") is None
        assert self.book.revision >= self.revision
        self.revision = self.book.revision
        for name, health in self.states.items():
            read = self.book.get(name)
            assert read is not None
            if self.book.closed:
                assert read == Health(HealthState.UNHEALTHY, "bye")
            elif name:
                assert read == health
                assert self.book.get(f"x.{name}.Service") == health
        self._overall_is_no_better_than_it_can_be()

    def _overall_is_no_better_than_it_can_be(self) -> None:
        overall = self.book.get("")
        assert overall is not None
        plugins = [health for name, health in self.states.items() if name]
        if plugins and not any(health.state.serving for health in plugins):
            assert not overall.state.serving
        if overall == HEALTHY:
            assert self.states[""] == HEALTHY
            assert all(health == HEALTHY for health in plugins)


TestDrain = DrainModel.TestCase
TestHealth = HealthModel.TestCase
for case in (TestDrain, TestHealth):
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

VERSIONS = st.lists(st.integers(-1, 6), max_size=6)
NAMES = st.lists(st.sampled_from(["kv", "cache", "log", "nobody"]), max_size=4)


def offers() -> st.SearchStrategy[Offer]:
    return st.builds(
        Offer,
        core_version=st.sampled_from([0, 1, 1, 1, 2]),
        app_version=st.integers(0, 6),
        app_versions=VERSIONS,
        cookie=st.sampled_from([("K", "v"), ("K", "v"), ("K", "w"), ("", ""), ("v", "K")]),
        requested=NAMES,
        required_capabilities=st.lists(st.sampled_from(["fast", "safe"]), max_size=2),
        metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2),
        self_id=st.text(max_size=130),
        self_version=st.text(max_size=66),
        nonce=st.just(""),
    )


def terms() -> st.SearchStrategy[Terms]:
    sets = st.dictionaries(
        st.integers(1, 5),
        st.lists(st.sampled_from(["kv", "cache", "log"]), min_size=1, unique=True),
        min_size=1,
    )
    cookie = st.sampled_from([None, ("K", "v")])
    return st.builds(
        Terms,
        core_version=st.just(1),
        plugins=sets,
        cookie=cookie,
        capabilities=st.sampled_from([[], ["fast"], ["fast", "safe"]]),
    )


@given(offer=offers(), own=terms())
@settings(max_examples=400, deadline=None)
def test_an_agreement_is_one_and_a_refusal_has_its_ground(offer: Offer, own: Terms) -> None:
    verdict = negotiate(offer, own)
    offered = set(offer.app_versions) or {offer.app_version}
    common = offered & set(own.plugins)
    if isinstance(verdict, Agreement):
        assert offer.core_version == 1
        assert own.cookie in {None, offer.cookie}
        assert verdict.app_version == max(common)
        assert set(offer.required_capabilities) <= set(own.capabilities)
        there = own.plugins[verdict.app_version]
        asked = set(offer.requested) or set(there)
        assert list(verdict.plugins) == [name for name in there if name in asked]
        return
    grounds = set(_grounds(offer, own, common))
    assert verdict.fault in grounds


def _grounds(offer: Offer, own: Terms, common: set[int]) -> Iterator[Fault]:
    if offer.core_version != 1:
        yield Fault.CORE_VERSION
    if own.cookie not in {None, offer.cookie}:
        yield Fault.COOKIE
    if not common:
        yield Fault.APP_VERSION
    if set(offer.required_capabilities) - set(own.capabilities):
        yield Fault.CAPABILITY
    names_are_plain = all(
        key and key[0].isascii() and key[0].isalpha() and key.isascii() for key in offer.metadata
    )
    if (
        len(offer.self_id) > 128
        or len(offer.self_version) > 64
        or not offer.self_id.isprintable()
        or not names_are_plain
        or any(not c.isalnum() and c not in "_.-" for key in offer.metadata for c in key)
    ):
        yield Fault.LIMIT


def test_the_cookies_value_is_in_no_refusal() -> None:
    own = Terms(1, {1: ["kv"]}, ("KEY", "swordfish"), ())
    offer = Offer(1, 1, (), ("KEY", "guess"), (), (), {}, "", "", "")
    refusal = negotiate(offer, own)
    assert isinstance(refusal, Refusal)
    assert refusal.fault.value == "MAGIC_COOKIE_MISMATCH"
    assert not refusal.fault.is_precondition
    assert "swordfish" not in repr(refusal)
    assert "guess" not in repr(refusal)
