"""The contract of admission: the base itself, at both scopes, and every policy that there is."""

from typing import Any

import pytest

from connectplugin_interceptors import (
    AdaptiveLimitPolicy,
    BulkheadPolicy,
    CircuitBreakerPolicy,
    OverloadedError,
    RateLimitPolicy,
    ThrottlePolicy,
)
from connectplugin_interceptors.admission import Admission
from connectplugin_interceptors.call import CallContext
from connectplugin_interceptors.circuit_breaker.interceptor import CircuitBreaker
from connectplugin_interceptors.concurrency import Concurrency, ConcurrencyPolicy
from connectplugin_interceptors.outcome import Outcome
from tests.contract.peer import ground
from tests.contract.suite import AdmissionContract, Chain, RefusalContract


class Slots(Admission[object]):
    """The least that a policy can be: so many at once."""

    def __init__(self, most: int) -> None:
        self.free = most

    async def acquire(self, ctx: CallContext) -> object:
        del ctx
        if not self.free:
            raise OverloadedError("no slot", reason="full")
        self.free -= 1
        return object()

    def settle(self, permit: object, outcome: Outcome, ctx: CallContext) -> None:
        del permit, outcome, ctx
        self.free += 1


class TestPerAttempt(AdmissionContract, RefusalContract):
    def chain(self) -> Chain:
        slots = Slots(4)
        return Chain(ground(retry_policy=None, attempt=[slots]), [slots], lambda _: slots.free == 4)

    def refusing(self) -> Chain:
        slots = Slots(0)
        return Chain(ground(retry_policy=None, attempt=[slots]), [slots])


class TestPerCall(AdmissionContract, RefusalContract):
    per_call = True

    def chain(self) -> Chain:
        slots = Slots(4)
        return Chain(ground(retry_policy=None, call=[slots]), [slots], lambda _: slots.free == 4)

    def refusing(self) -> Chain:
        slots = Slots(0)
        return Chain(ground(call=[slots]), [slots])


class TestBoth(AdmissionContract):
    """One at each scope: both are settled, each by its own."""

    def chain(self) -> Chain:
        inner, outer = Slots(4), Slots(4)
        return Chain(
            ground(retry_policy=None, call=[outer], attempt=[inner]),
            [inner],
            lambda _: inner.free == outer.free == 4,
        )


class TestCircuitBreaker(AdmissionContract):
    def chain(self) -> Chain:
        return Chain(
            ground(retry_policy=None, circuit_breaker=CircuitBreakerPolicy()), [CircuitBreaker]
        )


class TestRateLimit(AdmissionContract):
    def chain(self) -> Chain:
        policy = RateLimitPolicy(per_second=1000, burst=100)
        return Chain(ground(retry_policy=None, rate_limit=policy))


class TestThrottle(AdmissionContract):
    def chain(self) -> Chain:
        return Chain(ground(retry_policy=None, throttle=ThrottlePolicy()))


@pytest.mark.parametrize("limit", [BulkheadPolicy(), AdaptiveLimitPolicy()])
class TestConcurrency(AdmissionContract):
    limit: ConcurrencyPolicy

    @pytest.fixture(autouse=True)
    def _limit(self, limit: ConcurrencyPolicy) -> None:
        self.limit = limit

    def chain(self) -> Chain:
        return Chain(ground(retry_policy=None, concurrency=self.limit), free=no_slot_is_taken)


def no_slot_is_taken(links: list[object]) -> bool:
    for link in links:
        if isinstance(link, Concurrency):
            limiters: Any = vars(link)["_limiters"]
            return not any(limiter.in_flight for limiter in limiters.all())
    raise AssertionError
