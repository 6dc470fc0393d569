"""What stands between a client's calls and its servers: no call before the handshake."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Request, Response, Transport

from connectplugin.errors import PluginError, PluginUnavailableError
from connectplugin.session import Session
from connectplugin.wire import APP_VERSION_HEADER
from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.shapes import Stream, Unary, close, closing
from connectplugin_interceptors.wire import DRAINING, INSTANCE_HEADER, NACK_HEADER

Q = TypeVar("Q")
R = TypeVar("R")


class HandshakeGate(Link):
    """Per attempt: no call goes to a server that has not been handshaken.

    Args:
        sessions: By the keys of the endpoints.
        misfit: Called with the key of an endpoint that turns out not to fit, where there are
            others: the call then goes to one of them.
    """

    def __init__(
        self, sessions: Mapping[str, Session], misfit: Callable[[str], None] | None = None
    ) -> None:
        self._sessions = sessions
        self._sole = next(iter(sessions.values())) if len(sessions) == 1 else None
        self._misfit = misfit

    async def _pass(self, own: CallContext) -> None:
        session = self._sole
        if session is None:
            endpoint = own.attempt.endpoint
            if endpoint is None:
                msg = f"{own.call.path}: no endpoint was picked"
                raise RuntimeError(msg)
            session = self._sessions[endpoint.key]
        if session.due:
            await self._renew(own, session)
        if session.send_version and session.info is not None:
            own.request_headers[APP_VERSION_HEADER] = str(session.info.app_version)

    async def _renew(self, own: CallContext, session: Session) -> None:
        remaining = None
        if own.deadline is not None:
            remaining = own.deadline - own.call.clock.now()
        try:
            async with asyncio.timeout(remaining):
                await session.shake()
        except ConnectError as error:
            if isinstance(session.explain(error), PluginUnavailableError):
                # Each call gets an error of its own: it will be written on.
                raise ConnectError(
                    error.code, f"handshake: {error.message}", error.details
                ) from error.__cause__
            refusal = self._does_not_fit(own, f"handshake: {error.message}", error)
            raise refusal from refusal.__cause__
        except PluginError as error:
            refusal = self._does_not_fit(own, str(error), None)
            raise refusal from refusal.__cause__
        except TimeoutError as error:
            raise ConnectError(
                Code.DEADLINE_EXCEEDED, f"handshake with {session.address}"
            ) from error

    def _does_not_fit(
        self, own: CallContext, message: str, answer: ConnectError | None
    ) -> ConnectError:
        endpoint = own.attempt.endpoint
        if self._misfit is None or endpoint is None:
            if answer is None:
                return ConnectError(Code.FAILED_PRECONDITION, message)
            alike = ConnectError(answer.code, message, answer.details)
            alike.__cause__ = answer.__cause__
            return alike
        self._misfit(endpoint.key)
        # As if nobody had listened there: nothing was sent, and another one may be asked.
        error = ConnectError(Code.UNAVAILABLE, message)
        error.__cause__ = ConnectionError(message)
        return error

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Shake hands if it is due, then call."""
        own = context_of(ctx)
        await self._pass(own)
        return await call_next(request, own)

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Shake hands if it is due, then call."""
        own = context_of(ctx)
        await self._pass(own)
        async with closing(call_next(request, own)) as responses:
            async for response in responses:
                yield response

    intercept_bidi_stream: Any = intercept_server_stream

    def __repr__(self) -> str:
        return "HandshakeGate()"


class InstanceWatch:
    """A transport that tells which instance has answered, and when nobody is there to answer.

    Args:
        inner: The transport below.
        saw: Told the instance of each answer.
        lost: Called when a connection was refused (False), or the server said that it stops (True).
    """

    def __init__(
        self, inner: Transport, saw: Callable[[str | None], None], lost: Callable[[bool], None]
    ) -> None:
        self._inner = inner
        self._saw = saw
        self._lost = lost

    async def execute(self, request: Request) -> Response:
        """Send the request, and look at who answers."""
        try:
            response = await self._inner.execute(request)
        except ConnectionError:
            self._lost(False)
            raise
        self._saw(response.headers.get(INSTANCE_HEADER))
        if response.headers.get(NACK_HEADER) == DRAINING:
            self._lost(True)
        return response

    async def aclose(self) -> None:
        """Close the transport below."""
        await close(self._inner)
