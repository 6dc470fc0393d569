"""`Client`: connects to a plugin server, shakes hands, and dispenses typed plugins."""

from dataclasses import replace
from types import TracebackType
from typing import Any, Self, TypeVar, cast, overload

from connectrpc.client import ConnectClient
from typing_extensions import TypeForm

from connectplugin.config import ClientConfig
from connectplugin.errors import PluginUnavailableError
from connectplugin.links import Links
from connectplugin.open_calls import OpenCalls
from connectplugin.plugin import ConnectPlugin, Plugin, PluginSet, service_path_of
from connectplugin.session import ServerInfo
from connectplugin_interceptors.balance.endpoint import EndpointState
from connectplugin_interceptors.circuit_breaker.breakers import Breakers
from connectplugin_interceptors.circuit_breaker.interceptor import breakers_of
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.generated import bound_client
from connectplugin_interceptors.hedge.interceptor import close_chain

T = TypeVar("T")
C = TypeVar("C", bound=ConnectClient)


class Client:
    """A host's connection to a plugin server.

    ```python
    config = ClientConfig(endpoint="http://127.0.0.1:8080", plugins=[kv_plugin])
    async with Client(config) as client:
        kv = client.dispense(kv_plugin)
    ```
    Entering it shakes hands: the application version is agreed on there, and what is dispensed
    belongs to that version. When the server is replaced under the same address, the next call is
    preceded by another handshake. All plugins share one chain: its budget and its machines.

    With several endpoints each shakes hands before it gets traffic; to enter the client one of them
    is enough, and the others are asked in the background until they answer.

    Args:
        config: What to connect to, and how.
    """

    def __init__(self, config: ClientConfig) -> None:
        if not isinstance(config, ClientConfig):
            msg = f"Client takes a ClientConfig, got {config!r}"
            raise ConfigError(msg)
        self._config = config
        self._address = ", ".join(config.endpoints)
        self._connection: _Connection | None = None
        self._entered = False

    async def __aenter__(self) -> Self:
        """Connect and shake hands.

        Raises:
            PluginUnavailableError: Nobody answers at any address; the text names them.
            HandshakeError: The peer answers, and does not fit; the text says what each side offers.
        """
        if self._entered:
            msg = "a Client can be entered once; make another from the same ClientConfig"
            raise RuntimeError(msg)
        self._entered = True
        connection = _Connection(self._config, self._address)
        try:
            await connection.open()
        except BaseException:
            await connection.aclose()
            raise
        self._connection = connection
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the calls that are under way, with `canceled`, and close the connections."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    @property
    def endpoint(self) -> str:
        """The address, for people to read."""
        return self._address

    @property
    def endpoints(self) -> dict[str, EndpointState]:
        """The state of each endpoint, by its address."""
        return {endpoint.key: endpoint.state for endpoint in self._open().pool.endpoints}

    @property
    def server(self) -> ServerInfo:
        """What the server said of itself in the last handshake."""
        info = self._open().info
        if info is None:
            msg = "there was no handshake yet"
            raise RuntimeError(msg)
        return info

    @property
    def breakers(self) -> Breakers:
        """The circuits of this client: `status()`, and `isolate`, `force_open`, `reset` by hand."""
        return self._open().breakers

    @overload
    def dispense(self, plugin: ConnectPlugin[T], /) -> T: ...

    @overload
    def dispense(self, plugin: Plugin, /) -> Any: ...

    @overload
    def dispense(self, plugin: str, interface: TypeForm[T], /) -> T: ...

    def dispense(self, plugin: Any, interface: Any = None, /) -> Any:
        """An object of the plugin's interface, whose calls go to the server.

        Args:
            plugin: The plugin, or its name.
            interface: With a name: the interface, so that type checkers know what comes out; or
                the generated client class, to have that instead.

        Raises:
            PluginUnavailableError: The host does not know the plugin in the version agreed on, or
                the server does not serve it; lists those that are there.
            TypeError: The interface is not the plugin's.
        """
        connection = self._open()
        known = connection.plugins
        if isinstance(plugin, str):
            found = known.get(plugin)
            name = plugin
        else:
            name = getattr(plugin, "name", repr(plugin))
            found = known.get(name)
            if found is not None and found is not plugin:
                msg = (
                    f"the plugin {name!r} of this client is {found!r}, not {plugin!r}; dispense "
                    "the one that ClientConfig names for the version agreed on"
                )
                raise PluginUnavailableError(msg)
        if found is None:
            msg = (
                f"no plugin {name!r} in this client at application version "
                f"{self.server.app_version}; there are: {', '.join(sorted(known))}"
            )
            raise PluginUnavailableError(msg)
        connection.check_served(found)
        if isinstance(interface, type) and issubclass(interface, ConnectClient):
            return connection.client(cast("Any", interface))
        _check_interface(found, interface)
        return found.new_client(connection)

    def _open(self) -> "_Connection":
        if self._connection is None:
            msg = "the Client is not open: use it inside 'async with Client(config) as client'"
            raise RuntimeError(msg)
        return self._connection

    def __repr__(self) -> str:
        state = "open" if self._connection is not None else "closed"
        return f"<Client {self._config.label} at {self._address} {state}>"


