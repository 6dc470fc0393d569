"""A KV server that does what a script says, over a transport that can fail before it.

Each step of the script is the fate of one attempt, whatever its shape:

```python
peer = Peer(fails(Code.UNAVAILABLE), answers(3))
async with peer.client(ClientStack()) as client:
    assert await shape.run(client) == [b"0", b"1", b"2"]
assert peer.outcomes == ["failed", "done"]
```
The last step stands for all further attempts. Steps of the wire (`refused`, `breaks`) never reach
the server; those of the handler (`answers`, `fails`, `hangs`) run inside of it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext
from pyqwest import ReadError, Request, Response

from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors import ClientStack, DeadlinePolicy, RetryPolicy
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_connect import KVService, KVServiceASGIApplication, KVServiceClient
from kv.v1.kv_pb import (
    GetRequest,
    GetResponse,
    IncrementRequest,
    IncrementResponse,
    LoadRequest,
    LoadResponse,
    SyncRequest,
    SyncResponse,
    WatchRequest,
    WatchResponse,
)

Ctx: TypeAlias = RequestContext[Any, Any]
Execute: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(eq=False)
class Handled:
    """What one run of the handler has seen.

    Attributes:
        outcome: `running`, `done`, `failed`, `cancelled`, or `left` if its stream was closed.
        requests: The keys of the requests that it has read.
    """

    method: str
    headers: Mapping[str, str]
    timeout: float | None
    outcome: str = "running"
    requests: list[str] = field(default_factory=list[str])
    started: float = 0.0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


Behave: TypeAlias = Callable[[Handled, AsyncIterator[str], Ctx], AsyncIterator[bytes]]
"""A handler: from keys of requests to values of responses."""


@dataclass(frozen=True)
class Handler:
    """A step that runs in the server."""

    behave: Behave


@dataclass(frozen=True)
class Wire:
    """A step that runs in the transport; it may pass the request on."""

    behave: Callable[[Request, Execute], Awaitable[Response]]


Step: TypeAlias = Handler | Wire


def answers(
    count: int = 1, *, every: float = 0.0, headers: Iterable[tuple[str, str]] = ()
) -> Handler:
    """Read all requests, then respond with `count` messages, `every` so many seconds."""

    async def behave(seen: Handled, keys: AsyncIterator[str], ctx: Ctx) -> AsyncIterator[bytes]:
        async for key in keys:
            seen.requests.append(key)
        for name, value in headers:
            ctx.response_headers.add(name, value)
        for number in range(count):
            if every:
                await asyncio.sleep(every)
            yield str(number).encode()

    return Handler(behave)


def echoes() -> Step:
    """Respond to each request with its key, before the next is read."""

    async def behave(seen: Handled, keys: AsyncIterator[str], _: Ctx) -> AsyncIterator[bytes]:
        async for key in keys:
            seen.requests.append(key)
            yield key.encode()

    return Handler(behave)


def fails(
    code: Code,
    *,
    after: int = 0,
    headers: Iterable[tuple[str, str]] = (),
    details: Iterable[Any] = (),
    reading: bool = True,
    delay: float = 0.0,
) -> Step:
    """Fail with a code, after so many messages (which only streams of responses can show)."""

    async def behave(seen: Handled, keys: AsyncIterator[str], ctx: Ctx) -> AsyncIterator[bytes]:
        if reading:
            async for key in keys:
                seen.requests.append(key)
        for name, value in headers:
            ctx.response_headers.add(name, value)
        for number in range(after):
            yield str(number).encode()
        if delay:
            await asyncio.sleep(delay)
        raise ConnectError(code, f"told to fail with {code.value}", details)

    return Handler(behave)


def hangs(*, after: int = 0, reading: bool = False) -> Step:
    """Send so many messages, then nothing more."""

    async def behave(seen: Handled, keys: AsyncIterator[str], _: Ctx) -> AsyncIterator[bytes]:
        if reading:
            async for key in keys:
                seen.requests.append(key)
        for number in range(after):
            yield str(number).encode()
        await asyncio.Event().wait()

    return Handler(behave)


def raises(error: BaseException) -> Step:
    """The transport raises before the server sees anything; what that means, its type tells."""

    async def behave(_request: Request, _execute: Execute) -> Response:
        raise error

    return Wire(behave)


def refused() -> Step:
    """Nobody listens."""
    return raises(ConnectionError("connection refused"))


def breaks(error: BaseException | None = None) -> Step:
    """The server runs the call, and the connection breaks before its answer has come."""

    async def behave(request: Request, execute: Execute) -> Response:
        response = await execute(request)
        if response.status == 200:
            async for _ in response.content:
                pass
        raise error or ReadError("connection reset by peer")

    return Wire(behave)


def pending() -> Step:
    """The transport never comes back."""

    async def behave(_request: Request, _execute: Execute) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    return Wire(behave)


def ground(**policies: Any) -> ClientStack:
    """Deadline and retry by default, and nothing else: the stack that these tests are about."""
    return ClientStack.bare(
        **{"deadline": DeadlinePolicy(), "retry_policy": RetryPolicy(), **policies}
    )


def seeded(seed: int) -> Random:
    """Chance that is the same in every run."""
    return Random(seed)  # noqa: S311  # jitter


_PLAN = "x-plan"


class Peer:
    """The server, its transport, and all that went by.

    Attributes:
        sent: The headers of every request that was given to the transport.
        sent_names: Their names, with repetitions.
        sent_at: When that was, in the loop's seconds.
        calls: What each run of the handler has seen.
    """

    def __init__(self, *script: Step, interceptors: Iterable[Any] = ()) -> None:
        self.script: Sequence[Step] = script or (answers(),)
        self.sent: list[dict[str, str]] = []
        self.sent_names: list[list[str]] = []
        self.sent_at: list[float] = []
        self.calls: list[Handled] = []
        self._plans: dict[str, Behave] = {}
        self.app = KVServiceASGIApplication(_Service(self), interceptors=interceptors)
        self.transport = _ScriptedTransport(self, InProcessTransport(self.app))

    @property
    def outcomes(self) -> list[str]:
        """How each run of the handler ended."""
        return [call.outcome for call in self.calls]

    def serve(self, app: Any) -> None:
        """Put something in front of the application."""
        self.transport = _ScriptedTransport(self, InProcessTransport(app))

    def client(self, stack: ClientStack, **options: Any) -> KVServiceClient:
        """A client of this peer."""
        options.setdefault("rng", seeded(7))
        return stack.client(KVServiceClient, "http://peer", transport=self.transport, **options)

    def step(self) -> Step:
        """The fate of the attempt that comes now."""
        step = self.script[0]
        self.script = self.script[1:] or self.script
        return step

    @property
    def attempt_numbers(self) -> list[str | None]:
        """`grpc-previous-rpc-attempts` of each request."""
        return [headers.get("grpc-previous-rpc-attempts") for headers in self.sent]

    def plan(self, behave: Behave, request: Request) -> None:
        """What the handler of this request will do."""
        name = str(len(self._plans))
        self._plans[name] = behave
        # Told by a header: a request that is cancelled may never come to its handler.
        request.headers[_PLAN] = name

    async def handle(self, method: str, keys: AsyncIterator[str], ctx: Ctx) -> AsyncIterator[bytes]:
        """Run one call as planned, and take down how it ended."""
        behave = self._plans[ctx.request_headers[_PLAN]]
        timeout = ctx.timeout_ms
        seen = Handled(
            method,
            dict(ctx.request_headers.items()),
            None if timeout is None else timeout / 1000.0,
            started=asyncio.get_running_loop().time(),
        )
        self.calls.append(seen)
        try:
            async for value in behave(seen, keys, ctx):
                yield value
        except asyncio.CancelledError:
            seen.outcome = "cancelled"
            raise
        except GeneratorExit:
            seen.outcome = "left"
            raise
        except BaseException:
            seen.outcome = "failed"
            raise
        else:
            seen.outcome = "done"
        finally:
            seen.ended.set()


class _ScriptedTransport:
    def __init__(self, peer: Peer, inner: InProcessTransport) -> None:
        self._peer = peer
        self._inner = inner

    async def execute(self, request: Request) -> Response:
        self._peer.sent.append(dict(request.headers.items()))
        self._peer.sent_names.append([name for name, _ in request.headers.items()])
        self._peer.sent_at.append(asyncio.get_running_loop().time())
        step = self._peer.step()
        if isinstance(step, Wire):
            return await step.behave(request, self._then)
        self._peer.plan(step.behave, request)
        return await self._inner.execute(request)

    async def _then(self, request: Request) -> Response:
        self._peer.plan(_answer, request)
        return await self._inner.execute(request)


class _Service(KVService):
    """The generated service's methods, all through one body."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    async def get(self, request: GetRequest, ctx: Ctx) -> GetResponse:
        return GetResponse(value=await self._one("Get", _single(request.key), ctx))

    async def increment(self, request: IncrementRequest, ctx: Ctx) -> IncrementResponse:
        await self._one("Increment", _single(request.key), ctx)
        return IncrementResponse(value=1)

    async def load(self, request: AsyncIterator[LoadRequest], ctx: Ctx) -> LoadResponse:
        await self._one("Load", _keys(request), ctx)
        return LoadResponse(count=1)

    async def watch(self, request: WatchRequest, ctx: Ctx) -> AsyncIterator[WatchResponse]:
        async for value in _closed(self._peer.handle("Watch", _single(request.prefix), ctx)):
            yield WatchResponse(value=value)

    async def sync(
        self, request: AsyncIterator[SyncRequest], ctx: Ctx
    ) -> AsyncIterator[SyncResponse]:
        async for value in _closed(self._peer.handle("Sync", _keys(request), ctx)):
            yield SyncResponse(value=value)

    async def _one(self, method: str, keys: AsyncIterator[str], ctx: Ctx) -> bytes:
        last = b""
        async for value in _closed(self._peer.handle(method, keys, ctx)):
            last = value
        return last


_answer: Behave = answers().behave


async def _single(key: str) -> AsyncIterator[str]:
    yield key


async def _keys(
    requests: AsyncIterator[LoadRequest] | AsyncIterator[SyncRequest],
) -> AsyncIterator[str]:
    async for request in requests:
        yield request.key


async def _closed(values: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async with closing(values):
        async for value in values:
            yield value
