"""The base of policies that only admit: written once as acquire / settle, it serves four shapes."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Final, Generic, TypeVar

from connectplugin_interceptors.call import CallContext, Ctx, context_of
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.outcome import Outcome, Verdict, classify, noted_verdict
from connectplugin_interceptors.shapes import Stream, Unary, closing

P = TypeVar("P")
Q = TypeVar("Q")
R = TypeVar("R")

# Looking a member of an enum up costs more than a frame (3.11).
_NEUTRAL: Final = Outcome.NEUTRAL
_SUCCESS: Final = Outcome.SUCCESS


class Admission(Link, ABC, Generic[P]):
    """A policy that admits a call, or an attempt, and learns how it ended.

    Shared by concurrent calls. What is acquired is settled exactly once: with NEUTRAL if the caller
    has cancelled or left the stream early, which teaches nothing.
    """

    @abstractmethod
    async def acquire(self, ctx: CallContext) -> P:
        """Raise to refuse; else a permit. Waiting in here is paid from the context's deadline."""

    @abstractmethod
    def settle(self, permit: P, outcome: Outcome, ctx: CallContext) -> None:
        """Take the permit back. Does not raise."""

    def responded(self, permit: P, ctx: CallContext) -> None:
        """The first response of a stream has come; by default nobody cares."""

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Await an admitted call."""
        own = context_of(ctx)
        permit = await self.acquire(own)
        outcome = _NEUTRAL  # stands unless the call itself ends
        try:
            response = await call_next(request, own)
            outcome = _SUCCESS
        except Exception as error:  # CancelledError and GeneratorExit are none
            outcome = verdict_of(own, error).outcome
            raise
        finally:
            self.settle(permit, outcome, own)
        return response

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Iterate over an admitted call's responses."""
        own = context_of(ctx)
        permit = await self.acquire(own)
        outcome = _NEUTRAL
        first = True
        try:
            async with closing(call_next(request, own)) as responses:
                async for response in responses:
                    if first:
                        first = False
                        self.responded(permit, own)
                    yield response
            outcome = _SUCCESS
        except Exception as error:
            outcome = verdict_of(own, error).outcome
            raise
        finally:
            self.settle(permit, outcome, own)

    intercept_bidi_stream: Any = intercept_server_stream


def verdict_of(ctx: CallContext, error: BaseException) -> Verdict:
    """What an error means; classified once, where its attempt has failed.

    Asked of the error and not of the context, which at the scope of a call is that of the first
    attempt for ever.
    """
    verdict = noted_verdict(error)
    if verdict is not None:
        return verdict
    return classify(error, ctx.attempt if ctx.call.observed else None)
