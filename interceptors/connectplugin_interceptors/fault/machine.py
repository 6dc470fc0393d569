"""What goes wrong with a call: chance and the faults decide, once, when it begins.

What if a struck call ends late, or is cancelled? It counts as active until `leave`, which its shell
calls in a `finally`. Twice? A plan is left once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from connectplugin_interceptors.fault.config import Fault, FaultError, FaultPolicy
from connectplugin_interceptors.patterns import matches


@dataclass(frozen=True, slots=True)
class Plan:
    """What will go wrong.

    Attributes:
        latency: Seconds before anything else.
        error: How the call ends; None if it goes on.
        after_reply: Whether the peer executes it first.
        truncate_after: Messages that are let through before the error.
    """

    latency: float
    error: FaultError | None
    after_reply: bool
    truncate_after: int | None

    @property
    def name(self) -> str:
        """A word for events: the code's, or one of `refuse`, `disconnect`, `drop`, `latency`."""
        if self.error is None:
            return "latency"
        return self.error if isinstance(self.error, str) else self.error.value


_NOTHING: Final = Plan(0.0, None, after_reply=False, truncate_after=None)


class FaultMachine:
    """Plans for calls, and the count of those that something goes wrong with."""

    __slots__ = ("_faults", "_most", "active")

    def __init__(self, policy: FaultPolicy) -> None:
        self._faults: tuple[Fault, ...] = tuple(policy.faults)
        self._most = policy.max_active
        self.active = 0

    def plan(
        self, method: str, *, streams_responses: bool, roll: Callable[[], float]
    ) -> Plan | None:
        """What goes wrong with a call that begins now; None if nothing does. Else `leave` it.

        Args:
            method: `package.Service/Method`.
            streams_responses: Whether there is a stream that could break off.
            roll: Random numbers in [0, 1): as many for each call of a method, whatever comes of it,
                so that one more fault in front does not change all choices behind.
        """
        plan = _NOTHING
        for fault in self._faults:
            if fault.methods and not any(matches(pattern, method) for pattern in fault.methods):
                continue
            struck = roll() < fault.share
            spread = roll()
            if (
                struck
                and plan.error is None
                and (fault.truncate_after is None or streams_responses)
            ):
                plan = _with(plan, fault, spread)
        if plan is _NOTHING or (self._most is not None and self.active >= self._most):
            return None
        self.active += 1
        return plan

    def leave(self) -> None:
        """A call that was planned for is over."""
        self.active -= 1

    def __repr__(self) -> str:
        return f"<Faults {len(self._faults)}, {self.active} active>"


def _with(plan: Plan, fault: Fault, spread: float) -> Plan:
    least = fault.least_latency
    latency = plan.latency + least + (fault.most_latency - least) * spread
    error = fault.error
    if error is None and fault.truncate_after is not None:
        error = "disconnect"
    return Plan(latency, error, fault.after_reply, fault.truncate_after)
