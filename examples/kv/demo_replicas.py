"""Part two of the demo: of three replicas under load one is killed, one frozen; both come back."""

import asyncio
import math
import time
from collections import Counter, deque
from pathlib import Path

from connectplugin import Client, ClientConfig, DeadlinePolicy, Outcome
from connectplugin_interceptors.events import AttemptEnded, CircuitChanged, Event
from demo_load import CALLS_PER_SECOND, Load, Promise, Screen, tell
from demo_plugin import Plugin
from kv_plugin import kv_plugin

BREAK_AT, SETTLED_AT, MEND_AT = 1.5, 2.5, 5.5
PATIENCE = 7.0
"""Seconds that both have to come back, once they serve: a circuit stays open up to 5 s."""
AFTERGLOW = 1.5
"""Seconds that the run goes on after both are back."""
LIMITS = DeadlinePolicy(total=5.0, attempt=0.5)
LEAST_SHARE = 0.9
"""Of the attempts while two replicas are broken, that must go to the one that is well."""
BACK = 10
"""Answers after which a replica counts as back."""


class Replica:
    """One plugin process, and what the client gets from it."""

    def __init__(self, name: str, plugin: Plugin) -> None:
        self.name = name
        self.plugin = plugin
        self.circuit = "closed"
        self.asked = 0
        self.answered = 0
        self.mended_at: float | None = None
        self.first_answer_after: float | None = None
        self._before = 0
        self._recent: deque[float] = deque()

    def attempt(self, outcome: Outcome) -> None:
        """Count an attempt that has ended."""
        self.asked += 1
        if outcome is Outcome.SUCCESS:
            now = time.monotonic()
            self.answered += 1
            self._recent.append(now)
            if self.mended_at is not None and self.first_answer_after is None:
                self.first_answer_after = now - self.mended_at

    def mended(self) -> None:
        """It serves again, from now on."""
        self.mended_at = time.monotonic()
        self._before = self.answered

    @property
    def back(self) -> bool:
        """Whether it has answered a number of calls since it was mended."""
        return self.mended_at is not None and self.answered >= self._before + BACK

    def last_second(self) -> int:
        """Calls that it answered within the last second."""
        horizon = time.monotonic() - 1.0
        while self._recent and self._recent[0] < horizon:
            self._recent.popleft()
        return len(self._recent)


