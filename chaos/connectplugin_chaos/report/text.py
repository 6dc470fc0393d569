"""Reports for terminals, pull requests and CI: a table, Markdown, JUnit."""

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree as ET

from connectplugin_chaos.report.model import (
    ArmEntry,
    ComparisonEntry,
    JudgementEntry,
    Report,
    ScenarioEntry,
)

Case = JudgementEntry | ComparisonEntry


def row(arm: ArmEntry) -> tuple[str, ...]:
    """An arm's figures, for a table; see `HEAD`."""
    metrics = arm["metrics"]
    if metrics is None:
        return (arm["name"], arm["verdict"], "", "", "", "", "")
    seconds = metrics["recovery_s"]
    return (
        arm["name"],
        arm["verdict"],
        f"{100 * metrics['ok'] / max(1, metrics['ops']):.1f} %",
        "never" if seconds is None else f"{seconds:.1f} s",
        f"{metrics['amplification']:.2f}",
        str(metrics["duplicates"]),
        f"{metrics['p99'] * 1000:.0f} ms",
    )


HEAD = ("arm", "verdict", "success", "recovery", "attempts/call", "done twice", "p99")


def table(scenario: ScenarioEntry) -> str:
    """A scenario's arms, in columns."""
    rows = [HEAD, *(row(arm) for arm in scenario["arms"])]
    widths = [max(len(cells[n]) for cells in rows) for n in range(len(HEAD))]
    return "\n".join(
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        for cells in rows
    )


def markdown(report: Report) -> str:
    """For a pull request: a table for each scenario, and what has failed."""
    lines = [f"# Chaos: {report['verdict']}", "", f"Run {report['run']['id']}."]
    for scenario in report["scenarios"]:
        lines += [
            "",
            f"## {scenario['id']}: {scenario['title']} (seed {scenario['seed']})",
            "",
            f"Claim: {scenario['claim']}",
            "",
            f"| {' | '.join(HEAD)} |",
            f"|{' --- |' * len(HEAD)}",
        ]
        lines += [f"| {' | '.join(row(arm))} |" for arm in scenario["arms"]]
        for arm in scenario["arms"]:
            if arm["reason"]:
                lines.append(f"- {arm['name']}: {arm['verdict']}: {arm['reason']}")
            lines += [
                f"- {arm['name']}: {found['check']} **{found['verdict']}**: {found['measured']}"
                f" (bar: {found['bar']})"
                for found in arm["invariants"]
                if found["verdict"] != "pass"
            ]
        lines += [
            f"- {found['check']} = {found['measured']}: **{found['verdict']}** (bar:"
            f" {found['bar']})"
            for found in scenario["compare"]
        ]
    return "\n".join(lines) + "\n"


def junit(report: Report) -> str:
    """For CI: a case for each check of each arm; what is inconclusive is skipped."""
    root = ET.Element("testsuites", name="connectplugin-chaos")
    for name, reason, cases in _suites(report):
        suite = ET.SubElement(root, "testsuite", name=name)
        for found in cases:
            case = ET.SubElement(suite, "testcase", classname=name, name=found["check"])
            verdict = found["verdict"]
            told = f"{found['measured']} (bar: {found['bar']})"
            if reason or verdict == "inconclusive":
                ET.SubElement(case, "skipped", message=reason or told)
            elif verdict != "pass":
                ET.SubElement(case, "failure", message=f"{verdict}: {told}")
        failures = sum(case.find("failure") is not None for case in suite)
        skipped = sum(case.find("skipped") is not None for case in suite)
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suites(report: Report) -> Iterator[tuple[str, str, Sequence[Case]]]:
    """Name, why nothing of it is proven, and the cases: of each arm, and between the arms."""
    for scenario in report["scenarios"]:
        name = f"{scenario['id']}.{scenario['seed']}"
        for arm in scenario["arms"]:
            run: ComparisonEntry = {
                "check": "run",
                "verdict": arm["verdict"],
                "measured": arm["reason"],
                "bar": "",
            }
            yield f"{name}.{arm['name']}", arm["reason"], arm["invariants"] or [run]
        if scenario["compare"]:
            yield f"{name}.compare", "", scenario["compare"]
