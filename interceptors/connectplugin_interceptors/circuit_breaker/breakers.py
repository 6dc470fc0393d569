"""All circuits of a client; a file of its own since people and the balancer look at them too."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from connectplugin_interceptors._per_policy import PerPolicy
from connectplugin_interceptors.circuit_breaker.config import CircuitBreakerPolicy
from connectplugin_interceptors.circuit_breaker.machine import (
    BreakerMachine,
    CircuitState,
    Closed,
    HalfOpen,
    Permit,
)
from connectplugin_interceptors.events import CircuitChanged, Emit
from connectplugin_interceptors.outcome import Outcome

if TYPE_CHECKING:
    from random import Random  # noqa: TID251  # `rng` is one, handed in

    from connectplugin_interceptors.clock import Clock

_Key: TypeAlias = tuple[str, str]
_ANY: Final = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitStatus:
    """A circuit at one moment.

    Attributes:
        endpoint: What it guards.
        method: What of it: `package.Service/*`, `package.Service/Method`, or empty for all of it.
        state: What it does with calls.
        retry_after: Seconds until a call may pass; 0 if one may pass now, infinite if isolated.
        failures: Failed calls within the window; 0 unless it is closed.
        calls: All calls within the window; 0 unless it is closed.
        failures_in_a_row: How long the present run of failures is.
        probes: Probes that are out.
        dry_run: Whether it only tells what it would refuse.
    """

    endpoint: str
    method: str
    state: CircuitState
    retry_after: float
    failures: int = 0
    calls: int = 0
    failures_in_a_row: int = 0
    probes: int = 0
    dry_run: bool = False


class Circuit:
    """One circuit: a machine, what it guards, and who is told when it moves.

    Attributes:
        unreachable: Whether the last failure was that no connection could be made, or that a server
            stops. Then calls that wait for readiness, which try at a pace of their own, need not
            wait for the circuit too.
    """

    __slots__ = ("_client", "_emit", "endpoint", "machine", "method", "unreachable")

    def __init__(
        self,
        policy: CircuitBreakerPolicy,
        endpoint: str,
        method: str,
        client: str,
        emit: Emit | None,
    ) -> None:
        self.machine = BreakerMachine(policy)
        self.endpoint = endpoint
        self.method = method
        self.unreachable = False
        self._client = client
        self._emit = emit

    @property
    def label(self) -> str:
        """What it guards, for people."""
        return f"{self.endpoint} {self.method}" if self.method else self.endpoint

    def tell(self) -> None:
        """Tell of the moves that the machine has made."""
        moves = self.machine.moves
        if not moves:
            return
        self.machine.moves = []
        if self._emit is None:
            return
        for move in moves:
            self._emit(
                CircuitChanged(
                    self._client,
                    self.method,
                    self.endpoint,
                    move.before.value,
                    move.after.value,
                    move.reason.value,
                )
            )

    def status(self, now: float) -> CircuitStatus:
        """What it is now."""
        machine = self.machine
        phase = machine.phase
        failures, calls = phase.calls.counts(now) if isinstance(phase, Closed) else (0, 0)
        return CircuitStatus(
            endpoint=self.endpoint,
            method=self.method,
            state=machine.state,
            retry_after=machine.peek(now),
            failures=failures,
            calls=calls,
            failures_in_a_row=phase.run if isinstance(phase, Closed) else 0,
            probes=len(phase.leases) if isinstance(phase, HalfOpen) else 0,
            dry_run=machine.policy.dry_run,
        )

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.label} {self.machine!r}>"


class Breakers:
    """The circuits of a client, made when something is first sent to an endpoint.

    Methods of a service share the circuit of an endpoint if their policies are equal (or more, or
    fewer: `CircuitBreakerPolicy.scope`). State is of this process alone.
    """

    def __init__(self, *, name: str, clock: "Clock", rng: "Random", emit: Emit | None) -> None:
        self._name = name
        self._clock = clock
        self._rng = rng
        self._emit = emit
        self._circuits = PerPolicy[CircuitBreakerPolicy, dict[_Key, Circuit]](_none_yet)
        self._isolated: set[str] = set()

    def circuit(self, policy: CircuitBreakerPolicy, endpoint: str, part: str) -> Circuit:
        """The circuit that guards a part of an endpoint.

        Args:
            policy: What is in force.
            endpoint: Its key.
            part: What `policy.part` says of the method.
        """
        circuits = self._circuits.of(policy)
        key = (endpoint, part)
        found = circuits.get(key)
        if found is None:
            found = circuits[key] = self._made(policy, endpoint, part)
        return found

    def _made(self, policy: CircuitBreakerPolicy, endpoint: str, part: str) -> Circuit:
        circuit = Circuit(
            policy, endpoint=endpoint, method=part, client=self._name, emit=self._emit
        )
        if endpoint in self._isolated or _ANY in self._isolated:
            circuit.machine.isolate()
            circuit.tell()
        return circuit

    def peek(  # as an admission asks, and one thing more
        self,
        policy: CircuitBreakerPolicy | None,
        endpoint: str,
        part: str,
        now: float,
        *,
        ready: bool = False,
    ) -> float:
        """0 if a call would be admitted now, else the seconds until one may be; changes nothing.

        For whoever picks an endpoint, so that one whose circuit is open costs no attempt. If it is
        0 the call is admitted, provided that nothing is awaited before it is sent on.

        Args:
            policy: What is in force for the method; None admits all.
            endpoint: The key of the endpoint.
            part: What `policy.part` says of the method.
            now: Seconds of the chain's clock.
            ready: Whether it is a try of a call that waits for readiness.
        """
        if policy is None or policy.dry_run:
            return 0.0
        found = self._circuits.of(policy).get((endpoint, part))
        if found is not None:
            wait = found.machine.peek(now)
            return 0.0 if ready and found.unreachable and not math.isinf(wait) else wait
        return math.inf if endpoint in self._isolated or _ANY in self._isolated else 0.0

    def release(
        self, circuit: Circuit, permit: Permit, outcome: Outcome, *, expired: bool, hint: float
    ) -> None:
        """Say how a call that a circuit gave leave has ended."""
        rnd = self._rng.random() if outcome is not Outcome.SUCCESS else 0.0
        now = self._clock.now()
        circuit.machine.release(permit, outcome, now, expired=expired, hint=hint, rnd=rnd)
        circuit.tell()

    def probe_now(self, endpoint: str) -> None:
        """A health check or a handshake of an endpoint has succeeded.

        Where a circuit is open, one call is let through at once, instead of at the end of its time;
        it then decides. Circuits are never closed by this.
        """
        for circuit in self._of(endpoint):
            circuit.machine.probe_now(self._clock.now())
            circuit.tell()

    def isolate(self, endpoint: str | None = None) -> None:
        """Refuse all calls to an endpoint, or to all, until `reset`; in a dry run, only say so."""
        self._isolated.add(_ANY if endpoint is None else endpoint)
        for circuit in self._of(endpoint):
            circuit.machine.isolate()
            circuit.tell()

    def force_open(self, endpoint: str | None = None) -> None:
        """Open the circuits of an endpoint, or all, as if calls had failed.

        After the usual time each lets a probe through. Isolated ones stay isolated. Where nothing
        was ever sent there is no circuit yet to open.
        """
        for circuit in self._of(endpoint):
            circuit.machine.force_open(self._clock.now(), rnd=self._rng.random())
            circuit.tell()

    def reset(self, endpoint: str | None = None) -> None:
        """Close the circuits of an endpoint, or all, and forget what was; ends an isolation."""
        if endpoint is None:
            self._isolated.clear()
        else:
            self._isolated.discard(endpoint)
        for circuit in self._of(endpoint):
            circuit.machine.reset()
            circuit.tell()

    def forget(self, endpoint: str) -> None:
        """An endpoint is gone for good: drop its circuits. Calls that are out keep theirs."""
        self._isolated.discard(endpoint)
        for circuits in self._circuits.all():
            for key in [key for key, circuit in circuits.items() if circuit.endpoint == endpoint]:
                del circuits[key]

    def status(self) -> list[CircuitStatus]:
        """What every circuit is now, by endpoint and method."""
        now = self._clock.now()
        found = [circuit.status(now) for circuit in self]
        return sorted(found, key=lambda status: (status.endpoint, status.method))

    def _of(self, endpoint: str | None) -> list[Circuit]:
        return [circuit for circuit in self if endpoint is None or circuit.endpoint == endpoint]

    def __iter__(self) -> Iterator[Circuit]:
        return iter([circuit for made in self._circuits.all() for circuit in made.values()])

    def __repr__(self) -> str:
        return f"<Breakers {list(self)!r}>"


def _none_yet(_: CircuitBreakerPolicy) -> dict[_Key, Circuit]:
    return {}
