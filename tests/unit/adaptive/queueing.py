"""A server with workers and an unbounded queue, event by event, in front of it a limit.

What the simulation of the whole chain shows slowly, this shows for the machine alone in a second.
"""

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.machine import AdaptiveLimitMachine, Release


@dataclass(eq=False)
class Job:
    """One call."""

    at: float
    running: bool = False
    over: bool = False


@dataclass
class Server:
    """Workers with exponential service times; clients give up after `timeout`.

    Attributes:
        limited: Whether the limit is asked.
        drops: Whether the server drops work that has expired, and cancels its handlers.
        good: Answers in time, by second.
        refused: Refusals by the limit, by second.
        limits: The limit at each answer.
    """

    seed: int
    rate: Callable[[float], float]
    service: Callable[[float], float] = lambda _: 0.05
    workers: int = 5
    timeout: float = 1.0
    limited: bool = True
    drops: bool = True
    policy: AdaptiveLimitPolicy = field(default_factory=AdaptiveLimitPolicy)
    good: dict[int, int] = field(default_factory=dict[int, int])
    refused: dict[int, int] = field(default_factory=dict[int, int])
    durations: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    def run(self, seconds: float) -> "Server":
        """Let so much time pass from zero."""
        self.rng = Random(self.seed)  # noqa: S311  # arrivals
        self.limit = AdaptiveLimitMachine(self.policy, 0.0)
        self.inside = self.busy = self.serial = 0
        self.queue: deque[Job] = deque()
        self.events: list[tuple[float, int, Callable[[float, Any], None], Job | None]] = []
        self._later(0.0, self._arrive)
        while self.events and self.events[0][0] < seconds:
            at, _, act, job = heapq.heappop(self.events)
            act(at, job)
        return self

    def goodput(self, first: int, last: int) -> float:
        """Answers in time per second."""
        return sum(self.good.get(second, 0) for second in range(first, last)) / (last - first)

    def _later(self, at: float, act: Callable[[float, Any], None], job: Job | None = None) -> None:
        self.serial += 1
        heapq.heappush(self.events, (at, self.serial, act, job))

    def _arrive(self, now: float, _: Job | None) -> None:
        self._later(now + self.rng.expovariate(self.rate(now)), self._arrive)
        if self.limited and self.inside >= self.limit.limit:
            self.limit.full()
            self.refused[int(now)] = self.refused.get(int(now), 0) + 1
            return
        self.inside += 1
        job = Job(now)
        self.queue.append(job)
        self._later(now + self.timeout, self._give_up, job)
        self._work(now)

    def _work(self, now: float) -> None:
        while self.busy < self.workers and self.queue:
            job = self.queue.popleft()
            if job.over and self.drops:
                continue  # the server drops what has expired
            job.running = True
            self.busy += 1
            self._later(now + self.rng.expovariate(1 / self.service(now)), self._done, job)

    def _give_up(self, now: float, job: Job) -> None:
        if not job.over:
            job.over = True
            self._left(now, job, Release.DROPPED)
            if job.running and self.drops:
                job.running = False  # its handler is cancelled
                self.busy -= 1
                self._work(now)

    def _done(self, now: float, job: Job) -> None:
        if not job.running:
            return
        self.busy -= 1
        if not job.over:
            job.over = True
            self.good[int(now)] = self.good.get(int(now), 0) + 1
            self.durations.append((now, now - job.at))
            self._left(now, job, Release.SUCCESS)
        self._work(now)

    def _left(self, now: float, job: Job, release: Release) -> None:
        self.limit.sample(now=now, duration=now - job.at, release=release, in_flight=self.inside)
        self.inside -= 1
