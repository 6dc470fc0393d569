"""Three times as many calls as a service can answer: how many does it still answer in time?

A queue that nobody bounds fills up until whoever is served has gone already: goodput falls to
nothing, at full load. An adaptive limit refuses early what would only wait.
"""

import asyncio
from dataclasses import replace

from pyqwest import Request, Response

from connectplugin.testing import LoopClock
from connectplugin_interceptors import ClientStack, DeadlinePolicy
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.adaptive.interceptor import AdaptiveLimit
from connectplugin_interceptors.adaptive.machine import Release
from connectplugin_interceptors.bulkhead.interceptor import Full
from tests.simulation.fast_time import simulate
from tests.simulation.seeds import chance, every_seed
from tests.simulation.server import QueueServer, overloaded
from tests.simulation.world import History, Host, World

WORKERS, SECONDS = 10, 0.05
CAPACITY = WORKERS / SECONDS
DEADLINE = DeadlinePolicy(total=1.0, attempt=1.0)
STANDARD = ClientStack(deadline=DEADLINE)
"""The circuit breaker is in it: it must not take a server that refuses two of three calls for a
broken one, or a third of the capacity is left unused by clients that stay away."""

LEARNT, END = 6.0, 12.0
"""When the limit has been learned, and when the load ends."""


class Guarded:
    """A host behind an adaptive limit, as `ServerStack` has it."""

    def __init__(self, inner: Host, policy: AdaptiveLimitPolicy) -> None:
        self._inner = inner
        self._policy = policy
        self._limit: AdaptiveLimit | None = None

    async def execute(self, request: Request) -> Response:
        if self._limit is None:
            self._limit = AdaptiveLimit(self._policy, clock=LoopClock())
        limit = self._limit
        try:
            place = limit.enter()
        except Full:
            return overloaded(self._policy.pushback)
        release = Release.IGNORE
        timeout = int(request.headers["connect-timeout-ms"]) / 1000.0
        try:
            async with asyncio.timeout(timeout):
                response = await self._inner.execute(request)
            release = Release.SUCCESS
        except TimeoutError:
            release = Release.DROPPED
            raise
        finally:
            limit.finish(place, release)
        return response


def overload(stack: ClientStack, seed: int, *, guarded: bool, clients: int = 4) -> History:
    """Three times the capacity, from the first moment on."""
    times = chance(seed, "service")
    server: Host = QueueServer(
        lambda _: SECONDS * (0.5 + 0.5 * times.expovariate(1.0)), workers=WORKERS
    )
    if guarded:
        server = Guarded(server, AdaptiveLimitPolicy(max_limit=1_000, initial_limit=200))
    world = World({"server": server}, stack, seed, clients)
    return simulate(lambda: world.run(rate=3 * CAPACITY, seconds=END))


def share_of_capacity(history: History) -> float:
    return history.goodput(LEARNT, END) / (CAPACITY * (END - LEARNT))


@every_seed(1)
def test_without_any_limit_hardly_anything_is_answered_in_time(seed: int) -> None:
    history = overload(ClientStack.bare(deadline=DEADLINE), seed, guarded=False)
    assert share_of_capacity(history) < 0.2, f"seed {seed}: {share_of_capacity(history):.0%}"


@every_seed(2)
def test_an_adaptive_limit_of_the_server_keeps_nine_tenths_of_the_capacity(seed: int) -> None:
    history = overload(STANDARD, seed, guarded=True)
    assert share_of_capacity(history) >= 0.9, f"seed {seed}: {share_of_capacity(history):.0%}"


@every_seed(2)
def test_an_adaptive_limit_of_the_client_does_too(seed: int) -> None:
    stack = replace(STANDARD, concurrency=AdaptiveLimitPolicy())
    history = overload(stack, seed, guarded=False, clients=1)
    assert share_of_capacity(history) >= 0.9, f"seed {seed}: {share_of_capacity(history):.0%}"
