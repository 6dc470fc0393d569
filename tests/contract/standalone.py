"""One link of the chain alone, without a client: for tests that need to see each step of it."""

from typing import Any

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import Headers, RequestContext

from connectplugin_interceptors.call import Attempt, AttemptKind, Call, CallContext
from connectplugin_interceptors.clock import Clock
from connectplugin_interceptors.policies import Plan
from connectplugin_interceptors.settings import Settings
from kv.v1.kv_pb import GetRequest, GetResponse

METHOD = MethodInfo(
    name="Get",
    service_name="kv.v1.KVService",
    input=GetRequest,
    output=GetResponse,
    idempotency_level=IdempotencyLevel.NO_SIDE_EFFECTS,
    stream_type=StreamType.UNARY,
)


def call_context(clock: Clock, *, timeout: float | None = None, **policies: Any) -> CallContext:
    """A call that begins now, with the policies as `ClientStack` would name them."""
    now = clock.now()
    deadline = None if timeout is None else now + timeout
    call = Call(
        name="test",
        method=METHOD,
        plan=Plan(METHOD, Settings(**policies)),
        clock=clock,
        started=now,
        deadline=deadline,
        observed=True,
    )
    source = RequestContext[Any, Any](
        method=METHOD, http_method="POST", request_headers=Headers(), server_address="peer:80"
    )
    return CallContext(
        source, source.request_headers, call, Attempt(1, AttemptKind.INITIAL), deadline
    )
