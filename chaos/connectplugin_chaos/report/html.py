"""`report.html`: one file that loads nothing, for any browser and any width."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from connectplugin_chaos.record.files import read_history
from connectplugin_chaos.record.model import History
from connectplugin_chaos.report import timeline
from connectplugin_chaos.report.bars import amplification
from connectplugin_chaos.report.model import (
    ArmEntry,
    JudgementEntry,
    Report,
    ScenarioEntry,
)
from connectplugin_chaos.report.plots import Drawing
from connectplugin_chaos.report.style import BAD, GOOD, PAGE, Ink, inks
from connectplugin_chaos.report.text import HEAD, row

_SIGNS: Final = {
    "pass": "&#10003;",
    "fail": "&#10007;",
    "negative-control-failed": "&#10007;",
    "inconclusive": "?",
}


def page(report: Report, folder: Path, doctor: Sequence[Mapping[str, object]] = ()) -> str:
    """The whole page.

    Args:
        report: What `report.json` holds.
        folder: Where the histories are.
        doctor: What the doctor has found, as `env.json` has it.
    """
    run = report["run"]
    cpu = f"{run['cpus']} x {run['cpu']}" if run["cpu"] else f"{run['cpus']} CPUs"
    body = [
        f"<h1>Chaos: {_verdict(report['verdict'])}</h1>",
        f"<p><small>Run {escape(run['id'])}, commit {escape(run['commit'][:12] or 'unknown')}, "
        f"{escape(run['fault_engine'])}, Python {escape(run['python'])}, {escape(cpu)}, kernel "
        f"{escape(run['kernel'])}</small></p>",
    ]
    if len(report["scenarios"]) > 1:
        body.append(_overview(report["scenarios"]))
    for scenario in report["scenarios"]:
        body += _scenario(scenario, folder)
    if doctor:
        body.append(_doctor(doctor))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Chaos {escape(run['id'])}: {report['verdict']}</title><style>{PAGE}</style>"
        f"</head><body>{''.join(body)}</body></html>\n"
    )


def _verdict(verdict: str) -> str:
    return f'<span class="v {verdict}">{_SIGNS[verdict]} {verdict.replace("-", " ")}</span>'


def _anchor(scenario: ScenarioEntry) -> str:
    return f"{scenario['id']}-{scenario['seed']}"


def _overview(scenarios: Sequence[ScenarioEntry]) -> str:
    rows = "".join(
        f'<tr><td><a href="#{escape(_anchor(s))}">{escape(s["id"])}</a> {escape(s["title"])}</td>'
        f'<td class="n">{s["seed"]}</td><td>{_verdict(s["verdict"])}</td></tr>'
        for s in scenarios
    )
    return f"<table><tr><th>scenario</th><th>seed</th><th>verdict</th></tr>{rows}</table>"


def _scenario(scenario: ScenarioEntry, folder: Path) -> list[str]:
    names = [arm["name"] for arm in scenario["arms"]]
    colours = inks(names)
    histories = {
        arm["name"]: read_history(folder / arm["folder"] / "history.jsonl.gz")
        for arm in scenario["arms"]
        if arm["metrics"] is not None
    }
    told = [
        f'<h2 id="{escape(_anchor(scenario))}">{escape(scenario["id"])}: '
        f"{escape(scenario['title'])} {_verdict(scenario['verdict'])}</h2>",
        f"<p>Claim: {escape(scenario['claim'])}</p>",
        f"<p><small>Why: {escape('; '.join(scenario['why']))}. Seed {scenario['seed']}."
        "</small></p>",
        _arms(scenario, colours),
    ]
    if histories:
        told += _plots(scenario, histories, colours)
    if scenario["compare"]:
        rows = "".join(
            f"<tr><td>{escape(each['check'])}</td><td>{_verdict(each['verdict'])}</td>"
            f"<td>{escape(each['measured'])}</td><td>{escape(each['bar'])}</td></tr>"
            for each in scenario["compare"]
        )
        told.append(
            "<h3>Between the arms</h3><table><tr><th>figure</th><th>verdict</th><th>measured</th>"
            f"<th>bar</th></tr>{rows}</table>"
        )
    told.append("<h3>Checks</h3>")
    return told + [_checks(arm) for arm in scenario["arms"]]


def _arms(scenario: ScenarioEntry, colours: Mapping[str, Ink]) -> str:
    head = "".join(f"<th>{escape(word)}</th>" for word in HEAD)
    rows = ""
    for arm in scenario["arms"]:
        name, verdict, *cells = row(arm)
        rows += (
            f"<tr><td>{_swatch(colours[name])} <b>{escape(name)}</b></td>"
            f"<td>{_verdict(verdict)}</td>"
            + "".join(
                f'<td class="n" data-of="{escape(word)}">{escape(cell)}</td>'
                for word, cell in zip(HEAD[2:], cells, strict=True)
            )
            + "</tr>"
        )
    return f'<table class="wide"><tr>{head}</tr>{rows}</table>'


def _swatch(ink: Ink) -> str:
    line = f'<line x1="0" x2="28" y1="5" y2="5" style="{ink.style}"/>'
    style = "display:inline-block;width:28px;height:10px;vertical-align:middle"
    return f'<svg viewBox="0 0 28 10" aria-hidden="true" style="{style}">{line}</svg>'


def _key(entries: Mapping[str, str]) -> str:
    items = "".join(f"<li>{mark}{escape(name)}</li>" for name, mark in entries.items())
    return f'<ul class="key">{items}</ul>'


def _block(kind: str) -> str:
    box = f'<rect x="4" y="0" width="20" height="10" class="{kind}"/>'
    return f'<svg viewBox="0 0 28 10" aria-hidden="true">{box}</svg>'


def _dot(ink: Ink) -> str:
    dot = f'<circle cx="14" cy="5" r="3" style="fill:var(--{ink.name})"/>'
    return f'<svg viewBox="0 0 28 10" aria-hidden="true">{dot}</svg>'


def _plots(
    scenario: ScenarioEntry, histories: Mapping[str, History], colours: Mapping[str, Ink]
) -> list[str]:
    drawing = Drawing(histories, colours)
    several = len(histories) > 1
    shaded = {"fault": _block("fault")} if any(h.faults for h in histories.values()) else {}
    key = {name: _swatch(colours[name]) for name in histories} if several else {}
    together = [plot.text() for plot in drawing.together()]
    together.append(amplification(scenario["arms"]))
    p50, p99 = Ink("ink", "1 3", 1.2), Ink("ink", "", 1.2)
    told = [
        _key({**key, **shaded}),
        f'<div class="plots">{"".join(together)}</div>',
        "<h3>Time of each call</h3>",
        _key(
            {
                "came back well": _dot(GOOD),
                "failed": _dot(BAD),
                "p50 of each second": _swatch(p50),
                "p99": _swatch(p99),
            }
        ),
        f'<div class="plots">{"".join(plot.text() for plot in drawing.latency())}</div>',
    ]
    strips = "".join(plot.text() for plot in drawing.circuits())
    if strips:
        states = ("closed", "half open", "open", "ejected")
        told += [
            "<h3>Circuits, and endpoints that the balancer keeps away from (out)</h3>",
            _key({state: _block(state.replace(" ", "_")) for state in states}),
            f'<div class="plots">{strips}</div>',
        ]
    return told


def _checks(arm: ArmEntry) -> str:
    reason = f"<p>{escape(arm['reason'])}</p>" if arm["reason"] else ""
    if not arm["invariants"] and not reason:
        return ""
    rows = "".join(_check(found) for found in arm["invariants"])
    table = (
        '<table class="wide"><tr><th>check</th><th>verdict</th><th>measured</th><th>bar</th></tr>'
        f"{rows}</table>"
        if rows
        else ""
    )
    opened = "" if arm["verdict"] == "pass" else ' open=""'
    summary = f"<summary><b>{escape(arm['name'])}</b>: {_verdict(arm['verdict'])}</summary>"
    return f"<details{opened}>{summary}{reason}{table}</details>"


def _check(found: JudgementEntry) -> str:
    calls = ""
    if found["evidence"]:
        items = "".join(
            f"<li>{timeline.drawing(call)}{timeline.caption(call)}</li>"
            for call in found["evidence"]
        )
        shown = len(found["evidence"])
        more = "" if shown == found["offending"] else f", {shown} of them shown"
        word = "call offends" if found["offending"] == 1 else "calls offend"
        calls = (
            f"<details><summary>{found['offending']} {word}{more}</summary>"
            f'<ol class="calls">{items}</ol></details>'
        )
    return (
        f"<tr><td><b>{escape(found['check'])}</b></td><td>{_verdict(found['verdict'])}</td>"
        f'<td data-of="measured">{escape(found["measured"])}{calls}</td>'
        f'<td data-of="bar">{escape(found["bar"])}</td></tr>'
    )


def _doctor(findings: Sequence[Mapping[str, object]]) -> str:
    rows = "".join(
        f"<tr><td>{'ok' if each['good'] else 'BAD'}</td><td>{escape(str(each['name']))}</td>"
        f"<td>{escape(str(each['seen']))}</td></tr>"
        for each in findings
    )
    return (
        "<h2>The fault engine</h2><details><summary>What the doctor has measured</summary>"
        f"<table>{rows}</table></details>"
    )
