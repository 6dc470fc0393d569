"""What type checkers make of the public names; read by mypy and pyright, never run.

A wrong use carries an ignore with its code: a checker that no longer finds it wrong reports the
ignore as unused.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from collections.abc import AsyncIterator
from typing import Protocol, assert_type

from connectplugin import BoundPlugin, Client, ClientConfig, ConnectPlugin, PluginSet, with_options
from connectplugin.plugin import ClientConnection, Plugin
from kv.v1.kv_connect import KVService, KVServiceClient
from kv.v1.kv_pb import WatchResponse


class KV(Protocol):
    async def get(self, key: str) -> bytes: ...
    async def increment(self, key: str, delta: int = 1) -> int: ...
    def watch(self, prefix: str) -> AsyncIterator[WatchResponse]: ...


class MemoryKV:
    async def get(self, key: str) -> bytes:
        return b""

    async def increment(self, key: str, delta: int = 1) -> int:
        return delta

    async def watch(self, prefix: str) -> AsyncIterator[WatchResponse]:
        yield WatchResponse()


class WrongType(MemoryKV):
    async def get(self, key: int) -> bytes:  # type: ignore[override]
        return b""


class Missing:
    async def get(self, key: str) -> bytes:
        return b""


kv_plugin = ConnectPlugin("kv", KV, service=KVService)
assert_type(kv_plugin, ConnectPlugin[KV])

# `bind` holds an implementation against the Protocol.
assert_type(kv_plugin.bind(MemoryKV()), BoundPlugin)
kv_plugin.bind(WrongType())  # type: ignore[arg-type]
kv_plugin.bind(Missing())  # type: ignore[arg-type]

# What a ConnectPlugin is otherwise.
as_plugin: Plugin = kv_plugin
in_a_set: PluginSet[ConnectPlugin[KV]] = PluginSet([kv_plugin])
any_plugins: PluginSet[Plugin] = in_a_set


def made(connection: ClientConnection) -> None:
    assert_type(kv_plugin.new_client(connection), KV)
    assert_type(connection.client(KVServiceClient), KVServiceClient)


async def dispensed() -> None:
    async with Client(ClientConfig(endpoint="http://localhost:1", plugins=[kv_plugin])) as client:
        kv = client.dispense(kv_plugin)
        assert_type(kv, KV)
        assert_type(client.dispense("kv", KV), KV)
        assert_type(client.dispense("kv", KVServiceClient), KVServiceClient)
        assert_type(with_options(kv, timeout=0.5, retry_policy=None), KV)
        assert_type(await kv.get("a"), bytes)
        assert_type(await kv.increment("a", delta=2), int)
        async for change in kv.watch("a"):
            assert_type(change, WatchResponse)
        await kv.get(1)  # type: ignore[arg-type]
