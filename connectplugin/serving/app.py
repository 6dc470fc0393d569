"""The ASGI application of a plugin server."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from connectrpc.server import ConnectASGIApplication
from starlette.applications import Starlette

from connectplugin._gen.connectplugin.health.v1.health_connect import HealthServiceASGIApplication
from connectplugin._gen.connectplugin.v1.control_connect import PluginControlASGIApplication
from connectplugin._gen.connectplugin.v1.controller_connect import PluginControllerASGIApplication
from connectplugin._gen.connectplugin.v1.handshake_connect import HandshakeServiceASGIApplication
from connectplugin._gen.connectplugin.v1.identity_connect import PluginIdentityASGIApplication
from connectplugin._gen.grpc.health.v1.health_connect import HealthASGIApplication
from connectplugin.handshake.service import Handshake, PluginFacts, ServerFacts
from connectplugin.health.service import GrpcHealthService, HealthBoard, HealthService
from connectplugin.plugin import BoundPlugin
from connectplugin.serve_config import ServeConfig
from connectplugin.serving.control import Control, Controller, Identity
from connectplugin.serving.early_head import EarlyHead
from connectplugin.serving.layers import (
    ASGIApp,
    Receive,
    ResponseHead,
    Scope,
    Send,
)
from connectplugin.serving.lifespan import Lifespan
from connectplugin.serving.pages import Pages
from connectplugin.serving.read_ahead import ReadAhead
from connectplugin.serving.router import Mount, Router
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.server.arrivals import Arrivals
from connectplugin_interceptors.server.cut import CutCalls
from connectplugin_interceptors.server.stack import ServerLink

if TYPE_CHECKING:
    from connectplugin_interceptors.server.drain.interceptor import Drain

_MOST_CONTROL_BYTES: Final = 64 * 1024
"""The most that a handshake, or any other request of a server's own services, may have."""

_EVERY_VERSION: Final = 0
_LAST_MOMENT: Final = 1.0
"""Seconds that cancelled handlers get for their `finally` blocks."""


