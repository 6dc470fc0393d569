"""The four shapes of a call, driven alike, so that what holds for all is written once."""

import enum
from collections.abc import AsyncIterator, Iterable
from typing import Any

from connectplugin_interceptors.shapes import closing
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, LoadRequest, SyncRequest, WatchRequest


class Shape(enum.Enum):
    """One of the four; each value is the method of KVService that has it."""

    UNARY = "Get"
    CLIENT_STREAM = "Load"
    SERVER_STREAM = "Watch"
    BIDI_STREAM = "Sync"

    @property
    def path(self) -> str:
        return f"kv.v1.KVService/{self.value}"

    @property
    def streams_responses(self) -> bool:
        return self in {Shape.SERVER_STREAM, Shape.BIDI_STREAM}

    @property
    def streams_requests(self) -> bool:
        return self in {Shape.CLIENT_STREAM, Shape.BIDI_STREAM}

    def responses(
        self, client: KVServiceClient, requests: Any = ("a",), **options: Any
    ) -> AsyncIterator[bytes]:
        """Make the call; a single response comes as a stream of one.

        Args:
            client: The client.
            requests: Keys, or an async iterator of keys; unary calls send the first.
            options: What the generated method takes.
        """
        if self.streams_responses:
            return self._stream(client, requests, options)
        return self._single(client, requests, options)

    async def run(
        self, client: KVServiceClient, requests: Any = ("a",), **options: Any
    ) -> list[bytes]:
        """Make the call to its end."""
        collected: list[bytes] = []
        async with closing(self.responses(client, requests, **options)) as responses:
            async for response in responses:
                collected.append(response)  # noqa: PERF401  # what came before an error counts
        return collected

    async def _single(
        self, client: KVServiceClient, requests: Any, options: dict[str, Any]
    ) -> AsyncIterator[bytes]:
        if self is Shape.UNARY:
            response = await client.get(GetRequest(key=next(iter(requests))), **options)
            yield response.value
        else:
            sent = (LoadRequest(key=key) async for key in stream(requests))
            yield str((await client.load(sent, **options)).count).encode()

    async def _stream(
        self, client: KVServiceClient, requests: Any, options: dict[str, Any]
    ) -> AsyncIterator[bytes]:
        responses: AsyncIterator[Any]
        if self is Shape.SERVER_STREAM:
            responses = client.watch(WatchRequest(prefix=next(iter(requests))), **options)
        else:
            sent = (SyncRequest(key=key) async for key in stream(requests))
            responses = client.sync(sent, **options)
        async with closing(responses):
            async for response in responses:
                yield response.value


SHAPES = tuple(Shape)


async def stream(keys: Iterable[str] | AsyncIterator[str]) -> AsyncIterator[str]:
    """Keys as a stream."""
    if isinstance(keys, AsyncIterator):
        async for key in keys:
            yield key
        return
    for key in keys:
        yield key
