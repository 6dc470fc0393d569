"""What host and plugin share: the declaration of a plugin, and sets of them.

```python
kv_plugin = ConnectPlugin("kv", KV, service=KVService)          # a ConnectPlugin[KV]
client_side = ClientConfig(endpoint=..., plugins=[kv_plugin])
server_side = ServeConfig(plugins=[kv_plugin.bind(MemoryKV())])
```
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

from connectrpc.client import ConnectClient
from connectrpc.method import MethodInfo
from connectrpc.server import ConnectASGIApplication
from typing_extensions import TypeForm

from connectplugin.binding import (
    PluginDefinitionError,
    check_implementation,
    check_service,
    interface_class,
    make_adapter,
    make_facade,
    match_interface,
    read_schema,
)
from connectplugin.binding.identity import RESERVED_PACKAGES, check_name, check_version
from connectplugin_interceptors.errors import ConfigError

T = TypeVar("T")
C = TypeVar("C", bound=ConnectClient)
S = TypeVar("S")


class ClientConnection(Protocol):
    """What a plugin makes its client from: a connection that has been handshaken."""

    @property
    def endpoint(self) -> str:
        """Where it leads, for people to read."""
        ...

    def client(self, client_class: type[C], /) -> C:
        """Make a generated client whose calls go through the chain."""
        ...


class ServerMux(Protocol):
    """Where a plugin mounts its services."""

    def mount(self, application_class: type[ConnectASGIApplication[S]], service: S, /) -> None:
        """Serve a generated service through the server's chain."""
        ...


@runtime_checkable
class Plugin(Protocol):
    """A plugin as host and server see it. `ConnectPlugin` is one; write your own for full control.

    An own one may also have `service_path` and `version`, which the handshake tells the host.
    """

    @property
    def name(self) -> str:
        """By which it is dispensed; unique in its set."""
        ...

    def new_client(self, connection: ClientConnection, /) -> Any:
        """Make what `dispense` returns."""
        ...

    def register_server(self, mux: ServerMux, impl: Any, /) -> None:
        """Mount what answers for the implementation."""
        ...


class ConnectPlugin(Generic[T]):
    """A plugin that is called through a Protocol of the user's own.

    The Protocol is matched with the service here, once; `connectplugin.binding.match` has the
    rules, `connectplugin.binding.naming` those for names.

    Args:
        name: By which it is dispensed: a letter, then letters, digits, `_`, `.` or `-`; at most
            128 characters.
        interface: A `typing.Protocol` in domain types. It may leave out methods of the service.
        service: The generated service class (`KVService`), of connectrpc and protobuf-py.
        version: The version of what it does, told in the handshake; a semantic version.

    Raises:
        PluginDefinitionError: A name or version that cannot be, no generated service, or a
            Protocol that differs from it: then all differences are listed.
    """

    def __init__(
        self, name: str, interface: TypeForm[T], *, service: type[Any], version: str = "1.0.0"
    ) -> None:
        check_name(name)
        check_version(name, version)
        self._name = name
        self._version = version
        self._schema = read_schema(service)
        if self._schema.name.startswith(RESERVED_PACKAGES):
            msg = f"plugin {name!r}: {self._schema.name} is a service of connectplugin itself"
            raise PluginDefinitionError(msg)
        self._interface = interface_class(interface)
        self._matches = match_interface(interface, self._schema)
        self._facade = make_facade(self._interface, name, self._matches)

    @property
    def name(self) -> str:
        """By which it is dispensed."""
        return self._name

    @property
    def version(self) -> str:
        """The version of what it does."""
        return self._version

    @property
    def interface(self) -> type[T]:
        """The Protocol; of a generic one with arguments, the Protocol without them."""
        return self._interface

    @property
    def service(self) -> type[Any]:
        """The generated service class."""
        return self._schema.service

    @property
    def client_class(self) -> type[ConnectClient]:
        """The generated client class."""
        return self._schema.client

    @property
    def application_class(self) -> type[ConnectASGIApplication[Any]]:
        """The generated ASGI application class."""
        return self._schema.application

    @property
    def service_name(self) -> str:
        """`kv.v1.KVService`."""
        return self._schema.name

    @property
    def service_path(self) -> str:
        """`/kv.v1.KVService/`."""
        return f"/{self._schema.name}/"

    @property
    def methods(self) -> tuple[MethodInfo[Any, Any], ...]:
        """All methods of the service, in the order of the `.proto`."""
        return tuple(rpc.info for rpc in self._schema.rpcs.values())

    @property
    def descriptor_sha256(self) -> bytes | None:
        """SHA-256 of the descriptor of the file that declares the service; None if it has none."""
        return self._schema.descriptor_sha256

    def new_client(self, connection: ClientConnection, /) -> T:
        """Make an object that satisfies the Protocol, and calls through the connection."""
        client = connection.client(self._schema.client)
        return cast("T", self._facade(client, connection.endpoint))

    def bind(self, impl: T) -> "BoundPlugin":
        """Give an implementation of the Protocol, for a server.

        Raises:
            PluginDefinitionError: It lacks a method, or has one that is synchronous or takes or
                returns something else; lists all of them.
        """
        handlers = check_implementation(impl, self._interface.__name__, self._matches)
        return BoundPlugin(self, impl, make_adapter(impl, self._schema, handlers))

    def bind_service(self, impl: Any) -> "BoundPlugin":
        """Give an implementation of the generated service class itself, for a server.

        Raises:
            PluginDefinitionError: It lacks methods, or has synchronous ones; lists all of them.
        """
        check_service(impl, self._schema)
        return BoundPlugin(self, impl, impl)

    def register_server(self, mux: ServerMux, impl: T, /) -> None:
        """Mount an implementation of the Protocol; `bind` is the same in two steps."""
        self.bind(impl).register(mux)

    def __repr__(self) -> str:
        return (
            f"<ConnectPlugin {self._name!r} {self._version}: "
            f"{self._interface.__name__} over {self._schema.name}>"
        )


