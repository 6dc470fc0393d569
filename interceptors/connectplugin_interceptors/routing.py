"""Routing: each request goes to the endpoint that the balancer has picked for its attempt.

connectrpc fixes a client's address when it is made; so the address is changed here, below it. Only
the attempt decides: what a request's headers say steers nothing.
"""

import asyncio
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from pyqwest import Request, Response, Transport

from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.balance.machine import Nobody
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.shapes import close
from connectplugin_interceptors.transport import current_attempt

BALANCED_URL: Final = "http://balanced.invalid"
"""What stands for the address of a client with several; no request ever goes there."""


class RoutingTransport:
    """One transport out of one per endpoint, with a connection pool each.

    They are made when first needed, and closed when their endpoint has left the set and its last
    call is over.

    Args:
        pool: The endpoints.
        make: Makes an endpoint's transport.
        base: The address that the client was made with.
        owned: Whether to close what `make` has made.
        clock: Where time comes from.
    """

    def __init__(
        self,
        pool: EndpointPool,
        make: Callable[[Endpoint], Transport],
        *,
        base: str = BALANCED_URL,
        owned: bool = True,
        clock: Clock | None = None,
    ) -> None:
        self._pool = pool
        self._make = make
        self._base = base.rstrip("/")
        self._owned = owned
        self._clock = clock if clock is not None else SystemClock()
        self._transports: dict[Endpoint, Transport] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._to_close: list[Transport] = []
        pool.on_released(self._released)

    async def execute(self, request: Request) -> Response:
        """Send the request where its attempt goes; one of no attempt to the first that is there."""
        attempt = current_attempt.get()
        if attempt is not None and attempt.endpoint is not None:
            return await self._send(request, attempt.endpoint)
        now = self._clock.now()
        found = self._pool.pick(None, now, _no_chance, probe=False)
        if isinstance(found, Nobody):
            msg = "there are no endpoints"
            raise ConnectionError(msg)
        try:
            return await self._send(request, found)
        finally:
            self._pool.settle(found, None, Outcome.NEUTRAL, started=now, now=now)

    async def _send(self, request: Request, endpoint: Endpoint) -> Response:
        transport = self._transports.get(endpoint)
        if transport is None:
            transport = self._transports[endpoint] = self._make(endpoint)
        url = request.url
        if endpoint.url != self._base:
            base = self._base
            path = url[len(base) :] if url.startswith(base + "/") else _path(url)
            request = Request(request.method, endpoint.url + path, request.headers, request.content)
        return await transport.execute(request)

    def _released(self, endpoint: Endpoint) -> None:
        transport = self._transports.pop(endpoint, None)
        if transport is None or not self._owned:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the set was changed by a program whose loop does not run
            self._to_close.append(transport)
            return
        task = loop.create_task(close(transport), name=f"close the transport of {endpoint.key}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close the transports that were made here."""
        self._pool.off_released(self._released)
        transports = [*self._transports.values(), *self._to_close]
        self._transports.clear()
        self._to_close.clear()
        if self._owned:
            for transport in transports:
                await close(transport)
        if self._closing:
            await asyncio.wait(self._closing)

    def __repr__(self) -> str:
        return f"<RoutingTransport {self._pool!r} transports={len(self._transports)}>"


def _no_chance() -> float:
    return 0.0


def _path(url: str) -> str:
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")
