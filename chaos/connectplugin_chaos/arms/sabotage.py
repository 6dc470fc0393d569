"""Our stack, broken on purpose: what its own machinery holds up must fall, and a check must say so.

Each takes one thing away and nothing else. Scenario files name what must break without it, under
`expect: stack!X`; `connectplugin-chaos run --sabotage X` runs those.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final
from unittest.mock import patch

from connectplugin import RetryPolicy
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.circuit_breaker.machine import BreakerMachine, Permit
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.wire import CONNECT_TIMEOUT_HEADER


class NoDeadlineOnTheWire:
    """Takes the deadline off the request: the server does not know when its caller gives up."""

    async def on_start(self, ctx: Ctx) -> None:
        """Remove it."""
        ctx.request_headers.pop(CONNECT_TIMEOUT_HEADER, None)

    async def on_end(self, _token: None, _ctx: Ctx, _error: Exception | None, /) -> None:
        """Nothing."""


@contextmanager
def no_generations() -> Generator[None]:
    """Every result counts in the circuit's present phase, whichever phase has let the call pass."""
    release = BreakerMachine.release

    def forgetful(
        self: BreakerMachine, permit: Permit, outcome: Outcome, now: float, **more: Any
    ) -> None:
        permit.phase = self.phase
        release(self, permit, outcome, now, **more)

    with patch.object(BreakerMachine, "release", forgetful):
        yield


@dataclass(frozen=True, kw_only=True)
class Sabotage:
    """What is taken away.

    Attributes:
        stack: Fields of `ClientStack` that are other than by default.
        during: Entered for as long as the arm's client is open.
    """

    stack: Mapping[str, Any] = field(default_factory=dict[str, Any])
    during: Callable[[], AbstractContextManager[None]] = nullcontext


SABOTAGE: Final[Mapping[str, Sabotage]] = {
    "idempotency": Sabotage(stack={"retry_policy": RetryPolicy(idempotent=True)}),
    "budget": Sabotage(stack={"retry_policy": RetryPolicy(budget=None)}),
    "header": Sabotage(stack={"attempt": [NoDeadlineOnTheWire()]}),
    "generation": Sabotage(during=no_generations),
}
"""By the names of `names.SABOTAGES`."""
