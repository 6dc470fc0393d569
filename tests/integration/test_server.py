"""The server over real sockets: what it serves beside its plugins, and how it treats callers."""

import asyncio
import gzip
import json
import logging
import resource
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any, Self

import pytest
from connectrpc.client import ResponseMetadata
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Client, HTTPTransport

from connectplugin import ConfigError, ServeConfig, Server, ServerStack
from connectplugin._gen.connectplugin.health.v1.health_connect import HealthServiceClient
from connectplugin._gen.connectplugin.health.v1.health_pb import HealthCheckRequest, ServingStatus
from connectplugin._gen.connectplugin.v1.control_connect import PluginControlClient
from connectplugin._gen.connectplugin.v1.control_pb import GetHealthRequest, ShutdownRequest
from connectplugin._gen.connectplugin.v1.controller_connect import PluginControllerClient
from connectplugin._gen.connectplugin.v1.handshake_connect import HandshakeServiceClient
from connectplugin._gen.connectplugin.v1.handshake_pb import HandshakeRequest
from connectplugin._gen.connectplugin.v1.identity_connect import PluginIdentityClient
from connectplugin._gen.connectplugin.v1.identity_pb import GetPluginInfoRequest
from connectplugin._gen.connectplugin.v1.lifecycle_pb import HealthState as WireState
from connectplugin._gen.grpc.health.v1 import health_pb as grpc_pb
from connectplugin._gen.grpc.health.v1.health_connect import HealthClient
from connectplugin.health.machine import HealthState
from connectplugin_interceptors._gen.google.rpc.error_details_pb import ErrorInfo
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, LoadRequest, PutRequest, SyncRequest, WatchRequest
from tests.integration.serving_kv import TellingKV, bound, callers_own

COOKIE = {
    "magic_cookie_key": "CONNECT_PLUGIN",
    "magic_cookie_value": "d3f40b3c2e1a5f8b9c4d7e6a1b2c3d4e",
}


def config(impl: TellingKV, **options: Any) -> ServeConfig:
    options.setdefault("plugins", [bound(impl)])
    options.setdefault("addr", "127.0.0.1:0")
    options.setdefault("graceful_shutdown_timeout", 2.0)
    return ServeConfig(**options)


def hello(**fields: Any) -> HandshakeRequest:
    known: dict[str, Any] = {"core_protocol_version": 1, "app_protocol_version": 1, **COOKIE}
    return HandshakeRequest(**{**known, **fields})


