"""The machines whose cost depends on how much there is: picking an endpoint, and rate limits."""

import resource
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from benchmarks.measure import Arm
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.rate_limit.machine import RateLimitMachine

_ENDPOINTS: Final = (1, 100, 1_000)
_MANY_KEYS: Final = 1_000_000
_STEP: Final = 0.001
_STATM: Final = Path("/proc/self/statm")


def pick_arms() -> list[Arm]:
    """A pick and its settling, by two random choices, of so many endpoints."""
    return [_pick_arm(count) for count in _ENDPOINTS]


def _pick_arm(count: int) -> Arm:
    pool = EndpointPool([f"http://10.0.{n >> 8}.{n & 255}:8080" for n in range(count)])
    policy, ejection = BalancePolicy(), OutlierEjectionPolicy()
    draw = Random(1).random  # noqa: S311  # chance that is the same in every run
    success = Outcome.SUCCESS
    clock = [0.0]

    async def run(operations: int) -> None:
        now = clock[0]
        for _ in range(operations):
            now += _STEP
            found = pool.pick(policy, now, draw, ejection=ejection)
            if isinstance(found, Endpoint):
                pool.settle(found, policy, success, started=now, now=now + _STEP)
        clock[0] = now

    return Arm(f"{count:,} endpoints", run)


class Limiters:
    """A rate limit of one key, and one of a million.

    Attributes:
        memory: Bytes that the machine of many keys takes; None where the system does not tell.
    """

    def __init__(self) -> None:
        keys = [f"principal-{n}" for n in range(_MANY_KEYS)]
        Random(1).shuffle(keys)  # noqa: S311  # as callers come, not as they are stored
        self._keys = keys
        before = _resident()
        self._many = _filled(keys)
        after = _resident()
        self.memory = None if before is None or after is None else after - before

    def arms(self) -> list[Arm]:
        """An admission of one token."""
        one = _filled(self._keys[:1])
        return [
            _admit_arm("1 key", one, self._keys[:1]),
            _admit_arm(f"{_MANY_KEYS:,} keys", self._many, self._keys),
        ]


def _filled(keys: Sequence[str]) -> RateLimitMachine:
    machine = RateLimitMachine(per_second=1e9, burst=1e9, most_keys=len(keys))
    for key in keys:
        machine.admit(key, 1.0, 0.0)
    return machine


def _admit_arm(name: str, machine: RateLimitMachine, keys: Sequence[str]) -> Arm:
    at = [0]

    async def run(operations: int) -> None:
        admit = machine.admit
        begin = at[0]
        for number in range(begin, begin + operations):
            admit(keys[number % len(keys)], 1.0, 1.0)
        at[0] = begin + operations

    return Arm(name, run)


def _resident() -> int | None:
    if not _STATM.exists():
        return None
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()
