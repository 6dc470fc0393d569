"""ServeConfig: what it refuses, and how it says so."""

import socket
from typing import Any

import pytest

from connectplugin import BulkheadPolicy, ConfigError, ServeConfig
from connectplugin.serving.sockets import TcpAddress, UnixAddress, describe, parse_address
from kv_plugin import kv_plugin
from server import MemoryKV
from tests.integration.serving_kv import TellingKV, TellingPlugin, bound


def config(**options: Any) -> ServeConfig:
    options.setdefault("plugins", [kv_plugin.bind(MemoryKV())])
    return ServeConfig(**options)


def test_the_defaults_are_those_of_the_documentation() -> None:
    made = config()
    assert made.addr == "127.0.0.1:8080"
    assert (made.graceful_shutdown_timeout, made.stream_drain_timeout) == (30.0, 5.0)
    assert made.read_max_bytes == 4 * 1024 * 1024
    assert made.magic_cookie == ("CONNECT_PLUGIN", "d3f40b3c2e1a5f8b9c4d7e6a1b2c3d4e")
    assert made.stack.bulkhead == BulkheadPolicy(max_in_flight=100, max_queue=100, max_wait=1.0)
    assert list(made.plugin_sets) == [1]
    assert list(made.plugin_sets[1]) == ["kv"]
    with pytest.raises(AttributeError):
        made.addr = "x"  # type: ignore[misc]  # frozen


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"plugins": []}, "plugins is empty"),
        ({"plugins": [kv_plugin]}, r"without an implementation; give kv_plugin\.bind"),
        ({"plugins": [3]}, "plugins holds 3"),
        ({"versioned_plugins": {1: [kv_plugin.bind(MemoryKV())]}}, "both plugins and versioned"),
        ({"plugins": (), "versioned_plugins": {}}, "versioned_plugins is empty"),
        ({"impls": {"kv": MemoryKV()}}, "bound already"),
        ({"impls": {"cache": MemoryKV()}}, r"\['cache'\], but no plugin is called so"),
        ({"addr": "nonsense"}, r"ServeConfig\.addr is 'nonsense'; it must be like"),
        ({"addr": 8080}, r"ServeConfig\.addr is 8080; it must be str"),
        ({"addr": ":8080"}, "allow_insecure=True"),
        ({"graceful_shutdown_timeout": -1}, r"graceful_shutdown_timeout is -1; .* of seconds >= 0"),
        ({"stream_drain_timeout": float("nan")}, "stream_drain_timeout is nan"),
        ({"stack": None}, r"ServeConfig\.stack is None; it must be ServerStack"),
        ({"logger": "x"}, r"ServeConfig\.logger is 'x'; it must be Logger"),
        ({"magic_cookie": ("k",)}, "magic_cookie must be a pair"),
        ({"magic_cookie": ("", "v")}, "magic_cookie must be a pair"),
        ({"capabilities": "fast"}, r"capabilities is 'fast'; it must be a list of strings"),
        ({"server_metadata": {"a": 1}}, "server_metadata is .* must map strings to strings"),
        ({"self_id": "x" * 129}, "self_id has 129 characters; at most 128"),
        ({"read_max_bytes": 0}, "read_max_bytes is 0"),
        ({"allow_insecure": 1}, "allow_insecure is 1; it must be bool"),
    ],
)
def test_what_cannot_work_is_refused_with_the_field_and_a_right_value(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        config(**options)


def test_a_wrong_cookie_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        config(magic_cookie=("KEY", "swordfish", "x"))
    assert "swordfish" not in str(caught.value)


def test_unbound_plugins_take_their_implementation_from_impls() -> None:
    made = config(plugins=[kv_plugin], impls={"kv": MemoryKV()})
    assert made.plugin_sets[1]["kv"].service is not None
    impl = TellingKV()
    made = config(plugins=[TellingPlugin()], impls={"kv": impl})
    assert made.plugin_sets[1]["kv"].impl is impl
    with pytest.raises(ConfigError, match="get"):
        config(plugins=[kv_plugin], impls={"kv": object()})


def test_plugins_may_be_any_iterable_and_versions_are_sorted() -> None:
    assert list(config(plugins=(p for p in [bound(TellingKV())])).plugin_sets[1]) == ["kv"]
    sets = {3: [bound(TellingKV())], 1: [bound(TellingKV())]}
    assert list(config(plugins=(), versioned_plugins=sets).plugin_sets) == [1, 3]


@pytest.mark.parametrize(
    ("text", "address", "local"),
    [
        ("127.0.0.1:8080", TcpAddress("127.0.0.1", 8080), True),
        ("localhost:0", TcpAddress("localhost", 0), True),
        ("[::1]:80", TcpAddress("::1", 80), True),
        ("127.8.9.10:1", TcpAddress("127.8.9.10", 1), True),
        (":8080", TcpAddress("", 8080), False),
        ("0.0.0.0:1", TcpAddress("0.0.0.0", 1), False),  # noqa: S104  # the very thing
        ("example.org:1", TcpAddress("example.org", 1), False),
        ("localhost.evil.org:1", TcpAddress("localhost.evil.org", 1), False),
    ],
)
def test_addresses(text: str, address: TcpAddress, *, local: bool) -> None:
    parsed = parse_address("addr", text)
    assert (parsed, parsed.local) == (address, local)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "127.0.0.1:-1",
        "::1:80",
        "http://127.0.0.1:80",
        "a b:80",
        "unix://relative/path",
        "unix://",
        "unix:///" + "x" * 103,
        "127.0.0.1:８０",  # noqa: RUF001  # digits, but no ASCII ones
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ConfigError, match="addr is "):
        parse_address("addr", text)


def test_unix_addresses_are_local() -> None:
    parsed = parse_address("addr", "unix:///run/x.sock")
    assert isinstance(parsed, UnixAddress)
    assert (str(parsed.path), parsed.local) == ("/run/x.sock", True)


def test_a_socket_on_all_interfaces_is_reached_over_loopback() -> None:
    with socket.create_server(("0.0.0.0", 0)) as sock:  # noqa: S104  # the very thing
        port = sock.getsockname()[1]
        assert describe(sock) == (f"http://127.0.0.1:{port}", f"0.0.0.0:{port}")
