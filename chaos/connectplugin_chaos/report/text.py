"""Reports for terminals, pull requests and CI: a table, Markdown, JUnit."""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree import ElementTree as ET

Report = Mapping[str, Any]


def arms(report: Report) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Every arm with its scenario."""
    for scenario in report["scenarios"]:
        for arm in scenario["arms"]:
            yield scenario, arm


def row(arm: Mapping[str, Any]) -> tuple[str, ...]:
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


def table(scenario: Mapping[str, Any]) -> str:
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
    return "\n".join(lines) + "\n"


def junit(report: Report) -> str:
    """For CI: a case for each check of each arm; what is inconclusive is skipped."""
    root = ET.Element("testsuites", name="connectplugin-chaos")
    for scenario, arm in arms(report):
        name = f"{scenario['id']}.{scenario['seed']}.{arm['name']}"
        suite = ET.SubElement(root, "testsuite", name=name)
        cases = arm["invariants"] or [
            {"check": "run", "verdict": arm["verdict"], "measured": arm["reason"], "bar": ""}
        ]
        for found in cases:
            case = ET.SubElement(suite, "testcase", classname=name, name=found["check"])
            verdict = found["verdict"]
            told = f"{found['measured']} (bar: {found['bar']})"
            if arm["verdict"] == "inconclusive":
                ET.SubElement(case, "skipped", message=arm["reason"] or told)
            elif verdict != "pass":
                ET.SubElement(case, "failure", message=f"{verdict}: {told}")
        failures = sum(case.find("failure") is not None for case in suite)
        skipped = sum(case.find("skipped") is not None for case in suite)
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(failures))
        suite.set("skipped", str(skipped))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