class _Connection:
    """What an open client has: its endpoints, and one chain for all plugins."""

    def __init__(self, config: ClientConfig, address: str) -> None:
        self._config = config
        self._address = address
        self._links = Links(config)
        self.pool = self._links.pool
        self._options = {"read_max_bytes": config.read_max_bytes}
        self._open_calls = OpenCalls()
        stack = config.client_stack()
        self._chain = replace(
            stack,
            call=(self._open_calls, *stack.call),
            attempt=(self._links.gate, *stack.attempt),
        ).interceptors(
            name=config.label,
            rng=config.rng,
            clock=config.clock,
            listeners=config.listeners,
            observed=True,
            pool=self.pool,
        )
        self._links.guarded_by(breakers_of(self._chain))
        self._clients: dict[type[ConnectClient], ConnectClient] = {}

    @property
    def info(self) -> ServerInfo | None:
        """What the server, or one of them, said of itself; None before the first handshake."""
        return self._links.info

    @property
    def endpoint(self) -> str:
        """Where it leads, for people to read."""
        return self._address

    @property
    def breakers(self) -> Breakers:
        """The circuits of the chain."""
        return breakers_of(self._chain)

    @property
    def plugins(self) -> PluginSet[Plugin]:
        """The host's plugins in the version agreed on."""
        info = self.info
        if info is None:
            msg = "there was no handshake yet"
            raise RuntimeError(msg)
        return self._config.plugin_sets[info.app_version]

    async def open(self) -> None:
        """Shake hands."""
        await self._links.open()

    def client(self, client_class: type[C], /) -> C:
        """A generated client over the chain; one for each class."""
        found = self._clients.get(cast("type[ConnectClient]", client_class))
        if found is None:
            found = bound_client(
                client_class,
                self._links.address,
                self._chain,
                self._links.transport,
                self._options,
            )
            self._clients[cast("type[ConnectClient]", client_class)] = found
        return cast("C", found)

    def check_served(self, plugin: Plugin) -> None:
        """Refuse a plugin that the server has not listed, or serves elsewhere."""
        info = self.info
        if info is None:
            return
        listed = info.plugins.get(plugin.name)
        if listed is None:
            served = ", ".join(sorted(info.plugins)) or "none of those asked for"
            msg = (
                f"the server at {self._address} does not serve the plugin {plugin.name!r} at "
                f"application version {info.app_version}; it serves: {served}"
            )
            raise PluginUnavailableError(msg)
        path = service_path_of(plugin)
        there = listed.service_path.strip("/")
        if path is not None and there and there != path:
            msg = (
                f"the server at {self._address} serves the plugin {plugin.name!r} as /{there}/, "
                f"the host expects /{path}/: they are different services"
            )
            raise PluginUnavailableError(msg)

    async def aclose(self) -> None:
        """End the calls, and close what was opened here."""
        await self._open_calls.aclose()
        await close_chain(self._chain)
        await self._links.aclose()


def _check_interface(plugin: Plugin, interface: Any) -> None:
    if interface is None or not isinstance(plugin, ConnectPlugin):
        return
    own = plugin.interface  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if interface is not own:
        msg = (
            f"the plugin {plugin.name!r} has the interface {own.__name__}, not "
            f"{getattr(interface, '__name__', interface)!r}; dispense({plugin.name!r}, "
            f"{own.__name__}), or pass the generated client class"
        )
        raise TypeError(msg)