@dataclass(frozen=True, slots=True)
class BoundPlugin:
    """A plugin with what answers its calls: what `ServeConfig.plugins` takes.

    `ConnectPlugin.bind` makes it; for a `Plugin` of one's own write `BoundPlugin(plugin, impl)`.

    Attributes:
        plugin: What was declared.
        impl: The implementation, as given.
        service: What the generated application of a `ConnectPlugin` calls; None for others, whose
            `register_server` is asked.
    """

    plugin: Plugin
    impl: Any
    service: Any = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The plugin's name."""
        return self.plugin.name

    def register(self, mux: ServerMux) -> None:
        """Mount it."""
        plugin: Any = self.plugin
        if self.service is None:
            plugin.register_server(mux, self.impl)
        else:
            mux.mount(plugin.application_class, self.service)


P_co = TypeVar("P_co", bound=Plugin | BoundPlugin, covariant=True)


class PluginSet(Mapping[str, P_co]):
    """Plugins by their names; immutable, never empty.

    Args:
        plugins: Plugins or bound plugins, or a mapping of names to them.

    Raises:
        ConfigError: There is none, one is not a plugin, or two share a name or a service path;
            both are named then.
    """

    def __init__(self, plugins: Iterable[P_co] | Mapping[str, P_co]) -> None:
        found: dict[str, P_co] = {}
        paths: dict[str, str] = {}
        for key, plugin in _named(plugins):
            name = _checked(plugin)
            if key is not None and key != name:
                msg = f"plugins has {key!r}: {plugin!r}; its key must be its name, {name!r}"
                raise ConfigError(msg)
            if name in found:
                msg = f"plugins has two of the name {name!r}: {found[name]!r} and {plugin!r}"
                raise ConfigError(msg)
            path = service_path_of(plugin)
            if path is not None and path in paths:
                msg = (
                    f"plugins {paths[path]!r} and {name!r} both have the service path /{path}/; "
                    f"a server can mount it once"
                )
                raise ConfigError(msg)
            if path is not None:
                paths[path] = name
            found[name] = plugin
        if not found:
            msg = "plugins is empty; name at least one plugin"
            raise ConfigError(msg)
        self._plugins: Mapping[str, P_co] = MappingProxyType(found)

    def __getitem__(self, name: str) -> P_co:
        try:
            return self._plugins[name]
        except KeyError:
            known = ", ".join(map(repr, self._plugins))
            msg = f"no plugin {name!r}; there are {known}"
            raise KeyError(msg) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)

    def __contains__(self, name: object) -> bool:
        return name in self._plugins

    def __repr__(self) -> str:
        return f"PluginSet({', '.join(map(repr, self._plugins))})"


def versioned_plugin_sets(
    versions: Mapping[int, Iterable[P_co] | Mapping[str, P_co]],
) -> dict[int, PluginSet[P_co]]:
    """Plugin sets by application version, lowest first.

    Raises:
        ConfigError: There is none, a version is no whole number from 1 up, or one of the sets
            cannot be; its version is named.
    """
    if not versions:
        msg = "versioned_plugins is empty; name at least one version, such as {1: [plugin]}"
        raise ConfigError(msg)
    for version in versions:
        number: object = version
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            msg = f"versioned_plugins has the version {version!r}; versions are 1, 2, 3, ..."
            raise ConfigError(msg)
    sets: dict[int, PluginSet[P_co]] = {}
    for version in sorted(versions):
        try:
            sets[version] = PluginSet(versions[version])
        except ConfigError as error:
            msg = f"versioned_plugins[{version}]: {error}"
            raise ConfigError(msg) from error
    return sets


def service_path_of(plugin: object) -> str | None:
    """A plugin's service path without slashes around it; None if it tells none."""
    if isinstance(plugin, BoundPlugin):
        plugin = plugin.plugin
    path = getattr(plugin, "service_path", None)
    return path.strip("/") if isinstance(path, str) else None


def _named(plugins: Iterable[P_co] | Mapping[str, P_co]) -> Iterator[tuple[str | None, P_co]]:
    if isinstance(plugins, Plugin | BoundPlugin):
        msg = f"plugins is a single plugin, {plugins!r}; put it into a list"
        raise ConfigError(msg)
    if isinstance(plugins, Mapping):
        yield from cast("Mapping[str, P_co]", plugins).items()
        return
    try:
        iterator = iter(plugins)
    except TypeError:
        msg = f"plugins is {plugins!r}; it must be an iterable of plugins"
        raise ConfigError(msg) from None
    for plugin in iterator:
        yield None, plugin


def _checked(plugin: object) -> str:
    inner = plugin.plugin if isinstance(plugin, BoundPlugin) else plugin
    if isinstance(inner, type) or not isinstance(inner, Plugin):
        msg = (
            f"plugins holds {plugin!r}, which is no plugin; write ConnectPlugin('kv', KV, "
            f"service=KVService), or an object with name, new_client and register_server"
        )
        raise ConfigError(msg)
    check_name(inner.name)
    return inner.name
