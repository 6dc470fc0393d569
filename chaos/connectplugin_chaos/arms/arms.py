"""The arms: what stands between the same calls and the same servers."""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from connectplugin import (
    AdaptiveLimitPolicy,
    BalancePolicy,
    ClientStack,
    HedgePolicy,
    RetryPolicy,
    ThrottlePolicy,
)
from connectplugin_chaos.arms.connections import Way, connect
from connectplugin_chaos.arms.loops import GOREF, NAIVE, TEXTBOOK, Loop, SimpleBreaker
from connectplugin_chaos.arms.sabotage import SABOTAGE, NoDeadlineOnTheWire
from connectplugin_chaos.engine.fleet import ServerKind
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.custom import CustomCalls
from connectplugin_chaos.load.openloop import Caller
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.model import Workload
from connectplugin_chaos.scenario.variants import Variant, split

_LOOPS: Final[dict[str, Loop | None]] = {
    "none": None,
    "naive": NAIVE,
    "textbook": TEXTBOOK,
    "goref": GOREF,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to make the same calls.

    Attributes:
        name: `none`, `naive`, `textbook`, `goref`, `stack`, `stack-X`, `stack+X`,
            `stack!X`.
        stack: The client's chain.
        servers: The servers' chain.
        loop: A retry loop around the client.
        breaker: Whether the Go original's breaker is around the client.
        sabotage: Entered for as long as the client is open.
    """

    name: str
    stack: ClientStack
    servers: ServerKind
    loop: Loop | None = None
    breaker: bool = False
    sabotage: Callable[[], AbstractContextManager[None]] = nullcontext

    @asynccontextmanager
    async def open(
        self,
        urls: Sequence[str],
        recorder: Recorder,
        workload: Workload,
        seed: int,
        *,
        connect_timeout: float | None = None,
        custom: CustomCalls | None = None,
    ) -> AsyncGenerator[Caller]:
        """The clients, and how they are called.

        Args:
            urls: Of the proxies.
            recorder: Put innermost into the chain, and told its events.
            workload: What calls look like.
            seed: Of jitter.
            connect_timeout: Seconds that a connection may take; None for the default.
            custom: Calls that the scenario brings along.
        """
        chance = random.Random(seed)  # noqa: S311  # jitter
        # Ahead of the arm's own, so that it sees what they do.
        stack = replace(self.stack, attempt=(*self.stack.attempt, recorder))
        breaker = SimpleBreaker() if self.breaker else None
        way = Way(
            stack=stack,
            urls=urls,
            name=self.name,
            recorder=recorder,
            workload=workload,
            seed=seed,
            connect_timeout=connect_timeout,
            custom=custom,
        )
        async with connect(way) as perform:

            async def call(planned: Planned, answer: Answer) -> None:
                once = partial(perform, planned, answer)
                if breaker is not None:
                    once = partial(breaker.run, once)
                if self.loop is not None:
                    await self.loop.run(once, chance)
                else:
                    await once()

            with self.sabotage():
                yield call


def make(name: str, variants: Mapping[str, Variant] | None = None) -> Arm:
    """The arm of a name that `check_arm` has nothing against.

    Args:
        name: Of the arm.
        variants: Of its scenario.
    """
    base, added = split(name)
    if not added:
        return _base(name)
    arm = replace(_base(base), name=name)
    variant = (variants or {}).get(added)
    if variant is None:
        return replace(arm, stack=replace(arm.stack, **_ADDED[added]))
    stack = replace(arm.stack, **variant.client)
    for pattern, policies in variant.methods:
        stack = stack.for_method(pattern, **policies)
    return replace(arm, stack=stack, servers=replace(arm.servers, policies=variant.server))


def _base(name: str) -> Arm:
    if name in _LOOPS:
        bare = ClientStack.bare(
            load_balancing=BalancePolicy(policy="round_robin"), attempt=[NoDeadlineOnTheWire()]
        )
        return Arm(
            name=name,
            stack=bare,
            servers=ServerKind(stack="none"),
            loop=_LOOPS[name],
            breaker=name == "goref",
        )
    ours = Arm(name=name, stack=ClientStack(), servers=ServerKind())
    _, _, layer = name.partition("-")
    _, _, broken = name.partition("!")
    if layer:
        return _without(ours, layer)
    if broken:
        sabotage = SABOTAGE[broken]
        return replace(ours, stack=replace(ours.stack, **sabotage.stack), sabotage=sabotage.during)
    return ours


_ADDED: Final[dict[str, dict[str, Any]]] = {
    "hedge": {"hedge": HedgePolicy()},
    "throttle": {"throttle": ThrottlePolicy()},
    "adaptive": {"concurrency": AdaptiveLimitPolicy()},
    "ready": {"wait_for_ready": True},
}


def _without(arm: Arm, layer: str) -> Arm:
    off: dict[str, dict[str, Any]] = {
        "budget": {"retry_policy": RetryPolicy(budget=None)},
        "retry": {"retry_policy": None},
        "breaker": {"circuit_breaker": None},
        "balance": {"load_balancing": BalancePolicy(policy="round_robin")},
        "outlier": {"outlier_ejection": None},
        "deadline": {"attempt": [NoDeadlineOnTheWire()]},
    }
    if layer in off:
        arm = replace(arm, stack=replace(arm.stack, **off[layer]))
    if layer in {"deadline", "shed", "limiter"}:
        arm = replace(arm, servers=ServerKind(stack=f"ours-{layer}"))
    return arm
