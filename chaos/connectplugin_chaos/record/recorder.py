"""Takes the history down while it happens: the operations' attempts, and the chain's events."""

import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from connectrpc.errors import ConnectError

from connectplugin_chaos.record.model import Attempt, Notice
from connectplugin_interceptors.call import Ctx, context_of
from connectplugin_interceptors.events import (
    CircuitChanged,
    EndpointChanged,
    Event,
    FallbackUsed,
    FaultInjected,
    HedgeSuppressed,
    Rejected,
    RetryStopped,
    Waited,
    WaitingForReady,
)
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.shapes import Stream, Unary, closing

Q = TypeVar("Q")
R = TypeVar("R")


@dataclass(slots=True)
class _Try:
    number: int
    kind: str
    endpoint: str
    started: float
    ended: float | None = None
    code: str = ""


OP_HEADER: Final = "x-chaos-operation"
"""Carries an operation's number, for servers whose messages have no place for it."""


@dataclass(slots=True)
class Tries:
    """The attempts of one operation so far; `op` is its number."""

    op: int = 0
    made: list[_Try] = field(default_factory=list[_Try])


current: ContextVar[Tries | None] = ContextVar("current", default=None)
"""The operation that this task works on."""


class Recorder(Link):
    """The innermost link of every arm's chain, and a listener of its events.

    Args:
        zero: The monotonic time that counts as 0.
        names: Endpoints' URLs to the names that are taken down.
    """

    def __init__(self, zero: float, names: dict[str, str]) -> None:
        self.zero = zero
        self._names = names
        self.notices: list[Notice] = []

    def now(self) -> float:
        """Seconds since zero."""
        return time.monotonic() - self.zero

    def attempts(self, tries: Tries) -> tuple[Attempt, ...]:
        """The attempts of an operation that is over."""
        return tuple(
            Attempt(
                number=number,
                kind=made.kind,
                endpoint=made.endpoint,
                started=made.started,
                ended=made.ended,
                code=made.code,
            )
            for number, made in enumerate(tries.made, 1)
        )

    def listen(self, event: Event) -> None:
        """Take an event down, if checks want it."""
        match event:
            case CircuitChanged():
                self.notice("circuit", self._name(event.endpoint), event.after)
            case EndpointChanged():
                self.notice("endpoint", self._name(event.endpoint), event.after)
            case Rejected():
                self.notice("rejected", "", event.policy)
            case RetryStopped():
                self.notice("retry_stopped", "", event.reason)
            case FallbackUsed():
                self.notice("fallback", "", event.source)
            case FaultInjected():
                self.notice("fault_injected", "", event.fault)
            case HedgeSuppressed():
                self.notice("hedge_suppressed", "", event.reason)
            case Waited():
                self.notice("waited", "", event.policy, event.duration)
            case WaitingForReady():
                self.notice("waited", "", "ready")
            case _:
                pass

    def notice(self, kind: str, endpoint: str = "", detail: str = "", value: float = 0.0) -> None:
        """Take something down."""
        self.notices.append(
            Notice(at=self.now(), kind=kind, endpoint=endpoint, detail=detail, value=value)
        )

    def _name(self, endpoint: str) -> str:
        return self._names.get(endpoint.rstrip("/"), endpoint)

    def _begin(self, ctx: Ctx) -> _Try:
        attempt = context_of(ctx).attempt
        where = "" if attempt.endpoint is None else self._name(attempt.endpoint.key)
        made = _Try(attempt.number, attempt.kind.value, where, self.now())
        tries = current.get()
        if tries is not None:
            ctx.request_headers[OP_HEADER] = str(tries.op)
            if tries.made and made.kind == "initial":
                made.kind = "retry"  # by a loop around the chain
            tries.made.append(made)
        return made

    def _end(self, made: _Try, error: BaseException | None) -> None:
        made.ended = self.now()
        if error is None:
            made.code = "ok"
        elif isinstance(error, ConnectError):
            made.code = error.code.value
        else:
            made.code = type(error).__name__

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Note the attempt."""
        made = self._begin(ctx)
        try:
            response = await call_next(request, ctx)
        except BaseException as error:
            self._end(made, error)
            raise
        self._end(made, None)
        return response

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Note the attempt, over all of its messages."""
        made = self._begin(ctx)
        try:
            async with closing(call_next(request, ctx)) as messages:
                async for message in messages:
                    yield message
        except BaseException as error:
            self._end(made, error)
            raise
        self._end(made, None)

    intercept_bidi_stream: Any = intercept_server_stream
