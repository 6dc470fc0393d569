"""A host and a plugin, in every location: connect, shake hands, dispense, call in four shapes."""

import asyncio
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Protocol

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import (
    Client,
    ClientConfig,
    ClientStack,
    ConfigError,
    ConnectPlugin,
    Delivery,
    HandshakeError,
    IncompatibleVersionError,
    MissingCapabilityError,
    PluginUnavailableError,
    RetryPolicy,
    ServeConfig,
    Server,
    create_app,
    delivery,
    with_options,
)
from kv.v1.kv_connect import KVService, KVServiceClient
from kv.v1.kv_pb import GetRequest, LoadRequest, SyncRequest
from kv_plugin import KV, kv_plugin
from server import MemoryKV
from tests.integration.locations import Location, everywhere


def serving(impl: Any = None) -> dict[str, Any]:
    return {"plugins": [kv_plugin.bind(impl or MemoryKV())]}


@everywhere
class TestCalls:
    async def test_unary_calls_carry_domain_values(self, location: Location) -> None:
        async with location.client(serving(), plugins=[kv_plugin]) as client:
            kv = client.dispense(kv_plugin)
            await kv.put("hello", b"world")
            assert await kv.get("hello") == b"world"
            assert await kv.increment("n") == 1
            assert await kv.increment("n", delta=41) == 42
            assert [entry.key for entry in await kv.scan("")] == ["hello", "n"]

    async def test_an_error_of_the_implementation_arrives_as_it_was_raised(
        self, location: Location
    ) -> None:
        async with location.client(serving(), plugins=[kv_plugin]) as client:
            with pytest.raises(ConnectError, match="no key 'nothing'") as caught:
                await client.dispense(kv_plugin).get("nothing")
        assert caught.value.code is Code.NOT_FOUND
        assert delivery(caught.value) is Delivery.ANSWERED

    async def test_a_server_stream_yields_while_it_is_open(self, location: Location) -> None:
        async with location.client(serving(), plugins=[kv_plugin]) as client:
            kv = client.dispense(kv_plugin)
            await kv.put("a", b"1")
            seen: list[tuple[str, bytes]] = []
            async for change in kv.watch("a"):
                seen.append((change.key, change.value))
                if len(seen) == 2:
                    break
                await kv.put("a", b"2")
        assert seen == [("a", b"1"), ("a", b"2")]

    async def test_a_client_stream_is_read_to_its_end(self, location: Location) -> None:
        async def entries() -> AsyncIterator[LoadRequest]:
            for number in range(100):
                yield LoadRequest(key=f"k{number:02}", value=b"v")

        async with location.client(serving(), plugins=[kv_plugin]) as client:
            kv = client.dispense(kv_plugin)
            assert await kv.load(entries()) == 100
            assert len(await kv.scan("k")) == 100

    async def test_a_bidi_stream_is_truly_full_duplex(self, location: Location) -> None:
        answered = asyncio.Event()

        async def questions() -> AsyncIterator[SyncRequest]:
            for number in range(5):
                yield SyncRequest(key="ball", value=b"%d" % number)
                await answered.wait()  # no next question before the answer to this one
                answered.clear()

        async with location.client(serving(), plugins=[kv_plugin]) as client:
            rally: list[bytes] = []
            async with asyncio.timeout(10):
                async for reply in client.dispense(kv_plugin).sync(questions()):
                    rally.append(reply.value)
                    answered.set()
        assert rally == [b"0", b"1", b"2", b"3", b"4"]

    async def test_the_generated_client_can_be_dispensed(self, location: Location) -> None:
        async with location.client(serving(), plugins=[kv_plugin]) as client:
            generated = client.dispense("kv", KVServiceClient)
            assert isinstance(generated, KVServiceClient)
            await client.dispense("kv", KV).put("k", b"v")
            assert (await generated.get(GetRequest(key="k"))).value == b"v"

    async def test_options_change_one_object_and_leave_the_other(self, location: Location) -> None:
        class Slow(MemoryKV):
            async def get(self, key: str) -> bytes:
                await asyncio.sleep(60)
                return b""

        async with location.client(serving(Slow()), plugins=[kv_plugin]) as client:
            kv = client.dispense(kv_plugin)
            quick = with_options(kv, timeout=0.05, retry_policy=None)
            assert type(quick) is type(kv)
            with pytest.raises(TimeoutError):
                await quick.get("a")
            await kv.put("a", b"b")

    async def test_the_handler_sees_nothing_of_the_callers_context(
        self, location: Location
    ) -> None:
        secret: ContextVar[str] = ContextVar("secret", default="none")
        seen: list[str] = []

        class Nosy(MemoryKV):
            async def get(self, key: str) -> bytes:
                seen.append(secret.get())
                secret.set("the handler's")
                return b""

        async with location.client(serving(Nosy()), plugins=[kv_plugin]) as client:
            secret.set("the caller's")
            await client.dispense(kv_plugin).get("a")
        assert seen == ["none"]
        assert secret.get() == "the caller's"


