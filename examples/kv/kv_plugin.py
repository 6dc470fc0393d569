"""What host and plugin share: the interface, and its match with the generated service."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Protocol

from connectplugin import ConnectPlugin
from kv.v1.kv_connect import KVService
from kv.v1.kv_pb import Entry, LoadRequest, SyncRequest, SyncResponse, WatchResponse


class KV(Protocol):
    """The user's own interface, in domain types. Nothing in it knows RPC."""

    async def get(self, key: str) -> bytes:
        """The value of a key; `not_found` if there is none."""
        ...

    async def scan(self, prefix: str) -> list[Entry]:
        """All entries whose key begins with the prefix."""
        ...

    async def put(self, key: str, value: bytes) -> None:
        """Set a key's value."""
        ...

    async def delete(self, key: str) -> None:
        """Remove a key, if it is there."""
        ...

    async def increment(self, key: str, delta: int = 1) -> int:
        """Add to a number, and return the sum. Not idempotent: twice is twice."""
        ...

    def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
        """Each entry with the prefix as it is, then each change of one."""
        ...

    async def load(self, entries: AsyncIterable[LoadRequest]) -> int:
        """Set many keys, and return how many."""
        ...

    def sync(self, changes: AsyncIterable[SyncRequest]) -> AsyncIterator[SyncResponse]:
        """Answer each change, or question, with the entry as it is then."""
        ...


kv_plugin = ConnectPlugin("kv", KV, service=KVService)
