"""An implementation of KVService that tells what happens in it, for tests of the serving side."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any

from connectplugin import BoundPlugin
from connectplugin.plugin import ServerMux
from kv.v1.kv_connect import KVService, KVServiceASGIApplication
from kv.v1.kv_pb import (
    GetRequest,
    GetResponse,
    IncrementRequest,
    IncrementResponse,
    LoadRequest,
    LoadResponse,
    PutRequest,
    PutResponse,
    SyncRequest,
    SyncResponse,
    WatchRequest,
    WatchResponse,
)

callers_own: ContextVar[str] = ContextVar("callers_own", default="nothing")


class TellingKV(KVService):
    """Hangs on keys called `hang`, and counts what begins, ends and is cancelled."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.counts: Counter[str] = Counter()
        self.changed = asyncio.Condition()

    async def note(self, what: str) -> None:
        self.counts[what] += 1
        async with self.changed:
            self.changed.notify_all()

    async def seen(self, what: str, times: int = 1) -> None:
        """Wait until something has happened so often."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.counts[what] >= times)

    async def get(self, request: GetRequest, ctx: Any) -> GetResponse:
        await self.note("get")
        if request.key == "context":
            found = callers_own.get()
            callers_own.set("the handler's")
            return GetResponse(value=found.encode())
        if request.key == "name":
            return GetResponse(value=self.name.encode())
        if request.key.startswith("sleep:"):
            await asyncio.sleep(float(request.key.removeprefix("sleep:")))
        if request.key == "hang":
            await self._hang()
        return GetResponse(value=request.key.encode())

    async def put(self, request: PutRequest, ctx: Any) -> PutResponse:
        await self.note("put")
        return PutResponse()

    async def increment(self, request: IncrementRequest, ctx: Any) -> IncrementResponse:
        await asyncio.sleep(0.005)
        await self.note("increment")
        return IncrementResponse(value=self.counts["increment"])

    async def load(self, request: AsyncIterator[LoadRequest], ctx: Any) -> LoadResponse:
        await self.note("load")
        count = 0
        async for entry in request:
            count += 1
            await self.note("load read")
            if entry.key == "hang":
                await self._hang()
        return LoadResponse(count=count)

    async def watch(self, request: WatchRequest, ctx: Any) -> AsyncIterator[WatchResponse]:
        try:
            await self.note("watch")
            if request.prefix.startswith("flood:"):
                size = int(request.prefix.removeprefix("flood:"))
                while True:
                    self.counts["flooded"] += 1
                    yield WatchResponse(key="flood", value=b"x" * size)
            yield WatchResponse(key=request.prefix)
            await self._hang()
        finally:
            await self.note("watch over")

    async def sync(
        self, request: AsyncIterator[SyncRequest], ctx: Any
    ) -> AsyncIterator[SyncResponse]:
        await self.note("sync")
        async for change in request:
            yield SyncResponse(key=change.key)
            if change.key == "hang":
                await self._hang()

    async def _hang(self) -> None:
        try:
            await self.note("hangs")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.note("cancelled")
            raise


class TellingPlugin:
    """A plugin with full control: no facade, the generated service as it is."""

    service_path = "/kv.v1.KVService/"
    version = "2.1.0"

    def __init__(self, name: str = "kv") -> None:
        self.name = name

    def new_client(self, connection: Any, /) -> Any:
        raise NotImplementedError

    def register_server(self, mux: ServerMux, impl: Any, /) -> None:
        mux.mount(KVServiceASGIApplication, impl)


def bound(impl: TellingKV, name: str = "kv") -> BoundPlugin:
    """The plugin with its implementation."""
    return BoundPlugin(TellingPlugin(name), impl)
