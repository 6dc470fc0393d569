"""What others charge for the like: each library's own policies around the same leaf.

They know nothing of a budget fed by successes, of deadlines on the wire, of an endpoint per
attempt; what they have in common with the standard chain is asked of each: a deadline per attempt,
at most two attempts, a circuit breaker, a bulkhead where there is one, and a rate limit that never
has anybody wait. They are imported by name, since checking this project does not need them.
"""

import asyncio
from collections.abc import Awaitable, Callable
from importlib import import_module, metadata
from typing import Any, Final, TypeAlias

from benchmarks.chain import leaf

Execute: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

NAMES: Final = ("pyresilience", "hyx", "stamina", "purgatory", "aiolimiter")

_ATTEMPTS: Final = 2
_ATTEMPT: Final = 10.0
_SLOTS: Final = 1000
_NEVER_REACHED: Final = 10**9


def versions() -> dict[str, str]:
    """The versions of those that are installed."""
    found: dict[str, str] = {}
    for name in NAMES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


async def executes() -> dict[str, Execute]:
    """Each library's stack around the leaf; without those that are not installed."""
    there = versions()
    found: dict[str, Execute] = {}
    if "pyresilience" in there:
        found["pyresilience"] = _pyresilience()
    if "hyx" in there:
        found["hyx"] = _hyx()
    if {"stamina", "purgatory", "aiolimiter"} <= there.keys():
        found["stamina + purgatory + aiolimiter + asyncio.timeout"] = await _assembled()
    return found


def _pyresilience() -> Execute:
    lib: Any = import_module("pyresilience")
    guarded: Execute = lib.resilient(
        retry=lib.RetryConfig(max_attempts=_ATTEMPTS),
        timeout=lib.TimeoutConfig(seconds=_ATTEMPT),
        circuit_breaker=lib.CircuitBreakerConfig(sliding_window_size=20),
        bulkhead=lib.BulkheadConfig(max_concurrent=_SLOTS),
        rate_limiter=lib.RateLimiterConfig(max_calls=_NEVER_REACHED),
        retry_budget=lib.RetryBudgetConfig(),
    )(leaf)
    return guarded


def _hyx() -> Execute:
    retry: Any = import_module("hyx.retry").retry
    timeout: Any = import_module("hyx.timeout").timeout
    breaker: Any = import_module("hyx.circuitbreaker").consecutive_breaker()
    bulkhead: Any = import_module("hyx.bulkhead").bulkhead(_SLOTS, _SLOTS)
    limiter: Any = import_module("hyx.ratelimit").tokenbucket(_NEVER_REACHED, 1.0)

    @retry(attempts=_ATTEMPTS)  # type: ignore[untyped-decorator]
    async def attempt(request: Any, ctx: Any) -> Any:
        async with breaker, limiter, timeout(_ATTEMPT):
            return await leaf(request, ctx)

    async def call(request: Any, ctx: Any) -> Any:
        async with bulkhead:
            return await attempt(request, ctx)

    return call


async def _assembled() -> Execute:
    stamina: Any = import_module("stamina")
    purgatory: Any = import_module("purgatory")
    limiter: Any = import_module("aiolimiter").AsyncLimiter(_NEVER_REACHED, 1.0)
    breakers = purgatory.AsyncCircuitBreakerFactory()

    @stamina.retry(on=Exception, attempts=_ATTEMPTS)  # type: ignore[untyped-decorator]
    async def call(request: Any, ctx: Any) -> Any:
        async with await breakers.get_breaker("endpoint"), limiter, asyncio.timeout(_ATTEMPT):
            return await leaf(request, ctx)

    guarded: Execute = call
    return guarded
