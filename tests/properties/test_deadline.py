"""Deadline arithmetic: the least of all limits rules, and what the wire says is never more."""

from typing import Any

from connectrpc.method import StreamType
from connectrpc.request import Headers, RequestContext
from hypothesis import given
from hypothesis import strategies as st

from connectplugin_interceptors import DeadlinePolicy
from connectplugin_interceptors.call import Attempt, AttemptKind, Call, CallContext
from connectplugin_interceptors.deadline.machine import attempt_deadline, call_deadline
from connectplugin_interceptors.policies import Plan
from connectplugin_interceptors.settings import Settings
from tests.unit.chain.test_policies import method

seconds = st.floats(0.001, 1e6)
maybe = st.none() | seconds
policies = st.builds(DeadlinePolicy, total=maybe, attempt=st.none(), stream_total=maybe)


@given(st.none() | policies, st.floats(0, 1e6), st.tuples(maybe, maybe, maybe), st.booleans())
def test_the_least_limit_rules(
    policy: DeadlinePolicy | None,
    now: float,
    asked: tuple[float | None, float | None, float | None],
    streams: bool,
) -> None:
    timeout, caller, inherited = asked
    limits = [timeout, caller, inherited]
    if policy is not None:
        limits.append(policy.stream_total if streams else policy.total)
    given_limits = [limit for limit in limits if limit is not None]
    stream_type = StreamType.SERVER_STREAM if streams else StreamType.UNARY
    deadline = call_deadline(
        now,
        Plan(method(shape=stream_type), Settings(deadline=policy)).limit,
        timeout,
        None if caller is None else now + caller,
        None if inherited is None else now + inherited,
    )
    if not given_limits:
        assert deadline is None
    else:
        assert deadline == min(now + limit for limit in given_limits)


@given(maybe, st.floats(0, 1e6), maybe)
def test_an_attempt_never_outlives_its_call(
    limit: float | None, now: float, left: float | None
) -> None:
    call = None if left is None else now + left
    deadline = attempt_deadline(now, limit, call)
    assert deadline == min(
        (one for one in (call, None if limit is None else now + limit) if one is not None),
        default=None,
    )


class _Clock:
    def now(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise NotImplementedError


def context(content_type: str, attempt: int) -> CallContext:
    headers = Headers([("content-type", content_type)])
    ctx: RequestContext[Any, Any] = RequestContext(
        method=method(), http_method="POST", request_headers=headers
    )
    call = Call(
        name="client",
        method=method(),
        plan=Plan(method(), Settings()),
        clock=_Clock(),
        started=0.0,
        deadline=None,
        observed=True,
    )
    return CallContext(ctx, headers, call, Attempt(attempt, AttemptKind.RETRY), None)


@given(st.floats(0.001, 1e12), st.integers(1, 5))
def test_what_the_wire_says_is_never_more_than_there_is(left: float, attempt: int) -> None:
    for kind, name, digits in (
        ("application/proto", "connect-timeout-ms", 10),
        ("application/connect+proto", "connect-timeout-ms", 10),
        ("application/grpc+proto", "grpc-timeout", 8),
        ("application/grpc-web+proto", "grpc-timeout", 8),
    ):
        ctx = context(kind, attempt)
        ctx.write_timing(left, 0.0)
        value = ctx.request_headers[name]
        number = value.removesuffix("m")
        assert value.endswith("m") is (name == "grpc-timeout")
        assert number.isdigit()
        assert 1 <= len(number) <= digits
        assert int(number) <= max(1, left * 1000)
        previous = ctx.request_headers.get("grpc-previous-rpc-attempts")
        assert previous == (None if attempt == 1 else str(attempt - 1))
        # Without a limit, what stood there before is gone.
        ctx.write_timing(None, 0.0)
        assert name not in ctx.request_headers
