"""What each method of the workload does with the generated client."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from connectplugin_chaos._gen.chaos_target.v1 import target_pb as pb
from connectplugin_chaos._gen.chaos_target.v1.target_connect import (
    NeighbourServiceClient,
    TargetServiceClient,
)
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.scenario.model import Workload


@dataclass(slots=True)
class Answer:
    """What has come back so far; a stream that breaks leaves what arrived."""

    reply: str = ""
    sent: int = 0
    received: list[int] = field(default_factory=list[int])


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """The generated clients that operations are made with; the neighbour's only where there is one.

    Attributes:
        target: Of the plugin that nearly everything is about.
        neighbour: Of the other.
    """

    target: TargetServiceClient
    neighbour: NeighbourServiceClient | None = None


async def perform(clients: Clients, planned: Planned, workload: Workload, answer: Answer) -> None:
    """Make the call; `answer` is filled in.

    Raises:
        ConnectError: As the client does.
    """
    client, op, key = clients.target, planned.op, planned.key
    answer.received.clear()
    match planned.method:
        case "read":
            answer.reply = (await client.read(pb.ReadRequest(op=op, key=key))).value
        case "write":
            await client.write(pb.WriteRequest(op=op, key=key, value=key))
        case "append":
            await client.append(pb.AppendRequest(op=op, key=key))
        case "pay":
            answer.reply = (await client.pay(pb.PayRequest(op=op, key=key))).receipt
        case "peek" if clients.neighbour is not None:
            request = pb.PeekRequest(op=op, key=key)
            answer.reply = (await clients.neighbour.peek(request)).value
        case "watch":
            answer.sent = workload.messages
            await _watch(client, planned, workload, answer)
        case "load":
            answer.sent = workload.messages
            count = (await client.load(_loads(op, workload.messages))).count
            answer.received.extend(range(count))
        case "sync":
            answer.sent = workload.messages
            async for reply in client.sync(_syncs(op, workload.messages)):
                answer.received.append(reply.number)
        case other:
            msg = f"there is no method {other!r}"
            raise ValueError(msg)


async def _watch(
    client: TargetServiceClient, planned: Planned, workload: Workload, answer: Answer
) -> None:
    request = pb.WatchRequest(
        op=planned.op,
        count=workload.messages,
        interval_seconds=workload.interval,
        padding=workload.padding,
    )
    async for message in client.watch(request):
        answer.received.append(message.number)
        if planned.pause:
            await asyncio.sleep(planned.pause)


async def _loads(op: int, count: int) -> AsyncIterator[pb.LoadRequest]:
    for number in range(count):
        yield pb.LoadRequest(op=op, number=number)


async def _syncs(op: int, count: int) -> AsyncIterator[pb.SyncRequest]:
    for number in range(count):
        yield pb.SyncRequest(op=op, number=number)
