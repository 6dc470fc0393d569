"""One arm of one scenario: start everything, break it on time, take it all down."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from connectplugin_chaos.arms.arms import make
from connectplugin_chaos.engine.fleet import Fleet, Target
from connectplugin_chaos.engine.process import ProcessError
from connectplugin_chaos.engine.soup import stir
from connectplugin_chaos.engine.verbs import VERBS, strike
from connectplugin_chaos.load.openloop import OpenLoop
from connectplugin_chaos.load.schedule import schedule
from connectplugin_chaos.record import probes
from connectplugin_chaos.record.files import write_history, write_ledger
from connectplugin_chaos.record.model import Fault, History, Ledger, Notice
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.model import Happening, Plan, Scenario
from connectplugin_chaos.toxiproxy.api import Proxy, ToxiproxyError
from connectplugin_chaos.toxiproxy.binary import Binary
from connectplugin_chaos.toxiproxy.supervisor import Supervisor

_SETTLE = 0.3
"""Seconds between the start of everything and the first operation."""


@dataclass(kw_only=True)
class ArmRun:
    """What one arm has left behind.

    Attributes:
        arm: Its name.
        history: The client's side; None if nothing was run.
        ledger: The servers' side.
        trouble: Why it proves nothing; empty if it may.
        lateness: Seconds by which each operation was called late.
        lags: Time and seconds of the generator's event loop.
    """

    arm: str
    history: History | None = None
    ledger: Ledger = field(default_factory=lambda: Ledger(executions=()))
    trouble: str = ""
    lateness: list[float] = field(default_factory=list[float])
    lags: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be run.

    Attributes:
        scenario: What to do.
        arm: Through which arm.
        seed: Of the schedule, and of jitter.
        plan: The scenario's, or its short one.
        folder: Exists; for ledgers, logs, history.
        binary: The toxiproxy.
        progress: Told now and then how much of how much is over, in seconds.
    """

    scenario: Scenario
    arm: str
    seed: int
    plan: Plan
    folder: Path
    binary: Binary
    progress: Callable[[float, float], None] | None = None


async def run_arm(job: Job) -> ArmRun:
    """Run one arm; history and ledger are written into the folder too."""
    run = ArmRun(arm=job.arm)
    try:
        async with AsyncExitStack() as stack:
            await _run(job, run, stack)
    except (ToxiproxyError, ProcessError) as error:
        run.trouble = run.trouble or str(error)
    if run.history is not None:
        write_history(job.folder / "history.jsonl.gz", run.history)
        write_ledger(job.folder / "ledger.jsonl.gz", run.ledger)
    return run


async def _run(job: Job, run: ArmRun, stack: AsyncExitStack) -> None:
    scenario, plan = job.scenario, job.plan
    arm = make(job.arm, scenario.variants)
    custom = scenario.custom
    fleet = Fleet(
        scenario.topology, arm.servers, job.folder, "" if custom is None else custom.target
    )
    stack.push_async_callback(fleet.kill)
    happenings = scenario.timeline
    if scenario.soup is not None:
        happenings += stir(scenario.soup, job.seed, scenario.topology.servers)
    await fleet.start(deaths(happenings, tuple(fleet.targets)))
    supervisor = await stack.enter_async_context(Supervisor(job.binary, job.folder))
    proxies = {
        f"p{number}": await supervisor.api.create(f"p{number}", target.address)
        for number, target in enumerate(fleet.targets.values(), 1)
    }
    places = {name: proxy.url for name, proxy in proxies.items()}
    if scenario.topology.direct:
        targets = fleet.targets.values()
        places = {f"p{n}": f"http://{target.address}" for n, target in enumerate(targets, 1)}
    recorder = Recorder(time.monotonic(), {url: name for name, url in places.items()})
    urls = list(places.values())
    if scenario.topology.chain:
        limit = float(scenario.workload.deadline)
        for target, url in zip(fleet.targets.values(), urls[1:], strict=False):
            await target.chain(url, arm=job.arm, deadline=limit)
        del urls[1:]
    timeout = scenario.topology.connect_timeout
    opened = arm.open(
        urls, recorder, scenario.workload, job.seed, connect_timeout=timeout, custom=custom
    )
    call = await stack.enter_async_context(opened)
    # Only now: many clients, and those that shake hands, take their time to open.
    zero = recorder.zero = time.monotonic() + plan.warmup + _SETTLE
    planned = schedule(job.seed, scenario.workload, plan)
    loop = OpenLoop(planned, call, recorder, scenario.workload.deadline_of, custom)
    timeline = Timeline(happenings, plan.shift, proxies, fleet.targets, recorder)
    held = asyncio.create_task(
        probes.watch(lambda what, value: recorder.notice("resource", "client", what, value))
    )
    stack.callback(held.cancel)
    crashes: list[str] = []
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: crashes.append(str(context.get("exception") or context["message"]))
    )
    try:
        await _together(job, loop, timeline, supervisor, recorder)
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
        await timeline.heal_all()
    run.trouble = timeline.trouble or supervisor.trouble or ""
    if loop.dropped:
        run.trouble = run.trouble or f"{loop.dropped} calls were not made: too many in flight"
    run.lateness, run.lags = loop.lateness, loop.lags
    now = recorder.now()
    crashed = [Notice(at=now, kind="crash", detail=text) for text in crashes]
    delays = [Notice(at=at, kind="lag", endpoint="generator", value=lag) for at, lag in loop.lags]
    run.history = History(
        scenario=scenario.id,
        arm=run.arm,
        seed=job.seed,
        phases=plan.phases,
        operations=tuple(loop.operations),
        notices=(*recorder.notices, *delays, *crashed),
        faults=tuple(timeline.faults),
        end=now,
        zero=(datetime.now(UTC) - timedelta(seconds=now)).isoformat(timespec="milliseconds"),
    )
    run.ledger = await fleet.ledger(zero)


