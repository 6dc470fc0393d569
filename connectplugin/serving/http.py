"""uvicorn's HTTP/1.1 protocol (httptools) on a socket of ours.

The protocol only, without `uvicorn.Server`: that one takes the process's signals, ends the process
when it cannot start, and looks every 100 ms whether it should stop.
"""

import asyncio
import contextlib
import socket
from contextvars import Context
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from connectplugin.serving.layers import ASGIApp
from connectplugin.serving.sockets import BACKLOG

_KEEP_ALIVE: Final = 120
"""Seconds that an idle connection is kept: longer than clients' pools keep theirs (pyqwest: 90 s),
so that it is the client that closes it, and never in the moment of its next call."""

_MOST_HEAD: Final = 64 * 1024
"""Bytes of a request's first line and headers; uvicorn itself takes any number."""

_TCP: Final = (socket.AF_INET, socket.AF_INET6)

_ON_THE_WAY: Final = 0.05
"""Seconds between the end of listening and that of the idle connections."""

_FLUSH: Final = 1.0
"""Seconds that connections get to write out what is buffered."""


class HttpListener:
    """Serves one ASGI application on one listening socket, for one event loop.

    Handlers run in an empty context: what the code around the server has set is not seen there.
    """

    def __init__(self, app: ASGIApp, sock: socket.socket, *, state: dict[str, Any]) -> None:
        handed: Any = app
        self._config = uvicorn.Config(
            handed,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE,
        )
        self._config.load()
        self._sock = sock
        self._app_state = state
        self._server_state = ServerState()
        self._server: asyncio.Server | None = None
        self._open: set[_Protocol] = set()
        self._alone = asyncio.Event()
        self._alone.set()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_task(self._listen(), context=Context())

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        # It listens once more, by itself with room for 100 only: of a burst the rest would wait for
        # a second, until they send their SYN again.
        return await loop.create_server(self._protocol, sock=self._sock, backlog=BACKLOG)

    def _protocol(self) -> asyncio.Protocol:
        return _Protocol(
            self._open,
            self._alone,
            config=self._config,
            server_state=self._server_state,
            app_state=self._app_state,
        )

    async def wait_alone(self, seconds: float) -> None:
        """Wait until nobody is connected, at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._alone.wait()

    async def stop(self, patience: float) -> None:
        """Close the socket and the idle connections; let the others end their response.

        Args:
            patience: Seconds that requests get to end; then they are cancelled. Without patience
                nobody gets any.
        """
        if self._server is not None:
            if patience > 0:
                # Who has connected already, and was not accepted yet, would be cut off.
                await asyncio.sleep(0)  # noqa: TID251  # waits for no time
            self._server.close()
            if patience > 0:
                # A request may be on its way on a connection that looks idle from here.
                await self.wait_alone(_ON_THE_WAY)
        for connection in list(self._open):
            connection.shutdown()
        await self._finish(patience)
        for connection in list(self._open):
            connection.transport.abort()
        # One turn of the loop, in which the aborted connections are taken down.
        await asyncio.sleep(0)  # noqa: TID251  # waits for no time

    async def _finish(self, patience: float) -> None:
        tasks = set(self._server_state.tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=patience)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_FLUSH)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                for connection in list(self._open):
                    await connection.lost.wait()

    def abort(self) -> None:
        """Close everything now."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.transport.abort()


class _Protocol(HttpToolsProtocol):
    """Tells when the connection is closed, everything written; limits heads and silence."""

    def __init__(self, every: "set[_Protocol]", alone: asyncio.Event, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lost = asyncio.Event()
        self._every = every
        self._alone = alone
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Somebody has connected."""
        super().connection_made(transport)
        self._every.add(self)
        self._alone.clear()
        # asyncio does this only for sockets that name their protocol, which those of
        # `socket.create_server` do not. Without it each response is 40 ms late: its body waits for
        # the peer's (delayed) acknowledgement of its head.
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in _TCP:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # A connection on which nothing ever comes is an idle one too. uvicorn stops this timer when
        # data come.
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is a head without end."""
        super().data_received(data)
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD and not self.transport.is_closing():
                self.transport.write(
                    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
                    b"content-length: 0\r\nconnection: close\r\n\r\n"
                )
                self.transport.close()

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Its head is there: what follows is the body, which has limits of its own."""
        self._head_bytes = -1
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        super().connection_lost(exc)
        self._every.discard(self)
        if not self._every:
            self._alone.set()
        self.lost.set()
