"""The ASGI layers around everything that a server answers."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from connectplugin_interceptors.server.drain.interceptor import Drain
from connectplugin_interceptors.wire import INSTANCE_HEADER

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Scope: TypeAlias = MutableMapping[str, Any]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class ResponseHead:
    """Writes onto every response which start of which server has answered.

    While the server drains, HTTP/1 clients are told that the connection will close, so that they
    take their next call elsewhere instead of losing it with the connection.
    """

    def __init__(self, app: ASGIApp, *, instance_id: str, drain: Drain) -> None:
        self._app = app
        self._instance = (INSTANCE_HEADER.encode(), instance_id.encode())
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), self._instance]
                if self._drain.reason is not None and scope["http_version"].startswith("1"):
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        await self._app(scope, receive, send_with_head)
