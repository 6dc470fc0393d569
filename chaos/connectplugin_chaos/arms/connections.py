"""How the calls of an arm reach the servers: a generated client, or plugins that are dispensed."""

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from pyqwest import Transport

from connectplugin import Client, ClientConfig, ClientStack, with_options
from connectplugin.plugin import Plugin
from connectplugin.wire import DEFAULT_COOKIE
from connectplugin_chaos._gen.chaos_target.v1.target_connect import (
    NeighbourServiceClient,
    TargetServiceClient,
)
from connectplugin_chaos.engine.plugins import neighbour_plugin, target_plugin
from connectplugin_chaos.load.calls import Answer, Clients, perform
from connectplugin_chaos.load.custom import CustomCalls, Perform
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.model import Workload
from connectplugin_interceptors.transport import make_transport

_OWN: Mapping[int, Sequence[Plugin]] = {1: [target_plugin, neighbour_plugin]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """What every connection of an arm is made of.

    Attributes:
        stack: The chain, recorder included.
        urls: Of the endpoints.
        name: Of the arm.
        recorder: Told the chain's events.
        workload: What calls look like.
        seed: Of jitter.
        connect_timeout: Seconds that a connection may take; None for the default.
        custom: The calls that the scenario brings along; None for those of the harness's service.
    """

    stack: ClientStack
    urls: Sequence[str]
    name: str
    recorder: Recorder
    workload: Workload
    seed: int
    connect_timeout: float | None = None
    custom: CustomCalls | None = None

    @asynccontextmanager
    async def transport(self) -> AsyncGenerator[Transport | None]:
        """For a client that does not use the default; closed after it."""
        if self.connect_timeout is None:
            yield None
            return
        made = make_transport(self.urls[0], connect_timeout=self.connect_timeout)
        try:
            yield made
        finally:
            await made.aclose()

    def generated(self, number: int, transport: Transport | None) -> TargetServiceClient:
        """A generated client over the chain."""
        return self.stack.client(
            TargetServiceClient,
            list(self.urls) if len(self.urls) > 1 else self.urls[0],
            name=self.name,
            transport=transport,
            rng=random.Random(self.seed + number),  # noqa: S311  # jitter
            listeners=[self.recorder.listen],
        )

    def plugin(self, number: int, handshake: float = 10.0) -> Client:
        """A client of plugins, with the same chain."""
        custom = self.custom
        return Client(
            ClientConfig(
                endpoint=list(self.urls) if len(self.urls) > 1 else self.urls[0],
                versioned_plugins=_OWN if custom is None else custom.plugins,
                magic_cookie=DEFAULT_COOKIE if custom is None else custom.cookie,
                stack=self.stack,
                name=self.name,
                rng=random.Random(self.seed + number),  # noqa: S311  # jitter
                listeners=[self.recorder.listen],
                handshake_timeout=handshake,
            )
        )


@asynccontextmanager
async def connect(way: Way) -> AsyncGenerator[Perform]:
    """The clients that a workload asks for, and one function that uses them in turn."""
    async with AsyncExitStack() as closing:
        if way.workload.through == "visit":
            yield _visits(way)
            return
        bound = way.custom is not None or way.workload.through == "plugin"
        callers: list[Perform] = []
        for number in range(way.workload.clients):
            if bound:
                client = await closing.enter_async_context(way.plugin(number))
                callers.append(await _bind(way, client))
            else:
                transport = await closing.enter_async_context(way.transport())
                generated = way.generated(number, transport)
                closing.push_async_callback(generated.close)
                callers.append(_bounded(Clients(target=generated), way.workload))

        async def one(planned: Planned, answer: Answer) -> None:
            await callers[planned.op % len(callers)](planned, answer)

        yield one


def _visits(way: Way) -> Perform:
    async def one(planned: Planned, answer: Answer) -> None:
        # A handshake is part of the operation that wants it, and has no more time than it.
        limit = way.workload.deadline_of(planned.method)
        async with way.plugin(planned.op, handshake=limit) as client:
            perform = await _bind(way, client)
            await perform(planned, answer)

    return one


async def _bind(way: Way, client: Client) -> Perform:
    if way.custom is not None:
        return await way.custom.bind(client, way.workload.deadline_of)
    return _bounded(dispensed(client), way.workload)


def dispensed(client: Client) -> Clients:
    """The generated clients of both plugins, over the client's one chain."""
    return Clients(
        target=client.dispense(target_plugin.name, TargetServiceClient),
        neighbour=client.dispense(neighbour_plugin.name, NeighbourServiceClient),
    )


def _bounded(clients: Clients, workload: Workload) -> Perform:
    """The operations with the time that each has."""

    def within(limit: float) -> Clients:
        neighbour = clients.neighbour
        return Clients(
            target=with_options(clients.target, timeout=limit),
            neighbour=None if neighbour is None else with_options(neighbour, timeout=limit),
        )

    limits = {limit: within(limit) for limit in map(workload.deadline_of, workload.mix)}

    async def one(planned: Planned, answer: Answer) -> None:
        chosen = limits[workload.deadline_of(planned.method)]
        await perform(chosen, planned, workload, answer)

    return one
