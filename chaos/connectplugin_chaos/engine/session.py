"""A run of several scenarios: plan, progress, second tries, reports."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.check.judgement import Verdict
from connectplugin_chaos.engine.arm_run import Job, run_arm
from connectplugin_chaos.engine.receipts import RECEIPTS
from connectplugin_chaos.record.files import read_history
from connectplugin_chaos.report import assemble
from connectplugin_chaos.report.environment import commit, env_file, run_entry
from connectplugin_chaos.report.html import page
from connectplugin_chaos.report.journal import experiment, journal
from connectplugin_chaos.report.model import ArmEntry, Report, ScenarioEntry
from connectplugin_chaos.report.text import junit, markdown
from connectplugin_chaos.scenario.model import Plan, Scenario
from connectplugin_chaos.toxiproxy.binary import Binary
from connectplugin_chaos.toxiproxy.doctor import Diagnosis

AROUND: Final = 3.0
"""Seconds that an arm takes besides its phases: start, last calls, end."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One arm of one scenario with one seed."""

    scenario: Scenario
    arm: str
    seed: int
    plan: Plan

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.plan.warmup + self.plan.end + AROUND


@dataclass(kw_only=True)
class Session:
    """What is run, and where its results go.

    Attributes:
        steps: In order.
        folder: For the results; made here.
        binary: The toxiproxy.
        diagnosis: What the doctor has found.
        tries: Of an arm that is inconclusive, in all.
        limit: Seconds after which no second tries are made.
        tell: Gets each line for the terminal.
        progress: Gets how much of how much is over, and what is being done.
    """

    steps: Sequence[Step]
    folder: Path
    binary: Binary
    diagnosis: Diagnosis
    tries: int = 2
    limit: float = float("inf")
    tell: Callable[[str], None] = print
    progress: Callable[[float, float, str], None] | None = None
    _done: dict[tuple[str, int], list[ArmEntry]] = field(
        default_factory=dict[tuple[str, int], list[ArmEntry]], init=False
    )
    _experiments: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]], init=False)

    def run(self) -> Report:
        """Run everything, write the reports, and return what `report.json` holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        entry = run_entry(self.folder.name, self.diagnosis)
        asked = {step.scenario.id: step.scenario for step in self.steps}
        seeds = [step.seed for step in self.steps]
        environment = env_file(entry, self.diagnosis, list(asked.values()), seeds)
        write_json(self.folder / "env.json", environment)
        began, started = datetime.now(UTC), time.monotonic()
        total = sum(step.seconds for step in self.steps)
        before = 0.0
        for step in self.steps:
            arm = self._try(step, 1, before, total)
            for number in range(2, self.tries + 1):
                late = time.monotonic() - started + step.seconds > self.limit
                if arm["verdict"] != Verdict.INCONCLUSIVE.value or late:
                    break
                self.tell(f"  {step.scenario.id} {step.arm}: inconclusive, once more")
                arm = self._try(step, number, before, total)
            self._done.setdefault((step.scenario.id, step.seed), []).append(arm)
            before += step.seconds
        report = assemble.report(entry, [self._entry(*key) for key in self._done])
        told = journal(entry, began, self._experiments, report["verdict"])
        write_json(self.folder / "journal.json", told)
        write(self.folder, report)
        return report

    def _try(self, step: Step, number: int, before: float, total: float) -> ArmEntry:
        suffix = "" if number == 1 else f"-{number}"
        name = f"{step.scenario.id}-{step.seed}-{step.arm.replace('!', '_')}{suffix}"
        folder = self.folder / name
        folder.mkdir()

        def progress(now: float, _: float) -> None:
            if self.progress is not None:
                self.progress(before + now, total, f"{step.scenario.id} {step.arm}")

        job = Job(
            scenario=step.scenario,
            arm=step.arm,
            seed=step.seed,
            plan=step.plan,
            folder=folder,
            binary=self.binary,
            progress=progress,
        )
        run = asyncio.run(run_arm(job))
        for raw in folder.glob("*.ledger"):
            raw.unlink()  # it is in ledger.jsonl.gz
        shutil.rmtree(folder / RECEIPTS, ignore_errors=True)
        records = None if run.history is None else (run.history, run.ledger)
        arm = assemble.arm_entry(step.scenario, step.arm, records, folder=name, trouble=run.trouble)
        scenario = step.scenario
        self._experiments.append(experiment(scenario.id, scenario.title, arm, run.history, number))
        return arm

    def _entry(self, identity: str, seed: int) -> ScenarioEntry:
        scenario = next(s.scenario for s in self.steps if s.scenario.id == identity)
        arms = self._done[identity, seed]
        wanted = {name for each in scenario.compare for name in (each.of, each.over)}
        histories = {
            arm["name"]: read_history(self.folder / arm["folder"] / "history.jsonl.gz")
            for arm in arms
            if arm["name"] in wanted and arm["metrics"] is not None
        }
        return assemble.scenario_entry(scenario, seed, arms, histories)


def write(folder: Path, report: Report) -> None:
    """All reports, from the one."""
    write_json(folder / "report.json", report)
    (folder / "summary.md").write_text(markdown(report))
    (folder / "junit.xml").write_text(junit(report))
    (folder / "report.html").write_text(page(report, folder, _doctor(folder)))


def _doctor(folder: Path) -> list[dict[str, Any]]:
    """What the doctor has found, as the run's environment has it; empty without one."""
    try:
        found: list[dict[str, Any]] = json.loads((folder / "env.json").read_text())["doctor"]
    except (OSError, ValueError, KeyError):
        return []
    return found


def write_json(path: Path, content: object) -> None:
    """A file that people can read too."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def new_folder(parent: Path) -> Path:
    """A name for a run: its time, and the commit."""
    now = datetime.now(UTC)
    return parent / f"{now:%Y%m%dT%H%M%SZ}-{commit()[:8] or 'nocommit'}"
