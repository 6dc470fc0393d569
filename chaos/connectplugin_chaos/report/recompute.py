"""A run's report made anew from its records: who doubts a figure can compute it again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connectplugin_chaos.record.files import read_history, read_ledger
from connectplugin_chaos.record.model import History, Ledger
from connectplugin_chaos.report import assemble
from connectplugin_chaos.report.figures import figures
from connectplugin_chaos.report.model import ArmEntry, Report, ScenarioEntry, validated
from connectplugin_chaos.scenario.load import parse
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.scenario.nodes import ScenarioError


class ReportError(Exception):
    """A folder holds no run, or one that cannot be read."""


def read_report(path: Path) -> Report:
    """What is stored.

    Args:
        path: `report.json`, or the folder that holds it.

    Raises:
        ReportError: There is none.
    """
    file = path / "report.json" if path.is_dir() else path
    try:
        return validated(json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        msg = f"{file} is no report: {error}"
        raise ReportError(msg) from None


def read_records(folder: Path) -> tuple[History, Ledger]:
    """History and ledger of an arm."""
    return read_history(folder / "history.jsonl.gz"), read_ledger(folder / "ledger.jsonl.gz")


@dataclass(frozen=True, kw_only=True)
class Recomputed:
    """A report out of records.

    Attributes:
        report: What the records say.
        differences: Where the stored report says something else.
        remarks: What could not be looked at.
    """

    report: Report
    differences: list[str]
    remarks: list[str]


def recomputed(folder: Path) -> Recomputed:
    """The report out of the records alone, and where the stored one says something else.

    Only what the records cannot tell is taken over: where the run was made, and what went wrong
    with the harness. A scenario that needs a user's module, which is not there, keeps its
    judgements too; a remark says so.

    Args:
        folder: Of the run.

    Raises:
        ReportError: Something is missing.
    """
    stored = read_report(folder)
    try:
        kept: dict[str, dict[str, str]] = json.loads((folder / "env.json").read_text())["scenarios"]
    except (OSError, ValueError, KeyError) as error:
        msg = f"{folder / 'env.json'} does not hold the scenarios: {error!r}"
        raise ReportError(msg) from None
    differences: list[str] = []
    remarks: list[str] = []
    entries: list[ScenarioEntry] = []
    for entry in stored["scenarios"]:
        scenario: Scenario | None = None
        asked = kept[entry["id"]]
        try:
            scenario = parse(asked["text"], f"{entry['id']} in env.json", asked["target"])
        except ScenarioError as error:
            remarks.append(f"the judgements of {entry['id']} are the stored ones: {error}")
        histories: dict[str, History] = {}
        arms: list[ArmEntry] = []
        for arm in entry["arms"]:
            made, history = _arm(folder, scenario, arm)
            if history is not None:
                histories[arm["name"]] = history
            name = f"{entry['id']} {arm['name']} seed {entry['seed']}"
            differences += _differences(name, arm, made)
            arms.append(made)
        if scenario is None:
            entries.append({**entry, "arms": arms})
        else:
            entries.append(assemble.scenario_entry(scenario, entry["seed"], arms, histories))
    report = assemble.report(stored["run"], entries)
    return Recomputed(report=report, differences=differences, remarks=remarks)


def _arm(
    folder: Path, scenario: Scenario | None, stored: ArmEntry
) -> tuple[ArmEntry, History | None]:
    records = None
    if stored["metrics"] is not None:
        try:
            records = read_records(folder / stored["folder"])
        except (OSError, ValueError) as error:
            msg = f"the records of {folder / stored['folder']} cannot be read: {error}"
            raise ReportError(msg) from None
    if scenario is None:
        metrics = None if records is None else figures(*records)
        return {**stored, "metrics": metrics}, None
    made = assemble.arm_entry(
        scenario, stored["name"], records, folder=stored["folder"], trouble=stored["trouble"]
    )
    return made, None if records is None else records[0]


def _differences(where: str, stored: ArmEntry, made: ArmEntry) -> list[str]:
    """Figures and judgements that are not the same."""
    before, after = _flat(stored), _flat(made)
    return [
        f"{where}: {name} is {after.get(name)!r} by the records, and {before.get(name)!r} in the"
        " report"
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def _flat(arm: ArmEntry) -> dict[str, Any]:
    found: dict[str, Any] = {"verdict": arm["verdict"]}
    if arm["metrics"] is not None:
        found.update(arm["metrics"])
    for number, judged in enumerate(arm["invariants"], 1):
        found[f"check {number} ({judged['check']})"] = (judged["verdict"], judged["measured"])
    return found
