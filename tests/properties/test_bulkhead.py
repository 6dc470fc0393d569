"""The bulkhead against a model: two lists, and the times at which slots came free."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from connectplugin_interceptors.bulkhead.machine import At, BulkheadMachine, Place


class Model(RuleBasedStateMachine):
    """Never more inside than slots (but for slots taken away), nobody waits beside a free one."""

    @initialize(slots=st.integers(1, 4), queue=st.integers(0, 4))
    def begin(self, slots: int, queue: int) -> None:
        self.machine = BulkheadMachine(slots, queue)
        self.queue = queue
        self.now = 0.0
        self.inside: list[Place] = []
        self.waiting: list[Place] = []
        self.gone: list[Place] = []
        self.closed = False

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, 4))
    def some_come(self, count: int) -> None:
        for _ in range(count):
            self.one_comes()

    def one_comes(self) -> None:
        place = self.machine.enter(self.now)
        if self.closed:
            assert place is None
        elif len(self.inside) < self.machine.slots:
            assert place is not None
            assert place.inside
            assert place.since == self.now
            self.inside.append(place)
        elif len(self.waiting) < self.queue:
            assert place is not None
            assert place.at is At.WAITING
            self.waiting.append(place)
        else:
            assert place is None

    @precondition(lambda self: self.inside or self.waiting)
    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from([*self.inside, *self.waiting]))
        was_inside = place in self.inside
        (self.inside if was_inside else self.waiting).remove(place)
        self.gone.append(place)
        following = self.machine.leave(place, self.now)
        self.handed_over([] if following is None else [following])

    def handed_over(self, granted: list[Place]) -> None:
        free = max(0, self.machine.slots - len(self.inside))
        expected, self.waiting = self.waiting[:free], self.waiting[free:]
        assert granted == expected, "not first come first served, or a slot lies idle"
        assert all(place.inside and place.since == self.now for place in granted)
        self.inside += granted

    @rule()
    def somebody_comes_who_needs_no_place(self) -> None:
        room = len(self.inside) < self.machine.slots - 1 and not self.closed
        assert self.machine.take() == room
        if room:
            self.inside.append(Place(At.INSIDE))

    @precondition(lambda self: self.inside)
    @rule(data=st.data())
    def somebody_leaves_who_may_have_no_place(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(self.inside))
        full = len(self.inside) >= self.machine.slots
        assert self.machine.give() != full
        self.inside.remove(place)
        if full:
            following = self.machine.leave(Place(At.INSIDE), self.now)
            self.handed_over([] if following is None else [following])

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def somebody_leaves_again(self, data: st.DataObject) -> None:
        assert self.machine.leave(data.draw(st.sampled_from(self.gone)), self.now) is None

    @rule(slots=st.integers(1, 6))
    def slots_are_given_or_taken(self, slots: int) -> None:
        granted = self.machine.resize(slots, self.now)
        self.handed_over(granted)

    @precondition(lambda self: self.now > 40)  # the end: nothing much happens afterwards
    @rule()
    def it_closes(self) -> None:
        self.closed = True
        assert self.machine.close() == self.waiting
        assert all(place.at is At.GONE for place in self.waiting)
        self.gone += self.waiting
        self.waiting = []

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "machine"):
            return
        assert self.machine.closed is self.closed
        assert self.machine.inside == len(self.inside)
        assert self.machine.waiting == len(self.waiting)
        assert not self.waiting or len(self.inside) >= self.machine.slots
        expected = self.machine.expected_wait()
        assert expected is None or expected >= 0.0


TestBulkhead = Model.TestCase
TestBulkhead.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_the_expected_wait_is_what_the_queue_has_taken_lately() -> None:
    machine = BulkheadMachine(2, 100)
    inside = [machine.enter(0.0), machine.enter(0.0)]
    waiting = [machine.enter(0.0) for _ in range(30)]
    for tick in range(1, 21):
        # Nine say too little.
        assert (machine.expected_wait() is None) == (tick <= 10)
        place = inside.pop(0)
        assert place is not None
        inside.append(machine.leave(place, tick * 0.25))
    assert machine.waiting == len(waiting) - 20
    assert machine.expected_wait() == 10 * 0.25


def test_the_expected_wait_is_a_mean_at_first_and_follows_slowly_later() -> None:
    machine = BulkheadMachine(1, 100)
    place = machine.enter(0.0)
    for _ in range(50):
        machine.enter(0.0)
    now = 0.0
    # Ten gaps of 1 to 10 seconds: 5.5 on average, for each of the forty that still wait.
    for gap in range(1, 11):
        now += gap
        assert place is not None
        place = machine.leave(place, now)
    assert machine.expected_wait() == pytest.approx(40 * 5.5)
    # One more of 16.5: a tenth of the difference.
    assert place is not None
    machine.leave(place, now + 16.5)
    assert machine.expected_wait() == pytest.approx(39 * 6.6)


def test_a_stream_that_keeps_its_slot_for_a_day_says_nothing_about_the_others() -> None:
    machine = BulkheadMachine(2, 100)
    day = machine.enter(0.0)
    place = machine.enter(86_400.0)
    for tick in range(1, 21):
        machine.enter(86_400.0 + tick)
        assert place is not None
        place = machine.leave(place, 86_400.0 + tick)
    machine.enter(86_420.0)
    expected = machine.expected_wait()
    assert expected is not None
    assert expected <= 1.5
    assert day is not None