class PluginApp:
    """A plugin server as an ASGI application, for any ASGI server, or for a client in this process.

    Make it with `create_app`. It runs in one event loop. Where the ASGI server gives no lifespan,
    implementations that are context managers are not entered.

    Attributes:
        config: What it was made from.
        instance_id: Random for each `create_app`; on every response.
        health: Where health is set, read and watched.
        on_stop_requested: What a server below does when a host asks it to stop (the Shutdown RPC):
            given the reason and the seconds of grace. Without it the application drains itself.
    """

    def __init__(self, config: ServeConfig, *, clock: Clock | None = None) -> None:
        chain = config.stack.build(clock=clock)
        if chain.drain is None:  # pragma: no cover  # ServeConfig refuses such a stack
            msg = "the stack has no drain"
            raise ValueError(msg)
        self.config = config
        self.instance_id = secrets.token_hex(16)
        self.health = HealthBoard()
        self._chain = chain
        self._drain: Drain = chain.drain
        pages = Pages(config, self.health)
        self._router = Router(Starlette(routes=pages.routes))
        self._facts = pages.facts = self._mount_plugins()
        self.on_stop_requested: Callable[[str, float | None], None] | None = None
        self._mount_own()
        self._stopping: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._users = 0
        self._entered = contextlib.AsyncExitStack()
        app: ASGIApp = ReadAhead(EarlyHead(Arrivals(self._router)))
        app = CutCalls(app)
        self._app: ASGIApp = ResponseHead(app, instance_id=self.instance_id, drain=self._drain)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        else:
            await self._app(scope, receive, send)

    @property
    def in_flight(self) -> int:
        """Calls to plugins that are being answered."""
        return self._drain.in_flight

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""
        return self._drain.reason is not None

    async def drain(
        self, reason: str = "the server is shutting down", *, grace: float | None = None
    ) -> None:
        """Stop taking calls, and wait for those in flight.

        Health says NOT_SERVING, and its watches end; new calls are refused unprocessed. Calls in
        flight go on; open streams end after `stream_drain_timeout`, everything else after `grace`,
        with `unavailable` and the reason.

        Args:
            reason: Told to clients.
            grace: Seconds; `graceful_shutdown_timeout` if None.
        """
        config = self.config
        total = config.graceful_shutdown_timeout if grace is None else grace
        for_streams = min(config.stream_drain_timeout, 0.9 * total)
        self.health.close(f"draining: {reason}")
        self._drain.begin(reason)
        if await self._idle_within(for_streams):
            return
        self._drain.end_streams(f"{reason}; streams end after {for_streams:g} s")
        if await self._idle_within(total - for_streams):
            return
        self._drain.end_all(f"{reason}; everything ends after {total:g} s")
        await self._idle_within(_LAST_MOMENT)

    async def _idle_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._drain.wait_idle()
        except TimeoutError:
            return False
        return True

    def _stop_requested(self, reason: str, grace: float | None) -> None:
        if self.on_stop_requested is not None:
            self.on_stop_requested(reason, grace)
        elif self._stopping is None:
            drain = self.drain(reason, grace=grace)
            self._stopping = asyncio.get_running_loop().create_task(drain, name="drain")

    def _mount_plugins(self) -> ServerFacts:
        config = self.config
        facts: dict[int, list[PluginFacts]] = {}
        for version, plugins in config.plugin_sets.items():
            facts[version] = [self._mount(plugin, version) for plugin in plugins.values()]
        return ServerFacts(
            plugins=facts,
            cookie=config.magic_cookie,
            capabilities=tuple(config.capabilities),
            instance_id=self.instance_id,
            metadata={
                **{
                    key: value
                    for key, value in (
                        ("self_id", config.self_id),
                        ("self_version", config.self_version),
                    )
                    if value
                },
                **config.server_metadata,
            },
        )

    def _mount(self, plugin: BoundPlugin, version: int) -> PluginFacts:
        name = plugin.name

        def links() -> Sequence[ServerLink]:
            return self._chain.interceptors(name)

        mount = Mount(
            self._router,
            version=version,
            links=links,
            read_max_bytes=self.config.read_max_bytes,
        )
        plugin.register(mount)
        self.health.add(name, mount.paths)
        declared: Any = plugin.plugin
        path = getattr(declared, "service_path", None) or (mount.paths[0] if mount.paths else "")
        return PluginFacts(
            name=name,
            version=getattr(declared, "version", "") or "",
            service_path=path.strip("/"),
            capabilities=tuple(self.config.capabilities),
        )

    def _mount_own(self) -> None:
        handshake = Handshake(self._facts)
        control = Control(
            board=self.health,
            in_flight=lambda: self.in_flight,
            stop=self._stop_requested,
            remote_shutdown=self.config.allow_remote_shutdown,
        )
        newest = self._facts.plugins[max(self._facts.plugins)]
        identity = Identity(
            self_id=self.config.self_id, self_version=self.config.self_version, plugins=newest
        )
        # Nobody should shake hands with a server that stops; how it is, it tells to the end.
        self._own(HandshakeServiceASGIApplication, handshake, refuse_when_draining=True)
        self._own(PluginControllerASGIApplication, Controller(handshake, control))
        self._own(PluginControlASGIApplication, control)
        self._own(PluginIdentityASGIApplication, identity)
        self._own(HealthServiceASGIApplication, HealthService(self.health))
        self._own(HealthASGIApplication, GrpcHealthService(self.health))

    def _own(
        self,
        application_class: type[ConnectASGIApplication[Any]],
        service: Any,
        *,
        refuse_when_draining: bool = False,
    ) -> None:
        def links() -> Sequence[ServerLink]:
            return self._chain.control_interceptors(refuse_when_draining=refuse_when_draining)

        Mount(
            self._router,
            version=_EVERY_VERSION,
            links=links,
            read_max_bytes=_MOST_CONTROL_BYTES,
        ).mount(application_class, service)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        started = False
        try:
            async with self._running():
                await send({"type": "lifespan.startup.complete"})
                started = True
                await receive()
        except Exception as error:
            what = "shutdown" if started else "startup"
            self.config.logger.exception("the plugin server failed at its %s", what)
            await send({"type": f"lifespan.{what}.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncGenerator[None]:
        """Run the implementations; several clients in this process may share one application."""
        async with self._lock:
            if self._users == 0:
                await self._enter()
            self._users += 1
        try:
            yield
        finally:
            async with self._lock:
                self._users -= 1
                if self._users == 0:
                    await self._entered.aclose()

    async def _enter(self) -> None:
        """Enter the implementations that are context managers; they are left in reverse order."""
        async with contextlib.AsyncExitStack() as stack:
            seen: set[int] = set()
            for plugins in self.config.plugin_sets.values():
                for plugin in plugins.values():
                    impl: Any = plugin.impl
                    if id(impl) in seen:
                        continue
                    seen.add(id(impl))
                    if hasattr(impl, "__aenter__") and hasattr(impl, "__aexit__"):
                        await stack.enter_async_context(impl)
                    elif hasattr(impl, "__enter__") and hasattr(impl, "__exit__"):
                        stack.enter_context(impl)
            for app in self._router.with_lifespan:
                lifespan = Lifespan(app)
                await lifespan.start()
                stack.push_async_callback(lifespan.stop)
            self._entered = stack.pop_all()

    def __repr__(self) -> str:
        state = "draining" if self.draining else "serving"
        names = sorted({n for plugins in self.config.plugin_sets.values() for n in plugins})
        return f"<PluginApp {', '.join(names)} {state}, {self.in_flight} in flight>"


def create_app(config: ServeConfig, *, clock: Clock | None = None) -> PluginApp:
    """Make the ASGI application of a plugin server.

    It runs on any ASGI server, under a mount of another application, and in process as the
    `endpoint` of a `ClientConfig`.

    Args:
        config: What to serve. `addr`, `sock` and `allow_insecure` have no meaning here: the ASGI
            server below listens.
        clock: Where the chain's time comes from; the machine's clock if None.
    """
    return PluginApp(config, clock=clock)
