"""Scenarios as tests; and that the ledger of somebody's own plugin sees what is done twice."""

import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest

from connectplugin_chaos.scenario.nodes import ScenarioError
from connectplugin_chaos.testing import Run, run_scenario

KV = Path(__file__).parents[2] / "examples" / "kv"
SCENARIO = """\
id: TWICE
title: A gateway answers for a plugin that has done its work
topology: {servers: 1}
workload:
  arrivals: {process: constant, rate: 40/s}
  deadline: 400ms
  calls:
    - {method: Increment, request: {key: n}}
timeline:
  - {at: 500ms, fault: html_503, p: 30%, after_execution: true}
  - {at: 1500ms, heal: html_503}
warmup: 300ms
phases: {base: [0s, 500ms], fault: [500ms, 1500ms], recovery: [1500ms, 2s]}
expect:
  naive:
    - at_most_once: {}
  stack:
    - at_most_once: {}
    - honest_failure: {}
    - no_lost_ack: {}
"""


@pytest.fixture
def scenario(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "twice.yaml"
    path.write_text(SCENARIO)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(KV), str(KV / "gen"))))
    return path


@pytest.mark.usefixtures("toxiproxy")
def test_naive_retries_increment_twice_and_ours_do_not(scenario: Path, tmp_path: Path) -> None:
    run = run_scenario(scenario, out=tmp_path, target="server:serve_config", tries=1)
    naive, stack = run.report["scenarios"][0]["arms"]
    (twice,) = naive["invariants"]
    assert twice["verdict"] == "fail"
    assert twice["offending"] >= 1
    assert {each["method"] for each in twice["evidence"]} == {"Increment"}
    assert {each["verdict"] for each in stack["invariants"]} == {"pass"}, run.problems
    assert any("naive: at_most_once fail" in problem for problem in run.problems)
    assert (run.folder / "report.html").exists()


def run_with(verdict: str, reason: str = "") -> Run:
    found = {"check": "deadline", "verdict": "fail", "measured": "2 s", "bar": "1 s"}
    passed = {**found, "check": "taxonomy", "verdict": "pass"}
    arm = {"name": "stack", "reason": reason, "invariants": [found, passed]}
    scenarios = [{"id": "X", "arms": [arm]}]
    report: Any = {"verdict": verdict, "scenarios": scenarios}
    return Run(report=report, folder=Path("runs/now"))


def test_what_a_test_says_of_a_run() -> None:
    run_with("pass").check()
    with pytest.raises(AssertionError) as failed:
        run_with("fail").check()
    assert str(failed.value).splitlines() == [
        "fail",
        "X stack: deadline fail: 2 s (bar 1 s)",
        f"report: {Path('runs/now/report.html')}",
    ]
    with pytest.raises(unittest.SkipTest, match="stack: too busy"):
        run_with("inconclusive", "too busy").check()


def test_pytest_skips_what_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test_busy.py"
    path.write_text("import unittest\n\ndef test_busy():\n    raise unittest.SkipTest('busy')\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", path.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 skipped" in done.stdout


def test_an_arm_that_does_not_exist_is_told(scenario: Path, tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="did you mean 'stack'"):
        run_scenario(scenario, out=tmp_path, target="server:serve_config", arms=["stak"])
