"""Scenarios as tests: `run_scenario("chaos.yaml", target="server:config", out=path).check()`."""

import asyncio
import functools
import tempfile
import unittest
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from connectplugin_chaos.arms.names import check_arm
from connectplugin_chaos.check.judgement import Verdict
from connectplugin_chaos.engine.session import Session, Step, new_folder
from connectplugin_chaos.report.model import Report
from connectplugin_chaos.scenario.load import load
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.scenario.nodes import ScenarioError
from connectplugin_chaos.toxiproxy.binary import Binary, NoToxiproxyError, find
from connectplugin_chaos.toxiproxy.doctor import Diagnosis, examine


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a scenario.

    Attributes:
        report: What `report.json` holds.
        folder: Where `report.html`, the histories and the ledgers are.
    """

    report: Report
    folder: Path

    @property
    def verdict(self) -> Verdict:
        """Of the whole."""
        return Verdict(self.report["verdict"])

    @property
    def problems(self) -> list[str]:
        """What did not pass, a line each."""
        arms = [(s, arm) for s in self.report["scenarios"] for arm in s["arms"]]
        return [
            f"{scenario['id']} {arm['name']}: {found['check']} {found['verdict']}:"
            f" {found['measured']} (bar {found['bar']})"
            for scenario, arm in arms
            for found in arm["invariants"]
            if found["verdict"] != Verdict.PASS.value
        ]

    def check(self) -> None:
        """Pass if the run does.

        Raises:
            AssertionError: It does not; the text has what failed, and where the report is.
            unittest.SkipTest: It proves nothing, since the machine was too busy, say; pytest counts
                that as a skip.
        """
        if self.verdict is Verdict.PASS:
            return
        reasons = [
            f"{arm['name']}: {arm['reason']}"
            for scenario in self.report["scenarios"]
            for arm in scenario["arms"]
            if arm["reason"]
        ]
        report = f"report: {self.folder / 'report.html'}"
        told = "\n".join([self.verdict.value, *reasons, *self.problems, report])
        if self.verdict is Verdict.INCONCLUSIVE:
            raise unittest.SkipTest(told)
        raise AssertionError(told)


def run_scenario(
    scenario: Scenario | Path | str,
    *,
    out: Path,
    target: str = "",
    arms: Sequence[str] = (),
    seed: int | None = None,
    tries: int = 2,
) -> Run:
    """Run one scenario, as `connectplugin-chaos run` does. Not from within an event loop.

    Args:
        scenario: A file, or one that was read.
        out: Where a folder for the results is made.
        target: For a file: the `ServeConfig` to run it against, `module:attribute`; empty for the
            harness's own service.
        arms: Instead of the scenario's.
        seed: Instead of the scenario's first.
        tries: Of an arm that is inconclusive, in all.

    Raises:
        ScenarioError: The file is wrong, or there is no such arm.
        NoToxiproxyError: There is none, or one that does not do what scenarios count on.
    """
    found = scenario if isinstance(scenario, Scenario) else load(Path(scenario), target)
    chosen = tuple(arms) or found.arms
    for arm in chosen:
        if (problem := check_arm(arm, found.variants)) is not None:
            raise ScenarioError(problem)
    binary = find()
    seeded = found.seeds[0] if seed is None else seed
    session = Session(
        steps=[Step(scenario=found, arm=arm, seed=seeded, plan=found.plan) for arm in chosen],
        folder=new_folder(out),
        binary=binary,
        diagnosis=_examined(binary),
        tries=tries,
    )
    return Run(report=session.run(), folder=session.folder)


@functools.cache
def _examined(binary: Binary) -> Diagnosis:
    with tempfile.TemporaryDirectory(prefix="connectplugin-chaos-") as folder:
        diagnosis = asyncio.run(examine(binary, Path(folder)))
    if not diagnosis.good:
        names = ", ".join(finding.name for finding in diagnosis.surprises)
        raise NoToxiproxyError(f"{binary.path} surprises ({names}); see connectplugin-chaos doctor")
    return diagnosis
