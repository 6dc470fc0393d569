"""The adaptive limit's shell: a bulkhead whose number of slots follows what its calls tell."""

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.machine import AdaptiveLimitMachine, Release
from connectplugin_interceptors.bulkhead.interceptor import Bulkhead, Full
from connectplugin_interceptors.bulkhead.machine import Place
from connectplugin_interceptors.clock import Clock


class AdaptiveLimit(Bulkhead):
    """Slots as a `Bulkhead` has them, as many as the latency allows.

    A stream takes one of the `max_limit` slots and none of the limit that is learned: else streams
    that were begun in better times would shut out the short calls, and with them the only news
    that could raise the limit again.
    """

    def __init__(self, policy: AdaptiveLimitPolicy, *, clock: Clock) -> None:
        self._adaptive = AdaptiveLimitMachine(policy, clock.now())
        super().__init__(slots=self._adaptive.limit, queue=policy.max_queue, clock=clock)
        self._most = policy.max_limit
        self._streams: set[Place] = set()

    @property
    def limit(self) -> int:
        """Short calls that may be in flight."""
        return self._adaptive.limit

    def enter(self) -> Place:
        """A place inside, or one to wait at."""
        try:
            place = super().enter()
        except Full:
            self._adaptive.full()
            raise
        if not place.inside:
            self._adaptive.full()
        return place

    def keep(self, place: Place) -> None:
        """A place inside is a stream's."""
        self._streams.add(place)
        self._fit()

    def finish(self, place: Place, release: Release) -> None:
        """Give a place back, and say how its call has ended; a stream's says nothing."""
        if place in self._streams:
            self._streams.remove(place)
            self.release(place)
            self._fit()
            return
        now = self._clock.now()
        changed = place.inside and self._adaptive.sample(
            now=now,
            duration=now - place.since,
            release=release,
            in_flight=self.in_flight - len(self._streams),
        )
        self.release(place)
        if changed:
            self._fit()

    def _fit(self) -> None:
        self.resize(min(self._most, self._adaptive.limit + len(self._streams)))

    def __repr__(self) -> str:
        return f"<{self._adaptive!r}, {self.in_flight} inside, {self.waiting} waiting>"
