"""Workloads and checks in Python: what they do in a run, and every mistake told."""

import json
import os
import sys
from pathlib import Path

import pytest

from connectplugin_chaos import cli
from connectplugin_chaos.record.files import read_history
from connectplugin_chaos.scenario.load import parse
from connectplugin_chaos.scenario.nodes import ScenarioError

KV = Path(__file__).parents[2] / "examples" / "kv"
TARGET = "server:serve_config"

PYTHON = """\
from connectplugin_chaos.extend import judge
from kv_plugin import kv_plugin

class Counting:
    kinds = {"count": 3, "look": 1}
    idempotent = ("look",)
    changing = ("count",)

    async def open(self, plugins):
        self.kv = plugins.dispense(kv_plugin)

    async def call(self, operation):
        if operation.method == "count":
            return str(await self.kv.increment("n"))
        return (await self.kv.get("n")).decode()

class Wordless:
    kinds = {}
    async def open(self, plugins): ...
    async def call(self, operation): ...

class Typo(Counting):
    idempotent = ("lok",)

class Silent:
    kinds = {"a": 1}
    def call(self, operation): ...

def enough(history, ledger, *, least, of="count"):
    made = [o for o in history.operations if o.method == of]
    return judge("enough", len(made) >= least, measured=str(len(made)), bar=f">= {least}")

def raises(history, ledger):
    raise RuntimeError("oh")

def shrugs(history, ledger):
    return True

def lonely(history):
    return None
"""

COUNTING = """\
id: PY
title: Counting
topology: {servers: 1}
workload:
  arrivals: {process: constant, rate: 40/s}
  deadline: 400ms
  python: chaoscounting:Counting
phases: {base: [0s, 1s]}
warmup: 200ms
arms: [stack]
expect:
  stack:
    - at_most_once: {}
    - no_lost_ack: {}
    - python: {check: "chaoscounting:enough", least: 10}
    - python: chaoscounting:raises
    - not: {python: chaoscounting:shrugs}
"""


@pytest.fixture
def counting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "chaoscounting.py").write_text(PYTHON)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    path = tmp_path / "counting.yaml"
    path.write_text(COUNTING)
    return path


@pytest.mark.usefixtures("toxiproxy")
def test_workload_and_checks_in_python(
    counting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = (str(KV), str(KV / "gen"), str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    command = ["run", str(counting), "--target", TARGET, "--tries", "1"]
    assert cli.main([*command, "--out", str(tmp_path / "runs")]) == 2  # `raises` proves nothing
    (folder,) = (tmp_path / "runs").iterdir()
    report = json.loads((folder / "report.json").read_text())
    (arm,) = report["scenarios"][0]["arms"]
    found = {each["check"]: (each["verdict"], each["measured"]) for each in arm["invariants"]}
    assert found["at_most_once"][0] == "pass"
    assert found["no_lost_ack"][0] == "pass"
    assert found["enough"][0] == "pass"
    told = "the check chaoscounting:raises raised RuntimeError('oh')"
    assert found["raises"] == ("inconclusive", told)
    told = "the check chaoscounting:shrugs returned True, which is no Judgement"
    assert found["shrugs"] == ("inconclusive", told)
    history = read_history(folder / arm["folder"] / "history.jsonl.gz")
    replies = [o.reply for o in history.operations if o.method == "count" and o.code == "ok"]
    assert len(replies) >= 10
    assert len(set(replies)) == len(replies)
    assert all(o.idempotent == (o.method == "look") for o in history.operations)


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("chaoscounting:Counting", "chaoscounting:enough", "it must be a class"),
        ("chaoscounting:Counting", "chaoscounting:Contuing", "did you mean 'Counting'"),
        ("chaoscounting:Counting", "chaoscounting:Wordless", "its `kinds` must map"),
        ("chaoscounting:Counting", "chaoscounting:Typo", "`idempotent` has 'lok'; did you mean"),
        ("chaoscounting:Counting", "chaoscounting:Silent", "the class lacks `async def open`"),
        ("deadline:", "mix: {cuont: 1}\n  deadline:", "no key 'cuont'; did you mean 'count'"),
        ("deadline:", "calls: []\n  deadline:", "workload has either calls or python"),
        (", least: 10", "", "the check chaoscounting:enough lacks the key 'least'"),
        ("least: 10", "least: 10, off: a", "no key 'off'; did you mean 'of'"),
        ("chaoscounting:raises", "chaoscounting:lonely", r"a plain function of \(history, ledger"),
        ("chaoscounting:raises", "chaoscounting:enough", "lacks the key 'least'"),
        ("chaoscounting:raises", "{least: 3}", "python lacks 'check: module:function'"),
        ("chaoscounting:raises", "nowhere_to:x", "the module 'nowhere_to', which is neither in"),
    ],
)
def test_a_mistake_in_python_is_told_with_its_line(
    right: str, wrong: str, told: str, counting: Path
) -> None:
    assert right in COUNTING
    with pytest.raises(ScenarioError, match=rf"t\.yaml:\d+: .*{told}"):
        parse(COUNTING.replace(right, wrong, 1), "t.yaml", TARGET)


def test_a_mix_of_the_file_wins_over_the_class(counting: Path) -> None:
    text = COUNTING.replace("deadline:", "mix: {look: 1}\n  deadline:")
    assert parse(text, "t.yaml", TARGET).workload.mix == {"look": 1.0}
