"""What a run leaves behind: the client's history, and the servers' ledger.

All times are seconds of the one monotonic clock of the machine, with 0 at the end of the warm-up.
The invariants are functions of these and nothing else.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Outcome: TypeAlias = Literal["ok", "fail", "info"]
"""`fail`: certainly not executed. `info`: nobody knows, or the server answered with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of an operation, as it left the chain.

    Attributes:
        number: 1 for the first.
        kind: `initial`, `retry`, ...
        endpoint: Where it went; empty if there is only one.
        started: When.
        ended: When; None if it never did.
        code: `ok`, or the error's.
    """

    number: int
    kind: str
    endpoint: str
    started: float
    ended: float | None
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a caller wanted, and what became of it.

    Attributes:
        op: Its number; the same in every arm of a seed.
        method: The RPC.
        key: What it was about.
        idempotent: Whether it may be executed twice.
        due: When the schedule asked for it.
        called: When it was called.
        ended: When it was over; None if it never was.
        deadline: Seconds that it had, from `called`.
        outcome: See `Outcome`.
        code: `ok`, or the error's code; empty if what was raised has none.
        error: The class of what was raised; empty if nothing was.
        reply: What was answered, for the methods where that matters.
        sent: Messages that a stream should have carried.
        received: Their numbers, as they arrived.
        attempts: All tries.
        cancelled: When its caller cancelled; None if he did not.
        changes: Whether it has an effect; told for plugins of somebody's own only.
    """

    op: int
    method: str
    key: str
    idempotent: bool
    due: float
    called: float
    ended: float | None
    deadline: float
    outcome: Outcome
    code: str = "ok"
    error: str = ""
    reply: str = ""
    sent: int = 0
    received: tuple[int, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    cancelled: float | None = None
    changes: bool = False

    def good(self, tolerance: float = 0.15) -> bool:
        """Whether it came back well, and in time."""
        return (
            self.outcome == "ok"
            and self.ended is not None
            and self.ended - self.called <= self.deadline + tolerance
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that was seen, besides calls: a circuit that opened, a refusal, a delay.

    What a process holds is a notice of the kind `resource`: `endpoint` is the process (`client`, or
    the server), `detail` what it is of.
    """

    at: float
    kind: str
    endpoint: str = ""
    detail: str = ""
    value: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault, from when it was there until when it was gone."""

    name: str
    began: float
    ended: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution at a server.

    Attributes:
        op: Of the operation.
        method: The RPC.
        key: What it was about.
        server: Which.
        started: When the work began.
        ended: When it was done; None if it was cut off.
        cancelled: When it was cut off, if the server still knew.
        deadline_at: When the client would have given up, as far as the server could know.
        effect: Whether something has changed.
        reply: What was answered, for the methods where that matters.
    """

    op: int
    method: str
    key: str
    server: str
    started: float
    ended: float | None
    deadline_at: float | None
    effect: bool
    reply: str = ""
    cancelled: float | None = None


Phases: TypeAlias = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class History:
    """The client's side of one arm of one scenario.

    Attributes:
        scenario: Its id.
        arm: Its name.
        seed: Of schedule and jitter.
        phases: Name to begin and end.
        operations: In the order in which they were due.
        notices: In the order of time.
        faults: In the order of time.
        end: When the last call was over.
        zero: When 0 was, by the clock on the wall: UTC, ISO 8601; empty if nobody knows.
    """

    scenario: str
    arm: str
    seed: int
    phases: Phases
    operations: tuple[Operation, ...]
    notices: tuple[Notice, ...] = ()
    faults: tuple[Fault, ...] = ()
    end: float = 0.0
    zero: str = ""

    def during(self, phases: Iterable[str] | None = None) -> tuple[Operation, ...]:
        """The operations due in some phases; by default in all but the warm-up."""
        spans = [self.phases[name] for name in phases] if phases else [(0.0, float("inf"))]
        return tuple(
            operation
            for operation in self.operations
            if any(begin <= operation.due < end for begin, end in spans)
        )

    @property
    def healed(self) -> float:
        """When the last fault was gone; 0 without faults."""
        return max((fault.ended for fault in self.faults if fault.ended is not None), default=0.0)

    def seen(self, kind: str) -> int:
        """How many notices of a kind there are."""
        return sum(notice.kind == kind for notice in self.notices)


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The servers' side.

    Attributes:
        executions: In the order of time.
        notices: Refusals (`refused`), delays of the event loop (`lag`) and what of them was no work
            of its own (`starved`), errors (`crash`).
        final: What the servers had in the end: the operations of each key that took effect, in
            order; None if they were not asked.
    """

    executions: tuple[Execution, ...]
    notices: tuple[Notice, ...] = ()
    final: Mapping[str, tuple[int, ...]] | None = field(default=None)

    def by_operation(self) -> dict[int, list[Execution]]:
        """The executions of each operation."""
        found: dict[int, list[Execution]] = {}
        for execution in self.executions:
            found.setdefault(execution.op, []).append(execution)
        return found
