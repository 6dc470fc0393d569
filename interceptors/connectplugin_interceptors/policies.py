"""Which settings a method has: a stack's own, then the overrides that match, last one wins."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType

from connectplugin_interceptors.options import CallOptions
from connectplugin_interceptors.settings import Changes, Settings, change

if TYPE_CHECKING:
    from connectplugin_interceptors._budget import RetryBudget

# `with_options` in a loop, or methods made at run time, must not grow a table for ever.
_MOST_REMEMBERED: Final = 1024


def effective(
    base: Settings, overrides: Sequence[tuple[str, Changes]], service: str, method: str
) -> Settings:
    """The settings of one method: its own entry beats its service's, a later one an earlier."""
    settings = base
    for wanted in (f"{service}/*", f"{service}/{method}"):
        for pattern, changes in overrides:
            if pattern == wanted:
                settings = change(settings, changes)
    return settings


class Plan:
    """What is found out once about a method, and looked up by each call of it.

    Attributes:
        settings: The policies in force.
        path: `package.Service/Method`.
        limit: Seconds that a call may take by the deadline policy; None for any time.
        attempt_limit: Seconds that its attempts may take on the wire; None for as long as the call.
        idempotent: Whether a call may be executed twice, by its .proto option or an override.
        streams_responses: Whether there may be any number of responses.
        guarded: What of an endpoint its circuit breaker guards.
        hedge: The policy to hedge by; None if a call of this method is not hedged.
        retry_policy: The policy to retry by; None for a call that is hedged.
        account: What its retries are paid from; `Retry` looks it up when the first call succeeds.
    """

    __slots__ = (
        "account",
        "attempt_limit",
        "guarded",
        "hedge",
        "idempotent",
        "limit",
        "path",
        "retry_policy",
        "settings",
        "streams_responses",
    )

    def __init__(self, method: MethodInfo[Any, Any], settings: Settings) -> None:
        self.settings = settings
        self.path = f"{method.service_name}/{method.name}"
        breaker = settings.circuit_breaker
        self.guarded = "" if breaker is None else breaker.part(self.path)
        stream = method.stream_type
        self.streams_responses = stream is StreamType.SERVER_STREAM or (
            stream is StreamType.BIDI_STREAM
        )
        deadline = settings.deadline
        self.limit = self.attempt_limit = None
        if deadline is not None and self.streams_responses:
            self.limit = deadline.stream_total
        elif deadline is not None:
            self.limit, self.attempt_limit = deadline.total, deadline.attempt
        policy = settings.retry_policy
        if policy is not None and policy.idempotent is not None:
            self.idempotent = policy.idempotent
        else:
            self.idempotent = method.idempotency_level is not IdempotencyLevel.UNKNOWN
        # Requests that come as a stream can be sent once only; so they are not hedged.
        whole = stream is StreamType.UNARY or stream is StreamType.SERVER_STREAM
        self.hedge = settings.hedge if self.idempotent and whole else None
        self.retry_policy = None if self.hedge is not None else policy
        self.account: RetryBudget | None = None


class PolicyTable:
    """Plans by method, made at a method's first call."""

    def __init__(self, base: Settings, overrides: Sequence[tuple[str, Changes]]) -> None:
        self._base = base
        self._overrides = tuple(overrides)
        # By name: generated clients make a new MethodInfo for every call.
        self._plans: dict[tuple[str, str], tuple[MethodInfo[Any, Any], Plan]] = {}
        # By identity; each entry holds what its key is the id of, so that the id cannot be given to
        # another object.
        self._changed: dict[tuple[int, int], tuple[Plan, CallOptions, Plan]] = {}

    def uses(self, name: str) -> bool:
        """Whether any method has a policy, by its name in `Settings`."""
        given = [getattr(self._base, name), *(changes.get(name) for _, changes in self._overrides)]
        return any(policy is not None for policy in given)

    def plan(self, method: MethodInfo[Any, Any]) -> Plan:
        """The plan of a method."""
        key = (method.service_name, method.name)
        found = self._plans.get(key)
        if found is not None:
            like, plan = found
            if (
                like.idempotency_level is method.idempotency_level
                and like.stream_type is method.stream_type
            ):
                return plan
        settings = effective(self._base, self._overrides, method.service_name, method.name)
        plan = Plan(method, settings)
        _bound(self._plans)
        self._plans[key] = (method, plan)
        return plan

    def changed(self, method: MethodInfo[Any, Any], plan: Plan, options: CallOptions) -> Plan:
        """That plan, changed by options; remembered, since options are used again."""
        if not options.changes:
            return plan
        key = (id(plan), id(options))
        found = self._changed.get(key)
        if found is not None:
            return found[2]
        result = Plan(method, change(plan.settings, options.changes))
        _bound(self._changed)
        self._changed[key] = (plan, options, result)
        return result


def _bound(remembered: dict[Any, Any]) -> None:
    if len(remembered) >= _MOST_REMEMBERED:
        remembered.clear()
