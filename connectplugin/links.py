"""A client's endpoints: of each its transport and its session, and who of them may be called."""

import asyncio
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from random import Random  # noqa: TID251  # the default of `rng`
from typing import TYPE_CHECKING, Final

from connectrpc.errors import ConnectError

from connectplugin._gen.connectplugin.v1.handshake_connect import HandshakeServiceClient
from connectplugin.config import ClientConfig
from connectplugin.errors import PluginError, PluginUnavailableError
from connectplugin.gate import HandshakeGate, InstanceWatch
from connectplugin.session import (
    Agreement,
    ServerInfo,
    Session,
    Terms,
)
from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors.balance.endpoint import Address, Endpoint
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.circuit_breaker.breakers import Breakers
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.renewal import RenewedTransport
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.routing import BALANCED_URL, RoutingTransport
from connectplugin_interceptors.stack import ClientStack
from connectplugin_interceptors.transport import make_transport

if TYPE_CHECKING:
    from pyqwest import Transport

_FIRST_PAUSE: Final = 0.25
"""Seconds before an endpoint is asked again that could not shake hands; doubles each time."""

_LONGEST_PAUSE: Final = 5.0
"""While it answers, and does not fit."""

_LONGEST_ABSENCE: Final = 1.0
"""While nobody answers: to ask costs nobody anything, and calls wait for the answer."""


class Link:
    """One endpoint of a client: its transport, and its session."""

    def __init__(
        self,
        config: ClientConfig,
        endpoint: Endpoint,
        session: Session,
        lost: Callable[[bool], None],
    ) -> None:
        self.endpoint = endpoint
        self.session = session
        self._config = config
        self._own: Transport | None = None
        self._in_process: InProcessTransport | None = None
        target = endpoint.target
        if config.http_client is not None:
            inner: Transport = config.http_client
        elif isinstance(target, str):
            inner = self._own = RenewedTransport(partial(make_transport, target))
        else:
            inner = self._own = self._in_process = InProcessTransport(target)
        self.transport = InstanceWatch(inner, session.saw, lost)

    async def start(self) -> None:
        """Begin to serve in process, if that is the place."""
        if self._in_process is not None:
            await self._in_process.start()
        config = self._config
        # A chain of its own: a handshake is idempotent, and must not wait for itself.
        stack = ClientStack(
            deadline=DeadlinePolicy(
                total=config.handshake_timeout, attempt=config.handshake_timeout
            ),
            retry_policy=RetryPolicy(idempotent=True),
            # One call, which waits for the plugin at a pace of its own: there is nobody to spare.
            circuit_breaker=None,
            wait_for_ready=config.client_stack().wait_for_ready,
        )
        self.session.use(
            stack.client(
                HandshakeServiceClient,
                self.endpoint.url,
                name=f"{config.label} handshake",
                transport=self.transport,
                rng=config.rng,
                clock=config.clock,
                listeners=config.listeners,
            )
        )

    async def aclose(self) -> None:
        """Close what was opened here."""
        await self.session.aclose()
        if self._own is not None:
            await self.transport.aclose()


