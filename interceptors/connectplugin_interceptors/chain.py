"""The order of a client's chain, as data, and the checks that refuse an unsound one.

connectrpc ignores in silence what it does not understand: a class with some of the four shapes
leaves the others unguarded, `on_start` without `on_end` is never called. So everything that enters
a chain is checked here, and refused with the reason.
"""

import inspect
from collections.abc import Sequence
from typing import Any, Final

from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.settings import Settings

CALL_ORDER: Final = (
    "fallback",
    "deadline",
    "call interceptors",
    "throttle",
    "concurrency",
    "retry",
    "hedge",
)
"""Outermost first. The deadline is above all that waits, and the fallback above the deadline, which
may be what has run out; retry is above all that is per attempt."""

ATTEMPT_ORDER: Final = (
    "load balancing",
    "circuit breaker",
    "rate limit",
    "attempt deadline",
    "attempt interceptors",
    "fault injection",
    "cancellation restore",
)
"""Outermost first, below `CALL_ORDER`. All above the restore see a true `CancelledError`."""

_SHAPES: Final = (
    "intercept_unary",
    "intercept_client_stream",
    "intercept_server_stream",
    "intercept_bidi_stream",
)
_METADATA: Final = ("on_start", "on_end")


def check_interceptor(interceptor: object, where: str) -> None:
    """Refuse an interceptor that connectrpc would call only in part, or not at all.

    Args:
        interceptor: What the application wants in the chain.
        where: The field it was given in, for the error.

    Raises:
        ConfigError: It serves fewer than four shapes, has one half of `on_start` / `on_end`, both
            kinds of hooks, hooks of the sync client, or is a class instead of an object.
    """
    name = getattr(type(interceptor), "__name__", repr(interceptor))
    if isinstance(interceptor, type):
        msg = f"{where} holds the class {interceptor.__name__}; give an object of it instead"
        raise ConfigError(msg)
    shapes = [hook for hook in _SHAPES if hasattr(interceptor, hook)]
    metadata = [hook for hook in _METADATA if hasattr(interceptor, hook)]
    sync = [hook for hook in (*_SHAPES, *_METADATA) if hasattr(interceptor, f"{hook}_sync")]
    if shapes and metadata:
        msg = (
            f"{where}: {name} has {metadata[0]} beside {shapes[0]}; connectrpc would ignore the "
            "latter: use two interceptors"
        )
    elif len(metadata) == 1:
        other = next(hook for hook in _METADATA if hook not in metadata)
        msg = f"{where}: {name} has {metadata[0]} but no {other}; connectrpc would ignore it"
    elif metadata:
        _check_kinds(interceptor, metadata, where, name)
        return
    elif len(shapes) == len(_SHAPES):
        _check_kinds(interceptor, shapes, where, name)
        return
    elif shapes:
        missing = ", ".join(hook for hook in _SHAPES if hook not in shapes)
        msg = f"{where}: {name} lacks {missing}: calls of that shape would pass unguarded"
    elif sync:
        msg = (
            f"{where}: {name} has {sync[0]}_sync only, for connectrpc's sync clients; this is async"
        )
    else:
        msg = (
            f"{where}: {name} is no interceptor: it needs {', '.join(_SHAPES)}, or on_start and "
            "on_end"
        )
    raise ConfigError(msg)


def _check_kinds(interceptor: object, hooks: Sequence[str], where: str, name: str) -> None:
    for hook in hooks:
        function: Any = getattr(interceptor, hook)
        if not callable(function):
            msg = f"{where}: {name}.{hook} is not callable"
            raise ConfigError(msg)
        streams = hook in {"intercept_server_stream", "intercept_bidi_stream"}
        if streams and inspect.iscoroutinefunction(function):
            msg = (
                f"{where}: {name}.{hook} is a coroutine function; it must be an async generator "
                "(yield the responses)"
            )
            raise ConfigError(msg)
        if not streams and inspect.isasyncgenfunction(function):
            msg = f"{where}: {name}.{hook} yields; it must return one response"
            raise ConfigError(msg)


def check_interceptors(interceptors: Sequence[object], where: str) -> None:
    """Check each; see `check_interceptor`."""
    for index, interceptor in enumerate(interceptors):
        check_interceptor(interceptor, f"{where}[{index}]")


def check_settings(settings: Settings, where: str) -> None:
    """Refuse policies that are sound one by one, and not together.

    Args:
        settings: What is in force for some method.
        where: Which, for the error.

    Raises:
        ConfigError: The breaker's window or lease is shorter than an attempt may take; or the
            deadline is over before the last hedge starts.
    """
    deadline, breaker, hedge = settings.deadline, settings.circuit_breaker, settings.hedge
    if deadline is not None and deadline.total is not None and hedge is not None and hedge.delay:
        last = hedge.delay * hedge.max_hedges
        if last > deadline.total:
            msg = (
                f"{where}: hedge.delay * hedge.max_hedges is {last:g} s, above deadline.total, "
                f"which is {deadline.total!r}: the last hedge would never start; lower hedge.delay "
                "or hedge.max_hedges, or raise deadline.total"
            )
            raise ConfigError(msg)
    if deadline is None or deadline.attempt is None or breaker is None:
        return
    attempt = deadline.attempt
    short = [field for field in ("window", "lease") if getattr(breaker, field) < attempt]
    if short:
        told = " and ".join(f"circuit_breaker.{field}" for field in short)
        right = ", ".join(f"{field}={attempt!r}" for field in short)
        msg = (
            f"{where}: {told} must not be below deadline.attempt, which is {attempt!r}: attempts "
            "that hang would be forgotten before they are counted, and the place of a probe given "
            f"away while it is out; set circuit_breaker=CircuitBreakerPolicy({right}), or lower "
            "deadline.attempt"
        )
        raise ConfigError(msg)
