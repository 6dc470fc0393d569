"""Options of single calls: `with_options(kv, timeout=0.5)` returns a `kv` whose calls have them."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypedDict, TypeVar, Unpack, runtime_checkable

from connectplugin_interceptors import validation
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fault.config import FaultPolicy
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.settings import Changes, Settings, change, check_names
from connectplugin_interceptors.shapes import Stream, Unary, closing
from connectplugin_interceptors.throttle.config import ThrottlePolicy

T = TypeVar("T")
Q = TypeVar("Q")
R = TypeVar("R")


class Options(TypedDict, total=False):
    """What `with_options` takes.

    `timeout` is in seconds, and can only shorten the deadline that the policies give; None takes an
    earlier one back. The other words are those of `ClientStack`, and replace the policy of that
    name.
    """

    timeout: float | None
    fallback: FallbackPolicy | None
    deadline: DeadlinePolicy | None
    throttle: ThrottlePolicy | None
    concurrency: BulkheadPolicy | AdaptiveLimitPolicy | None
    retry_policy: RetryPolicy | None
    circuit_breaker: CircuitBreakerPolicy | None
    rate_limit: RateLimitPolicy | None
    fault: FaultPolicy | None
    hedge: HedgePolicy | None
    load_balancing: BalancePolicy | None
    wait_for_ready: bool


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Checked options, as they travel down the chain.

    Attributes:
        timeout: Seconds; None for no other limit than the policies'.
        changes: Policies by their names in `ClientStack`.
        untimed: Whether it was said that there is no timeout, which takes back an earlier one.
    """

    timeout: float | None = None
    changes: Changes = field(default_factory=dict[str, Any])
    untimed: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot work, before any call is made with it."""
        validation.number(self, "timeout", minimum=0.001, optional=True, unit="seconds")
        check_names(self.changes, also=("timeout",))
        change(Settings(), self.changes)

    def over(self, other: "CallOptions") -> "CallOptions":
        """These, and of `other` what these do not name."""
        named = self.untimed or self.timeout is not None
        timeout = self.timeout if named else other.timeout
        return CallOptions(timeout, {**other.changes, **self.changes}, self.untimed)


def call_options(options: Options) -> CallOptions:
    """Check options as a caller wrote them."""
    given: dict[str, Any] = dict(options)
    untimed = "timeout" in given and given["timeout"] is None
    return CallOptions(given.pop("timeout", None), given, untimed)


@runtime_checkable
class SupportsOptions(Protocol):
    """What `with_options` works on: dispensed objects, and clients that `stack.client` made."""

    def __with_options__(self, options: CallOptions, /) -> Any:
        """A copy of this object whose calls have the options."""
        ...


def with_options(obj: T, /, **options: Unpack[Options]) -> T:
    """Return `obj` with other options: same type in, same type out; `obj` itself is unchanged.

    ```python
    quick = with_options(kv, timeout=0.5, retry_policy=None)
    await quick.get("a")
    ```
    There is no context manager for this: an option set around an `async for` would leak into what
    runs in its body.

    Args:
        obj: A dispensed plugin, or a client that `ClientStack.client` made.
        options: `timeout` in seconds, and policies by their names in `ClientStack`.

    Raises:
        ConfigError: An option does not exist or cannot work.
        TypeError: `obj` is something else.
    """
    checked = call_options(options)
    if not isinstance(obj, SupportsOptions):
        msg = (
            f"with_options works on dispensed plugins and on clients made by ClientStack.client; "
            f"got {type(obj).__name__}"
        )
        raise TypeError(msg)
    result: T = obj.__with_options__(checked)
    return result


class OptionsLink:
    """Outermost link of a client that `with_options` made: hands its options to the chain.

    The chain's entry takes them off the context again, so that they hold for this call and for
    nothing that runs inside of it.
    """

    def __init__(self, options: CallOptions) -> None:
        self.options = options

    async def intercept_unary(self, call_next: Unary[Q, R], request: Q, ctx: Ctx, /) -> R:
        """Pass the call on, marked."""
        mark(ctx, self.options)
        return await call_next(request, ctx)

    intercept_client_stream: Any = intercept_unary

    async def intercept_server_stream(
        self, call_next: Stream[Q, R], request: Q, ctx: Ctx, /
    ) -> AsyncIterator[R]:
        """Pass the stream on, marked."""
        mark(ctx, self.options)
        async with closing(call_next(request, ctx)) as messages:
            async for message in messages:
                yield message

    intercept_bidi_stream: Any = intercept_server_stream


_MARK = "_connectplugin_options"


def mark(ctx: Ctx, options: CallOptions) -> None:
    """Write options onto a call's fresh context."""
    setattr(ctx, _MARK, options)


def marked(ctx: Ctx) -> CallOptions | None:
    """The options on a context."""
    # Not by `__dict__`, which would have to be made first.
    options: CallOptions | None = getattr(ctx, _MARK, None)
    return options
