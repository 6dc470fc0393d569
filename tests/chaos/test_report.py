"""What a run leaves behind can be read, checked, and computed again from its records alone.

`data/sample` is a real run of `data/sample.yaml`.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from connectplugin_chaos import cli
from connectplugin_chaos.check import stats
from connectplugin_chaos.report import model
from connectplugin_chaos.report.diff import differences
from connectplugin_chaos.report.html import page
from connectplugin_chaos.report.recompute import (
    ReportError,
    read_records,
    read_report,
    recomputed,
)
from connectplugin_chaos.report.text import junit, markdown

SAMPLE = Path(__file__).parent / "data" / "sample"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A copy of the sample that may be changed."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "run"))


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "report.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_records_alone_give_the_same_report() -> None:
    found = recomputed(SAMPLE)
    report = found.report
    assert (found.differences, found.remarks) == ([], [])
    assert report == read_report(SAMPLE)
    (scenario,) = report["scenarios"]
    assert [arm["name"] for arm in scenario["arms"]] == ["stack", "stack!idempotency"]
    for arm in scenario["arms"]:
        history, ledger = read_records(SAMPLE / arm["folder"])
        metrics = arm["metrics"]
        assert metrics is not None
        assert metrics["duplicates"] == len(stats.duplicates(history, ledger))
        assert metrics["recovery_s"] == stats.recovery(history, to=0.99)
        assert metrics["amplification"] == round(stats.amplification(history.during()), 4)
    ours, broken = (arm["metrics"] for arm in scenario["arms"])
    assert ours is not None
    assert broken is not None
    assert (ours["duplicates"], broken["duplicates"] > 0) == (0, True)


@pytest.mark.parametrize("figure", ["recovery_s", "amplification", "duplicates"])
def test_a_figure_that_the_records_do_not_bear_out_is_named(
    run: Path, figure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "report.json").read_text()
    stored = re.findall(rf'"{figure}": ([^,\n]+)', text)[0]
    change(run, f'"{figure}": {stored}', f'"{figure}": 77')
    assert cli.main(["report", str(run)]) == cli.FAILED
    assert f"SAMPLE stack seed 7: {figure} is {stored} by the records, and 77" in (
        capsys.readouterr().out
    )
    # It was written anew, so now it agrees.
    assert recomputed(run).differences == []
    assert read_report(run) == read_report(SAMPLE)


def test_a_judgement_that_the_records_do_not_bear_out_is_named(run: Path) -> None:
    change(run, '"measured": "0 of ', '"measured": "5 of ')
    (told,) = recomputed(run).differences
    assert "SAMPLE stack seed 7: check 1 (at_most_once) is" in told


def test_without_the_module_of_a_user_the_figures_are_computed_all_the_same(run: Path) -> None:
    env = json.loads((run / "env.json").read_text())
    env["scenarios"]["SAMPLE"]["target"] = "no_such_module:serve_config"
    (run / "env.json").write_text(json.dumps(env))
    change(run, '"duplicates": 0', '"duplicates": 4')
    found = recomputed(run)
    (remark,) = found.remarks
    assert "the judgements of SAMPLE are the stored ones" in remark
    (told,) = found.differences
    assert "duplicates is 0 by the records, and 4" in told


def test_records_that_are_missing_are_told(run: Path) -> None:
    (run / "SAMPLE-7-stack" / "ledger.jsonl.gz").unlink()
    with pytest.raises(ReportError, match=r"records of .*SAMPLE-7-stack cannot be read"):
        recomputed(run)
    (run / "env.json").unlink()
    with pytest.raises(ReportError, match=r"env\.json does not hold the scenarios"):
        recomputed(run)
    assert cli.main(["report", str(run / "nowhere")]) == cli.NOT_PROVEN


def test_the_schema_is_that_of_the_model() -> None:
    beside = Path(model.__file__).with_name("report.schema.json")
    committed = json.loads(beside.read_text())
    assert committed == model.json_schema(), "python -m connectplugin_chaos.report.model > ..."
    assert committed["additionalProperties"] is False
    assert set(committed["$defs"]) >= {"ArmEntry", "Metrics", "JudgementEntry", "OffenderEntry"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"schema": 2', '"schema": 1', "schema is 1; this harness reads 2"),
        ('"duplicates"', '"dupplicates"', r"metrics\.dupplicates is not known"),
        ('"ops": ', '"ops": "many", "_": ', r"metrics\.ops is 'many'; it must be int"),
        ('"verdict": "', '"verdict": "splendid', "must be one of"),
        ('"scenarios": [', '"scenarios": [7, ', r"scenarios\[0\] is 7; it must be an object"),
        ('"codes": {', '"codes": [], "_": {', r"codes is \[\]; it must be dict"),
    ],
)
def test_what_is_no_report_is_refused(run: Path, old: str, new: str, told: str) -> None:
    change(run, old, new)
    with pytest.raises(ReportError, match=told):
        read_report(run)


def test_the_page_needs_nothing_but_a_browser() -> None:
    text = page(read_report(SAMPLE), SAMPLE, [{"name": "pipelining", "good": True, "seen": "ok"}])
    for outside in ("http:", "https:", "//", "src=", "@import", "url(", "<script", "<link"):
        assert outside not in text.replace("</", "<").replace("/>", ">"), outside
    for wanted in (
        "Success of the calls of each second",
        "Answered in time, each second",
        "Attempts sent, each second",
        "Attempts for each call",
        "stack: time of each call",
        "stack!idempotency: time of each call",
        "circuits",
        "cut",  # the fault, by its name
        "at_most_once",
        "offend",
        "pipelining",
    ):
        assert wanted in text, wanted
    # Every mark that is opened is closed: as XML it can be read.
    body = text.partition("<body>")[2].partition("</body>")[0]
    ET.fromstring(f"<body>{body}</body>".replace("&ndash;", "-"))  # noqa: S314  # ours


def test_a_verdict_is_told_by_a_sign_too() -> None:
    text = page(read_report(SAMPLE), SAMPLE)
    for verdict, sign in (("pass", "&#10003;"), ("inconclusive", r"\?")):
        marks = re.findall(rf'class="v {verdict}">(.)', text)
        assert all(re.match(sign.replace("&#10003;", "&"), mark) for mark in marks)


def test_summary_and_junit_have_every_check() -> None:
    report = read_report(SAMPLE)
    told = markdown(report)
    assert "| stack | " in told
    assert "attempts: stack!idempotency / stack = " in told
    suites = ET.fromstring(junit(report)).findall("testsuite")  # noqa: S314  # ours
    assert [suite.get("name") for suite in suites] == [
        "SAMPLE.7.stack",
        "SAMPLE.7.stack!idempotency",
        "SAMPLE.7.compare",
    ]
    assert [case.get("name") for case in suites[0]][:2] == ["at_most_once", "honest_failure"]


def test_the_environment_is_enough_to_run_it_again() -> None:
    env: dict[str, Any] = json.loads((SAMPLE / "env.json").read_text())
    assert env["scenarios"]["SAMPLE"]["text"] == SAMPLE.with_suffix(".yaml").read_text()
    assert env["seeds"] == [7]
    assert env["toxiproxy"]["module"].startswith("github.com/Shopify/toxiproxy/v2 v2.12.0")
    assert len(env["doctor"]) >= 14
    for name in ("commit", "python", "kernel", "cpus", "lock_sha256"):
        assert env[name], name


def test_the_journal_says_what_was_done_and_when() -> None:
    journal: dict[str, Any] = json.loads((SAMPLE / "journal.json").read_text())
    assert [e["experiment"]["arm"] for e in journal["experiments"]] == [
        "stack",
        "stack!idempotency",
    ]
    load, fault = journal["experiments"][0]["run"]
    assert load["activity"]["name"] == "load"
    assert fault["activity"]["name"] == "cut"
    assert fault["duration"] == pytest.approx(1.0, abs=0.3)
    assert journal["start"] < load["start"] < fault["start"] < fault["end"] < journal["end"]


def test_a_diff_tells_what_got_worse() -> None:
    before, after = read_report(SAMPLE), read_report(SAMPLE)
    assert differences(before, after) == ([], False)
    arm = after["scenarios"][0]["arms"][0]
    arm["verdict"] = "fail"
    arm["invariants"][0]["verdict"] = "fail"
    assert arm["metrics"] is not None
    arm["metrics"]["duplicates"] = 3
    lines, worse = differences(before, after)
    assert worse
    assert lines[0].startswith("SAMPLE stack seed 7: ")
    assert any(line.startswith("  at_most_once: pass (") for line in lines)
    assert "  duplicates: 0 -> 3" in lines
    lines, worse = differences(after, before)
    assert lines
    assert not worse


def test_a_picture_has_its_figures_beside_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sample.svg"
    cli.main(["report", str(run), "--picture", "sample", str(path)])
    drawing = ET.fromstring(path.read_text())  # noqa: S314  # ours
    lines = drawing.findall(".//{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4  # success and attempts of two arms
    found = json.loads(path.with_suffix(".json").read_text())
    assert next(arm["done_twice"] for arm in found["arms"]) == 0
    assert "| `stack!idempotency` | " in capsys.readouterr().out
    assert cli.main(["report", str(run), "--picture", "C1", str(path)]) == cli.NOT_PROVEN
    assert "no scenario 'C1'" in capsys.readouterr().err
    assert cli.main(["report", str(run), "--picture", "sample", "x.png"]) == cli.NOT_PROVEN
