"""The server's chain, in its one order, as a value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from connectrpc.interceptor import (
    BidiStreamInterceptor,
    ClientStreamInterceptor,
    MetadataInterceptor,
    ServerStreamInterceptor,
    UnaryInterceptor,
)

from connectplugin_interceptors import validation
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.chain import check_interceptor
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.events import Listener, emitter
from connectplugin_interceptors.fault.config import FaultPolicy
from connectplugin_interceptors.server.concurrency import ServerAdaptiveLimit, ServerBulkhead
from connectplugin_interceptors.server.deadline.config import ServerDeadlinePolicy
from connectplugin_interceptors.server.deadline.interceptor import HandlerDeadline, ServerDeadline
from connectplugin_interceptors.server.drain.config import DrainPolicy
from connectplugin_interceptors.server.drain.interceptor import Drain
from connectplugin_interceptors.server.fault import ServerFaultInjection
from connectplugin_interceptors.server.masking.config import MaskingPolicy
from connectplugin_interceptors.server.masking.interceptor import ErrorMasking
from connectplugin_interceptors.server.rate_limit.config import ServerRateLimitPolicy
from connectplugin_interceptors.server.rate_limit.interceptor import ServerRateLimit
from connectplugin_interceptors.server.refusals import Refusals

ServerLink: TypeAlias = (
    UnaryInterceptor
    | ClientStreamInterceptor
    | ServerStreamInterceptor
    | BidiStreamInterceptor
    | MetadataInterceptor[Any]
)
"""What connectrpc takes as an interceptor (its own alias leaves a parameter unknown)."""


@dataclass(frozen=True, kw_only=True)
class ServerStack:
    """What a server does with a call before and after its handler, outermost first.

    ```
    masking > before > drain > deadline > rate limit > admission > adaptive limit > bulkhead
    > around > fault > handler
    ```
    A policy that is not named has its default; `None` turns it off. The stack is a value; each
    `interceptors()` or `build()` makes fresh state.

    Attributes:
        masking: See `MaskingPolicy`.
        drain: See `DrainPolicy`. Off, a server cannot refuse or end calls when it stops.
        deadline: See `ServerDeadlinePolicy`. Off, the client's deadline still cancels the handler
            (connectrpc does that), and is still inherited by outbound calls.
        rate_limit: See `ServerRateLimitPolicy`. By default 1,000 calls a second from each address,
            of which 2,000 may come at once; a server's own services (handshake, health) count
            apart, so that busy callers do not look ill.
        adaptive_limit: See `AdaptiveLimitPolicy`; each plugin has one of its own. It refuses early
            what would only wait. By default up to 1,000 calls in flight, beginning at 200. A unary
            call, or one with one request, is in flight when its request is there.
        bulkhead: See `BulkheadPolicy`; on a server of plugins each plugin has one of its own.
        fault: See `FaultPolicy`. Off by default.
        before: Metadata interceptors that see every call, refused ones too: telemetry.
        admission: Metadata interceptors that may refuse a call before its body is read:
            authentication, authorization, limits.
        around: Interceptors of messages, around the handler: validation.
        listeners: Called with a `CallRefused` for each call that is refused unprocessed.
        name: The server's name in these events. Default `server`.

    Raises:
        ConfigError: A field is of the wrong kind, or connectrpc would silently ignore a part of an
            interceptor.
    """

    masking: MaskingPolicy | None = field(default_factory=MaskingPolicy)
    drain: DrainPolicy | None = field(default_factory=DrainPolicy)
    deadline: ServerDeadlinePolicy | None = field(default_factory=ServerDeadlinePolicy)
    rate_limit: ServerRateLimitPolicy | None = field(
        default_factory=lambda: ServerRateLimitPolicy(per_second=1000.0, burst=2000.0)
    )
    adaptive_limit: AdaptiveLimitPolicy | None = field(
        default_factory=lambda: AdaptiveLimitPolicy(max_limit=1000, initial_limit=200)
    )
    bulkhead: BulkheadPolicy | None = field(default_factory=BulkheadPolicy)
    fault: FaultPolicy | None = None
    before: Sequence[MetadataInterceptor[Any]] = ()
    admission: Sequence[MetadataInterceptor[Any]] = ()
    around: Sequence[ServerLink] = ()
    listeners: Sequence[Listener] = ()
    name: str = "server"

    def __post_init__(self) -> None:
        """Refuse what connectrpc would ignore without a word."""
        validation.instance(self, "masking", MaskingPolicy, optional=True)
        validation.instance(self, "drain", DrainPolicy, optional=True)
        validation.instance(self, "deadline", ServerDeadlinePolicy, optional=True)
        validation.instance(self, "rate_limit", ServerRateLimitPolicy, optional=True)
        validation.instance(self, "adaptive_limit", AdaptiveLimitPolicy, optional=True)
        validation.instance(self, "fault", FaultPolicy, optional=True)
        validation.instance(self, "bulkhead", BulkheadPolicy, optional=True)
        validation.instance(self, "name", str)
        for name in ("before", "admission", "around"):
            members = tuple(getattr(self, name))
            object.__setattr__(self, name, members)
            for member in members:
                _check(name, member)

    def interceptors(self, *, clock: Clock | None = None) -> list[ServerLink]:
        """The chain for one generated Connect ASGI application.

        Applications that should share limits share the list. A drain needs its handle: use
        `build()` to have it.

        Args:
            clock: Where the time comes from; the machine's clock if None.
        """
        return self.build(clock=clock).interceptors()

    def build(self, *, clock: Clock | None = None) -> "ServerChain":
        """The chain for several applications of one server, with its handles.

        Who ends calls with `drain.end_streams` wraps the application in `server.CutCalls`, so that
        the ASGI server does not log a traceback for each.
        """
        return ServerChain(self, clock=SystemClock() if clock is None else clock)

    def describe(self) -> str:
        """The chain, outermost first, one link a line."""
        lines = [f"{name:<14} {policy}" for name, policy in self._links()]
        return "\n".join([*lines, "handler"])

    def _links(self) -> list[tuple[str, str]]:
        links: list[tuple[str, object]] = [("masking", self.masking)]
        links += [("before", member) for member in self.before]
        links += [("drain", self.drain), ("deadline", self.deadline)]
        links += [("rate limit", self.rate_limit)]
        links += [("admission", member) for member in self.admission]
        links += [("adaptive limit", self.adaptive_limit), ("bulkhead", self.bulkhead)]
        links += [("around", member) for member in self.around]
        links += [("fault", self.fault)]
        return [(name, "off" if policy is None else repr(policy)) for name, policy in links]


class ServerChain:
    """A stack with its state.

    Attributes:
        drain: The handle by which the server stops; None if the stack has none.
        bulkheads: One for each name given to `interceptors`.
        adaptive_limits: Likewise.
    """

    def __init__(self, stack: ServerStack, *, clock: Clock) -> None:
        self._stack = stack
        self._clock = clock
        self._masking = None if stack.masking is None else ErrorMasking(stack.masking)
        emit = emitter(stack.listeners)
        self._refusals: tuple[ServerLink, ...] = ()
        if emit is not None:
            self._refusals = (Refusals(name=stack.name, emit=emit),)
        self.drain = None if stack.drain is None else Drain(stack.drain)
        # Innermost, inside of the handler's deadline: what it does looks like the handler's doing.
        self._fault: tuple[ServerLink, ...] = ()
        if stack.fault is not None:
            self._fault = (ServerFaultInjection(stack.fault, clock=clock),)
        self.bulkheads: dict[str, ServerBulkhead] = {}
        self.adaptive_limits: dict[str, ServerAdaptiveLimit] = {}
        self._rate_limit = _rate_limit(stack, clock)
        self._control_rate_limit = _rate_limit(stack, clock)

    def interceptors(self, name: str = "") -> list[ServerLink]:
        """The links for an application.

        Args:
            name: Applications with the same name share one adaptive limit and one bulkhead.
        """
        stack = self._stack
        links: list[ServerLink] = [*self._outer(), *self._drain(), self._deadline()]
        links += self._rate_limit
        links += stack.admission
        if stack.adaptive_limit is not None:
            if name not in self.adaptive_limits:
                self.adaptive_limits[name] = ServerAdaptiveLimit(
                    stack.adaptive_limit, name=name, clock=self._clock
                )
            links.append(self.adaptive_limits[name])
        if stack.bulkhead is not None:
            if name not in self.bulkheads:
                self.bulkheads[name] = ServerBulkhead(stack.bulkhead, name=name, clock=self._clock)
            links.append(self.bulkheads[name])
        return [*links, *stack.around, HandlerDeadline(), *self._fault]

    def control_interceptors(self, *, refuse_when_draining: bool) -> list[ServerLink]:
        """The links for a server's own services: no bulkhead, so that a full server still answers.

        Args:
            refuse_when_draining: Whether calls are refused (and counted) as those of others are.
                Health must be told to the end; nobody should shake hands with a server that stops.
        """
        drain = self._drain() if refuse_when_draining else ()
        return [
            *self._outer(),
            *drain,
            self._deadline(),
            *self._control_rate_limit,
            *self._stack.admission,
            HandlerDeadline(),
        ]

    def _outer(self) -> list[ServerLink]:
        masking = () if self._masking is None else (self._masking,)
        return [*masking, *self._refusals, *self._stack.before]

    def _drain(self) -> tuple[ServerLink, ...]:
        return () if self.drain is None else (self.drain,)

    def _deadline(self) -> ServerDeadline:
        return ServerDeadline(self._stack.deadline, clock=self._clock)

    def __repr__(self) -> str:
        return f"<ServerChain {self.drain!r} {list(self.bulkheads.values())!r}>"


def _rate_limit(stack: ServerStack, clock: Clock) -> tuple[ServerLink, ...]:
    policy = stack.rate_limit
    return () if policy is None else (ServerRateLimit(policy, clock=clock),)


def _check(where: str, member: object) -> None:
    """Refuse an interceptor of which connectrpc would silently leave a part out."""
    check_interceptor(member, f"ServerStack.{where}")
    if where != "around" and not hasattr(member, "on_start"):
        msg = (
            f"ServerStack.{where} has {member!r}, which has no on_start and on_end: what reads"
            " messages belongs into around=, else the body is read before anything is checked"
        )
        raise ConfigError(msg)
