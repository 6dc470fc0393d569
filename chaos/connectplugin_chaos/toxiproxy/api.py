"""An async client of toxiproxy's HTTP API, with a limit of time on every call.

Its rules come from what v2.12.0 does: a toxic of latency or bandwidth that is added or removed
while a reader is stalled can block every later call, so there are two standing toxics of latency
that are only ever changed; toxics come off in the reverse order, or the server dies; `/reset` is
not used.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import httpx

from connectplugin_chaos.toxiproxy.toxics import (
    FROZEN_MS,
    Latency,
    ResetPeer,
    SlowClose,
    Stream,
    Timeout,
    Toxic,
    attributes,
)

LIMIT: Final = 2.0
"""Seconds for one call of the API; it takes about a millisecond, or hangs for good."""

STREAMS: Final[tuple[Stream, Stream]] = ("upstream", "downstream")


class ToxiproxyError(Exception):
    """toxiproxy refused, or did something else than it was asked."""


class ToxiproxyHungError(ToxiproxyError):
    """toxiproxy does not answer (any more): it must be killed, and the run proves nothing."""


class Toxiproxy:
    """One toxiproxy server.

    Args:
        url: Of its API, like `http://127.0.0.1:8474`.
        limit: Seconds for each call.
        transport: Instead of the network, for tests of this client.
    """

    def __init__(
        self, url: str, *, limit: float = LIMIT, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.url = url
        self._limit = limit
        self._http = httpx.AsyncClient(
            base_url=url, timeout=limit, trust_env=False, transport=transport
        )

    async def __aenter__(self) -> Self:
        """Nothing is sent yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API; its decoded answer, None if it is empty.

        Raises:
            ToxiproxyHungError: No answer within the limit, or no connection.
            ToxiproxyError: An answer that says no.
        """
        try:
            async with asyncio.timeout(self._limit):
                reply = await self._http.request(method, path, json=body)
        except TimeoutError:
            msg = f"toxiproxy has not answered {method} {path} within {self._limit:g} s"
            raise ToxiproxyHungError(msg) from None
        except httpx.TransportError as error:
            msg = f"toxiproxy cannot be reached for {method} {path}: {error!r}"
            raise ToxiproxyHungError(msg) from error
        if reply.is_error:
            msg = f"toxiproxy answered {method} {path} with {reply.status_code}: {reply.text[:200]}"
            raise ToxiproxyError(msg)
        if not reply.content:
            return None
        try:
            return reply.json()
        except ValueError:
            msg = f"toxiproxy answered {method} {path} with what is no JSON: {reply.text[:200]!r}"
            raise ToxiproxyError(msg) from None

    async def version(self) -> str:
        """The server's version, like `2.12.0`."""
        reply = await self.call("GET", "/version")
        return str(reply["version"]) if isinstance(reply, dict) and "version" in reply else ""  # pyright: ignore[reportUnknownArgumentType]  # JSON

    async def proxies(self) -> dict[str, Any]:
        """All proxies, by name."""
        found: dict[str, Any] = await self.call("GET", "/proxies")
        return found

    async def create(self, name: str, upstream: str, listen: str = "127.0.0.1:0") -> "Proxy":
        """A proxy that listens and passes on, with the two standing toxics that freeze it.

        Args:
            name: Unique in this server.
            upstream: `host:port` to pass on to.
            listen: `host:port` to listen at; port 0 takes a free one.
        """
        made = await self.call(
            "POST",
            "/proxies",
            {"name": name, "listen": listen, "upstream": upstream, "enabled": True},
        )
        proxy = Proxy(self, name=name, upstream=upstream, listen=made["listen"])
        for stream in STREAMS:
            await proxy.add(f"freeze_{stream}", Latency(0), stream)
        return proxy


