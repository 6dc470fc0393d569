"""`ServeConfig`: which plugins are served, where, and behind which chain."""

import logging
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from connectrpc.server import DEFAULT_READ_MAX_BYTES

from connectplugin.plugin import (
    BoundPlugin,
    ConnectPlugin,
    Plugin,
    PluginSet,
    versioned_plugin_sets,
)
from connectplugin.serving.sockets import TcpAddress, UnixAddress, describe, parse_address
from connectplugin.wire import DEFAULT_COOKIE
from connectplugin_interceptors import validation
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.server.rate_limit.config import Quota, ServerRateLimitPolicy
from connectplugin_interceptors.server.stack import ServerStack

_ONLY_VERSION: Final = 1
_MAX_SELF_ID: Final = 128
_MAX_SELF_VERSION: Final = 64

CONTROL_QUOTAS: Final = {
    "connectplugin.v1.HandshakeService/Handshake": Quota(per_second=10, burst=20),
    "connectplugin.v1.PluginController/Handshake": Quota(per_second=10, burst=20),
    "connectplugin.v1.ServiceRegistry/RegisterService": Quota(per_second=1, burst=5),
    "connectplugin.v1.ServiceRegistry/DiscoverService": Quota(per_second=100, burst=200),
    "connectplugin.v1.ServiceRegistry/WatchService": Quota(per_second=1, burst=3),
    "connectplugin.v1.CapabilityBroker/RequestCapability": Quota(per_second=10, burst=20),
}
"""What each address may ask of the control plane, wherever it is served."""