def deaths(happenings: Iterable[Happening], every: tuple[str, ...]) -> list[str]:
    """The servers that are killed, as often as they are."""
    return [
        name
        for happening in happenings
        if happening.fault in {"kill", "term"}
        for name in happening.places or every
    ]


async def _together(
    job: Job, loop: OpenLoop, timeline: "Timeline", supervisor: Supervisor, recorder: Recorder
) -> None:
    """Load and faults; ends early if the toxiproxy fails, since nothing is worth then."""
    warmup, end = job.plan.warmup, job.plan.end
    load = asyncio.create_task(loop.run(), name="load")
    faults = asyncio.create_task(timeline.run(), name="timeline")
    failed = asyncio.create_task(supervisor.reached.wait(), name="toxiproxy failed")
    try:
        while not load.done() and not failed.done():
            await asyncio.wait({load, failed}, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            if job.progress is not None:
                job.progress(min(recorder.now() + warmup, end + warmup), end + warmup)
        if load.done():
            load.result()
            await faults
    finally:
        for task in (load, faults, failed):
            task.cancel()
        await asyncio.wait({load, faults, failed})


class Timeline:
    """Begins and ends the faults when they are due."""

    def __init__(
        self,
        happenings: tuple[Happening, ...],
        shift: float,
        proxies: dict[str, Proxy],
        targets: dict[str, Target],
        recorder: Recorder,
    ) -> None:
        self._happenings = sorted(happenings, key=lambda happening: happening.at)
        self._shift = shift
        self._proxies = proxies
        self._targets = targets
        self._recorder = recorder
        self._active: dict[str, tuple[AsyncExitStack, float]] = {}
        self.faults: list[Fault] = []
        self.trouble = ""

    async def run(self) -> None:
        """Do what the timeline says."""
        for happening in self._happenings:
            wait = happening.at + self._shift - self._recorder.now()
            if wait > 0:
                await asyncio.sleep(wait)
            try:
                if happening.fault:
                    await self._begin(happening)
                else:
                    await self._heal(happening.heal)
            except (ToxiproxyError, ProcessError, OSError, TimeoutError) as error:
                told = f"{type(error).__name__}: {error}"
                self.trouble = f"line {happening.line} of the scenario: {told}"
                return

    async def _begin(self, happening: Happening) -> None:
        known: dict[str, Proxy] | dict[str, Target] = self._proxies
        if VERBS[happening.fault].of == "servers":
            known = self._targets
        places = {name: known[name] for name in happening.places or tuple(known)}
        stack = AsyncExitStack()
        began = self._recorder.now()
        # Kept first: what fails half-way is undone with the rest.
        self._active[happening.name] = (stack, began)
        await stack.enter_async_context(strike(happening.fault, places, happening.arguments))

    async def _heal(self, name: str) -> None:
        stack, began = self._active.pop(name)
        await stack.aclose()
        self.faults.append(Fault(name=name, began=began, ended=self._recorder.now()))

    async def heal_all(self) -> None:
        """End what is still there, the last first."""
        for name in reversed(tuple(self._active)):
            try:
                await self._heal(name)
            except (ToxiproxyError, ProcessError, OSError, TimeoutError) as error:
                self.trouble = self.trouble or f"the heal of {name} failed: {error}"