class Links:
    """All endpoints of a client.

    Where there are several, one that has not shaken hands gets no traffic; it is asked again in the
    background until it has. So is one that has said that it stops, and one that refuses
    connections: that one is left to its circuit breaker, which lets a call through as soon as
    somebody has shaken hands there.

    Attributes:
        pool: The endpoints, for the balancer.
        address: What the generated clients are made with.
        transport: What they are made over.
        gate: The link of the chain that shakes hands with whoever has not.
    """

    def __init__(self, config: ClientConfig) -> None:
        sets = config.plugin_sets
        terms = Terms(
            versions=sorted(sets),
            plugins=sorted({name for plugins in sets.values() for name in plugins}),
            cookie=config.magic_cookie,
            capabilities=list(config.required_capabilities),
            metadata=dict(config.client_metadata),
            self_id=config.self_id,
            self_version=config.self_version,
        )
        self._clock: Clock = config.clock or SystemClock()
        self._rng = config.rng or Random()  # noqa: S311  # jitter
        endpoints = config.endpoints
        several = len(endpoints) > 1
        self.pool = EndpointPool(
            [Address(url, url, target) for url, target in endpoints.items()],
            fixed=True,
            connecting=several,
        )
        agreement = Agreement()
        self._links: dict[str, Link] = {}
        for endpoint in self.pool.endpoints:
            session = Session(
                endpoint.key,
                terms,
                config.handshake_timeout,
                agreement=agreement,
                accepted=partial(self._accept, endpoint),
            )
            lost = partial(self._lost, endpoint.key)
            self._links[endpoint.key] = Link(config, endpoint, session, lost)
        self._several = several
        self._breakers: Breakers | None = None
        sessions = {key: link.session for key, link in self._links.items()}
        self.transport: Transport
        if several:
            self.address = BALANCED_URL
            self.transport = RoutingTransport(
                self.pool, lambda endpoint: self._links[endpoint.key].transport, owned=False
            )
            self.gate = HandshakeGate(sessions, self._misfit)
        else:
            (link,) = self._links.values()
            self.address = link.endpoint.url
            self.transport = link.transport
            self.gate = HandshakeGate(sessions)
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._closed = False

    @property
    def info(self) -> ServerInfo | None:
        """What a server that has shaken hands said of itself; None if none has."""
        for link in self._links.values():
            if link.session.info is not None and not link.endpoint.connecting:
                return link.session.info
        return None

    async def open(self) -> None:
        """Shake hands with the endpoint; of several until one of them has.

        Raises:
            PluginError: With none it could be done.
        """
        for link in self._links.values():
            await link.start()
        links = tuple(self._links.values())
        if len(links) == 1:
            await _shake(links[0])
            return
        told: asyncio.Queue[PluginError | None] = asyncio.Queue()
        for link in links:
            self._keep(link, told)
        errors: list[PluginError] = []
        for _ in links:
            error = await told.get()
            if error is None:
                return
            errors.append(error)
        raise _of_all(errors)

    def guarded_by(self, breakers: Breakers) -> None:
        """The circuit breakers that are told when an endpoint has shaken hands."""
        self._breakers = breakers

    def _accept(self, endpoint: Endpoint) -> None:
        if self._several:
            self.pool.connected(endpoint, self._clock.now())
        if self._breakers is not None:
            self._breakers.probe_now(endpoint.key)

    def _lost(self, key: str, draining: bool) -> None:
        """Nobody answers there, or not for long: ask until somebody does."""
        link = self._links[key]
        if draining and self._several:
            self.pool.disconnected(link.endpoint)
        if link.session.info is not None:  # else whoever opens the client asks, or has given up
            self._keep(link, None)

    def _misfit(self, key: str) -> None:
        """An endpoint was replaced by one that does not fit: no traffic until it does."""
        link = self._links[key]
        self.pool.disconnected(link.endpoint)
        self._keep(link, None)

    def _keep(self, link: Link, told: "asyncio.Queue[PluginError | None] | None") -> None:
        if self._closed or link.endpoint.key in self._keepers:
            return
        key = link.endpoint.key
        task = asyncio.get_running_loop().create_task(
            self._shake_until(link, told), context=Context(), name=f"handshakes with {key}"
        )
        self._keepers[key] = task
        task.add_done_callback(lambda _: self._keepers.pop(key, None))

    async def _shake_until(
        self, link: Link, told: "asyncio.Queue[PluginError | None] | None"
    ) -> None:
        pause = _FIRST_PAUSE
        if told is None:  # it has just been asked
            pause = await self._pause(pause, _LONGEST_ABSENCE)
        while True:
            longest = _LONGEST_PAUSE
            try:
                await _shake(link)
            except PluginError as error:
                if isinstance(error, PluginUnavailableError):
                    longest = _LONGEST_ABSENCE
                if told is not None:
                    told.put_nowait(error)
            else:
                if told is not None:
                    told.put_nowait(None)
                return
            told = None
            pause = await self._pause(pause, longest)

    async def _pause(self, pause: float, longest: float) -> float:
        """Wait, and tell how long to wait the next time."""
        await self._clock.sleep(min(pause, longest) * (0.5 + self._rng.random() / 2))
        return min(pause * 2, longest)

    async def aclose(self) -> None:
        """Close what was opened here."""
        self._closed = True
        keepers = list(self._keepers.values())
        for keeper in keepers:
            keeper.cancel()
        if keepers:
            await asyncio.wait(keepers)
        if isinstance(self.transport, RoutingTransport):
            await self.transport.aclose()
        for link in self._links.values():
            await link.aclose()


async def _shake(link: Link) -> None:
    try:
        await link.session.shake()
    except ConnectError as error:
        raise link.session.explain(error) from error


def _of_all(errors: Sequence[PluginError]) -> PluginError:
    """One error for those of all endpoints: its kind is the most telling one's."""
    telling = [error for error in errors if not isinstance(error, PluginUnavailableError)]
    chosen = (telling or errors)[0]
    result = type(chosen)("; ".join(str(error) for error in errors))
    result.__cause__ = chosen
    return result
