"""The chain over an `httpx.AsyncClient` of yours: its proxies, its TLS, its instrumentation.

```python
transport = HttpxTransport(httpx.AsyncClient(proxy="http://proxy:3128", trust_env=False))
kv = ClientStack().client(KVServiceClient, "https://kv.example", transport=transport)
```
Needs the extra `connectplugin[httpx]`. Its limits, all measured:

- httpx sends the whole request before it looks at the response: unary, server and client streams
  work; a bidi stream works if the peer answers after the last request. One that waits for an answer
  before it sends on ends at its deadline.
- No gRPC: httpx gives no trailers. Connect and gRPC-Web work.
- A call costs about three times one over pyqwest.
"""

from collections.abc import AsyncIterator
from typing import Final

import httpx
from pyqwest import (
    ConnectTimeout,
    Headers,
    ReadError,
    RemoteProtocolError,
    Request,
    Response,
    WriteError,
)

# What tells "was it sent?": the first row that fits. A pool that is full has sent nothing; what a
# proxy refuses has not reached the peer.
_ERRORS: Final[tuple[tuple[type[httpx.HTTPError], type[Exception]], ...]] = (
    (httpx.ConnectTimeout, ConnectTimeout),
    (httpx.PoolTimeout, ConnectTimeout),
    (httpx.TimeoutException, TimeoutError),
    (httpx.ConnectError, ConnectionError),
    (httpx.ProxyError, ConnectionError),
    (httpx.WriteError, WriteError),
    (httpx.RemoteProtocolError, RemoteProtocolError),
    (httpx.NetworkError, ReadError),
)


class HttpxTransport:
    """A `pyqwest.Transport` over an `httpx.AsyncClient`, which stays yours to close.

    Redirects are not followed, whatever the client says: a 307 would send the body, and credentials
    of the application's own, to another origin. Answers are not unpacked. Of the client's timeouts
    those for connecting and for the pool hold; how long a call may take is the chain's affair. Give
    the client `trust_env=False` unless it shall take its proxy from the environment, and limits
    that are wide enough: the pool's is a limit of concurrency too.

    Args:
        client: What sends the requests.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        own = client.timeout
        self._timeout = httpx.Timeout(None, connect=own.connect, pool=own.pool)

    async def execute(self, request: Request) -> Response:
        """Send the request; return when the head of the response has come."""
        client = self._client
        outgoing = client.build_request(
            request.method,
            request.url,
            content=request.content,
            headers=list(request.headers.items()),
            timeout=self._timeout,
        )
        try:
            response = await client.send(outgoing, stream=True, follow_redirects=False)
        except httpx.HTTPError as error:
            raise _translated(error) from error
        return Response(
            status=response.status_code,
            headers=Headers(response.headers.multi_items()),
            content=_Body(response),
        )

    def __repr__(self) -> str:
        return "<HttpxTransport>"


class _Body(AsyncIterator[bytes]):
    """A response's body; no generator, so that `aclose` works unread."""

    def __init__(self, response: httpx.Response) -> None:
        self._response = response
        self._chunks = response.aiter_raw()

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except httpx.HTTPError as error:
            raise _translated(error) from error

    async def aclose(self) -> None:
        await self._response.aclose()


def _translated(error: httpx.HTTPError) -> Exception:
    """The error as pyqwest would have raised it: its type tells whether anything was sent."""
    text = str(error) or type(error).__name__
    for theirs, ours in _ERRORS:
        if isinstance(error, theirs):
            return ours(text)
    return error
