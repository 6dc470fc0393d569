"""`ClientStack`: a client's chain as a value; and the generated clients that run over it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from random import Random  # noqa: TID251  # the default of `rng`
from typing import Any, TypeVar
from weakref import ref

from connectrpc.client import ConnectClient
from pyqwest import Transport

from connectplugin_interceptors import validation
from connectplugin_interceptors.adaptive.config import AdaptiveLimitPolicy
from connectplugin_interceptors.attempt import AttemptScope
from connectplugin_interceptors.balance.config import BalancePolicy
from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.balance.interceptor import Balance
from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.bulkhead.config import BulkheadPolicy
from connectplugin_interceptors.cancellation import CancellationRestore
from connectplugin_interceptors.chain import (
    ATTEMPT_ORDER,
    CALL_ORDER,
    check_interceptors,
    check_settings,
)
from connectplugin_interceptors.circuit_breaker.breakers import Breakers
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.interceptor import CircuitBreaker
from connectplugin_interceptors.clock import Clock, SystemClock
from connectplugin_interceptors.concurrency import Concurrency
from connectplugin_interceptors.deadline.config import DeadlinePolicy
from connectplugin_interceptors.deadline.interceptor import CallScope
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.events import Listener, emitter
from connectplugin_interceptors.fallback.config import FallbackPolicy
from connectplugin_interceptors.fallback.interceptor import Fallback
from connectplugin_interceptors.fault.config import FaultPolicy
from connectplugin_interceptors.fault.interceptor import FaultInjection
from connectplugin_interceptors.foreign import Foreign, Link
from connectplugin_interceptors.generated import bound_client
from connectplugin_interceptors.hedge.config import HedgePolicy
from connectplugin_interceptors.hedge.interceptor import Hedge
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.patterns import check_pattern
from connectplugin_interceptors.policies import PolicyTable, effective
from connectplugin_interceptors.rate_limit.config import RateLimitPolicy
from connectplugin_interceptors.rate_limit.interceptor import RateLimit
from connectplugin_interceptors.retry.config import RetryPolicy
from connectplugin_interceptors.retry.interceptor import Retry
from connectplugin_interceptors.routing import BALANCED_URL
from connectplugin_interceptors.settings import POLICY_NAMES, Changes, Settings, change, check_kinds
from connectplugin_interceptors.throttle.config import ThrottlePolicy
from connectplugin_interceptors.throttle.interceptor import Throttle

C = TypeVar("C", bound=ConnectClient)

_system_clock = SystemClock()


@dataclass(frozen=True, kw_only=True)
class ClientStack:
    """The policies of a client, and the interceptors that carry them out.

    A policy that is not named has its default; None turns it off. A stack is a value: machines
    (budgets, ...) are made by `interceptors` and `client`, fresh for each call of these.

    Attributes:
        fallback: See `FallbackPolicy`. Default None.
        deadline: See `DeadlinePolicy`.
        throttle: See `ThrottlePolicy`. Default None.
        concurrency: See `BulkheadPolicy` (default: 1,000 calls in flight, none waits) and
            `AdaptiveLimitPolicy`.
        retry_policy: See `RetryPolicy`.
        circuit_breaker: See `CircuitBreakerPolicy`.
        rate_limit: See `RateLimitPolicy`. Default None.
        fault: See `FaultPolicy`. Default None.
        hedge: See `HedgePolicy`. Default None; `ClientStack.hedged()` has it on.
        load_balancing: See `BalancePolicy`. None: the first endpoint that can be had.
        outlier_ejection: See `OutlierEjectionPolicy`. It is of all methods together.
        wait_for_ready: Whether calls wait until something can be reached. Default False.
        call: Interceptors of your own, run once per call, inside its deadline.
        attempt: Interceptors of your own, run once per attempt.
        methods: Overrides by method, as `for_method` adds them.

    Raises:
        ConfigError: A field is of the wrong kind, or an interceptor would be called in part only.
    """

    fallback: FallbackPolicy | None = None
    deadline: DeadlinePolicy | None = DeadlinePolicy()
    throttle: ThrottlePolicy | None = None
    concurrency: BulkheadPolicy | AdaptiveLimitPolicy | None = BulkheadPolicy()
    retry_policy: RetryPolicy | None = RetryPolicy()
    circuit_breaker: CircuitBreakerPolicy | None = CircuitBreakerPolicy()
    rate_limit: RateLimitPolicy | None = None
    fault: FaultPolicy | None = None
    hedge: HedgePolicy | None = None
    load_balancing: BalancePolicy | None = BalancePolicy()
    outlier_ejection: OutlierEjectionPolicy | None = OutlierEjectionPolicy()
    wait_for_ready: bool = False
    call: Sequence[object] = ()
    attempt: Sequence[object] = ()
    methods: tuple[tuple[str, Changes], ...] = field(default=())

    def __post_init__(self) -> None:
        """Refuse a chain that would be unsound."""
        for name in ("call", "attempt"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple):
                msg = f"ClientStack.{name} is {given!r}; it must be a list of interceptors"
                raise ConfigError(msg)
            links: list[object] = list(given)  # pyright: ignore[reportUnknownArgumentType]
            check_interceptors(links, f"ClientStack.{name}")
            object.__setattr__(self, name, tuple(links))
        validation.instance(self, "outlier_ejection", OutlierEjectionPolicy, optional=True)
        check_kinds("ClientStack.", {name: getattr(self, name) for name in POLICY_NAMES})
        settings = self._settings()
        check_settings(settings, "ClientStack")
        for pattern, _ in self.methods:
            service, _, method = pattern.partition("/")
            overridden = effective(settings, self.methods, service, method)
            check_settings(overridden, f"ClientStack.for_method({pattern!r})")

    def _settings(self) -> Settings:
        return Settings(**{name: getattr(self, name) for name in POLICY_NAMES})

    @classmethod
    def bare(cls, **policies: Any) -> "ClientStack":
        """A stack in which what is not named is off; cancellation stays cancellation all the same.

        Args:
            policies: Fields of `ClientStack`.
        """
        off: dict[str, Any] = dict.fromkeys((*POLICY_NAMES, "outlier_ejection"))
        off["wait_for_ready"] = False
        return cls(**{**off, **policies})

    @classmethod
    def hedged(cls, **policies: Any) -> "ClientStack":
        """The standard stack, and a slow call that may be executed twice gets a second attempt.

        All others are retried as ever.

        Args:
            policies: Fields of `ClientStack`.
        """
        on: dict[str, Any] = {"hedge": HedgePolicy()}
        return cls(**{**on, **policies})

    def for_method(self, pattern: str, /, **policies: Any) -> "ClientStack":
        """A stack with other policies for some methods.

        Args:
            pattern: `package.Service/Method`, or `package.Service/*` for all of a service. A
                method's own entry beats its service's; of two alike the later one.
            policies: Fields of `ClientStack` that a method can have: its policies.

        Raises:
            ConfigError: The pattern or a policy does not make sense.
        """
        check_pattern(pattern)
        change(self._settings(), policies, f"ClientStack.for_method({pattern!r}): ")
        return replace(self, methods=(*self.methods, (pattern, policies)))

    def adding(
        self, *, call: Sequence[object] = (), attempt: Sequence[object] = ()
    ) -> "ClientStack":
        """A stack with more interceptors, inside of those that it has."""
        return replace(self, call=(*self.call, *call), attempt=(*self.attempt, *attempt))

    def interceptors(  # seams, all optional
        self,
        *,
        name: str = "client",
        rng: Random | None = None,
        clock: Clock | None = None,
        listeners: Sequence[Listener] = (),
        observed: bool = False,
        pool: EndpointPool | None = None,
    ) -> list[Any]:
        """Make the chain, with machines of its own; clients that should share them share the list.

        With a transport of your own some things are missing that `client` gives: the chain cannot
        tell whether a request left (so more failures count as "may have been executed", and are not
        retried), and it does not see response headers (`retry-after`, `grpc-retry-pushback-ms`,
        nacks). Wrap your transport in `TapTransport` and pass `observed=True` to have them.

        Args:
            name: The client's name in events.
            rng: Where jitter comes from.
            clock: Where time comes from.
            listeners: Called with every `Event`.
            observed: Whether the client's transport is a `TapTransport`.
            pool: The endpoints that a `RoutingTransport` under the client sends to.
        """
        time: Clock = clock if clock is not None else _system_clock
        emit = emitter(listeners)
        table = PolicyTable(self._settings(), self.methods)
        chance = rng or Random()  # noqa: S311  # jitter
        own = any(not isinstance(link, Link) for link in (*self.call, *self.attempt))
        breaker = CircuitBreaker(name=name, clock=time, rng=chance, emit=emit)
        balance: list[Any] = []
        if pool is not None:
            _forget_released(pool, breaker.breakers)
            balance.append(
                Balance(
                    pool,
                    ejection=self.outlier_ejection,
                    peek=breaker.breakers.peek,
                    clock=time,
                    rng=chance,
                    emit=emit,
                )
            )
        retry = Retry(clock=time, rng=chance, emit=emit)
        return [
            Fallback(name=name, table=table, emit=emit),
            CallScope(name=name, table=table, clock=time, emit=emit, observed=observed, armed=own),
            *[_link(link, per_call=True) for link in self.call],
            Throttle(clock=time, rng=chance, emit=emit),
            Concurrency(clock=time, emit=emit),
            retry,
            Hedge(clock=time, budget=retry.budget, emit=emit),
            *balance,
            breaker,
            RateLimit(clock=time, emit=emit),
            AttemptScope(emit=emit, armed=own),
            *[_link(link, per_call=False) for link in self.attempt],
            FaultInjection(clock=time, rng=chance, emit=emit),
            CancellationRestore(),
        ]

    def client(
        self,
        client_class: type[C],
        address: str | Sequence[str] | EndpointPool,
        *,
        name: str | None = None,
        transport: Transport | None = None,
        rng: Random | None = None,
        clock: Clock | None = None,
        listeners: Sequence[Listener] = (),
        **options: Any,
    ) -> C:
        """A generated client over this chain and a transport with safe defaults.

        No redirects are followed, no proxy is taken from the environment, answers are not unpacked
        and are bounded (4 MiB a message). Close it (`async with`, or `close()`), which closes the
        transport that was made here; a transport of your own stays open.

        Args:
            client_class: The generated class, such as `ElizaServiceClient`.
            address: `http://` or `https://` URL of the server; or several, to balance over; or an
                `EndpointPool`, whose set of endpoints can change.
            name: The client's name in events; by default the class's.
            transport: Instead of the default one; anything like a `pyqwest.Transport`. For several
                addresses the default is one for each.
            rng: Where jitter comes from.
            clock: Where time comes from.
            listeners: Called with every `Event`.
            options: What the generated class takes, such as `protocol`, `codec`, `timeout_ms`,
                `read_max_bytes`.

        Raises:
            ConfigError: The address is no URL, or an option belongs to the chain.
        """
        pool = _pool(address)
        for taken in ("interceptors", "http_client"):
            if taken in options:
                msg = (
                    f"ClientStack.client does not take {taken}: give transport=, and interceptors "
                    "to ClientStack(call=[...], attempt=[...])"
                )
                raise ConfigError(msg)
        chain = self.interceptors(
            name=name or client_class.__name__.removesuffix("Client"),
            rng=rng,
            clock=clock,
            listeners=listeners,
            observed=True,
            pool=pool,
        )
        if pool.sole is not None:
            return bound_client(
                client_class, pool.sole.url, chain, transport, options, owns_chain=True
            )
        return bound_client(
            client_class, BALANCED_URL, chain, transport, options, pool=pool, owns_chain=True
        )

    def describe(self, method: str | None = None) -> str:
        """The chain as it will be built, outermost first; for one method with its policies.

        Args:
            method: `package.Service/Method`; by default what holds where nothing is overridden.
        """
        settings = self._settings()
        if method is not None:
            check_pattern(method)
            service, _, rpc = method.partition("/")
            settings = effective(settings, self.methods, service, rpc)
        lines = [f"ClientStack for {method or 'all methods'}, outermost first"]
        lines += [f"  CALL     {line}" for line in self._call_lines(settings)]
        lines += [f"  ATTEMPT  {line}" for line in self._attempt_lines(settings)]
        if method is None:
            lines += [
                f"  override {pattern}: {_words(changes)}" for pattern, changes in self.methods
            ]
        return "\n".join(lines)

    def _call_lines(self, settings: Settings) -> list[str]:
        ready = "on" if settings.wait_for_ready else "off"
        shown = {
            "fallback": _policy(settings.fallback),
            "deadline": _policy(settings.deadline),
            "call interceptors": ", ".join(map(repr, self.call)) or "none",
            "throttle": _policy(settings.throttle),
            "concurrency": _policy(settings.concurrency),
            "retry": f"{_policy(settings.retry_policy)}; wait_for_ready {ready}",
            "hedge": _policy(settings.hedge),
        }
        return [f"{part:<22} {shown[part]}" for part in CALL_ORDER]

    def _attempt_lines(self, settings: Settings) -> list[str]:
        limit = settings.deadline.attempt if settings.deadline else None
        shown = {
            "load balancing": (
                f"{_policy(settings.load_balancing)}; "
                f"outlier_ejection {_policy(self.outlier_ejection)}"
            ),
            "circuit breaker": _policy(settings.circuit_breaker),
            "rate limit": _policy(settings.rate_limit),
            "attempt deadline": "off" if limit is None else f"{limit:g} s",
            "attempt interceptors": ", ".join(map(repr, self.attempt)) or "none",
            "fault injection": _policy(settings.fault),
            "cancellation restore": "always",
        }
        return [f"{part:<22} {shown[part]}" for part in ATTEMPT_ORDER]

    def __repr__(self) -> str:
        changed = [
            f"{item.name}={getattr(self, item.name)!r}"
            for item in fields(self)
            if getattr(self, item.name) != item.default
        ]
        return f"ClientStack({', '.join(changed)})"


def _forget_released(pool: EndpointPool, breakers: Breakers) -> None:
    """Drop the circuits of endpoints that are gone; the pool may outlive the chain."""
    known = ref(breakers)

    def released(endpoint: Endpoint) -> None:
        alive = known()
        if alive is None:
            pool.off_released(released)
        elif pool.get(endpoint.key) is None:
            alive.forget(endpoint.key)

    pool.on_released(released)


def _pool(address: Any) -> EndpointPool:
    if isinstance(address, EndpointPool):
        return address
    several: Any = (address,) if isinstance(address, str) else address
    if (
        not isinstance(several, list | tuple)
        or not several
        or not all(
            isinstance(url, str) and url.startswith(("http://", "https://"))
            for url in several  # pyright: ignore[reportUnknownVariableType]  # checked here
        )
    ):
        msg = (
            f"ClientStack.client got the address {address!r}; it must be a URL with a scheme, such "
            "as 'http://127.0.0.1:8080', or a list of such, or an EndpointPool"
        )
        raise ConfigError(msg)
    return EndpointPool(several, fixed=True)  # pyright: ignore[reportUnknownArgumentType]


def _link(interceptor: object, *, per_call: bool) -> object:
    # A metadata hook gets the context and cannot replace it.
    if isinstance(interceptor, Link) or not hasattr(interceptor, "intercept_unary"):
        return interceptor
    return Foreign(interceptor, per_call=per_call)


def _policy(policy: object) -> str:
    return "off" if policy is None else repr(policy)


def _words(changes: Changes) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in changes.items())
