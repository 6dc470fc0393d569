"""The whole chain over real sockets: three replicas, one killed, one frozen, one well.

Several short runs, since one run on a busy machine tells little: in each, every idempotent call
succeeds, the two that are broken are taken out, and the frozen one returns. How far calls pass
their deadlines is judged by the median of the runs' worst calls; a moment in which this process's
own loop did not turn is not counted, as the test's calls stood still like everything else.
"""

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from statistics import median

import pytest
from connectrpc.errors import ConnectError

from connectplugin import (
    CircuitBreakerPolicy,
    Client,
    ClientConfig,
    DeadlineExceededError,
    DeadlinePolicy,
    Outcome,
    with_options,
)
from connectplugin_interceptors.events import AttemptEnded, Event
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest
from kv_plugin import kv_plugin
from tests.integration.test_serve_process import Program, running

BREAKERS = [CircuitBreakerPolicy(), *[CircuitBreakerPolicy(timeout=0.2, max_timeout=0.8)] * 2]
"""A run for each: the default, and some that are over sooner."""
TOTAL, ATTEMPT = 2.0, 0.3
IMPATIENT = 0.15
"""Seconds of calls that are not tried again: sent to the frozen one, they run out."""
RATE = 60.0
TOLERANCE = 0.05


class Lag:
    """When the loop did not turn, and for how long."""

    def __init__(self) -> None:
        self._stood: list[tuple[float, float]] = []

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.005)
            late = time.monotonic() - before - 0.005
            if late > 0.005:
                self._stood.append((before, late))

    def between(self, begin: float, end: float) -> float:
        """The longest standstill that touches this time."""
        touching = [late for at, late in self._stood if at + late >= begin and at <= end]
        return max(touching, default=0.0)


class Load:
    """Steady calls: two of three must succeed, the third has little time and one attempt."""

    def __init__(self, kv: KVServiceClient, lag: Lag) -> None:
        self._patient = kv
        self._impatient = with_options(kv, timeout=IMPATIENT, retry_policy=None)
        self._lag = lag
        self._calls: set[asyncio.Task[None]] = set()
        self.failures: list[ConnectError] = []
        self.ran_out = 0
        self.overrun = -TOTAL

    async def run(self, seconds: float) -> None:
        for number in range(int(seconds * RATE)):
            call = asyncio.create_task(self._one(patient=number % 3 > 0))
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            await asyncio.sleep(1.0 / RATE)

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            await self.run(0.1)

    async def _one(self, *, patient: bool) -> None:
        kv, limit = (self._patient, TOTAL) if patient else (self._impatient, IMPATIENT)
        began = time.monotonic()
        try:
            reply = await kv.get(GetRequest(key="k"))
            assert reply.value == b"k"
        except ConnectError as error:
            self.ran_out += isinstance(error, DeadlineExceededError)
            if patient:
                self.failures.append(error)
        ended = time.monotonic()
        stood = self._lag.between(began, ended)
        self.overrun = max(self.overrun, ended - began - stood - limit)

    async def finish(self) -> None:
        await asyncio.gather(*self._calls)


@contextlib.asynccontextmanager
async def watched() -> AsyncGenerator[Lag]:
    lag = Lag()
    task = asyncio.create_task(lag.watch())
    try:
        yield lag
    finally:
        task.cancel()


async def worst_overrun(
    killed: Program, frozen: Program, well: Program, breaker: CircuitBreakerPolicy
) -> float:
    """One run; seconds by which its worst call has passed its deadline."""
    answered: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def listen(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.client == "kv":
            asked[event.endpoint] += 1
            answered[event.endpoint] += event.outcome is Outcome.SUCCESS

    config = ClientConfig(
        endpoint=[killed.url, frozen.url, well.url],
        plugins=[kv_plugin],
        deadline=DeadlinePolicy(total=TOTAL, attempt=ATTEMPT),
        circuit_breaker=breaker,
        listeners=[listen],
        name="kv",
    )
    async with watched() as lag, Client(config) as client:
        load = Load(client.dispense("kv", KVServiceClient), lag)
        everyone = (killed.url, frozen.url, well.url)
        await load.until(lambda: all(answered[url] > 3 for url in everyone), 10)

        killed.send(signal.SIGKILL)
        frozen.send(signal.SIGSTOP)
        try:
            await load.run(0.7)  # time to find out
            before = asked.copy()
            await load.run(1.0)
            during = asked - before
        finally:
            frozen.send(signal.SIGCONT)
        # Both are out, but for a probe now and then.
        assert during[well.url] >= 0.9 * during.total()

        gone, back = answered[killed.url], answered[frozen.url]
        await load.until(lambda: answered[frozen.url] > back + 10, 20)
        await load.finish()
        assert answered[killed.url] == gone
        assert load.failures == []
        assert load.ran_out > 0, "no call has met its deadline: nothing was measured"
        return load.overrun


@pytest.mark.timeout(180)  # 15 s, but it starts six processes, and the machine may be busy
async def test_idempotent_calls_succeed_and_the_frozen_one_comes_back(tmp_path: Path) -> None:
    overruns: list[float] = []
    places = [tmp_path / name for name in ("frozen", "well", "killed")]
    for place in places:
        place.mkdir()
    async with running(places[0]) as frozen, running(places[1]) as well:
        for breaker in BREAKERS:
            async with running(places[2]) as killed:
                overruns.append(await worst_overrun(killed, frozen, well, breaker))
    assert median(overruns) <= TOLERANCE, overruns