@everywhere
class TestHandshake:
    async def test_tells_who_is_there(self, location: Location) -> None:
        async with location.client(
            {**serving(), "server_metadata": {"zone": "a"}}, plugins=[kv_plugin]
        ) as client:
            info = client.server
        assert info.app_version == 1
        assert info.plugins["kv"].service_path.strip("/") == "kv.v1.KVService"
        assert info.metadata["zone"] == "a"
        assert info.instance_id

    async def test_the_highest_common_version_is_spoken(self, location: Location) -> None:
        other = ConnectPlugin("kv", KV, service=KVService, version="2.0.0")
        serve: dict[str, Any] = {
            "versioned_plugins": {
                1: [kv_plugin.bind(MemoryKV())],
                2: [other.bind(MemoryKV())],
                3: [kv_plugin.bind(MemoryKV())],
            }
        }
        async with location.client(
            serve, versioned_plugins={1: [kv_plugin], 2: [other], 4: [kv_plugin]}
        ) as client:
            assert client.server.app_version == 2
            assert client.server.plugins["kv"].version == "2.0.0"
            await client.dispense(other).put("a", b"b")
            with pytest.raises(PluginUnavailableError, match="version agreed on"):
                client.dispense(kv_plugin)

    async def test_without_a_common_version_both_offers_are_named(self, location: Location) -> None:
        with pytest.raises(IncompatibleVersionError, match=r"offers 7, 8.*1"):
            async with location.client(
                serving(), versioned_plugins={7: [kv_plugin], 8: [kv_plugin]}
            ):
                pass

    async def test_a_wrong_cookie_is_told_apart(self, location: Location) -> None:
        with pytest.raises(HandshakeError, match="cookie") as caught:
            async with location.client(
                serving(), plugins=[kv_plugin], magic_cookie=("CONNECT_PLUGIN", "sesame")
            ):
                pass
        assert "sesame" not in str(caught.value)

    async def test_a_missing_capability_is_named(self, location: Location) -> None:
        with pytest.raises(MissingCapabilityError, match="snapshots"):
            async with location.client(
                serving(), plugins=[kv_plugin], required_capabilities=["snapshots"]
            ):
                pass

    async def test_a_plugin_that_is_not_served_is_said_when_dispensed(
        self, location: Location
    ) -> None:
        class Pongs(Protocol):
            async def get(self, key: str) -> bytes: ...

        other = ConnectPlugin("pong", Pongs, service=KVService)
        async with location.client(serving(), plugins=[other]) as client:
            with pytest.raises(PluginUnavailableError, match="does not serve the plugin 'pong'"):
                client.dispense(other)


class TestUnknown:
    async def test_an_unknown_plugin_lists_those_there_are(self) -> None:
        app = create_app(ServeConfig(**serving()))
        async with Client(ClientConfig(endpoint=app, plugins=[kv_plugin])) as client:
            with pytest.raises(PluginUnavailableError, match=r"no plugin 'kw'.*there are: kv"):
                client.dispense("kw", KV)

    async def test_another_interface_is_refused(self) -> None:
        class Other(Protocol):
            async def get(self, key: str) -> bytes: ...

        app = create_app(ServeConfig(**serving()))
        async with Client(ClientConfig(endpoint=app, plugins=[kv_plugin])) as client:
            with pytest.raises(TypeError, match=r"interface KV, not 'Other'"):
                client.dispense("kv", Other)

    async def test_a_client_is_used_inside_its_block_and_once(self) -> None:
        client = Client(
            ClientConfig(endpoint=create_app(ServeConfig(**serving())), plugins=[kv_plugin])
        )
        with pytest.raises(RuntimeError, match="async with"):
            client.dispense(kv_plugin)
        async with client:
            pass
        with pytest.raises(RuntimeError, match="once"):
            async with client:
                pass


class TestNobodyThere:
    async def test_the_address_that_was_tried_is_named(self, unused_tcp_port: int) -> None:
        endpoint = f"http://127.0.0.1:{unused_tcp_port}"
        with pytest.raises(PluginUnavailableError, match=endpoint):
            async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])):
                pass

    async def test_a_server_of_another_kind_is_told_apart(self) -> None:
        async def hello(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b"hello"})

        with pytest.raises(HandshakeError, match="no connectplugin server"):
            async with Client(ClientConfig(endpoint=hello, plugins=[kv_plugin])):
                pass

    async def test_with_wait_for_ready_the_client_waits_for_its_plugin(
        self, unused_tcp_port: int
    ) -> None:
        endpoint = f"http://127.0.0.1:{unused_tcp_port}"
        config = ClientConfig(endpoint=endpoint, plugins=[kv_plugin], wait_for_ready=True)
        client = Client(config)
        entering = asyncio.create_task(client.__aenter__())
        done, _ = await asyncio.wait([entering], timeout=0.2)
        assert not done
        async with Server(ServeConfig(**serving(), addr=f"127.0.0.1:{unused_tcp_port}")):
            async with asyncio.timeout(10):
                await entering
            await client.dispense(kv_plugin).put("a", b"b")
            await client.__aexit__(None, None, None)


