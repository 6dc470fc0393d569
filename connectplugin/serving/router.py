"""Which application answers: by service path, and by application version where that is needed."""

import inspect
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from connectrpc.server import ConnectASGIApplication

from connectplugin.serving.layers import ASGIApp, Receive, Scope, Send
from connectplugin.wire import APP_VERSION_HEADER
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.server.stack import ServerLink

S = TypeVar("S")

_VERSION_HEADER = APP_VERSION_HEADER.encode()


class Router:
    """Services by path. A dictionary, since it is on the way of every call.

    Attributes:
        with_lifespan: The applications that must see the server's lifespan.
    """

    def __init__(self, fallback: ASGIApp) -> None:
        self._fallback = fallback
        self._services: dict[str, dict[int, ASGIApp]] = {}
        self.with_lifespan: list[ASGIApp] = []

    def add(self, path: str, version: int, app: ASGIApp) -> None:
        """Serve a path in a version; version 0 is every version.

        Raises:
            ConfigError: The path is served in that version already.
        """
        served = self._services.setdefault(path, {})
        if version in served or 0 in served or (version == 0 and served):
            msg = f"the path /{path}/ is served twice at application version {version}"
            raise ConfigError(msg)
        served[version] = app

    def paths(self, version: int) -> list[str]:
        """What is served in a version."""
        return [path for path, served in self._services.items() if version in served]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        served = self._services.get(path[1 : path.find("/", 1)])
        if served is None:
            await self._fallback(scope, receive, send)
            return
        app = served.get(0)
        if app is None:
            asked = _asked(scope)
            # A client that names no version has agreed on none: it gets the newest.
            version = max(served) if asked is None else _number(asked)
            app = served.get(version)
            if app is None:
                await _refuse(send, asked or "", sorted(served))
                return
        await app(scope, receive, send)


class Mount:
    """What a plugin mounts its services with."""

    def __init__(
        self,
        router: Router,
        *,
        version: int,
        links: Callable[[], Sequence[ServerLink]],
        read_max_bytes: int,
    ) -> None:
        self._router = router
        self._version = version
        self._links = links
        self._read_max_bytes = read_max_bytes
        self.paths: list[str] = []

    def mount(self, application_class: type[ConnectASGIApplication[S]], service: S, /) -> None:
        """Serve a generated service through the server's chain."""
        make: Any = application_class
        app: Any = make(service, interceptors=self._links(), read_max_bytes=self._read_max_bytes)
        path: str = app.path.strip("/")
        self._router.add(path, self._version, app)
        self.paths.append(path)
        if inspect.isasyncgen(service):
            self._router.with_lifespan.append(app)


def _asked(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _VERSION_HEADER:
            return str(value, "latin-1")
    return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1  # noqa: PLR2004  # an int32


async def _refuse(send: Send, asked: str, versions: Sequence[int]) -> None:
    """`failed_precondition` in Connect's spelling of errors."""
    there = ", ".join(map(str, versions))
    message = f"this service is not served at application version {asked[:16]!r}, only at {there}"
    body = json.dumps({"code": "failed_precondition", "message": message}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})
