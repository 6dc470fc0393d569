"""`ClientConfig`: which plugin, where, and with what resilience."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251  # the type of `rng`
from typing import Any, Final, TypeAlias

from pyqwest import Transport

from connectplugin.address import check_url
from connectplugin.plugin import Plugin, PluginSet, versioned_plugin_sets
from connectplugin.wire import DEFAULT_COOKIE
from connectplugin_interceptors import validation
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.events import Listener
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.settings import POLICY_NAMES, check_kinds
from connectplugin_interceptors.stack import ClientStack
from connectplugin_interceptors.transport import DEFAULT_READ_MAX_BYTES

ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

IN_PROCESS_URL: Final = "http://in-process"
"""What stands for the address of a plugin in this process."""

# Told from a caller's own policy by identity, since an equal one was named all the same.
_DEADLINE: Final = DeadlinePolicy()
_CONCURRENCY: Final = BulkheadPolicy()
_RETRY: Final = RetryPolicy()
_BREAKER: Final = CircuitBreakerPolicy()
_BALANCE: Final = BalancePolicy()
_EJECTION: Final = OutlierEjectionPolicy()

_DEFAULT_APP_VERSION: Final = 1


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """What a `Client` connects to, and how.

    A policy that is not named has its default; None turns it off. Times are in seconds.

    Attributes:
        endpoint: A URL, or an ASGI application (`create_app(...)`): the plugin in this process,
            through the same chain. Or a list of such, to balance over: calls go to those that have
            shaken hands.
        plugins: What the host knows to use, at application version 1. Any iterable.
        versioned_plugins: Instead of `plugins`: sets by application version. The highest version
            that both sides have is used.
        deadline: See `DeadlinePolicy`.
        concurrency: See `BulkheadPolicy` and `AdaptiveLimitPolicy`. Default: 1,000 calls in flight.
        retry_policy: See `RetryPolicy`.
        circuit_breaker: See `CircuitBreakerPolicy`.
        rate_limit: See `RateLimitPolicy`. Default None.
        hedge: See `HedgePolicy`. Default None.
        load_balancing: See `BalancePolicy`.
        outlier_ejection: See `OutlierEjectionPolicy`.
        wait_for_ready: Whether calls, and the first handshake, wait until the plugin can be
            reached. By default False.
        stack: The whole chain at once, instead of single policies.
        interceptors: Of your own, run once per call. Each serves all four RPC shapes, or has
            `on_start` and `on_end`.
        http_client: A transport of your own (like `pyqwest.HTTPTransport`) instead of the default
            one, which follows no redirects and takes no proxy from the environment. It stays open.
        handshake_timeout: For the handshake as a whole. Default 10.
        magic_cookie: Key and value that the plugin expects; None to send none. No secret: a guard
            against calling the wrong program.
        required_capabilities: What the plugin must be able to do.
        client_metadata: What else to tell the plugin in the handshake.
        self_id: The name that this host gives itself in the handshake.
        self_version: And its version.
        allow_insecure: Whether plaintext may leave this machine. Default False.
        read_max_bytes: The largest response message. Default 4 MiB.
        name: This client's name in events. By default the names of its plugins.
        listeners: Called with every event of the chain.
        clock: Where time comes from, for tests.
        rng: Where chance comes from, for tests.

    Raises:
        ConfigError: A field cannot work; the text names it, its value and what would be right.
    """

    endpoint: str | ASGIApp | Sequence[str | ASGIApp]
    plugins: Iterable[Plugin] = ()
    versioned_plugins: Mapping[int, Iterable[Plugin]] | None = None
    deadline: DeadlinePolicy | None = _DEADLINE
    concurrency: BulkheadPolicy | AdaptiveLimitPolicy | None = _CONCURRENCY
    retry_policy: RetryPolicy | None = _RETRY
    circuit_breaker: CircuitBreakerPolicy | None = _BREAKER
    rate_limit: RateLimitPolicy | None = None
    hedge: HedgePolicy | None = None
    load_balancing: BalancePolicy | None = _BALANCE
    outlier_ejection: OutlierEjectionPolicy | None = _EJECTION
    wait_for_ready: bool | None = None
    stack: ClientStack | None = None
    interceptors: Sequence[object] = ()
    http_client: Transport | None = None
    handshake_timeout: float = 10.0
    magic_cookie: tuple[str, str] | None = DEFAULT_COOKIE
    required_capabilities: Sequence[str] = ()
    client_metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    self_id: str = ""
    self_version: str = ""
    allow_insecure: bool = False
    read_max_bytes: int = DEFAULT_READ_MAX_BYTES
    name: str | None = None
    listeners: Sequence[Listener] = ()
    clock: Clock | None = None
    rng: Random | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.instance(self, "allow_insecure", bool)
        validation.number(self, "handshake_timeout", minimum=0.001, unit="seconds")
        validation.integer(self, "read_max_bytes", minimum=1)
        validation.instance(self, "stack", ClientStack, optional=True)
        for text in ("self_id", "self_version"):
            validation.instance(self, text, str)
        validation.instance(self, "name", str, optional=True)
        self._check_endpoint()
        self._check_plugins()
        self._check_policies()
        self._check_handshake()

    def _check_endpoint(self) -> None:
        given: Any = self.endpoint
        if not isinstance(given, list | tuple):
            object.__setattr__(self, "endpoint", self._one_endpoint("ClientConfig.endpoint", given))
            return
        several: list[Any] = list(given)  # pyright: ignore[reportUnknownArgumentType]
        if not several:
            msg = "ClientConfig.endpoint is an empty list; it must hold at least one endpoint"
            raise ConfigError(msg)
        checked: list[Any] = []
        for index, endpoint in enumerate(several):
            one = self._one_endpoint(f"ClientConfig.endpoint[{index}]", endpoint)
            if one in checked:
                msg = f"ClientConfig.endpoint holds {one!r} twice; each must be there once"
                raise ConfigError(msg)
            checked.append(one)
        object.__setattr__(self, "endpoint", tuple(checked))

    def _one_endpoint(self, field: str, endpoint: Any) -> Any:
        if isinstance(endpoint, str):
            if endpoint.startswith("unix:"):
                msg = (
                    f"{field} is {endpoint!r}: the default transport cannot call unix sockets; "
                    "serve on '127.0.0.1:0', or give a transport as http_client"
                )
                raise ConfigError(msg)
            return check_url(field, endpoint, allow_insecure=self.allow_insecure)
        if not callable(endpoint):
            msg = (
                f"{field} is {endpoint!r}; it must be a URL, such as 'http://127.0.0.1:8080', an "
                "ASGI application, such as create_app(...), or a list of these"
            )
            raise ConfigError(msg)
        return endpoint

    @property
    def endpoints(self) -> Mapping[str, str | ASGIApp]:
        """The endpoints by the URLs that stand for them; `http://in-process` for applications."""
        given: Any = self.endpoint
        several: list[str | ASGIApp] = [given]
        if isinstance(given, tuple):
            several = list(given)  # pyright: ignore[reportUnknownArgumentType]  # checked
        found: dict[str, str | ASGIApp] = {}
        for endpoint in several:
            if isinstance(endpoint, str):
                found[endpoint] = endpoint
                continue
            number = sum(url.startswith(IN_PROCESS_URL) for url in found)
            found[f"{IN_PROCESS_URL}-{number + 1}" if number else IN_PROCESS_URL] = endpoint
        return found

    def _check_plugins(self) -> None:
        if self.versioned_plugins is not None:
            if not isinstance(self.plugins, tuple) or self.plugins:
                msg = (
                    "ClientConfig has both plugins and versioned_plugins; plugins is the short "
                    f"form of versioned_plugins={{{_DEFAULT_APP_VERSION}: [...]}}: give one of them"
                )
                raise ConfigError(msg)
            sets = versioned_plugin_sets(self.versioned_plugins)
        else:
            plugins = self.plugins if isinstance(self.plugins, PluginSet) else None
            plugins = plugins or PluginSet(self.plugins)
            object.__setattr__(self, "plugins", plugins)
            sets = {_DEFAULT_APP_VERSION: plugins}
        object.__setattr__(self, "_sets", sets)

    @property
    def plugin_sets(self) -> Mapping[int, PluginSet[Plugin]]:
        """The plugins by application version."""
        sets: Mapping[int, PluginSet[Plugin]] = self.__dict__["_sets"]
        return sets

    def _check_policies(self) -> None:
        policies = {name: getattr(self, name) for name in POLICY_NAMES if hasattr(self, name)}
        if policies["wait_for_ready"] is None:
            del policies["wait_for_ready"]
        check_kinds("ClientConfig.", policies)
        validation.instance(self, "outlier_ejection", OutlierEjectionPolicy, optional=True)
        if self.stack is not None:
            named = [
                name
                for name, default in (
                    ("deadline", _DEADLINE),
                    ("concurrency", _CONCURRENCY),
                    ("retry_policy", _RETRY),
                    ("circuit_breaker", _BREAKER),
                    ("rate_limit", None),
                    ("hedge", None),
                    ("load_balancing", _BALANCE),
                    ("outlier_ejection", _EJECTION),
                )
                if getattr(self, name) is not default
            ]
            if self.wait_for_ready is not None:
                named.append("wait_for_ready")
            if named:
                msg = (
                    f"ClientConfig has both stack and {named[0]}; a stack is the whole chain: set "
                    f"{named[0]} in it, as ClientStack({named[0]}=...)"
                )
                raise ConfigError(msg)
        if not isinstance(self.interceptors, list | tuple):
            msg = f"ClientConfig.interceptors is {self.interceptors!r}; it must be a list"
            raise ConfigError(msg)
        self.client_stack()

    def client_stack(self) -> ClientStack:
        """The chain that these fields ask for."""
        stack = self.stack or ClientStack(
            deadline=self.deadline,
            retry_policy=self.retry_policy,
            circuit_breaker=self.circuit_breaker,
            rate_limit=self.rate_limit,
            concurrency=self.concurrency,
            hedge=self.hedge,
            load_balancing=self.load_balancing,
            outlier_ejection=self.outlier_ejection,
            wait_for_ready=bool(self.wait_for_ready),
        )
        if not self.interceptors:
            return stack
        return stack.adding(call=self.interceptors)

    def _check_handshake(self) -> None:
        cookie: tuple[object, ...] | None = self.magic_cookie
        if cookie is not None and not (
            isinstance(cookie, tuple)
            and len(cookie) == 2  # noqa: PLR2004  # a pair
            and all(isinstance(part, str) and part for part in cookie)
        ):
            msg = (
                "ClientConfig.magic_cookie must be a pair of non-empty strings, "
                "('KEY', 'value'), or None"
            )
            raise ConfigError(msg)
        metadata: dict[Any, Any] = dict(self.client_metadata)
        if not all(isinstance(part, str) for pair in metadata.items() for part in pair):
            msg = f"ClientConfig.client_metadata is {metadata!r}; it must map strings to strings"
            raise ConfigError(msg)

    @property
    def label(self) -> str:
        """The client's name in events."""
        if self.name is not None:
            return self.name
        return ",".join(sorted({name for plugins in self.plugin_sets.values() for name in plugins}))
