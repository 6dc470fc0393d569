"""The chain alone: its interceptors composed over a leaf that does nothing."""

import functools
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import Headers, RequestContext

from benchmarks.floor import Floor
from benchmarks.measure import Arm
from benchmarks.service import REQUEST
from connectplugin_interceptors import ClientStack, RateLimitPolicy
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.generated import needed_links
from kv.v1.kv_pb import GetRequest, GetResponse, WatchRequest, WatchResponse

GET: Final = MethodInfo(
    name="Get",
    service_name="kv.v1.KVService",
    input=GetRequest,
    output=GetResponse,
    idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
    stream_type=StreamType.UNARY,
)
_WATCH: Final = MethodInfo(
    name="Watch",
    service_name="kv.v1.KVService",
    input=WatchRequest,
    output=WatchResponse,
    idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
    stream_type=StreamType.SERVER_STREAM,
)
_HEADERS: Final = {
    "user-agent": "connect-python/0.13.0",
    "connect-protocol-version": "1",
    "accept-encoding": "",
    "content-encoding": "identity",
    "content-type": "application/proto",
}
_MESSAGES: Final = 100
_RESPONSE: Final = GetResponse(value=b"value")


def fresh(method: MethodInfo[Any, Any]) -> RequestContext[Any, Any]:
    """A context as connectrpc makes one for each call; every arm pays for it."""
    return RequestContext(
        method=method,
        http_method="POST",
        request_headers=Headers(_HEADERS),
        server_address="127.0.0.1:8080",
    )


def composed(links: Sequence[Any], leaf: Any, hook: str = "intercept_unary") -> Any:
    """What connectrpc makes of a list of interceptors."""
    execute = leaf
    for link in reversed(links):
        execute = functools.partial(getattr(link, hook), execute)
    return execute


async def leaf(request: GetRequest, ctx: RequestContext[Any, Any], /) -> GetResponse:
    """In place of connectrpc's sending."""
    del request, ctx
    return _RESPONSE


async def _messages(
    request: WatchRequest, ctx: RequestContext[Any, Any], /
) -> AsyncIterator[GetResponse]:
    del request, ctx
    for _ in range(_MESSAGES):
        yield _RESPONSE


def unary_arm(name: str, execute: Any) -> Arm:
    """An arm that makes unary calls."""

    async def run(count: int) -> None:
        for _ in range(count):
            await execute(REQUEST, fresh(GET))

    return Arm(name, run)


def links_of(stack: ClientStack) -> list[Any]:
    """A stack's interceptors, as `stack.client` uses them for one address."""
    pool = EndpointPool(["http://127.0.0.1:8080"], fixed=True)
    return needed_links(stack.interceptors(observed=True, pool=pool), {})


def unary_arms() -> list[Arm]:
    """A unary call: no chain, the least, the standard, and the standard with a rate limit."""
    limited = ClientStack(rate_limit=RateLimitPolicy(per_second=1e9))
    return [
        unary_arm("no chain", leaf),
        unary_arm("hand-written floor", composed([Floor()], leaf)),
        *[
            unary_arm(name, composed(links_of(stack), leaf))
            for name, stack in (
                ("ClientStack.bare()", ClientStack.bare()),
                ("ClientStack()", ClientStack()),
                ("ClientStack(rate_limit=...)", limited),
            )
        ],
    ]


def stream_arms() -> list[Arm]:
    """One message of a stream of a hundred responses."""

    def arm(name: str, stack: ClientStack | None) -> Arm:
        links = [] if stack is None else links_of(stack)
        execute = composed(links, _messages, "intercept_server_stream")
        request = WatchRequest(prefix="")

        async def run(count: int) -> None:
            for _ in range(count // _MESSAGES):
                async for _ in execute(request, fresh(_WATCH)):
                    pass

        return Arm(name, run)

    return [
        arm("no chain", None),
        arm("ClientStack.bare()", ClientStack.bare()),
        arm("ClientStack()", ClientStack()),
    ]