class Proxy:
    """One proxy of a server.

    Attributes:
        name: In the API.
        upstream: `host:port` of what is behind.
        listen: `host:port` where it listens.
    """

    def __init__(self, api: Toxiproxy, *, name: str, upstream: str, listen: str) -> None:
        self._api = api
        self.name = name
        self.upstream = upstream
        self.listen = listen
        self._path = f"/proxies/{name}"

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"http://{self.listen}"

    async def add(self, name: str, toxic: Toxic, stream: Stream) -> None:
        """Add a toxic; `toxic` also removes it.

        Raises:
            ToxiproxyError: The server has dropped an attribute.
        """
        wanted = attributes(toxic)
        made = await self._api.call(
            "POST",
            f"{self._path}/toxics",
            {"name": name, "type": toxic.type, "stream": stream, "attributes": wanted},
        )
        if made["attributes"] != wanted:
            msg = f"toxiproxy made {made['attributes']} of {wanted}: it ignored an attribute"
            raise ToxiproxyError(msg)

    async def raw_toxic(self, name: str, given: dict[str, int]) -> dict[str, Any]:
        """What the server makes of a toxic of latency with any attributes; for the doctor."""
        body = {"name": name, "type": "latency", "stream": "upstream", "attributes": given}
        made: dict[str, Any] = await self._api.call("POST", f"{self._path}/toxics", body)
        attributes_made: dict[str, Any] = made["attributes"]
        return attributes_made

    async def remove(self, name: str) -> None:
        """Remove a toxic; the last one that was added first."""
        await self._api.call("DELETE", f"{self._path}/toxics/{name}")

    @asynccontextmanager
    async def toxic(self, toxic: Toxic, stream: Stream) -> AsyncGenerator[None]:
        """A toxic for the time of a block; nested blocks remove them in the right order."""
        name = f"{toxic.type}_{stream}"
        await self.add(name, toxic, stream)
        try:
            yield
        finally:
            await self.remove(name)

    async def latency(self, stream: Stream, milliseconds: int, jitter: int = 0) -> None:
        """Delay a direction by changing its standing toxic; 0 is none, `FROZEN_MS` freezes it."""
        await self._api.call(
            "PATCH",
            f"{self._path}/toxics/freeze_{stream}",
            {"attributes": attributes(Latency(milliseconds, jitter))},
        )

    @asynccontextmanager
    async def frozen(self, *streams: Stream) -> AsyncGenerator[None]:
        """Nothing moves, and nothing is lost: what was sent arrives at the end of the block."""
        for stream in streams:
            await self.latency(stream, FROZEN_MS)
        try:
            yield
        finally:
            for stream in streams:
                await self.latency(stream, 0)

    @asynccontextmanager
    async def blackhole(self, *streams: Stream, drop_fin: bool = False) -> AsyncGenerator[None]:
        """What is sent is lost; at the end of the block the connections are closed.

        With `drop_fin` not even a close gets through.
        """
        added: list[str] = []
        try:
            for stream in streams:
                toxics: tuple[Toxic, ...] = (Timeout(0),)
                if drop_fin:
                    toxics = (Timeout(0), SlowClose())
                for toxic in toxics:
                    name = f"{toxic.type}_{stream}"
                    await self.add(name, toxic, stream)
                    added.append(name)
            yield
        finally:
            for name in reversed(added):
                await self.remove(name)

    async def enable(self, enabled: bool) -> None:
        """Refuse connections and close those that are open; or take them again."""
        await self._api.call("PATCH", self._path, {"enabled": enabled})

    @asynccontextmanager
    async def down(self) -> AsyncGenerator[None]:
        """Connections are refused for the time of the block."""
        await self.enable(enabled=False)
        try:
            yield
        finally:
            await self.enable(enabled=True)

    @asynccontextmanager
    async def reset(self, stream: Stream) -> AsyncGenerator[None]:
        """Each connection is reset on its first data; old ones are closed before."""
        await self.enable(enabled=False)
        name = f"{ResetPeer.type}_{stream}"
        await self.add(name, ResetPeer(0), stream)
        try:
            await self.enable(enabled=True)
            yield
        finally:
            await self.remove(name)

    async def rebuild(self) -> None:
        """The hard heal: all toxics and connections are gone, the port is the same."""
        await self._api.call("DELETE", self._path)
        again = await self._api.create(self.name, self.upstream, self.listen)
        self.listen = again.listen

    async def look(self) -> tuple[float, dict[str, Any]]:
        """How the server describes it, and how many seconds that took."""
        started = time.monotonic()
        found: dict[str, Any] = await self._api.call("GET", self._path)
        return time.monotonic() - started, found

    def __repr__(self) -> str:
        return f"<Proxy {self.name} {self.listen} -> {self.upstream}>"
