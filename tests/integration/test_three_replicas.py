"""The whole chain over real sockets: three replicas, one killed, one frozen, one well."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from connectplugin import Client, ClientConfig, DeadlinePolicy, Outcome
from connectplugin_interceptors.events import AttemptEnded, Event
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest
from kv_plugin import kv_plugin
from tests.integration.test_serve_process import Program, running

TOTAL = 2.0
RATE = 40.0


class Load:
    """Steady calls, of which each must succeed within its deadline."""

    def __init__(self, kv: KVServiceClient) -> None:
        self._kv = kv
        self._calls: set[asyncio.Task[None]] = set()
        self.times: list[float] = []

    async def run(self, seconds: float) -> None:
        for _ in range(int(seconds * RATE)):
            call = asyncio.create_task(self._one())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            await asyncio.sleep(1.0 / RATE)

    async def until(self, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end
            await self.run(0.1)

    async def _one(self) -> None:
        began = time.monotonic()
        try:
            reply = await self._kv.get(GetRequest(key="k"))
            assert reply.value == b"k"
        finally:
            self.times.append(time.monotonic() - began)

    async def finish(self) -> None:
        await asyncio.gather(*self._calls)


async def test_idempotent_calls_succeed_and_the_frozen_one_comes_back(tmp_path: Path) -> None:
    answered: Counter[str] = Counter()
    asked: Counter[str] = Counter()

    def listen(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.client == "kv":
            asked[event.endpoint] += 1
            answered[event.endpoint] += event.outcome is Outcome.SUCCESS

    async with AsyncExitStack() as stack:
        programs: list[Program] = []
        for number in range(3):
            place = tmp_path / str(number)
            place.mkdir()
            programs.append(await stack.enter_async_context(running(place)))
        killed, frozen, well = programs
        config = ClientConfig(
            endpoint=[program.url for program in programs],
            plugins=[kv_plugin],
            deadline=DeadlinePolicy(total=TOTAL, attempt=0.3),
            listeners=[listen],
            name="kv",
        )
        client = await stack.enter_async_context(Client(config))
        load = Load(client.dispense("kv", KVServiceClient))
        await load.until(lambda: all(answered[program.url] > 3 for program in programs), 10)

        killed.send(signal.SIGKILL)
        frozen.send(signal.SIGSTOP)
        try:
            await load.run(1.0)  # time to find out
            before = asked.copy()
            await load.run(3.0)
            during = asked - before
        finally:
            frozen.send(signal.SIGCONT)
        await load.finish()
        # Both are out, but for a probe now and then.
        assert during[well.url] >= 0.9 * during.total()

        gone, back = answered[killed.url], answered[frozen.url]
        await load.until(lambda: answered[frozen.url] > back + 20, 20)
        await load.finish()
        assert answered[killed.url] == gone
        assert max(load.times) < TOTAL + 0.05
