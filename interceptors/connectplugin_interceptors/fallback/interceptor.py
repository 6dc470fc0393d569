"""The shell of the fallback, outermost in the chain: nothing is asked of it while calls succeed."""

import copy
from collections.abc import AsyncIterator, Iterable
from typing import Any, ClassVar, Final, TypeVar

from connectrpc.errors import ConnectError

from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.errors import delivery, note_delivery
from connectplugin_interceptors.events import Emit, FallbackUsed
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fallback.machine import applies
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.options import marked
from connectplugin_interceptors.outcome import Verdict, classify, noted_verdict
from connectplugin_interceptors.policies import Plan, PolicyTable
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")

_VALUE: Final = "value"
_CALL: Final = "call"


class Fallback(Link):
    """Answers from elsewhere what the rest of the chain has refused or given up."""

    only_for: ClassVar[str | None] = "fallback"

    def __init__(self, *, name: str, table: PolicyTable, emit: Emit | None) -> None:
        self._name = name
        self._table = table
        self._emit = emit

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the call, or else the fallback."""
        try:
            return await call_next(request, ctx)
        except ConnectError as error:
            chosen = self._chosen(ctx, error)
            if chosen is None:
                raise
            policy, plan, verdict = chosen
            try:
                response: R = await _single(policy, request, error, ctx)
            except Exception as second:
                self._used(plan, policy, verdict, succeeded=False)
                _join(second, error, plan)
                raise
            self._used(plan, policy, verdict, succeeded=True)
            return response

    intercept_client_stream: Any = intercept_unary

    def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over the call's responses, or else the fallback's."""
        if self._plan(ctx).settings.fallback is None:
            return call_next(request, ctx)
        return self._stream(call_next, request, ctx)

    intercept_bidi_stream: Any = intercept_server_stream

    async def _stream(self, call_next: Stream[Q, R], request: Q, ctx: Ctx) -> AsyncIterator[R]:
        answered = False
        try:
            async with closing(call_next(request, ctx)) as responses:
                async for response in responses:
                    answered = True
                    yield response
        except ConnectError as error:
            chosen = None if answered else self._chosen(ctx, error)
            if chosen is None:
                raise
            failed = error
        else:
            return
        policy, plan, verdict = chosen
        try:
            async with closing(_several(policy, request, failed)) as instead:
                async for response in instead:
                    yield response
        except Exception as second:
            self._used(plan, policy, verdict, succeeded=False)
            _join(second, failed, plan)
            raise
        self._used(plan, policy, verdict, succeeded=True)

    def _plan(self, ctx: Ctx) -> Plan:
        plan = self._table.plan(ctx.method)
        options = marked(ctx)
        return plan if options is None else self._table.changed(ctx.method, plan, options)

    def _chosen(self, ctx: Ctx, error: ConnectError) -> tuple[FallbackPolicy, Plan, Verdict] | None:
        plan = self._plan(ctx)
        policy = plan.settings.fallback
        if policy is None:
            return None
        verdict = noted_verdict(error) or classify(error)
        if not applies(policy.on, error, verdict):
            return None
        return policy, plan, verdict

    def _used(
        self, plan: Plan, policy: FallbackPolicy, verdict: Verdict, *, succeeded: bool
    ) -> None:
        if self._emit is not None:
            source = _VALUE if policy.call is None else _CALL
            self._emit(FallbackUsed(self._name, plan.path, source, verdict.cause, succeeded))

    def __repr__(self) -> str:
        return f"Fallback({self._name!r})"


async def _single(policy: FallbackPolicy, request: Any, error: ConnectError, ctx: Ctx) -> Any:
    if policy.call is not None:
        response: Any = await policy.call(request, error)
    else:
        response = copy.deepcopy(policy.value)
    if not isinstance(response, ctx.method.output):
        msg = (
            f"the fallback of {ctx.method.service_name}/{ctx.method.name} gives "
            f"{type(response).__name__}; it must give {ctx.method.output.__name__}"
        )
        raise TypeError(msg)
    return response


async def _several(policy: FallbackPolicy, request: Any, error: ConnectError) -> AsyncIterator[Any]:
    given: Any = policy.value
    if policy.call is not None:
        given = policy.call(request, error)
        if not hasattr(given, "__aiter__"):
            given = await given
    if hasattr(given, "__aiter__"):
        async with closing(given) as responses:
            async for response in responses:
                yield response
        return
    several: Iterable[Any] = given
    for response in several:
        yield copy.deepcopy(response)


def _join(second: Exception, first: ConnectError, plan: Plan) -> None:
    """Let the fallback's error tell of the one that it was for."""
    if second is first:
        return
    if second.__cause__ is None:
        second.__cause__ = first
    else:
        second.add_note(f"raised in the fallback of {plan.path}, which had failed: {first!r}")
    if isinstance(second, ConnectError):
        note_delivery(second, delivery(second).worst(delivery(first)))
