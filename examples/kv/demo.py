"""The main job, live: a plugin in a process of its own is called, killed, restarted; what was lost?

    make demo

Exit code 0 only if every idempotent call succeeded within its deadline, and every non-idempotent
call that failed said truly whether it may have been executed, by the plugin's own journal.
"""

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

from connectrpc.errors import ConnectError

from connectplugin import (
    Client,
    ClientConfig,
    Delivery,
    RetryPolicy,
    delivery,
    with_options,
)
from connectplugin_interceptors.events import Event, RetryScheduled, WaitingForReady
from kv.v1.kv_pb import LoadRequest, SyncRequest
from kv_plugin import KV, kv_plugin

SERVER = Path(__file__).with_name("server.py")
CALLS_PER_SECOND = 100
KILL_AT, RESTART_AT, END_AT = 2.0, 3.0, 8.0
DEADLINE = 10.0
LATENCY = 0.06  # of an increment, so that some are under way when the plugin dies
IDEMPOTENT, INCREMENT = "put/get (idempotent)", "increment (not idempotent)"


class Plugin:
    """The plugin's process."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.url = ""
        self.state = "down"
        self._address = "127.0.0.1:0"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it says where it serves."""
        self.state = "starting"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(SERVER), "--addr", self._address, "--journal", str(self.journal),
            "--latency", str(LATENCY), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        line = (await self._process.stdout.readline()).decode().strip()
        if not line.startswith("serving at "):
            msg = f"the plugin did not start; it said {line!r}"
            raise RuntimeError(msg)
        self.url = line.removeprefix("serving at ")
        self._address = self.url.removeprefix("http://")
        self.state = "up"

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid if self._process is not None else 0

    async def kill(self) -> None:
        """SIGKILL: it cannot say goodbye."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.state = "killed"

    async def stop(self) -> int | None:
        """SIGTERM: it drains and exits."""
        if self._process is None or self._process.returncode is not None:
            return None
        self._process.terminate()
        try:
            async with asyncio.timeout(10):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return self._process.returncode


@dataclass
class Record:
    """What became of one kind of calls."""

    made: int = 0
    succeeded: int = 0
    slowest: float = 0.0
    late: int = 0
    failed: Counter[str] = field(default_factory=Counter[str])


@dataclass
class Run:
    """The stream of calls, and what is known of it."""

    kv: KV
    deadline: float
    records: dict[str, Record] = field(
        default_factory=lambda: {IDEMPOTENT: Record(), INCREMENT: Record()}
    )
    answers: dict[str, Delivery | None] = field(default_factory=dict[str, "Delivery | None"])
    retries: int = 0
    waited: int = 0
    in_flight: int = 0

    def listen(self, event: Event) -> None:
        """Count what the chain did."""
        if isinstance(event, RetryScheduled):
            self.retries += 1
        elif isinstance(event, WaitingForReady):
            self.waited += 1

    async def call(self, number: int) -> None:
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
            record.failed[verdict.value] += 1
            if kind is INCREMENT:
                self.answers[key] = verdict
        else:
            record.succeeded += 1
        finally:
            took = time.monotonic() - started
            record.slowest = max(record.slowest, took)
            record.late += took > self.deadline + 0.25
            self.in_flight -= 1


async def shapes(kv: KV) -> None:
    """One call of each of the four shapes."""
    await kv.put("greeting", b"hello")
    print(f"  unary          get('greeting') -> {await kv.get('greeting')!r}")

    async def entries() -> AsyncIterator[LoadRequest]:
        for name in ("ada", "bob", "cyd"):
            yield LoadRequest(key=f"user/{name}", value=name.encode())

    print(f"  client stream  load(3 entries) -> {await kv.load(entries())}")
    seen: list[str] = []
    async for change in kv.watch("user/"):
        seen.append(change.key)
        if len(seen) == 3:  # noqa: PLR2004  # as many as were loaded
            break
    print(f"  server stream  watch('user/') -> {', '.join(seen)}")
    answered = asyncio.Event()

    async def questions() -> AsyncIterator[SyncRequest]:
        for number in range(3):
            answered.clear()
            yield SyncRequest(key="ball", value=b"%d" % number)
            await answered.wait()  # the next one only after the answer to this

    rally: list[str] = []
    async for reply in kv.sync(questions()):
        rally.append(f"{int(reply.value)}")
        answered.set()
    print(f"  bidi stream    sync(ping-pong) -> {' '.join(rally)}")


async def chaos(plugin: Plugin, run: Run, *, restart: bool) -> float:
    """A steady stream of calls; the plugin dies under it, and comes back."""
    calls: set[asyncio.Task[None]] = set()
    started = time.monotonic()
    number = 0

    async def kill_and_restart() -> None:
        await asyncio.sleep(KILL_AT)
        await plugin.kill()
        await asyncio.sleep(RESTART_AT - KILL_AT)
        if restart:
            await plugin.start()

    async with asyncio.TaskGroup() as group:
        group.create_task(kill_and_restart())
        while (now := time.monotonic() - started) < END_AT:
            while number < now * CALLS_PER_SECOND:
                number += 1
                task = group.create_task(run.call(number))
                calls.add(task)
                task.add_done_callback(calls.discard)
            progress(now, plugin, run)
            await asyncio.sleep(0.05)
    elapsed = time.monotonic() - started
    progress(elapsed, plugin, run)
    print()
    return elapsed


def progress(now: float, plugin: Plugin, run: Run) -> None:
    """One line, written over while it runs."""
    succeeded = sum(record.succeeded for record in run.records.values())
    failed = sum(sum(record.failed.values()) for record in run.records.values())
    line = (
        f"  {now:4.1f} s  plugin {plugin.state:<8}  ok {succeeded:4}  waiting {run.in_flight:3}  "
        f"failed {failed:2}"
    )
    if sys.stdout.isatty():
        print(f"\r{line}", end="", flush=True)
    elif int(now * 20) % 20 == 0:
        print(line, flush=True)


def table(run: Run, executed: Counter[str]) -> bool:
    """The result, and whether it is what was promised."""
    print()
    print(f"  {'':<27}{'calls':>7}{'ok':>7}{'failed':>8}{'slowest':>10}")
    for kind, record in run.records.items():
        failed = sum(record.failed.values())
        print(
            f"  {kind:<27}{record.made:>7}{record.succeeded:>7}{failed:>8}"
            f"{record.slowest * 1000:>7.0f} ms"
        )
    print(f"  retries {run.retries}, calls that waited for the plugin {run.waited}")
    print()
    idempotent = run.records[IDEMPOTENT]
    lost = idempotent.made - idempotent.succeeded
    wrong = [
        key
        for key, verdict in run.answers.items()
        if executed[key] > 1
        or (verdict is None and executed[key] != 1)
        or (verdict is Delivery.NOT_SENT and executed[key] != 0)
    ]
    maybe = [key for key, verdict in run.answers.items() if verdict is Delivery.MAYBE]
    not_sent = [key for key, verdict in run.answers.items() if verdict is Delivery.NOT_SENT]
    done = sum(executed[key] for key in maybe)
    late = sum(record.late for record in run.records.values())
    silent = run.records[INCREMENT].made - len(run.answers)
    checks = [
        (lost == 0, f"{idempotent.succeeded} of {idempotent.made} idempotent calls succeeded"),
        (late == 0, f"{late} calls passed their deadline of {run.deadline:g} s"),
        (
            not wrong and not silent,
            f"increments: the plugin's journal contradicts {len(wrong)} answers "
            f"({len(maybe)} failed as 'maybe executed': {done} were, {len(maybe) - done} were not; "
            f"{len(not_sent)} as 'not sent')",
        ),
    ]
    for good, text in checks:
        print(f"  {'ok  ' if good else 'FAIL'} {text}")
    return all(good for good, _ in checks)


async def demo(folder: str, *, deadline: float, restart: bool) -> int:
    """Run it; the process's exit code."""
    plugin = Plugin(Path(folder) / "journal")
    try:
        await plugin.start()
        print(f"plugin    process {plugin.pid} at {plugin.url}")
        runs: list[Run] = []
        config = ClientConfig(
            endpoint=plugin.url,
            plugins=[kv_plugin],
            wait_for_ready=True,
            retry_policy=RetryPolicy(),
            listeners=[lambda event: [run.listen(event) for run in runs]],  # type: ignore[list-item, func-returns-value]
            rng=random.Random(7),  # noqa: S311  # jitter
        )
        async with Client(config) as client:
            info = client.server
            served = ", ".join(f"{p.name} {p.version}" for p in info.plugins.values())
            print(
                f"handshake application version {info.app_version}, plugins: {served}, "
                f"instance {info.instance_id[:8]}"
            )
            print("calls")
            kv = client.dispense(kv_plugin)
            await shapes(kv)
            print(
                f"kill      {CALLS_PER_SECOND} calls/s; SIGKILL at {KILL_AT:g} s, restart at "
                f"{RESTART_AT:g} s, deadline {deadline:g} s a call"
            )
            run = Run(with_options(kv, timeout=deadline), deadline)
            runs.append(run)
            await chaos(plugin, run, restart=restart)
            if client.server.instance_id != info.instance_id:
                print(f"handshake again: instance {client.server.instance_id[:8]}")
            journal = plugin.journal.read_text().split()
            good = table(run, Counter(journal))
    finally:
        await plugin.stop()
    print()
    print("ok: nothing was lost, and nothing was done twice" if good else "FAILED")
    return 0 if good else 1


def main() -> int:
    """Parse the command line, and run."""
    parser = argparse.ArgumentParser(description="A plugin is killed under load.")
    parser.add_argument(
        "--no-restart", action="store_true", help="leave the plugin dead: then the demo must fail"
    )
    parser.add_argument(
        "--deadline", type=float, default=DEADLINE, help="seconds that each call has"
    )
    parser.add_argument("--folder", help="where the journal goes; by default a temporary folder")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="connectplugin-demo-") as temporary:
            folder = arguments.folder or temporary
            restart = not arguments.no_restart
            return asyncio.run(demo(folder, deadline=arguments.deadline, restart=restart))
    except KeyboardInterrupt:
        print("\ninterrupted; the plugin is stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