class TestRestart:
    async def test_a_new_instance_is_handshaken_before_its_next_call(
        self, unused_tcp_port: int
    ) -> None:
        serve: dict[str, Any] = {"addr": f"127.0.0.1:{unused_tcp_port}"}
        endpoint = f"http://127.0.0.1:{unused_tcp_port}"
        config = ClientConfig(endpoint=endpoint, plugins=[kv_plugin], wait_for_ready=True)
        async with Server(ServeConfig(**serving(), **serve)) as server:
            client = Client(config)
            await client.__aenter__()
            kv = client.dispense(kv_plugin)
            first = client.server.instance_id
            await kv.put("a", b"1")
            assert client.server.instance_id == first
            assert server.url == endpoint
        async with Server(ServeConfig(**serving(), **serve)):
            await kv.put("a", b"2")
            await kv.put("a", b"3")
            assert client.server.instance_id != first
            await client.__aexit__(None, None, None)

    async def test_a_new_instance_of_another_version_is_refused_with_the_reason(
        self, unused_tcp_port: int
    ) -> None:
        addr = f"127.0.0.1:{unused_tcp_port}"
        both = {1: [kv_plugin], 2: [kv_plugin]}
        async with Server(
            ServeConfig(addr=addr, versioned_plugins={2: [kv_plugin.bind(MemoryKV())]})
        ):
            client = Client(
                ClientConfig(endpoint=f"http://{addr}", versioned_plugins=both, wait_for_ready=True)
            )
            await client.__aenter__()
            kv = client.dispense(kv_plugin)
            await kv.put("a", b"1")
        async with Server(
            ServeConfig(addr=addr, versioned_plugins={1: [kv_plugin.bind(MemoryKV())]})
        ):
            # The server refuses the first call; from then on the host knows.
            for says in ("not served at application version '2'", "make a new one"):
                with pytest.raises(ConnectError, match=says) as caught:
                    await kv.put("a", b"2")
                assert caught.value.code is Code.FAILED_PRECONDITION
            await client.__aexit__(None, None, None)


class TestConfig:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"endpoint": "127.0.0.1:80"}, "endpoint.*http://"),
            ({"endpoint": "ftp://x"}, "endpoint.*http://"),
            ({"endpoint": 7}, "endpoint is 7"),
            ({"endpoint": "http://plugin-svc:80"}, "allow_insecure"),
            ({"endpoint": "http://10.0.0.1:80"}, "allow_insecure"),
            ({"plugins": []}, "plugins is empty"),
            ({"plugins": [kv_plugin, kv_plugin]}, "two of the name 'kv'"),
            ({"plugins": [KVService]}, "no plugin"),
            ({"plugins": [kv_plugin], "versioned_plugins": {1: [kv_plugin]}}, "both"),
            ({"handshake_timeout": 0}, "handshake_timeout is 0"),
            ({"handshake_timeout": float("nan")}, "handshake_timeout is nan"),
            ({"read_max_bytes": -1}, "read_max_bytes is -1"),
            ({"magic_cookie": "x"}, "magic_cookie"),
            ({"stack": ClientStack(), "retry_policy": None}, "both stack and retry_policy"),
            ({"stack": ClientStack(), "retry_policy": RetryPolicy()}, "both stack and"),
            ({"stack": ClientStack(), "wait_for_ready": True}, "both stack and wait_for_ready"),
            ({"retry_policy": 3}, r"^ClientConfig\.retry_policy is 3"),
            ({"interceptors": [object()]}, "no interceptor"),
        ],
    )
    def test_a_field_that_cannot_work_is_named(self, fields: dict[str, Any], says: str) -> None:
        good: dict[str, Any] = {"endpoint": "http://127.0.0.1:80", "plugins": [kv_plugin]}
        with pytest.raises(ConfigError, match=says):
            ClientConfig(**{**good, **fields})

    def test_credentials_in_an_address_are_refused_and_not_shown(self) -> None:
        with pytest.raises(ConfigError) as caught:
            ClientConfig(endpoint="http://bob:hunter2@127.0.0.1:80", plugins=[kv_plugin])
        assert "hunter2" not in str(caught.value)

    def test_any_iterable_of_plugins_will_do(self) -> None:
        config = ClientConfig(endpoint="http://localhost:80", plugins=iter([kv_plugin]))
        assert list(config.plugin_sets[1]) == ["kv"]
