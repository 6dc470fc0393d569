"""cases.md: a permit lost, or granted twice, in the hand-over.

One slot, a queue of eight, and 10,000 seeded interleavings of release, cancel, time-out, newcomer
and close, many of them in the same tick of the loop.
"""

import asyncio
import sys
from dataclasses import dataclass, field
from random import Random

import pytest

from connectplugin.testing import VirtualTime
from connectplugin_interceptors.bulkhead.interceptor import Bulkhead, Full

STORMS = 100
ACTIONS = 100
QUEUE = 8


@dataclass
class Storm:
    """Callers of one bulkhead, and what an onlooker holds against it."""

    rng: Random
    bulkhead: Bulkhead = field(default_factory=lambda: Bulkhead(slots=1, queue=QUEUE))
    arrived: int = 0
    inside: list[int] = field(default_factory=list[int])
    entered: list[int] = field(default_factory=list[int])
    go: dict[int, asyncio.Event] = field(default_factory=dict[int, asyncio.Event])
    tasks: dict[int, asyncio.Task[str]] = field(default_factory=dict[int, asyncio.Task[str]])

    def newcomer(self) -> None:
        number = self.arrived
        self.arrived += 1
        self.go[number] = asyncio.Event()
        patience = self.rng.choice([None, None, 0.0, 1.0, 1.0, 2.0])
        self.tasks[number] = asyncio.create_task(self._call(number, patience))

    async def _call(self, number: int, patience: float | None) -> str:
        try:
            place = await self.bulkhead.acquire(patience)
        except Full as full:
            return full.reason
        try:
            self.inside.append(number)
            assert len(self.inside) == 1, f"two inside: {self.inside}"
            self.entered.append(number)
            await self.go[number].wait()
            return "done"
        finally:
            self.inside.remove(number)
            self.bulkhead.release(place)

    def release(self) -> None:
        for number in self.inside:
            self.go[number].set()

    def cancel_head(self) -> None:
        """Cancel the one that has waited longest, or the one inside."""
        alive = [task for task in self.tasks.values() if not task.done()]
        if alive:
            self.rng.choice([alive[0], alive[min(1, len(alive) - 1)], alive[-1]]).cancel()

    def leave_all(self) -> None:
        for event in self.go.values():
            event.set()


def tick(storm: Storm) -> None:
    """A handful of things in one and the same tick."""
    actions = [storm.newcomer, storm.release, storm.cancel_head]
    for _ in range(storm.rng.randint(1, 4)):
        storm.rng.choice(actions)()


@pytest.mark.parametrize("seed", range(STORMS))
async def test_the_slot_is_never_lost_nor_held_twice(seed: int, virtual_time: VirtualTime) -> None:
    await weather(seed, virtual_time)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
@pytest.mark.parametrize("seed", range(20))
async def test_nor_where_tasks_start_at_once(seed: int, virtual_time: VirtualTime) -> None:
    if sys.version_info >= (3, 12):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    await weather(seed, virtual_time)


async def weather(seed: int, virtual_time: VirtualTime) -> None:
    """One storm, from its first newcomer to the last that leaves."""
    storm = Storm(Random(seed))  # noqa: S311  # an order of events
    for _ in range(ACTIONS):
        tick(storm)
        match storm.rng.randrange(4):
            case 0:
                await asyncio.sleep(0)
            case 1:
                # Lands on the very instant at which patience of 1 or 2 s ends.
                await virtual_time.sleep(1.0)
            case 2:
                for _ in range(6):
                    await asyncio.sleep(0)
                waiting = storm.bulkhead.waiting
                assert storm.inside or not waiting, f"{waiting} wait, and nobody is inside"
            case _:
                pass
    if seed % 4 == 0:
        storm.bulkhead.close()
    storm.leave_all()
    results = await asyncio.gather(*storm.tasks.values(), return_exceptions=True)
    assert all(isinstance(r, str | asyncio.CancelledError) for r in results), results
    assert (storm.bulkhead.in_flight, storm.bulkhead.waiting) == (0, 0)
    assert storm.entered == sorted(storm.entered), "somebody was overtaken"
    if seed % 4:
        place = await storm.bulkhead.acquire(0.0)
        storm.bulkhead.release(place)
        storm.bulkhead.release(place)
        assert storm.bulkhead.in_flight == 0
    else:
        with pytest.raises(Full, match="closed"):
            await storm.bulkhead.acquire(None)


async def test_granted_in_the_tick_of_its_cancellation_the_slot_goes_on() -> None:
    bulkhead = Bulkhead(slots=1, queue=2)
    held = await bulkhead.acquire(None)
    first = asyncio.create_task(bulkhead.acquire(None))
    second = asyncio.create_task(bulkhead.acquire(None))
    await asyncio.sleep(0)
    bulkhead.release(held)
    first.cancel()
    place = await asyncio.wait_for(second, 1)
    assert place.inside
    assert first.cancelled()
    bulkhead.release(place)
    assert bulkhead.in_flight == 0


async def test_a_newcomer_does_not_slip_in_between_release_and_wake_up() -> None:
    bulkhead = Bulkhead(slots=1, queue=1)
    held = await bulkhead.acquire(None)
    waiter = asyncio.create_task(bulkhead.acquire(None))
    await asyncio.sleep(0)
    bulkhead.release(held)
    with pytest.raises(Full, match="wait_over"):
        await bulkhead.acquire(0.0)
    assert (await waiter).inside


async def test_granted_in_the_tick_of_its_time_out_it_is_granted(virtual_time: VirtualTime) -> None:
    bulkhead = Bulkhead(slots=1, queue=1)
    held = await bulkhead.acquire(None)
    asyncio.get_running_loop().call_at(1.0, bulkhead.release, held)
    waiter = asyncio.create_task(bulkhead.acquire(1.0))
    done = (await asyncio.gather(waiter, return_exceptions=True))[0]
    assert virtual_time.now() == pytest.approx(1.0)
    if isinstance(done, Full):
        assert bulkhead.in_flight == 0
    else:
        assert bulkhead.in_flight == 1


async def test_close_sends_the_waiting_away_and_leaves_who_is_inside() -> None:
    bulkhead = Bulkhead(slots=1, queue=2)
    held = await bulkhead.acquire(None)
    waiters = [asyncio.create_task(bulkhead.acquire(None)) for _ in range(2)]
    await asyncio.sleep(0)
    bulkhead.close()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [getattr(result, "reason", None) for result in results] == ["closed", "closed"]
    assert bulkhead.in_flight == 1
    bulkhead.release(held)
    assert bulkhead.in_flight == 0