DEFAULT_STACK: Final = ServerStack(
    rate_limit=ServerRateLimitPolicy(per_second=1000, burst=2000, methods=CONTROL_QUOTAS),
    adaptive_limit=AdaptiveLimitPolicy(max_limit=200),
    bulkhead=BulkheadPolicy(max_in_flight=100, max_queue=100, max_wait=1.0),
)
"""The chain of a server of plugins: 1,000 calls a second from each address (10 handshakes), 100
calls in flight for each plugin, up to 100 wait 1 s."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """What a server serves, and how. Times are in seconds.

    Attributes:
        plugins: Bound plugins (`kv_plugin.bind(MemoryKV())`), at application version 1.
        versioned_plugins: Instead of `plugins`: sets by application version. A client gets the
            highest version that it has too. Two versions may serve the same service with different
            implementations: the version that the client has agreed on picks.
        impls: Implementations by plugin name, for plugins that are given unbound.
        addr: `host:port`, `unix:///path`, `:port` for all interfaces; port 0 takes a free one.
            Default `127.0.0.1:8080`.
        sock: A socket that is bound already, instead of `addr`; the server closes it.
        stack: The chain before the handlers; see `ServerStack`. By default each address may make
            1,000 calls a second (and 10 handshakes), and each plugin has a bulkhead of 100 calls in
            flight and a queue of 100 that wait 1 s at most.
        graceful_shutdown_timeout: How long calls in flight may go on once the server is told to
            stop. Default 30.
        stream_drain_timeout: How long open streams of them may; then they end with `unavailable`
            and the reason. Default 5. At most nine tenths of `graceful_shutdown_timeout`, so that
            they can end in order.
        drain_notice: How long a server that was told to stop stays for clients that are connected,
            though it has nothing left to do: what they call is refused in a way that is safe to
            send elsewhere, and their connection closes with the answer. Were it closed before, a
            call on its way would be lost. Default 1; over as soon as nobody is connected. At most
            `graceful_shutdown_timeout` counts.
        logger: Where the server says that it begins and stops to serve. Default
            `connectplugin.server`.
        magic_cookie: Key and value that clients must show; None to ask for none. No secret.
        capabilities: What clients may require in the handshake.
        server_metadata: What else clients are told in the handshake.
        self_id: The name that this server gives itself.
        self_version: And its version.
        allow_insecure: Whether plaintext may be spoken with other machines. Default False.
        allow_remote_shutdown: Whether other machines may call the Shutdown RPC. Default False:
            there is no authentication yet.
        read_max_bytes: The largest request message, unpacked. Default 4 MiB.

    Raises:
        ConfigError: A field is wrong; the text names it, its value, and what would be right.
    """

    plugins: Iterable[BoundPlugin | Plugin] = ()
    versioned_plugins: Mapping[int, Iterable[BoundPlugin | Plugin]] | None = None
    impls: Mapping[str, object] = field(default_factory=dict[str, object])
    addr: str = "127.0.0.1:8080"
    sock: socket.socket | None = None
    stack: ServerStack = DEFAULT_STACK
    graceful_shutdown_timeout: float = 30.0
    stream_drain_timeout: float = 5.0
    drain_notice: float = 1.0
    logger: logging.Logger = field(
        default_factory=lambda: logging.getLogger("connectplugin.server")
    )
    magic_cookie: tuple[str, str] | None = DEFAULT_COOKIE
    capabilities: Sequence[str] = ()
    server_metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    self_id: str = ""
    self_version: str = ""
    allow_insecure: bool = False
    allow_remote_shutdown: bool = False
    read_max_bytes: int = DEFAULT_READ_MAX_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        for flag in ("allow_insecure", "allow_remote_shutdown"):
            validation.instance(self, flag, bool)
        for seconds in ("graceful_shutdown_timeout", "stream_drain_timeout", "drain_notice"):
            validation.number(self, seconds, minimum=0.0, unit="seconds")
        for name, kind in (("self_id", str), ("self_version", str), ("stack", ServerStack)):
            validation.instance(self, name, kind)
        validation.instance(self, "logger", logging.Logger)
        validation.integer(self, "read_max_bytes", minimum=1)
        self._check_plugins()
        self._check_address()
        self._check_handshake()
        if self.stack.drain is None:
            msg = (
                "ServeConfig.stack has drain=None; a server that cannot drain cannot stop: leave"
                " it out, or give ServerStack(drain=DrainPolicy())"
            )
            raise ConfigError(msg)

    @property
    def plugin_sets(self) -> Mapping[int, PluginSet[BoundPlugin]]:
        """The plugins by application version, lowest first."""
        sets: Mapping[int, PluginSet[BoundPlugin]] = self.__dict__["_sets"]
        return sets

    @property
    def address(self) -> TcpAddress | UnixAddress:
        """`addr`, understood."""
        return parse_address("ServeConfig.addr", self.addr)

    def _check_plugins(self) -> None:
        sets: dict[int, PluginSet[BoundPlugin | Plugin]]
        if self.versioned_plugins is None:
            # A generator can be read once: what was read is kept.
            object.__setattr__(self, "plugins", PluginSet(self.plugins))
            sets = {_ONLY_VERSION: PluginSet(self.plugins)}
        elif not isinstance(self.plugins, tuple) or self.plugins:
            msg = (
                "ServeConfig has both plugins and versioned_plugins; plugins is the short form of"
                f" versioned_plugins={{{_ONLY_VERSION}: [...]}}: give one of them"
            )
            raise ConfigError(msg)
        else:
            sets = versioned_plugin_sets(self.versioned_plugins)
        unused = set(self.impls)
        bound: dict[int, PluginSet[BoundPlugin]] = {}
        for version, plugins in sets.items():
            unused -= set(plugins)
            bound[version] = PluginSet([self._bound(plugin) for plugin in plugins.values()])
        if unused:
            msg = f"ServeConfig.impls has {sorted(unused)!r}, but no plugin is called so"
            raise ConfigError(msg)
        object.__setattr__(self, "_sets", bound)

    def _bound(self, plugin: BoundPlugin | Plugin) -> BoundPlugin:
        name = plugin.name
        if isinstance(plugin, BoundPlugin):
            if name in self.impls:
                msg = f"ServeConfig.impls has {name!r}, but that plugin is bound already"
                raise ConfigError(msg)
            return plugin
        if name not in self.impls:
            msg = (
                f"ServeConfig.plugins has {plugin!r} without an implementation; give"
                f" {name}_plugin.bind(implementation), or impls={{{name!r}: implementation}}"
            )
            raise ConfigError(msg)
        impl: Any = self.impls[name]
        declared: Any = plugin
        if isinstance(declared, ConnectPlugin):
            bound: BoundPlugin = declared.bind(impl)  # pyright: ignore[reportUnknownMemberType]  # of whichever interface
            return bound
        return BoundPlugin(plugin, impl)

    def _check_address(self) -> None:
        validation.instance(self, "addr", str)
        validation.instance(self, "sock", socket.socket, optional=True)
        parsed = self.address
        if self.sock is not None:
            where = describe(self.sock)[1]
            if not where.startswith("unix://"):
                parsed = parse_address("ServeConfig.sock", where)
            name = "sock"
        else:
            where, name = self.addr, "addr"
        if not parsed.local and not self.allow_insecure:
            msg = (
                f"ServeConfig.{name} is {where!r}: other machines could call it in plaintext, which"
                " anyone between can read and change; listen on '127.0.0.1:...' or a unix socket,"
                " or set allow_insecure=True if the network itself is trusted"
            )
            raise ConfigError(msg)

    def _check_handshake(self) -> None:
        cookie: tuple[object, ...] | None = self.magic_cookie
        if cookie is not None and not (
            isinstance(cookie, tuple)
            and len(cookie) == 2  # noqa: PLR2004  # a pair
            and all(isinstance(part, str) and part for part in cookie)
        ):
            msg = (
                "ServeConfig.magic_cookie must be a pair of non-empty strings, ('KEY', 'value'),"
                " or None"
            )
            raise ConfigError(msg)
        for name, most in (("self_id", _MAX_SELF_ID), ("self_version", _MAX_SELF_VERSION)):
            value: str = getattr(self, name)
            if len(value) > most:
                msg = f"ServeConfig.{name} has {len(value)} characters; at most {most} are allowed"
                raise ConfigError(msg)
        capabilities: Any = self.capabilities
        if isinstance(capabilities, str) or not all(isinstance(c, str) for c in capabilities):
            msg = f"ServeConfig.capabilities is {capabilities!r}; it must be a list of strings"
            raise ConfigError(msg)
        metadata: dict[Any, Any] = dict(self.server_metadata)
        if not all(isinstance(part, str) for pair in metadata.items() for part in pair):
            msg = f"ServeConfig.server_metadata is {metadata!r}; it must map strings to strings"
            raise ConfigError(msg)
