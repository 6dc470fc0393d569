"""The drain's decision: who may come in, who is inside, whose time is over.

What if a call ends late, twice, or after it was cut off? `leave` counts a ticket once; a ticket
that was cut stays inside until it has really left, so nobody is declared gone too early. What if it
never ends? It stays counted: `inside` says so, and whoever waits has a time limit of his own.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Kind(enum.Enum):
    """What a call is to a server that stops."""

    SHORT = "short"
    """One request, one response: it is let to its end."""

    STREAM = "stream"
    """A stream in either direction: it may never end by itself."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One call inside.

    Attributes:
        kind: What kind of call it is.
        cut: Why it was cut off; None while it is not.
    """

    kind: Kind
    cut: str | None = None


@dataclass(slots=True)
class DrainMachine:
    """Serving until `begin`, draining from then on; there is no way back.

    Attributes:
        reason: Why new calls are refused; None while serving.
    """

    reason: str | None = None
    _inside: dict[Ticket, None] = field(default_factory=dict[Ticket, None])

    @property
    def inside(self) -> int:
        """Calls in flight."""
        return len(self._inside)

    def begin(self, reason: str) -> bool:
        """Refuse new calls from now on; False if that was so already (the first reason stays)."""
        if self.reason is not None:
            return False
        self.reason = reason
        return True

    def enter(self, kind: Kind) -> Ticket | None:
        """Admit a call; None if it is refused."""
        if self.reason is not None:
            return None
        ticket = Ticket(kind)
        self._inside[ticket] = None
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """Count a call out; True if nobody is inside any more."""
        self._inside.pop(ticket, None)
        return not self._inside

    def cut(self, kinds: Iterable[Kind], reason: str) -> list[Ticket]:
        """Mark the calls of these kinds as cut off; returns those that were not cut before."""
        wanted = frozenset(kinds)
        fresh = [t for t in self._inside if t.kind in wanted and t.cut is None]
        for ticket in fresh:
            ticket.cut = reason
        return fresh
