"""The plugin: a key-value store in memory, served until SIGTERM or SIGINT.

python examples/kv/server.py --addr 127.0.0.1:8080
"""

import argparse
import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import ServeConfig, Server, serve
from kv.v1.kv_pb import Entry, LoadRequest, SyncRequest, SyncResponse, WatchResponse
from kv_plugin import KV, kv_plugin


class MemoryKV:
    """An implementation of `KV`. No base class: type checkers hold it against `KV` in `bind`.

    Args:
        journal: A file that gets a line for each increment before it is answered, so that what was
            executed can be told even after the process was killed.
        latency: Seconds that an increment takes: half of them before it is done, half after.
    """

    def __init__(self, journal: Path | None = None, *, latency: float = 0.0) -> None:
        self._values: dict[str, bytes] = {}
        self._revisions: dict[str, int] = {}
        self._revision = 0
        self._watchers: set[asyncio.Queue[WatchResponse]] = set()
        # Unbuffered: a killed process must not take executed lines with it.
        self._journal = journal.open("ab", buffering=0) if journal is not None else None
        self._latency = latency

    async def get(self, key: str) -> bytes:
        try:
            return self._values[key]
        except KeyError:
            raise ConnectError(Code.NOT_FOUND, f"no key {key!r}") from None

    async def scan(self, prefix: str) -> list[Entry]:
        return [
            Entry(key=key, value=value)
            for key, value in sorted(self._values.items())
            if key.startswith(prefix)
        ]

    async def put(self, key: str, value: bytes) -> None:
        self._set(key, value)

    async def delete(self, key: str) -> None:
        if self._values.pop(key, None) is not None:
            self._tell(WatchResponse(key=key, deleted=True, revision=self._next(key)))

    async def increment(self, key: str, delta: int = 1) -> int:
        await asyncio.sleep(self._latency / 2)
        total = int(self._values.get(key, b"0")) + delta
        self._set(key, b"%d" % total)
        if self._journal is not None:
            self._journal.write(f"{key}\n".encode())
        await asyncio.sleep(self._latency / 2)
        return total

    async def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
        changes: asyncio.Queue[WatchResponse] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            for entry in await self.scan(prefix):
                yield WatchResponse(
                    key=entry.key, value=entry.value, revision=self._revisions[entry.key]
                )
            while True:
                change = await changes.get()
                if change.key.startswith(prefix):
                    yield change
        finally:
            self._watchers.discard(changes)

    async def load(self, entries: AsyncIterable[LoadRequest]) -> int:
        count = 0
        async for entry in entries:
            self._set(entry.key, entry.value)
            count += 1
        return count

    async def sync(self, changes: AsyncIterable[SyncRequest]) -> AsyncIterator[SyncResponse]:
        async for change in changes:
            if change.value is not None:
                self._set(change.key, change.value)
            yield SyncResponse(
                key=change.key,
                value=self._values.get(change.key, b""),
                revision=self._revisions.get(change.key, 0),
            )

    def _set(self, key: str, value: bytes) -> None:
        self._values[key] = value
        self._tell(WatchResponse(key=key, value=value, revision=self._next(key)))

    def _next(self, key: str) -> int:
        self._revision += 1
        self._revisions[key] = self._revision
        return self._revision

    def _tell(self, change: WatchResponse) -> None:
        for watcher in self._watchers:
            watcher.put_nowait(change)


def serve_config(store: KV | None = None, *, addr: str = "127.0.0.1:8080") -> ServeConfig:
    """What is served; without a store, a new one that is empty."""
    return ServeConfig(plugins=[kv_plugin.bind(store or MemoryKV())], addr=addr)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description="A key-value store as a plugin.")
    parser.add_argument("--addr", default="127.0.0.1:8080", help="host:port; port 0 takes any")
    parser.add_argument("--journal", type=Path, help="a file that records each increment")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds an increment takes")
    arguments = parser.parse_args()
    store = MemoryKV(arguments.journal, latency=arguments.latency)

    def serving(server: Server) -> None:
        print(f"serving at {server.url}", flush=True)

    asyncio.run(serve(serve_config(store, addr=arguments.addr), started=serving))


if __name__ == "__main__":
    main()
