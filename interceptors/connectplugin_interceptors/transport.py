"""Transports: safe defaults, the tap that sees an attempt's fate, and a bound on answers."""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Final, Literal

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import HTTPTransport, HTTPVersion, Proxy, Request, Response, Transport

from connectplugin_interceptors.call import Attempt
from connectplugin_interceptors.shapes import close

DEFAULT_READ_MAX_BYTES: Final = 4 << 20
"""The largest message that is accepted, in bytes, as servers of connectrpc do by default."""

CLIENT_OPTIONS: Final[dict[str, Any]] = {
    # With the transport's decoders off, a compressed answer would be refused; so ask for none.
    "send_compression": None,
    "accept_compression": (),
    "read_max_bytes": DEFAULT_READ_MAX_BYTES,
}
"""What `ClientStack.client` gives to the generated client."""


def make_transport(
    url: str,
    *,
    connect_timeout: float = 5.0,
    max_connections: int = 1_000,
    max_idle_connections: int = 64,
    tls_ca_cert: bytes | None = None,
    tls_cert: bytes | None = None,
    tls_key: bytes | None = None,
    http_version: HTTPVersion | None = None,
) -> HTTPTransport:
    """A pyqwest transport that does only what it is told.

    No redirects are followed (a 307 would send the body and `x-api-key` to another origin), no
    proxy is taken from the environment, nothing is unpacked before it is measured, no trace header
    is added beside the chain's own.

    Args:
        url: Only its scheme is looked at.
        connect_timeout: Seconds for a connection to come about; below the attempt's limit, so that
            "not sent" stays visible.
        max_connections: To each address of the host. Beyond that a request waits for one.
        max_idle_connections: Kept open for what comes next.
        tls_ca_cert: PEM of the authorities to trust; by default the system's.
        tls_cert: PEM of this side's certificate.
        tls_key: PEM of its key.
        http_version: By default HTTP/1.1 without TLS, negotiated with it.
    """
    unused: Literal["http", "https"] = "http" if url.startswith("https:") else "https"
    return HTTPTransport(
        follow_redirects=False,
        enable_otel=False,
        enable_gzip=False,
        enable_brotli=False,
        enable_zstd=False,
        connect_timeout=connect_timeout,
        max_connections_per_address=max_connections,
        pool_max_idle_per_host=max_idle_connections,
        http_version=http_version,
        tls_ca_cert=tls_ca_cert,
        # To read the system's takes 20 ms.
        tls_include_system_certs=tls_ca_cert is None and url.startswith("https:"),
        tls_cert=tls_cert,
        tls_key=tls_key,
        # Any explicit rule turns *_PROXY off; this one is for a scheme that is never used here.
        proxy=Proxy("http://127.0.0.1:9", scheme=unused),
    )


current_attempt: ContextVar[Attempt | None] = ContextVar("current_attempt", default=None)
"""The attempt that is being sent; set around one await only, never across a `yield`."""


class TapTransport:
    """Tells the chain what the transport saw: whether it was entered, and the response's head.

    connectrpc's `ResponseMetadata` would tell the head too, but an interceptor that opens one takes
    it from the caller. Also bounds what a response that is read whole may hold: connectrpc measures
    such a one only after it is in memory.
    """

    def __init__(
        self, inner: Transport, *, read_max_bytes: int | None = DEFAULT_READ_MAX_BYTES
    ) -> None:
        self.inner = inner
        self._read_max_bytes = read_max_bytes

    async def execute(self, request: Request) -> Response:
        """Send the request, and take notes."""
        attempt = current_attempt.get()
        # An attempt is sent once. A second request under it is somebody else's: made by a request
        # generator, say, which runs in a copy of this context.
        if attempt is None:
            return self._bounded(await self.inner.execute(request))
        if attempt.entered:
            token = current_attempt.set(None)
            try:
                return self._bounded(await self.inner.execute(request))
            finally:
                current_attempt.reset(token)
        attempt.entered = True
        response = await self.inner.execute(request)
        attempt.head(response.status, response.headers)
        return self._bounded(response)

    def _bounded(self, response: Response) -> Response:
        most = self._read_max_bytes
        if most is None:
            return response
        headers = response.headers
        kind = headers.get("content-type", "")
        if response.status == 200 and kind.startswith(_STREAMS):  # noqa: PLR2004
            # connectrpc measures each message before it is read, but collects without a bound what
            # follows the last one. (Of gRPC proper that is the trailers, which HTTP bounds.)
            if not kind.startswith(_ENDED_IN_BAND):
                return response
            return _replaced(response, _Framed(response))
        length = headers.get("content-length")
        if length is not None and length.isdigit() and int(length) <= most:
            return response  # HTTP itself holds the peer to it
        return _replaced(response, _Bounded(response, most))

    async def aclose(self) -> None:
        """Close the transport below, if it can be closed."""
        await close(self.inner)


_STREAMS: Final = ("application/connect+", "application/grpc")
_ENDED_IN_BAND: Final = ("application/connect+", "application/grpc-web")


def _replaced(response: Response, content: AsyncIterator[bytes]) -> Response:
    return Response(
        status=response.status,
        http_version=response.http_version,
        headers=response.headers,
        content=content,
        trailers=response.trailers,
    )


class _Framed(AsyncIterator[bytes]):
    """A body of enveloped messages that fails when more follows the one that ends the stream.

    It holds the response, not only its content: pyqwest cuts the connection of a bidi stream, whose
    requests still go out, when the response is collected.
    """

    __slots__ = ("_ended", "_inner", "_prefix", "_response", "_rest")

    def __init__(self, response: Response) -> None:
        self._response = response
        self._inner: AsyncIterator[Any] = response.content
        self._prefix = b""
        self._rest = 0  # bytes that are missing from the message under way
        self._ended = False

    async def __anext__(self) -> bytes:
        chunk = bytes(await anext(self._inner))
        if not self._fits(chunk):
            await self.aclose()
            raise ConnectError(Code.INTERNAL, "corrupt response: more follows the end of stream")
        return chunk

    def _fits(self, chunk: bytes) -> bool:
        position = 0
        size = len(chunk)
        while True:
            step = min(self._rest, size - position)
            self._rest -= step
            position += step
            if position == size:
                return True
            if self._ended:
                return False
            prefix = self._prefix + chunk[position : position + _PREFIX - len(self._prefix)]
            position += len(prefix) - len(self._prefix)
            if len(prefix) < _PREFIX:
                self._prefix = prefix
                return True
            self._prefix = b""
            self._ended = prefix[0] & _END_FLAGS != 0
            self._rest = int.from_bytes(prefix[1:])

    async def aclose(self) -> None:
        await close(self._response)


_PREFIX: Final = 5  # flags, and the length in four bytes
_END_FLAGS: Final = 0x02 | 0x80  # Connect's, gRPC-Web's


class _Bounded(AsyncIterator[bytes]):
    """A body that fails when it grows past a bound; no generator, so `aclose` works unread."""

    def __init__(self, response: Response, most: int) -> None:
        self._response = response  # held, as above
        self._inner: AsyncIterator[Any] = response.content
        self._left = most
        self._most = most

    async def __anext__(self) -> bytes:
        chunk = bytes(await anext(self._inner))
        self._left -= len(chunk)
        if self._left < 0:
            await self.aclose()
            raise ConnectError(
                Code.RESOURCE_EXHAUSTED, f"response is larger than configured max {self._most}"
            )
        return chunk

    async def aclose(self) -> None:
        await close(self._response)
