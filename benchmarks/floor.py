"""The floor: what the standard chain does to a unary call that succeeds, by hand in one function.

The same work and nothing else: nobody listens, nothing can be configured, no shape but unary, a
failure is only counted and, if the budget pays for it, repeated once. So this is what one would
write who knew all of it beforehand, and no chain that does as much can cost less; the standard
chain is held against twice that.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from math import exp
from random import Random
from typing import Any, Final

from connectrpc.errors import ConnectError
from connectrpc.request import RequestContext

_TOTAL: Final = 30.0
_ATTEMPT: Final = 10.0
_ATTEMPT_MS: Final = "10000"
_SLOTS: Final = 1000
_BUCKET: Final = 1.0
_RATIO: Final = 0.1
_RESERVE: Final = 10
_OPEN: Final = 1.0
_THRESHOLD: Final = 5
_DECAY: Final = 10.0
_FORGETS_CANCELLATION: Final = sys.version_info < (3, 12)

_now = time.monotonic


class _Context(RequestContext[Any, Any]):
    """A context with a deadline, with which connectrpc arms its timer."""

    def __init__(self, source: RequestContext[Any, Any], deadline: float) -> None:
        # As the chain's own context does it: the base class takes twice as long.
        self._method = source._method  # noqa: SLF001
        self._http_method = source._http_method  # noqa: SLF001
        self._request_headers = self.written = source._request_headers  # noqa: SLF001
        self._server_address = source._server_address  # noqa: SLF001
        self.deadline = deadline

    @property
    def timeout_ms(self) -> float | None:
        """Milliseconds left."""
        return (self.deadline - _now()) * 1000.0


class _Attempt:
    """What the transport's tap would write to."""

    sent = False
    status: int | None = None
    headers: object = None

    def __init__(self, endpoint: "_Endpoint") -> None:
        self.endpoint = endpoint


class _Window:
    """Counts in buckets of a second; the sum over ten of them is asked for when a call fails."""

    __slots__ = ("count", "edge", "old")

    def __init__(self) -> None:
        self.count = 0
        self.edge = 0.0
        self.old: list[int] = []

    def roll(self, now: float) -> None:
        """Begin the next bucket."""
        self.old = [*self.old[-9:], self.count]
        self.count = 0
        self.edge = now + _BUCKET


class _Endpoint:
    """An endpoint: its circuit and its load; `epoch` is another one after each change of state."""

    __slots__ = ("calls", "epoch", "open_until", "pending", "rtt", "run", "updated")

    def __init__(self) -> None:
        self.epoch = 0
        self.open_until = 0.0
        self.run = 0
        self.calls = _Window()
        self.pending = 0
        self.rtt = 0.03
        self.updated = _now()

    def load(self, now: float) -> float:
        """What a call would add to."""
        return self.rtt * exp((self.updated - now) / _DECAY) * (self.pending + 1)

    def failed(self, now: float, epoch: int) -> None:
        """Count a failure."""
        if self.epoch == epoch:
            self.run += 1
            if self.run >= _THRESHOLD:
                self.epoch += 1
                self.run = 0
                self.open_until = now + _OPEN


current: ContextVar[_Attempt | None] = ContextVar("current", default=None)
"""For the transport's tap."""

inherited: ContextVar[float | None] = ContextVar("inherited", default=None)
"""The deadline of the call that is being answered, if one is."""


class Floor:
    """Deadlines, bulkhead, retry budget, pick, breaker, tap and cancellation, in one frame.

    Args:
        endpoints: How many there are to pick from.
    """

    def __init__(self, endpoints: int = 1) -> None:
        self._inside = 0
        self._limits: dict[tuple[str, str], tuple[float, float]] = {}
        self._endpoints: Sequence[_Endpoint] = [_Endpoint() for _ in range(endpoints)]
        self._sole = self._endpoints[0] if endpoints == 1 else None
        self._successes = _Window()
        self._spent = 0
        self._draw = Random(1).random  # noqa: S311  # chance that is the same in every run

    async def intercept_unary(  # noqa: C901, PLR0912, PLR0915  # one frame is the point
        self,
        call_next: Callable[[Any, Any], Awaitable[Any]],
        request: Any,
        ctx: RequestContext[Any, Any],
        /,
    ) -> Any:
        """Make a call."""
        now = _now()
        method = ctx.method
        key = (method.service_name, method.name)
        limits = self._limits.get(key)
        if limits is None:
            limits = self._limits[key] = (_TOTAL, _ATTEMPT)
        deadline = now + limits[0]
        if (caller_ms := ctx.timeout_ms) is not None:
            deadline = min(deadline, now + caller_ms / 1000.0)
        if (above := inherited.get()) is not None:
            deadline = min(deadline, above)
        if self._inside >= _SLOTS:
            msg = "refused"
            raise RuntimeError(msg)
        self._inside += 1
        tries = 1
        try:
            while True:
                endpoint = self._sole
                if endpoint is None:
                    endpoint = self._pick(now)
                if now < endpoint.open_until:
                    msg = "the circuit is open"
                    raise RuntimeError(msg)
                epoch = endpoint.epoch
                own = _Context(ctx, deadline)
                headers = own.written
                store: Any = headers._store  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
                grpc = store["content-type"].startswith("application/grpc")
                name = "grpc-timeout" if grpc else "connect-timeout-ms"
                if now + limits[1] < deadline:
                    own.deadline = now + limits[1]
                    store[name] = "10000m" if grpc else _ATTEMPT_MS
                else:
                    headers[name] = str(int((deadline - now) * 1000.0)) + ("m" if grpc else "")
                task = asyncio.current_task() if _FORGETS_CANCELLATION else None
                cancelled = 0 if task is None else task.cancelling()
                endpoint.pending += 1
                token = current.set(_Attempt(endpoint))
                started = now
                try:
                    response = await call_next(request, own)
                except ConnectError as error:
                    now = _now()
                    endpoint.failed(now, epoch)
                    if isinstance(error.__cause__, asyncio.CancelledError):
                        raise error.__cause__ from None
                    if tries > 1 or self._spent >= _RATIO * self._successes.count + _RESERVE:
                        raise
                    self._spent += 1
                    tries += 1
                    continue
                finally:
                    current.reset(token)
                    endpoint.pending -= 1
                if task is not None and task.cancelling() > cancelled:
                    raise asyncio.CancelledError
                now = _now()
                if endpoint.epoch == epoch:
                    endpoint.run = 0
                    window = endpoint.calls
                    if now >= window.edge:
                        window.roll(now)
                    window.count += 1
                if self._sole is None:
                    self._observe(endpoint, now, started)
                window = self._successes
                if now >= window.edge:
                    window.roll(now)
                window.count += 1
                return response
        finally:
            self._inside -= 1

    def _pick(self, now: float) -> _Endpoint:
        """Of two that are drawn the one with the lower load."""
        endpoints, draw = self._endpoints, self._draw
        count = len(endpoints)
        at = int(draw() * count)
        other = int(draw() * (count - 1))
        if other >= at:
            other += 1
        one, two = endpoints[at], endpoints[other]
        best = one if one.load(now) <= two.load(now) else two
        if now < best.open_until:
            best = min(endpoints, key=lambda endpoint: endpoint.open_until)
        return best

    @staticmethod
    def _observe(endpoint: _Endpoint, now: float, started: float) -> None:
        """The moving average of the peaks."""
        took = now - started
        weight = exp((endpoint.updated - now) / _DECAY)
        known = endpoint.rtt * weight
        endpoint.rtt = took if took >= known else known + took * (1.0 - weight)
        endpoint.updated = now
