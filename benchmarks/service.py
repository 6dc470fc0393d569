"""The service that is called, and clients of it with and without a chain."""

from collections.abc import AsyncIterator
from typing import Any, Final

from connectrpc.request import RequestContext
from pyqwest import Client as HTTPClient
from pyqwest import Transport

from connectplugin_interceptors import ClientStack
from connectplugin_interceptors.transport import CLIENT_OPTIONS
from kv.v1.kv_connect import KVService, KVServiceClient
from kv.v1.kv_pb import GetRequest, GetResponse, WatchRequest, WatchResponse

PAYLOAD: Final = bytes(range(100))
"""What every response carries."""

REQUEST: Final = GetRequest(key="a key of usual length")


class PayloadService(KVService):
    """Answers at once; a watch's prefix says how many messages it yields."""

    async def get(
        self, request: GetRequest, ctx: RequestContext[GetRequest, GetResponse], /
    ) -> GetResponse:
        del request, ctx
        return GetResponse(value=PAYLOAD)

    async def watch(
        self, request: WatchRequest, ctx: RequestContext[WatchRequest, WatchResponse], /
    ) -> AsyncIterator[WatchResponse]:
        del ctx
        for _ in range(int(request.prefix)):
            yield WatchResponse(key="a key of usual length", value=PAYLOAD)


def plain(url: str, transport: Transport, **options: Any) -> KVServiceClient:
    """The generated client as it is, with the wire options that a `ClientStack` sets."""
    return KVServiceClient(url, http_client=HTTPClient(transport), **{**CLIENT_OPTIONS, **options})


def chained(stack: ClientStack, url: str, transport: Transport) -> KVServiceClient:
    """The same client over a chain."""
    return stack.client(KVServiceClient, url, transport=transport)
