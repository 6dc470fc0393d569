"""A run of several scenarios: plan, progress, second tries, reports."""

import asyncio
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.check.compare import compare
from connectplugin_chaos.check.judgement import Judgement, Verdict, worst
from connectplugin_chaos.check.verdicts import judge_arm
from connectplugin_chaos.engine.arm_run import Job, run_arm
from connectplugin_chaos.record.files import read_history
from connectplugin_chaos.report import figures
from connectplugin_chaos.report.html import page
from connectplugin_chaos.report.text import junit, markdown
from connectplugin_chaos.scenario.model import Plan, Scenario
from connectplugin_chaos.toxiproxy.binary import Binary, repository
from connectplugin_chaos.toxiproxy.doctor import Diagnosis

AROUND: Final = 3.0
"""Seconds that an arm takes besides its phases: start, last calls, end."""

_STOPPING: Final = frozenset({"stop", "kill", "term", "block_loop", "hog_cpu", "restart"})


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
    _done: dict[tuple[str, int], list[dict[str, Any]]] = field(
        default_factory=dict[tuple[str, int], list[dict[str, Any]]], init=False
    )

    def run(self) -> dict[str, Any]:
        """Run everything, write the reports, and return what `report.json` holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
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
        report = self.report()
        write(self.folder, report)
        return report

    def _try(self, step: Step, number: int, before: float, total: float) -> dict[str, Any]:
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
        verdict = judge_arm(
            step.scenario.expect.get(step.arm, ()),
            run.history,
            run.ledger,
            lateness=run.lateness,
            lags=run.lags,
            unwatched=stopped_servers(step.scenario),
            trouble=run.trouble,
        )
        for raw in folder.glob("*.ledger"):
            raw.unlink()  # it is in ledger.jsonl.gz
        return figures.arm(step.arm, run.history, run.ledger, verdict, name)

    def report(self) -> dict[str, Any]:
        """What `report.json` holds."""
        scenarios: list[dict[str, Any]] = []
        known = {step.scenario.id: step.scenario for step in self.steps}
        for (identity, seed), arms in self._done.items():
            scenario = known[identity]
            compared = self._compare(scenario, arms)
            verdict = worst(
                *(Verdict(arm["verdict"]) for arm in arms), *(each.verdict for each in compared)
            )
            scenarios.append(
                {
                    "id": identity,
                    "title": scenario.title,
                    "claim": scenario.claim,
                    "why": list(scenario.why),
                    "seed": seed,
                    "verdict": verdict.value,
                    "arms": arms,
                    "compare": [figures.comparison(each) for each in compared],
                }
            )
        return {
            "schema": figures.SCHEMA,
            "run": environment(self.folder.name, self.diagnosis),
            "scenarios": scenarios,
            "verdict": worst(*(Verdict(s["verdict"]) for s in scenarios)).value,
        }

    def _compare(self, scenario: Scenario, arms: Sequence[dict[str, Any]]) -> Sequence[Judgement]:
        wanted = {name for each in scenario.compare for name in (each.of, each.over)}
        histories = {
            arm["name"]: read_history(self.folder / arm["folder"] / "history.jsonl.gz")
            for arm in arms
            if arm["name"] in wanted and arm["metrics"] is not None
        }
        unproven = [a["name"] for a in arms if a["verdict"] == Verdict.INCONCLUSIVE.value]
        return compare(scenario.compare, histories, frozenset(unproven))


def stopped_servers(scenario: Scenario) -> frozenset[str]:
    """The servers whose event loop a fault stops: their delays say nothing of the machine."""
    every = [f"s{number + 1}" for number in range(scenario.topology.servers)]
    if scenario.soup is not None:
        return frozenset(every)
    return frozenset(
        name
        for happening in scenario.timeline
        if happening.fault in _STOPPING
        for name in happening.places or every
    )


def write(folder: Path, report: dict[str, Any]) -> None:
    """All reports, from the one."""
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    (folder / "summary.md").write_text(markdown(report))
    (folder / "junit.xml").write_text(junit(report))
    (folder / "report.html").write_text(page(report, folder))


def new_folder(parent: Path) -> Path:
    """A name for a run: its time, and the commit."""
    now = datetime.now(UTC)
    return parent / f"{now:%Y%m%dT%H%M%SZ}-{commit()[:8] or 'nocommit'}"


def commit() -> str:
    """Of the working tree; empty outside a repository."""
    root = repository()
    if root is None:
        return ""
    done = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607  # whichever git there is
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    return done.stdout.strip()


def environment(identity: str, diagnosis: Diagnosis) -> dict[str, Any]:
    """Where and with what it was run."""
    return {
        "id": identity,
        "commit": commit(),
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "fault_engine": f"toxiproxy {diagnosis.version}",
        "module": diagnosis.module,
        "doctor": [{"name": f.name, "good": f.good, "seen": f.seen} for f in diagnosis.findings],
    }
