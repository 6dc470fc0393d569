"""The endpoints of a client: who is in the set, who may be picked, who is due for a second look.

A machine too, kept apart from the pick because transport, session, health and discovery all hold
one. Every step is synchronous; `now` and chance are arguments. Nothing here runs by itself: what
is due (a look at the outliers, the end of an ejection, a probe) is attended to by the next pick,
since without calls nobody misses it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from connectplugin_interceptors.balance.addresses import Source, addresses, is_at, still_leaving
from connectplugin_interceptors.balance.config import LONGEST_HINT, BalancePolicy
from connectplugin_interceptors.balance.ejection import end_interval
from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.balance.looks import Looks, examine
from connectplugin_interceptors.balance.machine import (
    Blocked,
    Draw,
    Move,
    Nobody,
    Snapshot,
    by_hash,
    first_fit,
    fits,
    in_turn,
    shortest_wait,
    two_choices,
)
from connectplugin_interceptors.balance.ring import HashRing
from connectplugin_interceptors.outcome import Outcome
from connectplugin_interceptors.outlier_ejection.config import OutlierEjectionPolicy
from connectplugin_interceptors.outlier_ejection.machine import ejection_time

_DEFAULT: Final = BalancePolicy()

# Members of an enumeration are looked up slowly, and these are asked for with each attempt.
_FAILURE: Final = Outcome.FAILURE
_NEUTRAL: Final = Outcome.NEUTRAL
_REFUSED: Final = Outcome.REFUSED

_MOST_MOVES: Final = 1_000


class EndpointPool:
    """A set of endpoints, shared by the calls of one client, or of several.

    ```python
    pool = EndpointPool(["http://10.0.0.1:8080", "http://10.0.0.2:8080"])
    eliza = ClientStack().client(ElizaServiceClient, pool)
    pool.update(["http://10.0.0.2:8080", "http://10.0.0.3:8080"])
    ```
    `update` takes the whole set as it is now. Who is new joins; who is gone gets no new calls, and
    is let go when those it has are over; all others keep what was learned of them.

    Args:
        source: URLs, or `Address`es.
        fixed: Whether the set can never change, which makes calls to a set of one cheaper.
        connecting: Whether newcomers wait for `connected` before they are picked.

    Raises:
        ConfigError: An address is no URL, or is there twice.
    """

    def __init__(
        self, source: Source = (), *, fixed: bool = False, connecting: bool = False
    ) -> None:
        self._fixed = fixed
        self._connecting = connecting
        self._members: dict[str, Endpoint] = {}
        self._leaving: set[Endpoint] = set()
        self._snapshot = Snapshot()
        self._threshold = _DEFAULT.panic_threshold
        self._ring: HashRing[Endpoint] | None = None
        self._usable: frozenset[Endpoint] | None = None
        self._turn = 0
        self._looks = Looks()
        self._next_sweep = -inf
        # Kept for whoever asks; bounded, since perhaps nobody does.
        self._moves: deque[Move] = deque(maxlen=_MOST_MOVES)
        self._on_released: list[Callable[[Endpoint], None]] = []
        self._replace(source)
        members = self._snapshot.members
        self.sole: Endpoint | None = members[0] if fixed and len(members) == 1 else None
        """The one endpoint of a fixed set of one."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All that are in the set."""
        return self._snapshot.members

    @property
    def draining(self) -> tuple[Endpoint, ...]:
        """Those that have left the set, and have calls left."""
        return tuple(self._leaving)

    @property
    def panic(self) -> bool:
        """Whether so few are well that ejections and health are ignored."""
        return self._snapshot.panic

    def get(self, key: str) -> Endpoint | None:
        """The endpoint of a name, if it is in the set."""
        return self._members.get(key)

    def update(self, source: Source) -> None:
        """Make this the set.

        Raises:
            ConfigError: As in the constructor; the set stays as it was.
            RuntimeError: The set is fixed.
        """
        if self._fixed:
            msg = "this pool's endpoints are fixed; make an EndpointPool(...) of your own to change"
            raise RuntimeError(msg)
        self._replace(source)

    def _replace(self, source: Source) -> None:
        wanted = addresses(source)
        members: dict[str, Endpoint] = {}
        for key, address in wanted.items():
            known = self._members.get(key) or still_leaving(self._leaving, address)
            if known is None or not is_at(known, address):
                known = Endpoint(address, connecting=self._connecting)
                # A newcomer's first call shows how fast it is: a guess might keep it waiting.
                known.trial_since = -inf
                self._looks.plan(known, -inf)
            elif known.draining:
                self._leaving.discard(known)
                self._change(known, draining=False)
            members[key] = known
        gone = [e for key, e in self._members.items() if members.get(key) is not e]
        self._members = members
        self._ring = None
        for endpoint in gone:
            self._change(endpoint, draining=True)
            self._leaving.add(endpoint)
        self._rebuild()
        for endpoint in gone:
            self._let_go(endpoint)

    def connected(self, endpoint: Endpoint, now: float) -> None:
        """An endpoint has shaken hands and may be picked, by one call first.

        Whatever was learned of it is forgotten: it may be another process that answers there.
        """
        endpoint.forget()
        endpoint.trial_since = now
        self._change(endpoint, connecting=False)
        self._rebuild()
        self._looks.plan(endpoint, now)

    def disconnected(self, endpoint: Endpoint) -> None:
        """An endpoint must shake hands before it is picked again."""
        self._change(endpoint, connecting=True)
        self._rebuild()

    def set_health(self, endpoint: Endpoint, *, healthy: bool, now: float) -> None:
        """A health check's word on an endpoint. When well again it is tried by one call first."""
        if endpoint.healthy is healthy:
            return
        self._change(endpoint, healthy=healthy)
        if healthy:
            endpoint.trial_since = now
            self._looks.plan(endpoint, now)
        self._rebuild()

    def on_released(self, callback: Callable[[Endpoint], None]) -> None:
        """Call this with each endpoint that has left the set and whose last call is over."""
        self._on_released.append(callback)

    def off_released(self, callback: Callable[[Endpoint], None]) -> None:
        """Call it no more."""
        if callback in self._on_released:
            self._on_released.remove(callback)

    def moves(self) -> Sequence[Move]:
        """The changes of state since this was asked last; for events."""
        if not self._moves:
            return ()
        moves = tuple(self._moves)
        self._moves.clear()
        return moves

    def pick(
        self,
        policy: BalancePolicy | None,
        now: float,
        draw: Draw,
        *,
        tried: Sequence[Endpoint] = (),
        blocked: Blocked | None = None,
        key: str = "",
        probe: bool = True,
        ejection: OutlierEjectionPolicy | None = None,
    ) -> Endpoint | Nobody:
        """The endpoint for an attempt; pair it with `settle`.

        Args:
            policy: None picks the first that can be had.
            now: Monotonic seconds.
            draw: Where chance comes from.
            tried: Where the call has been; picked only if there is nobody else.
            blocked: What the circuit breakers say.
            key: For consistent hashing.
            probe: Whether the attempt may be the one that looks after an endpoint that is avoided.
            ejection: The rules for outliers, if any.
        """
        if ejection is not None and now >= self._next_sweep:
            self._sweep(ejection, now)
        if policy is not None and policy.panic_threshold != self._threshold:
            self._threshold = policy.panic_threshold
            self._rebuild()
        found = None
        if now >= self._looks.next and probe:
            found = self._attend(policy, now, blocked)
        if found is None and policy is not None and policy.policy == "p2c" and not tried:
            found = two_choices(self._snapshot.usable, policy, now, draw, (), blocked)
        if found is None:
            found = self._choose(policy, now, draw, tried=tried, blocked=blocked, key=key)
        if found is None:
            return Nobody(shortest_wait(self._snapshot, blocked))
        found.pending += 1
        found.picked = now
        return found

    def _choose(
        self,
        policy: BalancePolicy | None,
        now: float,
        draw: Draw,
        *,
        tried: Sequence[Endpoint],
        blocked: Blocked | None,
        key: str,
    ) -> Endpoint | None:
        snapshot = self._snapshot
        usable = snapshot.usable
        found: Endpoint | None = None
        for avoided in (tried, ()) if tried else ((),):
            if policy is None:
                found = first_fit(usable, avoided, blocked)
            elif policy.policy == "p2c":
                found = two_choices(usable, policy, now, draw, avoided, blocked)
            elif policy.policy == "round_robin":
                found = in_turn(usable, self._turn, avoided, blocked)
                self._turn += 1
            else:
                if self._ring is None:
                    self._ring = HashRing(snapshot.members)
                if self._usable is None:
                    self._usable = frozenset(usable)
                found = by_hash(self._ring, key, self._usable, avoided, blocked)
            if found is not None:
                return found
        # A circuit breaker in each one's way: an endpoint of ill repute may still be let through.
        return first_fit(snapshot.others, (), blocked)

    def untried(self, tried: Sequence[Endpoint], blocked: Blocked | None) -> bool:
        """Whether there is somebody to ask who was not asked yet."""
        return any(fits(endpoint, tried, blocked) for endpoint in self._snapshot.usable)

    def responded(
        self, endpoint: Endpoint, policy: BalancePolicy | None, *, started: float, now: float
    ) -> None:
        """A stream's first response has come; `settle` follows when it is over."""
        self._answered(endpoint, policy or _DEFAULT, started, now)

    def _answered(
        self, endpoint: Endpoint, policy: BalancePolicy, started: float, now: float
    ) -> None:
        endpoint.answered(started)
        if started >= endpoint.trial_since:
            endpoint.trial_since = inf
            endpoint.begin_anew(now - started, now)
            return
        endpoint.observe(now - started, now, policy.decay)
        if endpoint.due == inf and policy.idle_probe and now - started > policy.initial_rtt:
            # Perhaps it is slow for a while only; then it must not be avoided for ever.
            self._looks.plan(endpoint, now + policy.idle_probe)

    def succeeded(
        self, endpoint: Endpoint, policy: BalancePolicy | None, started: float, now: float
    ) -> None:
        """The short form of `settle`, for the one end that nearly all attempts have."""
        endpoint.pending -= 1
        endpoint.succeeded += 1
        if endpoint.draining:
            self._let_go(endpoint)
        self._answered(endpoint, policy or _DEFAULT, started, now)

    def settle(
        self,
        endpoint: Endpoint,
        policy: BalancePolicy | None,
        outcome: Outcome,
        *,
        started: float,
        now: float,
        responded: bool = False,
        hint: float | None = None,
    ) -> None:
        """Take an attempt's end down.

        Args:
            endpoint: Where it was sent.
            policy: As for the pick.
            outcome: How it ended.
            started: When it was picked.
            now: Monotonic seconds.
            responded: Whether it is a stream, of which `responded` has told the answer.
            hint: Seconds for which the server asks to be left alone.
        """
        endpoint.pending -= 1
        if endpoint.draining:
            self._let_go(endpoint)
        using = policy or _DEFAULT
        if outcome is _FAILURE or outcome is _REFUSED:
            # A refusal is quick, and no outlier's failure; all the same nobody should come back for
            # more of it. Where every endpoint refuses, all are avoided alike.
            took = now - started
            wait = using.penalty if hint is None else min(hint, LONGEST_HINT)
            endpoint.fail(max(took, wait), now, using.decay)
            if outcome is _FAILURE:
                endpoint.failed += 1
            if started >= endpoint.trial_since:
                endpoint.trial_since = inf
            # Its circuit breaker may have opened: the next pick sees when to come back.
            self._looks.plan(endpoint, now)
        elif outcome is not _NEUTRAL:
            endpoint.succeeded += 1
            if not responded:
                self._answered(endpoint, using, started, now)

    def _attend(
        self, policy: BalancePolicy | None, now: float, blocked: Blocked | None
    ) -> Endpoint | None:
        """Look at the endpoints that are due, until there is one that a call should look after."""
        found: Endpoint | None = None
        while found is None and (endpoint := self._looks.take(now)) is not None:
            until = endpoint.ejected_until
            if endpoint.draining:
                continue
            if until is not None and now < until:
                self._looks.plan(endpoint, until)
                continue
            if until is not None:
                self._change(endpoint, ejected_until=None)
                endpoint.trial_since = now
                self._rebuild()
            # The other ways to pick do not avoid anybody, so nobody needs a call to come back.
            if policy is not None and policy.policy == "p2c":
                wait = 0.0 if blocked is None else blocked(endpoint)
                if examine(endpoint, policy, now, wait, self._looks):
                    found = endpoint
        return found

    def _sweep(self, policy: OutlierEjectionPolicy, now: float) -> None:
        """Eject the outliers of the interval that is over, and begin the next."""
        first = self._next_sweep == -inf
        self._next_sweep = now + policy.interval
        if first:
            return
        ejected = end_interval(self._snapshot.members, policy)
        for endpoint in ejected:
            until = now + ejection_time(policy, endpoint.ejections)
            self._change(endpoint, ejected_until=until)
            self._looks.plan(endpoint, until)
        if ejected:
            self._rebuild()

    def _change(self, endpoint: Endpoint, **facts: object) -> None:
        before = endpoint.state
        for name, value in facts.items():
            setattr(endpoint, name, value)
        if endpoint.state is not before:
            self._moves.append(Move(endpoint, before, endpoint.state))

    def _rebuild(self) -> None:
        self._snapshot = Snapshot.of(tuple(self._members.values()), self._threshold)
        self._usable = None

    def _let_go(self, endpoint: Endpoint) -> None:
        if endpoint.pending == 0 and endpoint in self._leaving:
            self._leaving.discard(endpoint)
            for callback in tuple(self._on_released):
                callback(endpoint)

    def __repr__(self) -> str:
        usable, members = len(self._snapshot.usable), len(self._snapshot.members)
        panic = " panic" if self._snapshot.panic else ""
        return f"<EndpointPool {usable}/{members} usable{panic}>"
