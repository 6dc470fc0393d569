"""The harness as a whole: real toxiproxy, real servers, a few seconds of load.

This machine may be busy: then a run is inconclusive. What it is must be honest; what it has seen is
judged check by check.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from connectplugin_chaos import cli
from connectplugin_chaos.check import stats
from connectplugin_chaos.record.files import read_history, read_ledger
from connectplugin_chaos.toxiproxy.binary import Binary

RESETS = "{at: 1s, fault: reset, proxies: [p1], after_execution: true, as: hole}"
LOST_ANSWERS = """\
id: LOST
title: Answers are lost for a second
why: [a test]
claim: None
tier: [full]
topology: {servers: 2, workers: 4, service_time: 10ms}
workload:
  arrivals: {process: constant, rate: 40/s}
  deadline: 400ms
  mix: {append: 1}
timeline:
  - {at: 1s, fault: blackhole, proxies: [p1], stream: downstream, as: hole}
  - {at: 2s, heal: hole}
warmup: 500ms
phases: {base: [0s, 1s], fault: [1s, 2s], recovery: [2s, 3s]}
arms: [stack]
expect:
  stack:
    - at_most_once: {}
    - liveness: {}
    - taxonomy: {}
    - honest_failure: {}
  stack!idempotency:
    - at_most_once: {}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "lost.yaml"
    path.write_text(LOST_ANSWERS)
    return path


def run(scenario: Path, *arguments: str, out: Path) -> tuple[int, dict[str, Any], Path]:
    code = cli.main(["run", str(scenario), "--out", str(out), *arguments])
    (folder,) = out.iterdir()
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return code, report, folder


def by_check(arm: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {found["check"]: found for found in arm["invariants"]}


@pytest.mark.usefixtures("toxiproxy")
def test_a_run_leaves_reports_that_agree_with_the_records(scenario: Path, tmp_path: Path) -> None:
    code, report, folder = run(scenario, out=tmp_path / "runs")
    ((arm,),) = [entry["arms"] for entry in report["scenarios"]]
    assert code == {"pass": 0, "inconclusive": 2}[report["verdict"]], arm
    assert all(found["verdict"] == "pass" for found in arm["invariants"])
    history = read_history(folder / arm["folder"] / "history.jsonl.gz")
    ledger = read_ledger(folder / arm["folder"] / "ledger.jsonl.gz")
    metrics = arm["metrics"]
    assert metrics["ops"] == len(history.during()) == pytest.approx(120, abs=2)
    assert metrics["duplicates"] == len(stats.duplicates(history, ledger))
    assert metrics["recovery_s"] == stats.recovery(history, to=0.99)
    assert metrics["executions"] == len(ledger.executions)
    assert history.faults[0].name == "hole"
    page = (folder / "report.html").read_text()
    assert "Answers are lost for a second" in page
    assert "http://" not in page
    assert "https://" not in page
    assert "LOST" in (folder / "summary.md").read_text()
    assert ET.parse(folder / "junit.xml").getroot().findall(".//testcase")  # noqa: S314  # ours
    assert cli.main(["report", str(folder)]) == code
    assert cli.main(["diff", str(folder), str(folder)]) == 0


@pytest.mark.usefixtures("toxiproxy")
def test_without_the_idempotency_gate_the_ledger_shows_what_was_done_twice(
    scenario: Path, tmp_path: Path
) -> None:
    lines = [f"  - {RESETS}" if "blackhole" in line else line for line in LOST_ANSWERS.splitlines()]
    scenario.write_text("\n".join(lines).replace("servers: 2", "servers: 1"))
    _, report, _ = run(
        scenario, "--arms", "stack!idempotency", "--tries", "1", out=tmp_path / "runs"
    )
    arm = report["scenarios"][0]["arms"][0]
    found = by_check(arm)["at_most_once"]
    if found["verdict"] == "pass" and arm["reason"]:
        # Before the resets are there the proxy is down for a moment. On a machine that is busy the
        # moment is long, the circuit opens in it, and nothing is left to be executed twice.
        pytest.skip(f"the machine is too busy: {arm['reason']}")
    assert found["verdict"] == "fail"
    assert found["offending"] >= 1
    evidence = found["evidence"][0]
    assert len(evidence["attempts"]) == 2
    assert evidence["method"] == "append"


@pytest.mark.usefixtures("toxiproxy")
def test_nothing_lives_on_when_the_harness_is_killed(scenario: Path, tmp_path: Path) -> None:
    marker = str(tmp_path / "runs")
    command = [sys.executable, "-m", "connectplugin_chaos.cli", "run", str(scenario)]
    harness = subprocess.Popen(
        [*command, "--out", marker], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 30
    children: set[int] = set()
    while len(children) < 3:
        assert time.monotonic() < until, f"two servers and a toxiproxy, but {children}"
        children = {pid for pid in children_of(harness.pid) if is_ours(pid)}
        time.sleep(0.05)
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait(10)
    until = time.monotonic() + 30  # to die takes the processor, too
    while any(is_ours(pid) for pid in children):
        assert time.monotonic() < until, "something lives on"
        time.sleep(0.05)


def children_of(parent: int) -> set[int]:
    found: set[int] = set()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                fields = (path / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == parent and fields[0] != "Z":
                found.add(int(path.name))
    return found


def is_ours(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"connectplugin_chaos.engine.target" in command or b"toxiproxy-server" in command


def test_commands_that_make_no_sense_end_with_2(
    scenario: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["run", "C99"]) == 2
    assert "no scenario 'C99'" in capsys.readouterr().err
    assert cli.main(["run", str(scenario), "--arms", "stak"]) == 2
    assert "did you mean 'stack'?" in capsys.readouterr().err
    assert cli.main(["run", str(scenario), "--minus", "buget"]) == 2
    assert "did you mean 'budget'?" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path)]) == 2
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(LOST_ANSWERS.replace("title", "titel"))
    assert cli.main(["run", str(wrong)]) == 2
    assert "wrong.yaml:2:" in capsys.readouterr().err


def test_the_tiers_fit_their_limits(toxiproxy: Binary) -> None:
    parser = cli.command_line()
    for tier, limit in cli.LIMITS.items():
        steps = cli.plan(parser.parse_args(["run", "--tier", tier]))
        assert steps
        assert sum(step.seconds for step in steps) <= limit
    assert toxiproxy.path.exists()
