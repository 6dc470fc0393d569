"""A link around an application's own interceptor, so that it cannot lose the call's state."""

from collections.abc import AsyncIterator
from typing import Any, ClassVar, TypeVar

from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


def _own(ctx: Ctx, before: CallContext, *, per_call: bool) -> CallContext:
    """The chain's context for one that the interceptor passes on, which may be a new object.

    A context of the interceptor's own keeps its headers and its shorter timeout: for all attempts,
    if the interceptor is one per call.
    """
    if isinstance(ctx, CallContext):
        return ctx
    deadline = before.deadline
    if (milliseconds := ctx.timeout_ms) is not None:
        given = before.call.clock.now() + milliseconds / 1000.0
        deadline = given if deadline is None else min(deadline, given)
        if per_call:
            before.call.deadline = deadline
    return CallContext(ctx, ctx.request_headers, before.call, before.attempt, deadline)


class Link:
    """Base of interceptors that are written for this chain: they keep the context they are given.

    Such a one is neither wrapped, nor is a timer armed because of it: it must look at the deadline
    of its context (`context_of(ctx).deadline`) before it waits.

    Attributes:
        only_for: The policy without which it does nothing, by its name in `Settings`; a client none
            of whose methods has it is made without the link. None for a link that is always there.
    """

    only_for: ClassVar[str | None] = None


class Foreign:
    """Runs an application's interceptor between two links of the chain."""

    def __init__(self, inner: Any, *, per_call: bool = False) -> None:
        self.inner = inner
        self._per_call = per_call

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the application's interceptor."""
        before = context_of(ctx)

        async def proceed(request: Q, ctx: Ctx, /) -> R:
            return await call_next(request, _own(ctx, before, per_call=self._per_call))

        response: R = await self.inner.intercept_unary(proceed, request, ctx)
        return response

    async def intercept_client_stream(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await the application's interceptor."""
        before = context_of(ctx)

        async def proceed(request: Q, ctx: Ctx, /) -> R:
            return await call_next(request, _own(ctx, before, per_call=self._per_call))

        response: R = await self.inner.intercept_client_stream(proceed, request, ctx)
        return response

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over what the application's interceptor yields."""
        before = context_of(ctx)

        def proceed(request: Q, ctx: Ctx, /) -> AsyncIterator[R]:
            return call_next(request, _own(ctx, before, per_call=self._per_call))

        async with closing(self.inner.intercept_server_stream(proceed, request, ctx)) as responses:
            async for response in responses:
                yield response

    async def intercept_bidi_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over what the application's interceptor yields."""
        before = context_of(ctx)

        def proceed(request: Q, ctx: Ctx, /) -> AsyncIterator[R]:
            return call_next(request, _own(ctx, before, per_call=self._per_call))

        async with closing(self.inner.intercept_bidi_stream(proceed, request, ctx)) as responses:
            async for response in responses:
                yield response

    def __repr__(self) -> str:
        return repr(self.inner)
