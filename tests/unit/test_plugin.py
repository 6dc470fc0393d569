"""Declared plugins and sets of them: names, versions, what the handshake is told, what clashes."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, cast

import pytest

from connectplugin._gen.grpc.health.v1.health_connect import Health
from connectplugin.binding import PluginDefinitionError
from connectplugin.plugin import (
    BoundPlugin,
    ClientConnection,
    ConnectPlugin,
    Plugin,
    PluginSet,
    ServerMux,
    service_path_of,
    versioned_plugin_sets,
)
from connectplugin_interceptors.errors import ConfigError
from kv.v1.kv_connect import KVService, KVServiceASGIApplication, KVServiceClient
from kv.v1.kv_pb import desc
from tests.gen.shapes.v1.shapes_connect import ShapeService
from tests.unit.binding.serving import Mux


class KV(Protocol):
    async def get(self, key: str) -> bytes: ...


class Shapes(Protocol):
    async def nothing(self) -> None: ...


class Memory:
    async def get(self, key: str) -> bytes:
        return key.encode()


def kv_plugin(name: str = "kv", version: str = "1.0.0") -> ConnectPlugin[KV]:
    return ConnectPlugin(name, KV, service=KVService, version=version)


def shapes_plugin(name: str = "shapes") -> ConnectPlugin[Shapes]:
    return ConnectPlugin(name, Shapes, service=ShapeService)


class Own:
    """A plugin for full control."""

    def __init__(self, name: Any = "own", service_path: str | None = None) -> None:
        self.name = name
        if service_path is not None:
            self.service_path = service_path
        self.registered: list[Any] = []

    def new_client(self, connection: ClientConnection, /) -> Any:
        return connection.endpoint

    def register_server(self, mux: ServerMux, impl: Any, /) -> None:
        self.registered.append((mux, impl))


def test_a_plugin_tells_what_it_is() -> None:
    plugin = kv_plugin(version="1.4.0-rc.1")
    assert plugin.name == "kv"
    assert plugin.version == "1.4.0-rc.1"
    assert plugin.interface is KV
    assert plugin.service is KVService
    assert plugin.client_class is KVServiceClient
    assert plugin.application_class is KVServiceASGIApplication
    assert plugin.service_name == "kv.v1.KVService"
    assert plugin.service_path == "/kv.v1.KVService/"
    assert [method.name for method in plugin.methods][:2] == ["Get", "Scan"]
    assert plugin.descriptor_sha256 == hashlib.sha256(desc().proto.to_binary()).digest()
    assert repr(plugin) == "<ConnectPlugin 'kv' 1.4.0-rc.1: KV over kv.v1.KVService>"
    assert isinstance(plugin, Plugin)


@pytest.mark.parametrize("name", ["a", "kv", "KV2", "kv.v1", "kv-beta_1", "a" * 128])
def test_names_that_can_be(name: str) -> None:
    assert kv_plugin(name).name == name


@pytest.mark.parametrize(
    "name",
    ["", "1kv", "-kv", ".kv", "_kv", "k v", "kv+beta (eu)", "a|b", "kv\n", "ä", "a" * 129, 3],
)
def test_names_that_cannot_be(name: Any) -> None:
    with pytest.raises(PluginDefinitionError) as caught:
        kv_plugin(name)
    assert repr(name) in str(caught.value)
    assert "a letter (A-Z, a-z), then letters, digits, '_', '.' or '-', at most 128" in str(
        caught.value
    )


@pytest.mark.parametrize("name", ["health", "Health", "connectplugin", "broker", "services"])
def test_names_that_mean_something_else(name: str) -> None:
    with pytest.raises(PluginDefinitionError, match="is reserved, as are broker, capabilities"):
        kv_plugin(name)


def test_services_that_are_ours() -> None:
    class Checks(Protocol):
        async def check(self, service: str) -> None: ...

    with pytest.raises(PluginDefinitionError, match=r"grpc.health.v1.Health is a service of conne"):
        ConnectPlugin("checks", Checks, service=Health)


@pytest.mark.parametrize(
    "version", ["0.0.0", "1.10.0", "1.0.0-alpha.1", "1.0.0+build.5", "1.0.0-0a"]
)
def test_versions_that_can_be(version: str) -> None:
    assert kv_plugin(version=version).version == version


@pytest.mark.parametrize(
    "version",
    [
        *["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-01", "1.0.0-", "1.0.0+", "1.0.0\n"],
        "1.0.0-" + "a" * 60,
        1.0,
    ],
    ids=repr,
)
def test_versions_that_cannot_be(version: Any) -> None:
    with pytest.raises(PluginDefinitionError, match="is no semantic version; write it like"):
        kv_plugin(version=version)


def test_registering_mounts_the_generated_application() -> None:
    mounted: list[tuple[Any, Any]] = []

    class Recording:
        def mount(self, application_class: Any, service: Any, /) -> None:
            mounted.append((application_class, service))

    plugin, impl = kv_plugin(), Memory()
    plugin.register_server(Recording(), impl)
    bound = plugin.bind(impl)
    bound.register(Recording())
    assert [application for application, _ in mounted] == [KVServiceASGIApplication] * 2
    assert mounted[1][1] is bound.service
    assert "KVService over <" in repr(bound.service)
    assert (bound.name, bound.plugin, bound.impl) == ("kv", plugin, impl)


def test_an_own_plugin_registers_itself() -> None:
    own, impl, mux = Own(), object(), Mux()
    BoundPlugin(own, impl).register(mux)
    assert own.registered == [(mux, impl)]


def test_a_set_is_an_immutable_mapping() -> None:
    kv, shapes = kv_plugin(), shapes_plugin()
    plugins: PluginSet[Plugin] = PluginSet([kv, shapes])
    assert isinstance(plugins, Mapping)
    assert dict(plugins) == {"kv": kv, "shapes": shapes}
    assert list(plugins) == ["kv", "shapes"]
    assert "kv" in plugins
    assert "other" not in plugins
    assert repr(plugins) == "PluginSet('kv', 'shapes')"
    with pytest.raises(TypeError):
        cast("Any", plugins)["x"] = kv
    with pytest.raises(KeyError, match="no plugin 'other'; there are 'kv', 'shapes'"):
        plugins["other"]


def test_a_set_is_made_of_any_iterable_and_of_mappings() -> None:
    kv, bound = kv_plugin(), shapes_plugin().bind(_Nothing())
    for given in ([kv], (kv,), iter([kv]), {"kv": kv}, PluginSet([kv])):
        assert dict(PluginSet(cast("list[Plugin]", given))) == {"kv": kv}
    assert dict(PluginSet([bound])) == {"shapes": bound}
    assert dict(PluginSet([Own()])) != {}


class _Nothing:
    async def nothing(self) -> None: ...


def _names() -> Iterator[str]:
    yield "kv"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "plugins is empty; name at least one plugin"),
        (kv_plugin(), "plugins is a single plugin, <ConnectPlugin 'kv'"),
        (3, "plugins is 3; it must be an iterable of plugins"),
        ("kv", "plugins holds 'k', which is no plugin; write ConnectPlugin('kv', KV,"),
        (_names(), "plugins holds 'kv', which is no plugin"),
        ([ConnectPlugin], "plugins holds <class 'connectplugin.plugin.ConnectPlugin'>"),
        ({"kvs": kv_plugin()}, "its key must be its name, 'kv'"),
        ([Own("a b")], "name='a b' cannot be a plugin's name"),
        ([BoundPlugin(cast("Any", 3), None)], "which is no plugin"),
    ],
    ids=str,
)
def test_what_cannot_be_a_set(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PluginSet(given)
    assert said in str(caught.value)


def test_two_of_one_name_are_both_named() -> None:
    with pytest.raises(ConfigError) as caught:
        PluginSet[Plugin]([kv_plugin("same"), shapes_plugin("same")])
    assert str(caught.value) == (
        "plugins has two of the name 'same': <ConnectPlugin 'same' 1.0.0: KV over "
        "kv.v1.KVService> and <ConnectPlugin 'same' 1.0.0: Shapes over shapes.v1.ShapeService>"
    )


@pytest.mark.parametrize("path", ["kv.v1.KVService", "/kv.v1.KVService/", "/kv.v1.KVService"])
def test_two_of_one_path_are_both_named_however_it_is_written(path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PluginSet[Plugin]([kv_plugin(), Own("mine", path)])
    assert str(caught.value) == (
        "plugins 'kv' and 'mine' both have the service path /kv.v1.KVService/; "
        "a server can mount it once"
    )


def test_paths_of_bound_plugins_clash_too() -> None:
    with pytest.raises(ConfigError, match="both have the service path"):
        PluginSet([kv_plugin("one").bind(Memory()), kv_plugin("two").bind(Memory())])


def test_the_path_of_a_plugin() -> None:
    assert service_path_of(kv_plugin()) == "kv.v1.KVService"
    assert service_path_of(kv_plugin().bind(Memory())) == "kv.v1.KVService"
    assert service_path_of(Own()) is None


def test_versioned_sets_come_lowest_first() -> None:
    one, two = kv_plugin(), kv_plugin(version="2.0.0")
    sets = versioned_plugin_sets({2: [two], 1: [one]})
    assert list(sets) == [1, 2]
    assert sets[2]["kv"] is two


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "versioned_plugins is empty; name at least one version, such as {1: [plugin]}"),
        ({0: [kv_plugin()]}, "versioned_plugins has the version 0; versions are 1, 2, 3, ..."),
        ({True: [kv_plugin()]}, "has the version True"),
        ({"1": [kv_plugin()]}, "has the version '1'"),
        ({1: []}, "versioned_plugins[1]: plugins is empty"),
        ({2: [kv_plugin(), kv_plugin()]}, "versioned_plugins[2]: plugins has two of the name 'kv'"),
    ],
    ids=str,
)
def test_versions_of_sets_that_cannot_be(given: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        versioned_plugin_sets(given)
    assert said in str(caught.value)
