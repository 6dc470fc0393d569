"""The bulkhead against a model: two lists, and the times at which slots came free."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
        self.most = slots

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def somebody_comes(self) -> None:
        place = self.machine.enter(self.now)
        if self.machine.closed:
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

    @rule(data=st.data())
    def somebody_leaves(self, data: st.DataObject) -> None:
        if not self.inside and not self.waiting:
            return
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
        room = len(self.inside) < self.machine.slots - 1 and not self.machine.closed
        assert self.machine.take() == room
        if room:
            self.inside.append(Place(At.INSIDE))

    @rule(data=st.data())
    def somebody_leaves_who_may_have_no_place(self, data: st.DataObject) -> None:
        if not self.inside:
            return
        place = data.draw(st.sampled_from(self.inside))
        full = len(self.inside) >= self.machine.slots
        assert self.machine.give() != full
        self.inside.remove(place)
        if full:
            following = self.machine.leave(Place(At.INSIDE), self.now)
            self.handed_over([] if following is None else [following])

    @rule(data=st.data())
    def somebody_leaves_again(self, data: st.DataObject) -> None:
        if self.gone:
            assert self.machine.leave(data.draw(st.sampled_from(self.gone)), self.now) is None

    @rule(slots=st.integers(1, 6))
    def slots_are_given_or_taken(self, slots: int) -> None:
        granted = self.machine.resize(slots, self.now)
        self.handed_over(granted)

    @rule()
    def it_closes(self) -> None:
        if self.now < 20:
            return
        assert self.machine.close() == self.waiting
        assert all(place.at is At.GONE for place in self.waiting)
        self.gone += self.waiting
        self.waiting = []

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "machine"):
            return
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
    assert machine.expected_wait() is None
    for tick in range(1, 21):
        place = inside.pop(0)
        assert place is not None
        inside.append(machine.leave(place, tick * 0.25))
    assert machine.waiting == len(waiting) - 20
    assert machine.expected_wait() == 10 * 0.25


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
