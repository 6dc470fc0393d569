"""The demo's load: a steady stream of calls, what became of each, and whether that was promised."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from connectrpc.errors import ConnectError

from connectplugin import Delivery, delivery
from connectplugin_interceptors.events import Event, RetryScheduled, WaitingForReady
from kv_plugin import KV

CALLS_PER_SECOND = 100
FRAME = 0.05
"""Seconds between two looks at the run."""
GRACE = 0.25
"""Seconds past its deadline from which a call counts as late: this machine may be busy."""
IDEMPOTENT, INCREMENT = "put (idempotent)", "increment (not idempotent)"


@dataclass
class Record:
    """What became of one kind of calls."""

    made: int = 0
    succeeded: int = 0
    slowest: float = 0.0
    late: int = 0
    failed: Counter[Delivery] = field(default_factory=Counter[Delivery])


@dataclass(frozen=True)
class Promise:
    """Something that was promised, and whether it was kept."""

    kept: bool
    text: str


@dataclass
class Load:
    """A steady stream of calls, and what is known of it.

    Attributes:
        kv: What is called.
        deadline: Seconds that each call has.
    """

    kv: KV
    deadline: float
    records: dict[str, Record] = field(
        default_factory=lambda: {IDEMPOTENT: Record(), INCREMENT: Record()}
    )
    answers: dict[str, Delivery | None] = field(default_factory=dict[str, "Delivery | None"])
    retries: int = 0
    waited: int = 0
    in_flight: int = 0

    @property
    def succeeded(self) -> int:
        """Calls of both kinds that were answered."""
        return sum(record.succeeded for record in self.records.values())

    @property
    def failed(self) -> int:
        """Calls of both kinds that failed."""
        return sum(record.failed.total() for record in self.records.values())

    def listen(self, event: Event) -> None:
        """Count what the chain did."""
        if isinstance(event, RetryScheduled):
            self.retries += 1
        elif isinstance(event, WaitingForReady):
            self.waited += 1

    async def run(self, look: Callable[[float], bool]) -> None:
        """Call until `look` says no, which is asked every 50 ms with the seconds since the start.

        The calls come by the clock, however slow the answers are; the last ones are waited for.
        """
        started = time.monotonic()
        number = 0
        async with asyncio.TaskGroup() as group:
            while look(now := time.monotonic() - started):
                while number < now * CALLS_PER_SECOND:
                    number += 1
                    group.create_task(self._call(number))
                await asyncio.sleep(FRAME)

    async def _call(self, number: int) -> None:
        """One call; every third one is an increment."""
        kind = INCREMENT if number % 3 == 0 else IDEMPOTENT
        record = self.records[kind]
        record.made += 1
        self.in_flight += 1
        started = time.monotonic()
        key = f"op-{number}"
        try:
            if kind is INCREMENT:
                await self.kv.increment(key)
                self.answers[key] = None
            else:
                await self.kv.put(key, b"%d" % number)
        except ConnectError as error:
            verdict = delivery(error)
            record.failed[verdict] += 1
            if kind is INCREMENT:
                self.answers[key] = verdict
        else:
            record.succeeded += 1
        finally:
            took = time.monotonic() - started
            record.slowest = max(record.slowest, took)
            record.late += took > self.deadline + GRACE
            self.in_flight -= 1

    def table(self) -> None:
        """Print what became of the calls."""
        print(f"\n  {'':<27}{'calls':>7}{'ok':>7}{'failed':>8}{'slowest':>11}")
        for kind, record in self.records.items():
            print(
                f"  {kind:<27}{record.made:>7}{record.succeeded:>7}{record.failed.total():>8}"
                f"{record.slowest * 1000:>8.0f} ms"
            )

    def promises(self, executed: Counter[str]) -> list[Promise]:
        """What was promised of the calls, held against what the plugins wrote down.

        Args:
            executed: How often each increment was executed, by its key.
        """
        idempotent, increments = self.records[IDEMPOTENT], self.records[INCREMENT]
        late = idempotent.late + increments.late
        lies = [key for key, verdict in self.answers.items() if _lie(verdict, executed[key])]
        maybe = [key for key, verdict in self.answers.items() if verdict is Delivery.MAYBE]
        unanswered = increments.made - len(self.answers)
        text = f"{len(self.answers) - len(lies)} of {increments.made} increments ended as told"
        if maybe:
            done = sum(executed[key] for key in maybe)
            text += f" ({len(maybe)} 'maybe executed': {done} were)"
        return [
            Promise(
                idempotent.succeeded == idempotent.made,
                f"{idempotent.succeeded} of {idempotent.made} idempotent calls succeeded",
            ),
            Promise(
                late == 0, f"{late or 'no'} calls passed their deadline of {self.deadline:g} s"
            ),
            Promise(not lies and not unanswered, text),
        ]


def _lie(verdict: Delivery | None, executed: int) -> bool:
    """Whether an increment's answer (None: it succeeded) contradicts the journal."""
    match verdict:
        case None:
            return executed != 1
        case Delivery.NOT_SENT:
            return executed != 0
        case Delivery.MAYBE | Delivery.ANSWERED:
            return executed > 1


def tell(promises: list[Promise]) -> bool:
    """Print which promises were kept; True if all were."""
    print()
    for promise in promises:
        print(f"  {'ok  ' if promise.kept else 'FAIL'} {promise.text}")
    return all(promise.kept for promise in promises)


class Screen:
    """Lines that are written over while something runs; plain lines where that is impossible."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._drawn = 0
        self._told = -1

    def draw(self, now: float, lines: list[str], plain: str) -> None:
        """Show the lines of this moment; without a terminal, `plain` once a second."""
        if self._live:
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            print(up + "".join(f"\r\x1b[2K{line}\n" for line in lines), end="", flush=True)
            self._drawn = len(lines)
        elif int(now) > self._told:
            self._told = int(now)
            print(plain, flush=True)
