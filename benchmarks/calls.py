"""Whole calls: through an application in this process, and over loopback beside `grpc.aio`."""

import importlib
from typing import Any, Final

from pyqwest import Transport

from benchmarks.measure import Arm
from benchmarks.service import REQUEST, chained, plain
from connectplugin_interceptors import ClientStack
from connectplugin_interceptors.transport import make_transport
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, GetResponse, WatchRequest

_STREAM: Final = 500
_THIRTY_SECONDS_MS: Final = 30_000


def _get(name: str, client: KVServiceClient) -> Arm:
    async def run(count: int) -> None:
        for _ in range(count):
            await client.get(REQUEST)

    return Arm(name, run)


def _watch(name: str, client: KVServiceClient) -> Arm:
    async def run(count: int) -> None:
        # One stream or several, so that what opening costs is spread over many messages.
        for begin in range(0, count, _STREAM):
            request = WatchRequest(prefix=str(min(_STREAM, count - begin)))
            async for _ in client.watch(request):
                pass

    return Arm(name, run)


def get_arms(url: str, transport: Transport) -> list[Arm]:
    """A unary call over one transport.

    The second arm has a deadline as the chain gives one, since connectrpc's own timer for it costs
    more than the chain does.
    """
    return [
        _get("no chain", plain(url, transport)),
        _get("no chain, timeout_ms", plain(url, transport, timeout_ms=_THIRTY_SECONDS_MS)),
        _get("ClientStack.bare()", chained(ClientStack.bare(), url, transport)),
        _get("ClientStack()", chained(ClientStack(), url, transport)),
    ]


def watch_arms(url: str, transport: Transport) -> list[Arm]:
    """A message of a stream of responses over one transport."""
    return [
        _watch("no chain", plain(url, transport)),
        _watch("ClientStack.bare()", chained(ClientStack.bare(), url, transport)),
        _watch("ClientStack()", chained(ClientStack(), url, transport)),
    ]


def loopback_transport(url: str) -> Transport:
    """The transport that `ClientStack.client` makes by itself."""
    return make_transport(url)


class GrpcClient:
    """The same messages over `grpc.aio`, which knows nothing of our generated code.

    Args:
        target: `host:port`.
    """

    def __init__(self, target: str) -> None:
        grpc: Any = importlib.import_module("grpc")  # it has no types
        self._channel = grpc.aio.insecure_channel(target)
        self._get: Any = self._channel.unary_unary(
            "/kv.v1.KVService/Get",
            request_serializer=GetRequest.to_binary,
            response_deserializer=GetResponse.from_binary,
        )

    def arms(self) -> list[Arm]:
        """With a deadline and without."""

        def arm(name: str, timeout: float | None) -> Arm:
            async def run(count: int) -> None:
                for _ in range(count):
                    await self._get(REQUEST, timeout=timeout)

            return Arm(name, run)

        return [arm("grpc.aio", None), arm("grpc.aio, timeout", 30.0)]

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
