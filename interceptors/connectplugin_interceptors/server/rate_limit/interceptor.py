"""The shell of the server's rate limit: a metadata interceptor, so that no refused body is read."""

import math
from typing import Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from protobuf.wkt import Duration

from connectplugin_interceptors._gen.google.rpc.error_details_pb import RetryInfo
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.rate_limit.machine import RateLimitMachine
from connectplugin_interceptors.server.answer import push_back, refuse_unprocessed
from connectplugin_interceptors.server.rate_limit.config import Quota, ServerRateLimitPolicy
from connectplugin_interceptors.server.rate_limit.machine import address_key, hint
from connectplugin_interceptors.wire import RETRY_AFTER_HEADER

LIMIT_HEADER: Final = "x-ratelimit-limit"
REMAINING_HEADER: Final = "x-ratelimit-remaining"
RESET_HEADER: Final = "x-ratelimit-reset"

_NANOS: Final = 1_000_000_000


class ServerRateLimit:
    """Counts calls by key, and refuses those above the quota.

    `ServerStack(rate_limit=...)` puts one before authentication. For a limit by principal put
    another into `ServerStack(admission=[...])`, behind what authenticates, with a `key` that tells
    the principal.
    """

    def __init__(self, policy: ServerRateLimitPolicy, *, clock: Clock | None = None) -> None:
        self._policy = policy
        self._clock: Clock = SystemClock() if clock is None else clock
        self._general = _machine(policy.quota)
        self._special = {
            pattern: None if quota is None else _machine(quota)
            for pattern, quota in policy.methods.items()
        }

    async def on_start(self, ctx: Ctx) -> None:
        """Count the call, or refuse it."""
        machine = self._machine(ctx)
        key = None if machine is None else self._key(ctx)
        if machine is None or key is None:
            return
        now = self._clock.now()
        wait = machine.admit(key, 1.0, now)
        if wait > 0.0:
            raise self._refusal(ctx, machine, wait)
        if self._policy.tell_quota:
            quota = machine.quota(key, now)
            _tell(ctx, quota.limit, quota.remaining, math.ceil(quota.full_in))

    async def on_end(self, token: None, ctx: Ctx, error: Exception | None, /) -> None:
        """What was counted stays counted."""

    def _machine(self, ctx: Ctx) -> RateLimitMachine | None:
        special = self._special
        if not special:
            return self._general
        method = ctx.method
        for pattern in (f"{method.service_name}/{method.name}", f"{method.service_name}/*"):
            if pattern in special:
                return special[pattern]
        return self._general

    def _key(self, ctx: Ctx) -> str | None:
        match self._policy.key:
            case "address":
                return address_key(ctx.client_address)
            case "method":
                return f"{ctx.method.service_name}/{ctx.method.name}"
            case function:
                return function(ctx)

    def _refusal(self, ctx: Ctx, machine: RateLimitMachine, wait: float) -> ConnectError:
        told = hint(wait)
        refuse_unprocessed(ctx, "rate_limited")
        push_back(ctx, told.milliseconds / 1000.0)
        ctx.response_headers[RETRY_AFTER_HEADER] = str(told.seconds)
        _tell(ctx, machine.limit, 0, told.seconds)
        seconds, nanos = divmod(told.nanoseconds, _NANOS)
        return ConnectError(
            Code.RESOURCE_EXHAUSTED,
            f"over the limit of {machine.per_second:g} calls a second; again in {wait:.3f} s",
            [RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos))],
        )

    def __repr__(self) -> str:
        return f"<ServerRateLimit {self._general!r}>"


def _machine(quota: Quota) -> RateLimitMachine:
    return RateLimitMachine(per_second=quota.per_second, burst=quota.bucket)


def _tell(ctx: Ctx, limit: int, remaining: int, reset: int) -> None:
    """Write the quota's headers (draft-ietf-httpapi-ratelimit-headers-03, as Envoy spells them)."""
    headers = ctx.response_headers
    headers[LIMIT_HEADER] = str(limit)
    headers[REMAINING_HEADER] = str(remaining)
    headers[RESET_HEADER] = str(reset)