class Show:
    """The run: what is done to the replicas, and what is seen meanwhile."""

    def __init__(self, replicas: list[Replica], load: Load, *, mend: bool) -> None:
        self.well, self.killed, self.frozen = self.replicas = replicas
        self.load = load
        self.share = 0.0
        self._mend = mend
        self._by_url = {replica.plugin.url: replica for replica in replicas}
        self._screen = Screen()
        self._ends_at = math.inf
        self._all_back = False

    def listen(self, event: Event) -> None:
        """Count per replica what the client says of it."""
        self.load.listen(event)
        if isinstance(event, AttemptEnded) and event.endpoint in self._by_url:
            self._by_url[event.endpoint].attempt(event.outcome)
        elif isinstance(event, CircuitChanged) and event.endpoint in self._by_url:
            self._by_url[event.endpoint].circuit = event.after

    async def run(self) -> None:
        """Break two, mend them, under load."""
        async with asyncio.TaskGroup() as group:
            break_and_mend = group.create_task(self._break_and_mend())
            await self.load.run(self._look)
            break_and_mend.cancel()

    async def _break_and_mend(self) -> None:
        await asyncio.sleep(BREAK_AT)
        self.frozen.plugin.freeze()
        await self.killed.plugin.kill()
        await asyncio.sleep(SETTLED_AT - BREAK_AT)
        before = [replica.asked for replica in self.replicas]
        await asyncio.sleep(MEND_AT - SETTLED_AT)
        during = [replica.asked - b for replica, b in zip(self.replicas, before, strict=True)]
        self.share = during[0] / sum(during)
        if self._mend:
            self.frozen.plugin.thaw()
            self.frozen.mended()
            await self.killed.plugin.start()
            self.killed.mended()
        self._ends_at = time.monotonic() + PATIENCE

    def _look(self, now: float) -> bool:
        counts = [replica.last_second() for replica in self.replicas]
        total = max(1, sum(counts))
        rows = [
            f"  {replica.name}  {replica.plugin.state:<9} {replica.circuit:<17}"
            f"{'#' * round(30 * count / total):<30} {count / total:>4.0%}"
            for replica, count in zip(self.replicas, counts, strict=True)
        ]
        load = self.load
        summary = (
            f"  {now:4.1f} s  ok {load.succeeded:4}  under way {load.in_flight:3}  "
            f"failed {load.failed:2}  retries {load.retries:2}"
        )
        short = "  ".join(
            f"{replica.name} {replica.plugin.state} {count / total:.0%}"
            for replica, count in zip(self.replicas, counts, strict=True)
        )
        plain = f"  {now:4.1f} s  {short}  ok {load.succeeded}  failed {load.failed}"
        self._screen.draw(now, [*rows, summary], plain)
        if not self._all_back and self.killed.back and self.frozen.back:
            self._all_back = True
            self._ends_at = time.monotonic() + AFTERGLOW
        return time.monotonic() < self._ends_at

    def nobody_waited(self) -> int:
        """Increments that the frozen one got, and executed after their callers had given up."""
        executed = self.frozen.plugin.journal.read_text().split()
        return sum(self.load.answers.get(key) is not None for key in executed)

    def promises(self) -> list[Promise]:
        """What was promised of this run."""
        executed: Counter[str] = Counter()
        for replica in self.replicas:
            executed.update(replica.plugin.journal.read_text().split())
        return [
            *self.load.promises(executed),
            Promise(
                self.share >= LEAST_SHARE,
                f"{self.share:.0%} of the attempts went to a, while b and c were broken",
            ),
            _comes_back(self.killed, "restarted"),
            _comes_back(self.frozen, "continued"),
        ]


def _comes_back(replica: Replica, how: str) -> Promise:
    first = replica.first_answer_after
    if first is None:
        return Promise(False, f"{replica.name} has not answered again")
    return Promise(replica.back, f"{replica.name} answered again {first:.1f} s after it was {how}")


async def part_two(folder: Path, *, mend: bool) -> bool:
    """Run it; whether all promises were kept."""
    plugins = [Plugin(folder / f"journal-{name}") for name in "abc"]
    try:
        async with asyncio.TaskGroup() as group:
            for plugin in plugins:
                group.create_task(plugin.start())
        print("2. Three replicas of it, one client; where do its calls go?")
        replicas = [Replica(name, plugin) for name, plugin in zip("abc", plugins, strict=True)]
        shows: list[Show] = []

        def listen(event: Event) -> None:
            for show in shows:
                show.listen(event)

        config = ClientConfig(
            endpoint=[plugin.url for plugin in plugins],
            plugins=[kv_plugin],
            deadline=LIMITS,
            wait_for_ready=True,
            listeners=[listen],
        )
        print(
            f"  {CALLS_PER_SECOND} calls/s, {LIMITS.total:g} s for each, "
            f"{LIMITS.attempt:g} s for an attempt\n"
            f"  at {BREAK_AT:g} s  b is killed (SIGKILL), c is frozen (SIGSTOP)"
            f"\n  at {MEND_AT:g} s  b is restarted, c is continued (SIGCONT)\n"
            "\n     process   client's circuit  who answered within the last second"
        )
        async with Client(config) as client:
            load = Load(client.dispense(kv_plugin), LIMITS.total or 0.0)
            show = Show(replicas, load, mend=mend)
            shows.append(show)
            await show.run()
        load.table()
        print(
            f"  {load.retries} retries; c, once continued, executed {show.nobody_waited()} "
            "increments that nobody waited for"
        )
        return tell(show.promises())
    finally:
        for plugin in plugins:
            await plugin.stop()
