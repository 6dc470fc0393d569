"""The calls of a plugin under test, as the workload of a run."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from connectrpc.client import ConnectClient
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import StreamType

from connectplugin import Client, with_options
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.custom import Perform
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.scenario.model import Share
from connectplugin_chaos.target.catalogue import Catalogue, Method
from connectplugin_chaos.target.messages import Build

if TYPE_CHECKING:
    from connectplugin.plugin import Plugin

_MOST_REPLY = 200
"""Characters of a reply that are taken down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A line of the workload.

    Attributes:
        name: In the history; unique.
        method: What is called.
        requests: How each message that is sent is made; one, unless it is a stream.
        weight: Its share of the mix, against the others'.
        accept: Codes that are good answers too.
        take: Messages of a stream of responses after which the caller leaves; None to read all.
        interval: Seconds between the messages of a stream of requests.
    """

    name: str
    method: Method
    requests: tuple[Build, ...]
    weight: float = 1.0
    accept: frozenset[Code] = frozenset()
    take: int | None = None
    interval: float = 0.0

    async def make(self, client: ConnectClient, planned: Planned, answer: Answer) -> None:
        """Make it.

        Raises:
            ConnectError: As the client does, except for codes that are accepted.
        """
        try:
            await self._make(client, planned, answer)
        except ConnectError as error:
            if error.code not in self.accept:
                raise
            answer.reply = error.code.value

    async def _make(self, client: ConnectClient, planned: Planned, answer: Answer) -> None:
        info = self.method.info
        match info.stream_type:
            case StreamType.UNARY:
                message = self.requests[0](planned.op, planned.key)
                reply = await client.execute_unary(request=message, method=info)
                answer.reply = repr(reply)[:_MOST_REPLY]
            case StreamType.CLIENT_STREAM:
                messages = self._messages(planned)
                reply = await client.execute_client_stream(request=messages, method=info)
                answer.reply = repr(reply)[:_MOST_REPLY]
            case StreamType.SERVER_STREAM:
                message = self.requests[0](planned.op, planned.key)
                await self._read(client.execute_server_stream(request=message, method=info), answer)
            case StreamType.BIDI_STREAM:
                messages = self._messages(planned)
                await self._read(client.execute_bidi_stream(request=messages, method=info), answer)

    async def _messages(self, planned: Planned) -> AsyncIterator[Any]:
        for number, build in enumerate(self.requests):
            if number and self.interval:
                await asyncio.sleep(self.interval)
            yield build(planned.op, planned.key)

    async def _read(self, replies: AsyncIterator[Any], answer: Answer) -> None:
        async with aclosing(cast("AsyncGenerator[Any]", replies)) as messages:
            async for _ in messages:
                answer.received.append(len(answer.received))
                if len(answer.received) == self.take:
                    return


class PluginCalls:
    """All calls of a workload, through one `connectplugin.Client`; see `CustomCalls`.

    Args:
        catalogue: Of the plugin.
        calls: The lines of the workload.
    """

    def __init__(self, catalogue: Catalogue, calls: Sequence[Call]) -> None:
        self._calls = {call.name: call for call in calls}
        self.target = catalogue.name
        self.plugins: Mapping[int, Sequence[Plugin]] = {catalogue.version: catalogue.plugins}
        self.cookie = catalogue.cookie
        self.paths = catalogue.paths
        self.mix = {name: Share(call.weight) for name, call in self._calls.items()}
        self.idempotent = frozenset(n for n, c in self._calls.items() if c.method.idempotent)
        self.changing = frozenset(n for n, c in self._calls.items() if c.method.changes)

    async def bind(self, client: Client, limit: Callable[[str], float], /) -> Perform:
        """How calls are made with a client."""
        clients = {
            name: with_options(
                client.dispense(call.method.plugin, call.method.client_class),
                timeout=limit(name),
            )
            for name, call in self._calls.items()
        }

        async def perform(planned: Planned, answer: Answer) -> None:
            answer.received.clear()
            await self._calls[planned.method].make(clients[planned.method], planned, answer)

        return perform
