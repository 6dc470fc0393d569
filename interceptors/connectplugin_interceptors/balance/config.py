"""How an endpoint is picked for an attempt."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from connectplugin_interceptors import validation
from connectplugin_interceptors.call import Ctx
from connectplugin_interceptors.errors import ConfigError

Policy: TypeAlias = Literal["p2c", "round_robin", "consistent_hash"]

HashKey: TypeAlias = Callable[[Any, Ctx], str]
"""What decides where a call goes: of its request (None if that is a stream) and its context."""

LONGEST_HINT: Final = 300.0
"""Seconds; a server that asks to be left alone for longer is asked again all the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BalancePolicy:
    """How an endpoint is picked for an attempt.

    An attempt never goes where its call has been before, while there is another endpoint; nor to
    one whose circuit breaker is open: if all are, the call fails at once and costs nothing.

    Attributes:
        policy: `"p2c"` (default): of two endpoints drawn at random the one with the lower load,
            which is its recent response time, peaks weighing most, times its calls in flight.
            `"round_robin"`: in turn. `"consistent_hash"`: by `key`, so that equal keys meet the
            same endpoint for as long as it is there.
        key: For `"consistent_hash"`: `lambda request, ctx: request.tenant`. The request is None
            where there is a stream of requests; `ctx.request_headers` may serve then.
        decay: Seconds in which what was measured loses two thirds of its weight. Default 10.
        initial_rtt: Seconds; what is assumed of an endpoint before its first answer. Default 0.03.
        penalty: Seconds; a failure counts as an answer that took so long, since one that fails
            quickly would look like the fastest of all. Default 5. A server that says when to come
            back is believed instead, up to 300. The next call that is answered takes it back.
        idle_probe: Seconds after which an endpoint that is avoided, because it was slow or has
            failed, gets a single call to see whether it still is. Default 10; None never. After a
            failure the first such call comes after 1 s, and each further one after twice the time.
        panic_threshold: Share of the endpoints. If fewer are healthy and not ejected, both are
            ignored: to spread over the sick is better than to drown the few. Default 0.5; with 0,
            if none is. Circuit breakers are obeyed all the same; they have probes of their own.

    Raises:
        ConfigError: A field is out of its bounds, or `key` and `policy` do not belong together.
    """

    policy: Policy = "p2c"
    key: HashKey | None = None
    decay: float = 10.0
    initial_rtt: float = 0.03
    penalty: float = 5.0
    idle_probe: float | None = 10.0
    panic_threshold: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if self.policy not in get_args(Policy):
            known = ", ".join(map(repr, get_args(Policy)))
            msg = f"BalancePolicy.policy is {self.policy!r}; it must be one of {known}"
            raise ConfigError(msg)
        if self.policy == "consistent_hash" and not callable(self.key):
            msg = (
                f"BalancePolicy.key is {self.key!r}; with policy='consistent_hash' it must be a "
                "function of request and context, such as lambda request, ctx: request.tenant"
            )
            raise ConfigError(msg)
        if self.policy != "consistent_hash" and self.key is not None:
            msg = (
                f"BalancePolicy.key is given with policy={self.policy!r}, which does not ask it; "
                "leave it out, or set policy='consistent_hash'"
            )
            raise ConfigError(msg)
        validation.number(self, "decay", above=0, unit="seconds")
        validation.number(self, "initial_rtt", above=0, unit="seconds")
        validation.number(self, "penalty", minimum=0, unit="seconds")
        validation.number(self, "idle_probe", above=0, optional=True, unit="seconds")
        validation.number(self, "panic_threshold", minimum=0, maximum=1)