async def http(server: Server, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    async with HTTPTransport() as transport:
        response = await Client(transport).execute(method, server.url + path)
        return response.status, dict(response.headers.items()), bytes(response.content)


async def talk(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Speak HTTP by hand; the head and the body of the answer."""
    host, port = server.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.read()
    writer.close()
    return head, body


# Pages, instance id


async def test_every_response_says_which_instance_answered() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        mine = server.app.instance_id
        for path in ("/healthz", "/readyz", "/.well-known/connectplugin", "/nothing", "/x.Y/Z"):
            _, headers, _ = await http(server, path)
            assert headers["x-connectplugin-instance"] == mine, path
        client = KVServiceClient(server.url)
        with ResponseMetadata() as head:
            await client.get(GetRequest(key="a"))
        assert head.headers["x-connectplugin-instance"] == mine
        with ResponseMetadata() as head:
            with pytest.raises(ConnectError):
                await client.get(GetRequest(key="a"), headers={"connect-timeout-ms": "0"})
            assert head.headers["x-connectplugin-instance"] == mine
        reply = await HandshakeServiceClient(server.url).handshake(hello())
        assert reply.instance_id == mine
    async with Server(config(impl)) as server:
        assert server.app.instance_id != mine


async def test_pages_tell_of_life_readiness_and_plugins() -> None:
    async with Server(config(TellingKV(), self_id="store", self_version="3")) as server:
        assert (await http(server, "/healthz"))[0] == 200
        assert (await http(server, "/readyz"))[0] == 200
        server.health.set("kv", HealthState.UNHEALTHY, "disk is full")
        status, _, text = await http(server, "/readyz")
        assert status == 503
        assert b"kv" in text
        assert (await http(server, "/healthz"))[0] == 200
        status, _, text = await http(server, "/.well-known/connectplugin")
        document = json.loads(text)
        assert status == 200
        assert document["plugins"] == {
            "1": [{"name": "kv", "version": "2.1.0", "service_path": "/kv.v1.KVService/"}]
        }
        assert document["app_protocol_versions"] == [1]
        assert document["protocols"] == ["connect", "grpc-web"]
        assert (document["self_id"], document["self_version"]) == ("store", "3")


# Handshake


async def test_handshake_by_either_name() -> None:
    async with Server(config(TellingKV(), self_id="store")) as server:
        for client in (HandshakeServiceClient(server.url), PluginControllerClient(server.url)):
            reply = await client.handshake(hello(self_id="My Host"))
            assert (reply.core_protocol_version, reply.app_protocol_version) == (1, 1)
            (plugin,) = reply.plugins
            assert (plugin.name, plugin.version) == ("kv", "2.1.0")
            assert plugin.service_path == "kv.v1.KVService"
            assert list(reply.supported_versions) == [1]
            assert reply.server_metadata == {"self_id": "store"}
            name, _, random = reply.runtime_id.rpartition("-")
            assert (name, len(random)) == ("my-host", 32)
            assert reply.runtime_token == ""


async def test_the_version_is_the_highest_in_common_and_picks_the_implementation() -> None:
    one, two = TellingKV("one"), TellingKV("two")
    sets = {1: [bound(one)], 2: [bound(two)]}
    async with Server(config(one, plugins=(), versioned_plugins=sets)) as server:
        shake = HandshakeServiceClient(server.url).handshake
        assert (await shake(hello(app_protocol_versions=[1, 2, 7]))).app_protocol_version == 2
        assert (await shake(hello(app_protocol_versions=[1]))).app_protocol_version == 1
        assert (await shake(hello(app_protocol_version=1))).app_protocol_version == 1
        with pytest.raises(ConnectError) as caught:
            await shake(hello(app_protocol_versions=[3, 4]))
        assert caught.value.code is Code.FAILED_PRECONDITION
        assert "3, 4" in caught.value.message
        assert "1, 2" in caught.value.message
        info = caught.value.details[0].value(ErrorInfo)
        assert info is not None
        assert (info.reason, info.metadata) == (
            "APP_VERSION_UNSUPPORTED",
            {"client": "3,4", "server": "1,2"},
        )

        client = KVServiceClient(server.url)
        name = GetRequest(key="name")
        header = "x-connectplugin-app-version"
        assert (await client.get(name)).value == b"two"
        assert (await client.get(name, headers={header: "1"})).value == b"one"
        assert (await client.get(name, headers={header: "2"})).value == b"two"
        for wrong in ("3", "x", "-1", "99999999999999"):
            with pytest.raises(ConnectError) as caught:
                await client.get(name, headers={header: wrong})
            assert caught.value.code is Code.FAILED_PRECONDITION
            with pytest.raises(ConnectError) as caught:
                await anext(client.watch(WatchRequest(), headers={header: wrong}))
            assert caught.value.code is Code.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"magic_cookie_value": "no"}, Code.INVALID_ARGUMENT, "MAGIC_COOKIE_MISMATCH"),
        ({"magic_cookie_key": ""}, Code.INVALID_ARGUMENT, "MAGIC_COOKIE_MISMATCH"),
        ({"core_protocol_version": 2}, Code.INVALID_ARGUMENT, "CORE_VERSION_UNSUPPORTED"),
        ({"app_protocol_version": 9}, Code.FAILED_PRECONDITION, "APP_VERSION_UNSUPPORTED"),
        ({"required_capabilities": ["x", "a"]}, Code.FAILED_PRECONDITION, "CAPABILITY_MISSING"),
        ({"self_id": "x" * 129}, Code.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
        ({"client_metadata": {"a b": ""}}, Code.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
        ({"client_metadata": {"a": "v" * 4097}}, Code.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
        ({"requested_plugins": ["p"] * 101}, Code.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
    ],
)
async def test_a_refused_handshake_says_why(
    fields: dict[str, Any], code: Code, reason: str
) -> None:
    async with Server(config(TellingKV(), capabilities=["a", "b"])) as server:
        with pytest.raises(ConnectError) as caught:
            await HandshakeServiceClient(server.url).handshake(hello(**fields))
    assert caught.value.code is code
    info = caught.value.details[0].value(ErrorInfo)
    assert info is not None
    assert (info.reason, info.domain) == (reason, "connectplugin")
    if reason == "CAPABILITY_MISSING":
        assert "'x'" in caught.value.message


async def test_a_server_without_a_cookie_asks_for_none_and_unknown_plugins_are_left_out() -> None:
    async with Server(config(TellingKV(), magic_cookie=None)) as server:
        client = HandshakeServiceClient(server.url)
        bare = HandshakeRequest(core_protocol_version=1, app_protocol_version=1)
        assert [p.name for p in (await client.handshake(bare)).plugins] == ["kv"]
        other = hello(requested_plugins=["nobody"])
        assert list((await client.handshake(other)).plugins) == []
        both = hello(requested_plugins=["nobody", "kv"])
        assert [p.name for p in (await client.handshake(both)).plugins] == ["kv"]


async def test_a_handshake_of_more_than_64_kib_is_refused() -> None:
    async with Server(config(TellingKV())) as server:
        with pytest.raises(ConnectError) as caught:
            await HandshakeServiceClient(server.url).handshake(hello(instance_nonce="n" * 70_000))
    assert caught.value.code is Code.RESOURCE_EXHAUSTED


# Health


async def test_health_in_both_dialects_by_plugin_service_and_server() -> None:
    async with Server(config(TellingKV(), plugins=[bound(TellingKV())])) as server:
        own, grpc = HealthServiceClient(server.url), HealthClient(server.url)
        statuses = grpc_pb.HealthCheckResponse.ServingStatus
        for name in ("", "kv", "kv.v1.KVService"):
            reply = await own.check(HealthCheckRequest(service=name))
            assert reply.status is ServingStatus.SERVING
            other = await grpc.check(grpc_pb.HealthCheckRequest(service=name))
            assert other.status is statuses.SERVING
        server.health.set("kv.v1.KVService", HealthState.UNHEALTHY)
        for name in ("", "kv", "kv.v1.KVService"):
            assert (
                await own.check(HealthCheckRequest(service=name))
            ).status is ServingStatus.NOT_SERVING
        with pytest.raises(ConnectError) as caught:
            await own.check(HealthCheckRequest(service="nobody"))
        assert caught.value.code is Code.NOT_FOUND
        with pytest.raises(ConnectError) as caught:
            await grpc.check(grpc_pb.HealthCheckRequest(service="nobody"))
        assert caught.value.code is Code.NOT_FOUND
        with pytest.raises(KeyError, match=r"there are '', 'kv', 'kv\.v1\.KVService'"):
            server.health.set("nobody", HealthState.HEALTHY)


async def test_health_watch_tells_the_state_then_changes_and_conflates_them() -> None:
    async with Server(config(TellingKV())) as server:
        async with aclosing(
            _generator(HealthServiceClient(server.url).watch(HealthCheckRequest(service="kv")))
        ) as watch:
            assert (await anext(watch)).status is ServingStatus.SERVING
            server.health.set("kv", HealthState.DEGRADED)  # still serving: nothing to tell
            server.health.set("kv", HealthState.UNHEALTHY)
            assert (await anext(watch)).status is ServingStatus.NOT_SERVING
            for _ in range(100):
                server.health.set("kv", HealthState.HEALTHY)
                server.health.set("kv", HealthState.UNHEALTHY)
            server.health.set("kv", HealthState.HEALTHY)
            assert (await anext(watch)).status is ServingStatus.SERVING
        async with aclosing(
            _generator(HealthServiceClient(server.url).watch(HealthCheckRequest(service="nobody")))
        ) as watch:
            assert (await anext(watch)).status is ServingStatus.SERVICE_UNKNOWN


async def test_control_tells_health_and_calls_in_flight() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        control = PluginControlClient(server.url)
        assert (await control.get_health(GetHealthRequest())).state is WireState.HEALTHY
        call = asyncio.create_task(KVServiceClient(server.url).get(GetRequest(key="hang")))
        await impl.seen("get")
        server.health.set("kv", HealthState.DEGRADED, "cold")
        for reply in (
            await control.get_health(GetHealthRequest()),
            await PluginControllerClient(server.url).health(GetHealthRequest()),
        ):
            assert (reply.state, reply.in_flight) == (WireState.DEGRADED, 1)
            assert "kv" in reply.reason
        call.cancel()
        await asyncio.wait([call])
        await impl.seen("cancelled")
        info = await PluginIdentityClient(server.url).get_plugin_info(GetPluginInfoRequest())
        assert [(p.type, p.version, p.path) for p in info.provides] == [
            ("kv", "2.1.0", "/kv.v1.KVService/")
        ]


async def test_health_is_told_by_a_full_server() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        calls = [
            asyncio.create_task(KVServiceClient(server.url).get(GetRequest(key="hang")))
            for _ in range(100)
        ]
        await impl.seen("get", 100)
        reply = await HealthServiceClient(server.url).check(HealthCheckRequest())
        assert reply.status is ServingStatus.SERVING
        assert (await HandshakeServiceClient(server.url).handshake(hello())).plugins
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        await impl.seen("cancelled", 100)


# Callers that go away


@pytest.mark.parametrize("shape", ["unary", "server_stream", "client_stream", "bidi_stream"])
async def test_a_handler_whose_caller_is_gone_is_cancelled(shape: str) -> None:
    """Also while its request stream is open, which connectrpc alone does not notice."""
    impl = TellingKV()
    async with Server(config(impl)) as server:
        client = KVServiceClient(server.url)
        never = asyncio.Event()

        async def loads() -> AsyncIterator[LoadRequest]:
            yield LoadRequest(key="hang")
            await never.wait()

        async def syncs() -> AsyncIterator[SyncRequest]:
            yield SyncRequest(key="hang")
            await never.wait()

        async def collect(stream: AsyncIterator[Any]) -> None:
            async for _ in stream:
                pass

        calls: dict[str, Any] = {
            "unary": lambda: client.get(GetRequest(key="hang")),
            "server_stream": lambda: collect(client.watch(WatchRequest(prefix="a"))),
            "client_stream": lambda: client.load(loads()),
            "bidi_stream": lambda: collect(client.sync(syncs())),
        }
        begun = {"unary": "get", "server_stream": "watch", "client_stream": "load read"}
        call = asyncio.create_task(calls[shape]())
        await impl.seen(begun.get(shape, "sync"))
        await asyncio.sleep(0.05)
        loop = asyncio.get_running_loop()
        started = loop.time()
        call.cancel()
        await asyncio.wait([call])
        await impl.seen("cancelled")
        assert loop.time() - started < 0.5
        await _until(lambda: server.app.in_flight == 0)


async def test_a_slow_reader_holds_the_handler_back() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        client = KVServiceClient(server.url, accept_compression=())
        stream = client.watch(WatchRequest(prefix="flood:1000000"))
        await anext(stream)
        await asyncio.sleep(0.3)
        before = impl.counts["flooded"]
        await asyncio.sleep(0.3)
        assert impl.counts["flooded"] == before < 40
        await _generator(stream).aclose()
        await impl.seen("watch over")


async def test_a_flood_to_a_fast_reader_leaves_the_loop_to_others() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        url = server.url
        loop = asyncio.get_running_loop()
        begun = loop.time()
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _READ_ALL, url, stdout=asyncio.subprocess.PIPE
        )
        await impl.seen("watch")
        client = KVServiceClient(url)
        for _ in range(20):
            await client.get(GetRequest(key="a"))
        assert loop.time() - begun < 20.0
        reader.kill()
        await reader.wait()
        await impl.seen("watch over")


_READ_ALL = """
import sys, urllib.request
request = urllib.request.Request(
    sys.argv[1] + "/kv.v1.KVService/Watch",
    data=b"\\0\\0\\0\\0\\x0d\\x0a\\x0bflood:10000",
    headers={"content-type": "application/connect+proto"},
)
with urllib.request.urlopen(request) as response:
    while response.read(65536):
        pass
"""


async def test_requests_are_read_ahead_only_so_far() -> None:
    impl = TellingKV()
    async with Server(config(impl)) as server:
        sent = 0

        async def loads() -> AsyncIterator[LoadRequest]:
            nonlocal sent
            yield LoadRequest(key="hang")
            while True:
                sent += 1
                yield LoadRequest(key="more", value=b"x" * 100_000)

        call = asyncio.create_task(KVServiceClient(server.url, send_compression=None).load(loads()))
        await impl.seen("load read")
        await asyncio.sleep(0.5)
        before = sent
        await asyncio.sleep(0.3)
        assert sent == before < 200
        call.cancel()
        await asyncio.wait([call])


async def test_handlers_see_nothing_of_the_context_around_the_server() -> None:
    callers_own.set("the embedding program's")
    async with Server(config(TellingKV())) as server:
        client = KVServiceClient(server.url)
        for _ in range(2):
            assert (await client.get(GetRequest(key="context"))).value == b"nothing"
    assert callers_own.get() == "the embedding program's"


# Sizes


async def test_a_message_above_the_limit_is_refused() -> None:
    async with Server(config(TellingKV(), read_max_bytes=1000)) as server:
        client = KVServiceClient(server.url, send_compression=None)
        await client.put(PutRequest(key="a", value=b"x" * 900))
        with pytest.raises(ConnectError) as caught:
            await client.put(PutRequest(key="a", value=b"x" * 1001))
        assert caught.value.code is Code.RESOURCE_EXHAUSTED

        async def loads() -> AsyncIterator[LoadRequest]:
            yield LoadRequest(key="a", value=b"x" * 1001)

        with pytest.raises(ConnectError) as caught:
            await client.load(loads())
        assert caught.value.code is Code.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_gzip_bomb_is_refused_without_growing(streaming: bool) -> None:
    """1 GiB of zeros in 1 MB."""
    bomb = gzip.compress(bytes(64 << 20), 9) * 16
    impl = TellingKV()
    async with Server(config(impl)) as server:
        if streaming:
            path, kind = "Watch", "application/connect+proto"
            encoding = "connect-content-encoding"
            body = b"\x01" + len(bomb).to_bytes(4, "big") + bomb
        else:
            path, kind, encoding, body = "Put", "application/proto", "content-encoding", bomb
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        head, answer = await talk(
            server,
            f"POST /kv.v1.KVService/{path} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\n"
            f"{encoding}: gzip\r\nconnection: close\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body,
        )
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert b"resource_exhausted" in answer
    assert head.startswith(b"HTTP/1.1 200" if streaming else b"HTTP/1.1 429")
    assert grown < 30 * 1024, f"grew by {grown} KiB"
    assert not impl.counts


async def test_a_head_without_end_is_cut_off() -> None:
    async with Server(config(TellingKV())) as server:
        head, _ = await talk(server, b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 100_000)
        assert head.startswith(b"HTTP/1.1 431")
        fine = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: "
        head, _ = await talk(server, fine + b"y" * 30_000 + b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")


# Addresses


async def test_port_0_takes_a_free_one_and_tells_it() -> None:
    async with Server(config(TellingKV())) as server:
        host, port = server.address.split(":")
        assert (host, server.url) == ("127.0.0.1", f"http://127.0.0.1:{port}")
        assert int(port) > 0
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await Server(config(TellingKV(), addr=server.address)).__aenter__()


async def test_ipv6_and_all_interfaces() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    async with Server(config(TellingKV(), addr="[::1]:0")) as server:
        assert server.url.startswith("http://[::1]:")
        await KVServiceClient(server.url).get(GetRequest(key="a"))
    async with Server(config(TellingKV(), addr=":0", allow_insecure=True)) as server:
        await KVServiceClient(server.url).get(GetRequest(key="a"))


async def test_a_unix_socket_belongs_to_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kv.sock"
    async with Server(config(TellingKV(), addr=f"unix://{path}")) as server:
        assert server.url == server.address == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        with pytest.raises(OSError, match="another server is listening there"):
            await Server(config(TellingKV(), addr=f"unix://{path}")).__aenter__()
        assert path.exists()
    assert not path.exists()


async def test_a_stale_unix_socket_is_replaced_and_another_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "kv.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with Server(config(TellingKV(), addr=f"unix://{path}")):
        pass
    path.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        await Server(config(TellingKV(), addr=f"unix://{path}")).__aenter__()
    assert path.read_text() == "precious"


async def test_a_socket_that_is_bound_already(tmp_path: Path) -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    async with Server(config(TellingKV(), sock=sock)) as server:
        assert server.address == f"127.0.0.1:{port}"
        await KVServiceClient(server.url).get(GetRequest(key="a"))
    assert sock.fileno() == -1
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "s"))
    async with Server(config(TellingKV(), sock=unix)) as server:
        assert server.url == f"unix://{tmp_path}/s"
    assert (tmp_path / "s").exists()  # its owner's


async def test_plaintext_for_other_machines_must_be_asked_for() -> None:
    for addr in (":8080", "0.0.0.0:8080", "[::]:1", "192.168.1.5:80", "example.org:80"):
        with pytest.raises(ConfigError, match=r"ServeConfig\.addr .* allow_insecure=True"):
            config(TellingKV(), addr=addr)
    with (
        socket.create_server(("0.0.0.0", 0)) as sock,  # noqa: S104  # the very thing
        pytest.raises(ConfigError, match=r"ServeConfig\.sock .* allow_insecure=True"),
    ):
        config(TellingKV(), sock=sock)


# Lifespan


class Kept(TellingKV):
    """An implementation that starts and cleans up."""

    async def __aenter__(self) -> Self:
        await self.note("entered")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.note("left")


async def test_an_implementation_is_entered_and_left_behind_the_drain() -> None:
    impl = Kept()
    async with Server(config(impl)) as server:
        assert impl.counts["entered"] == 1
        call = asyncio.create_task(KVServiceClient(server.url).get(GetRequest(key="sleep:0.3")))
        await impl.seen("get")
        assert "left" not in impl.counts
    assert (await call).value == b"sleep:0.3"
    assert impl.counts["left"] == 1


async def test_an_implementation_that_fails_to_start_is_an_error_and_frees_the_address() -> None:
    class Broken(TellingKV):
        async def __aenter__(self) -> None:
            msg = "no database"
            raise RuntimeError(msg)

        async def __aexit__(self, *_: object) -> None: ...

    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.close()
    with pytest.raises(RuntimeError, match="no database"):
        await Server(config(Broken(), addr=f"127.0.0.1:{port}")).__aenter__()
    async with Server(config(TellingKV(), addr=f"127.0.0.1:{port}")):
        pass


# Stopping


async def test_leaving_the_block_lets_calls_end_and_refuses_new_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    impl = TellingKV()
    with caplog.at_level(logging.WARNING):
        server = Server(config(impl, graceful_shutdown_timeout=5.0, stream_drain_timeout=0.5))
        await server.__aenter__()
        client = KVServiceClient(server.url)
        short = asyncio.create_task(client.get(GetRequest(key="sleep:1.0")))
        stream = client.watch(WatchRequest(prefix="a"))
        await anext(stream)
        health = HealthServiceClient(server.url).watch(HealthCheckRequest())
        assert (await anext(health)).status is ServingStatus.SERVING
        loop = asyncio.get_running_loop()
        started = loop.time()
        stopping = asyncio.create_task(server.__aexit__(None, None, None))
        assert (await anext(health)).status is ServingStatus.NOT_SERVING
        with pytest.raises(StopAsyncIteration):
            await anext(health)
        assert loop.time() - started < 0.4
        with ResponseMetadata() as head:
            with pytest.raises(ConnectError, match="draining: the server is shutting down"):
                await client.get(GetRequest(key="b"))
            assert head.headers["x-connectplugin-nack"] == "draining"
            assert head.headers["connection"] == "close"
        assert (await http(server, "/readyz"))[0] == 503
        assert (await http(server, "/healthz"))[0] == 200
        reply = await HealthServiceClient(server.url).check(HealthCheckRequest(service="kv"))
        assert reply.status is ServingStatus.NOT_SERVING
        with pytest.raises(ConnectError) as caught:
            await HandshakeServiceClient(server.url).handshake(hello())
        assert caught.value.code is Code.UNAVAILABLE
        with pytest.raises(ConnectError) as caught:
            await anext(stream)
        assert caught.value.code is Code.UNAVAILABLE
        assert caught.value.message.startswith("draining: ")
        assert 0.4 < loop.time() - started < 0.9
        assert (await short).value == b"sleep:1.0"
        await stopping
        assert loop.time() - started < 1.6
    assert caplog.records == [], "a drained call is nobody's traceback"


async def test_leaving_with_an_error_waits_for_nobody() -> None:
    impl = TellingKV()
    loop = asyncio.get_running_loop()
    started = loop.time()
    server = Server(config(impl, graceful_shutdown_timeout=30))
    await server.__aenter__()
    call = asyncio.create_task(KVServiceClient(server.url).get(GetRequest(key="hang")))
    await impl.seen("get")
    await server.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert loop.time() - started < 2
    assert impl.counts["cancelled"] == 1
    with pytest.raises(ConnectError) as caught:
        await call
    assert caught.value.code is Code.UNAVAILABLE


async def test_a_host_may_ask_the_server_to_stop() -> None:
    async with Server(config(TellingKV())) as server:
        control = PluginControlClient(server.url)
        with pytest.raises(ConnectError) as caught:
            await control.shutdown(ShutdownRequest(grace_period_seconds=-1))
        assert caught.value.code is Code.INVALID_ARGUMENT
        reply = await control.shutdown(ShutdownRequest(grace_period_seconds=1, reason="bye"))
        assert reply.acknowledged
        async with asyncio.timeout(1):
            await server.wait_stop_requested()


def test_a_stack_that_cannot_drain_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ServeConfig\.stack has drain=None"):
        config(TellingKV(), stack=ServerStack(drain=None))


def _generator(stream: Any) -> Any:
    return stream


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


def room() -> int:
    """Connections that the system itself lets wait."""
    limit = Path("/proc/sys/net/core/somaxconn")
    return int(limit.read_text()) if limit.exists() else 128


@pytest.mark.skipif(room() < 300, reason="the system itself has less room")
async def test_a_burst_of_connections_finds_room_although_the_loop_is_busy() -> None:
    """What finds none is told nothing, and sends its SYN again after a second."""
    async with Server(config(TellingKV())) as server:
        host, _, port = server.address.rpartition(":")
        with ExitStack() as burst:
            for _ in range(300):  # nothing is awaited in between: the server accepts none of them
                burst.enter_context(socket.create_connection((host, int(port)), timeout=0.9))
