"""Clients with the real chain, a network that loses nothing, a load that waits for nobody."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from connectrpc.errors import ConnectError
from pyqwest import Request, Response

from connectplugin_interceptors import ClientStack
from connectplugin_interceptors.events import AttemptEnded, Event
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest
from tests.simulation.seeds import chance


class Host(Protocol):
    """Anything like a `pyqwest.Transport`."""

    async def execute(self, request: Request) -> Response:
        """Answer a request."""
        ...


class Network:
    """Takes each request to the host that its URL names."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self._hosts = hosts

    @property
    def addresses(self) -> list[str]:
        return [f"http://{name}" for name in self._hosts]

    async def execute(self, request: Request) -> Response:
        return await self._hosts[urlsplit(request.url).netloc].execute(request)


@dataclass(frozen=True, slots=True)
class Call:
    """What a caller has seen of a call.

    Attributes:
        started: Seconds since the load began.
        took: Seconds.
        good: Whether there was an answer.
        client: The number of the client that has made it.
    """

    started: float
    took: float
    good: bool
    client: int

    @property
    def ended(self) -> float:
        return self.started + self.took


@dataclass
class History:
    """All that has happened in one run, in seconds since the load began.

    Attributes:
        calls: In the order of their ends.
        attempts: For each client when its attempts were sent.
        seed: Of the run.
    """

    seed: int
    calls: list[Call] = field(default_factory=list[Call])
    attempts: list[list[float]] = field(default_factory=list[list[float]])

    def goodput(self, since: float, until: float) -> int:
        """Calls that were answered between two moments."""
        return sum(call.good and since <= call.ended < until for call in self.calls)

    def arrivals(self, since: float, until: float) -> int:
        """Calls that were begun between two moments."""
        return sum(since <= call.started < until for call in self.calls)

    def recovery(self, since: float, until: float, *, span: float = 10.0) -> float:
        """Seconds until answers keep up with arrivals: 90 % over the `span` that begins then.

        Args:
            since: When the fault has ended.
            until: When the load has ended; infinity is returned if it is not over by then.
            span: Seconds to sum over.
        """
        at = since
        while at + span <= until:
            if self.goodput(at, at + span) >= 0.9 * self.arrivals(at, at + span):
                return at - since
            at += 0.5
        return float("inf")

    def excess(self, *, share: float, since: float = 0.0, until: float = float("inf")) -> float:
        """How far the worst ten seconds of a client pass `(1 + share) * calls + 10` attempts.

        Windows begin with each attempt: between two of them nothing gets worse.
        """
        worst = float("-inf")
        for number, sent in enumerate(self.attempts):
            moments = sorted(sent)
            began = sorted(call.started for call in self.calls if call.client == number)
            for index, start in enumerate(moments):
                end = start + 10.0
                if start < since or end > until:
                    continue
                attempts = bisect_left(moments, end) - index
                calls = bisect_left(began, end) - bisect_left(began, start)
                worst = max(worst, attempts - (1.0 + share) * calls - 10.0)
        return worst

    def percentile(self, share: float, since: float = 0.0) -> float:
        """Seconds within which this share of the calls was over."""
        times = sorted(call.took for call in self.calls if call.started >= since)
        return times[min(len(times) - 1, int(len(times) * share))]


@dataclass
class World:
    """So many clients of some hosts.

    Attributes:
        hosts: By name.
        stack: Of each client.
        seed: Of all that is left to chance.
        clients: How many.
    """

    hosts: Mapping[str, Host]
    stack: ClientStack
    seed: int
    clients: int = 1

    async def run(self, *, rate: float, seconds: float) -> History:
        """Let calls arrive by chance (Poisson), whatever became of those before.

        Args:
            rate: Calls per second, of all clients together.
            seconds: How long new calls arrive. All are over when this returns.
        """
        history = History(self.seed, attempts=[[] for _ in range(self.clients)])
        loop = asyncio.get_running_loop()
        began = loop.time()
        arrivals = chance(self.seed, "arrivals")
        async with self._clients(history, began) as clients, asyncio.TaskGroup() as group:
            at = began
            while (at := at + arrivals.expovariate(rate)) < began + seconds:
                await asyncio.sleep(at - loop.time())
                number = arrivals.randrange(len(clients))
                group.create_task(_call(clients[number], number, history, began))
        return history

    @asynccontextmanager
    async def _clients(
        self, history: History, began: float
    ) -> AsyncGenerator[list[KVServiceClient]]:
        network = Network(self.hosts)
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    self.stack.client(
                        KVServiceClient,
                        network.addresses,
                        transport=network,
                        rng=chance(self.seed, f"client {number}"),
                        listeners=[_Notes(history.attempts[number], began)],
                    )
                )
                for number in range(self.clients)
            ]


class _Notes:
    """Takes down when a client's attempts were sent."""

    def __init__(self, attempts: list[float], began: float) -> None:
        self._attempts = attempts
        self._began = began

    def __call__(self, event: Event) -> None:
        if isinstance(event, AttemptEnded):
            now = asyncio.get_running_loop().time()
            self._attempts.append(now - event.duration - self._began)


async def _call(client: KVServiceClient, number: int, history: History, began: float) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        await client.get(GetRequest(key="k"))
    except ConnectError:
        good = False
    else:
        good = True
    history.calls.append(Call(started - began, loop.time() - started, good, number))


def shares(hosts: Mapping[str, Any]) -> Counter[str]:
    """How many requests each host got."""
    return Counter({name: len(host.arrivals) for name, host in hosts.items()})
