"""`serve` and `Server`: a plugin server with its own HTTP server in this process."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Generator
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

from connectplugin.health.service import HealthBoard
from connectplugin.serve_config import ServeConfig
from connectplugin.serving import sockets
from connectplugin.serving.app import PluginApp, create_app
from connectplugin.serving.layers import ASGIApp
from connectplugin.serving.lifespan import Lifespan
from connectplugin_interceptors.clock import Clock

if TYPE_CHECKING:
    from connectplugin.serving.http import HttpListener

_LAST_WORDS: Final = 1.0
"""Seconds that answers to health watches and the like get to be written after the drain."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class Server:
    """A plugin server inside a program that has other things to do.

    ```python
    async with Server(ServeConfig(plugins=[...], addr="127.0.0.1:0")) as server:
        print(server.url)
    ```
    It leaves the process's signals alone. Leaving the block drains: calls in flight may end, within
    `graceful_shutdown_timeout`. Leaving it with an error, a cancellation included, gives them no
    time.

    Args:
        config: What to serve, and where.
        clock: Where the chain's time comes from; the machine's clock if None.
        middleware: Wraps the ASGI application that is served: sees each HTTP request, and what is
            answered, outside of the whole chain.

    Attributes:
        app: The ASGI application that is served, unwrapped.
    """

    def __init__(
        self,
        config: ServeConfig,
        *,
        clock: Clock | None = None,
        middleware: Callable[[ASGIApp], ASGIApp] | None = None,
    ) -> None:
        self._config = config
        self._middleware = middleware
        self.app: PluginApp = create_app(config, clock=clock)
        self.app.on_stop_requested = self.request_stop
        self._lifespan = Lifespan(self.app)
        self._listener: HttpListener | None = None
        self._where: tuple[str, str] | None = None
        self._owned: sockets.TcpAddress | sockets.UnixAddress | None = None
        self._stop_requested = asyncio.Event()
        self._reason = "the server is shutting down"
        self._grace: float | None = None

    @property
    def url(self) -> str:
        """By which this machine reaches it: `http://127.0.0.1:43121`, or `unix:///...`."""
        return self._bound()[0]

    @property
    def address(self) -> str:
        """What it is bound to: `host:port` with the real port, or `unix:///...`."""
        return self._bound()[1]

    @property
    def health(self) -> HealthBoard:
        """Where health is set, read and watched."""
        return self.app.health

    def request_stop(self, reason: str, grace: float | None = None) -> None:
        """Have `wait_stop_requested` return; the first reason and grace stay.

        The Shutdown RPC does this. Who embeds the server leaves its block then.

        Args:
            reason: Told to clients.
            grace: Seconds for calls in flight; `graceful_shutdown_timeout` if None.
        """
        if not self._stop_requested.is_set():
            self._reason, self._grace = reason, grace
            self._stop_requested.set()

    async def wait_stop_requested(self) -> None:
        """Wait until somebody asks the server to stop."""
        await self._stop_requested.wait()

    async def __aenter__(self) -> Self:
        """Bind, let the implementations start, listen.

        Raises:
            OSError: The address cannot be bound; the text names it.
            LifespanError: An implementation failed to start.
        """
        if self._listener is not None:
            msg = "a Server can be entered once; make another from the same ServeConfig"
            raise RuntimeError(msg)
        config = self._config
        if config.sock is not None:
            sock = config.sock
            sock.setblocking(False)
        else:
            sock = sockets.bind(config.address)
            self._owned = config.address
        try:
            self._where = sockets.describe(sock)
            await self._lifespan.start()
            # Late: uvicorn costs 60 ms to import, and who only calls plugins has no use for it.
            from connectplugin.serving.http import HttpListener  # noqa: PLC0415

            app = self.app if self._middleware is None else self._middleware(self.app)
            self._listener = HttpListener(app, sock, state=self._lifespan.state)
            await self._listener.start()
        except BaseException:
            sock.close()
            sockets.unlink(self._owned)
            await self._lifespan.stop()
            raise
        config.logger.info("serving %r at %s", self.app, self.address)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drain, close, and let the implementations clean up."""
        await self._stop(grace=0.0 if exc_type is not None else self._grace)

    async def _stop(self, grace: float | None) -> None:
        listener, self._listener = self._listener, None
        if listener is None:
            return
        logger = self._config.logger
        logger.info("draining %s: %s", self.address, self._reason)
        try:
            loop = asyncio.get_running_loop()
            began = loop.time()
            await self.app.drain(self._reason, grace=grace)
            # Clients learn of the drain from the answer to what they call next, which is a refusal
            # that is safe to send elsewhere. Were their connections closed before, that call would
            # be lost, and nobody could say whether it was executed.
            config = self._config
            longest = config.graceful_shutdown_timeout if grace is None else grace
            notice = min(config.drain_notice, longest)
            await listener.wait_alone(max(0.0, began + notice - loop.time()))
            await listener.stop(0.0 if grace == 0.0 else _LAST_WORDS)
        finally:
            listener.abort()
            sockets.unlink(self._owned)
            await self._lifespan.stop()
        logger.info("stopped %s", self.address)

    def abandon(self) -> None:
        """Leave nothing on the disk; for a process that ends at once."""
        sockets.unlink(self._owned)

    def _bound(self) -> tuple[str, str]:
        if self._where is None:
            msg = "the Server is not open: use it inside 'async with Server(config) as server'"
            raise RuntimeError(msg)
        return self._where

    def __repr__(self) -> str:
        where = "closed" if self._where is None else self._where[1]
        return f"<Server {where} {self.app!r}>"


async def serve(
    config: ServeConfig,
    *,
    started: Callable[[Server], object] | None = None,
    middleware: Callable[[ASGIApp], ASGIApp] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until a host calls Shutdown; then drain and return.

    In order: health says NOT_SERVING and its watches end; new calls are refused; calls in flight
    end within `graceful_shutdown_timeout`, open streams after `stream_drain_timeout` with
    `unavailable` and the reason; implementations clean up. A second signal ends the process at
    once. Outside the main thread there are no signals to react to.

    Args:
        config: What to serve, and where.
        started: Called once the server listens, with it: to tell `server.url`, say.
        middleware: As `Server` takes it.

    Raises:
        OSError: The address cannot be bound; the text names it.
        LifespanError: An implementation failed to start.
    """
    server = Server(config, middleware=middleware)
    with _on_signals(server):
        async with server:
            if started is not None:
                started(server)
            await server.wait_stop_requested()


@contextlib.contextmanager
def _on_signals(server: Server) -> Generator[None]:
    """The first signal asks the server to stop, the second ends the process."""
    loop = asyncio.get_running_loop()
    seen = False

    def received(number: int) -> None:
        nonlocal seen
        if seen:
            _end_now(number, server)
        seen = True
        server.request_stop(f"the server got {signal.Signals(number).name}")

    def received_elsewhere(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(received, number)

    undo: list[Callable[[], object]] = []
    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, received, number)
            undo.append(partial(loop.remove_signal_handler, number))
        except NotImplementedError:  # Windows
            before = signal.signal(number, received_elsewhere)
            undo.append(partial(signal.signal, number, before))
        except (ValueError, RuntimeError):  # not the main thread
            break
    try:
        yield
    finally:
        for put_back in undo:
            put_back()


def _end_now(number: int, server: Server) -> None:
    """End the process as the signal would have, had nobody caught it."""
    server.abandon()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
