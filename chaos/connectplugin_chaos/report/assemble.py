"""`report.json` out of records: the same when it is run, and when it is computed again."""

from collections.abc import Mapping, Sequence

from connectplugin_chaos.check.compare import compare
from connectplugin_chaos.check.judgement import Verdict, worst
from connectplugin_chaos.check.verdicts import judge_records
from connectplugin_chaos.record.model import History, Ledger
from connectplugin_chaos.report import figures
from connectplugin_chaos.report.model import (
    SCHEMA,
    ArmEntry,
    Report,
    RunEntry,
    ScenarioEntry,
)
from connectplugin_chaos.scenario.model import Scenario


def arm_entry(
    scenario: Scenario,
    arm: str,
    records: tuple[History, Ledger] | None,
    *,
    folder: str,
    trouble: str = "",
) -> ArmEntry:
    """One arm: its figures, and what its checks say.

    Args:
        scenario: What was asked for.
        arm: Its name.
        records: None if nothing was run.
        folder: Where they are.
        trouble: What went wrong with the harness.
    """
    verdict = judge_records(scenario, arm, records, trouble=trouble)
    return {
        "name": arm,
        "verdict": verdict.verdict.word,
        "reason": verdict.reason,
        "trouble": trouble,
        "folder": folder,
        "metrics": None if records is None else figures.figures(*records),
        "invariants": []
        if records is None
        else [figures.judgement(found, records[0]) for found in verdict.judgements],
    }


def scenario_entry(
    scenario: Scenario,
    seed: int,
    arms: Sequence[ArmEntry],
    histories: Mapping[str, History],
) -> ScenarioEntry:
    """One scenario with one seed.

    Args:
        scenario: What was asked for.
        seed: Of the schedule.
        arms: In order.
        histories: By arm; those that are compared, at least.
    """
    unproven = frozenset(a["name"] for a in arms if a["verdict"] == Verdict.INCONCLUSIVE.value)
    compared = compare(scenario.compare, histories, unproven)
    verdicts = [Verdict(arm["verdict"]) for arm in arms] + [each.verdict for each in compared]
    return {
        "id": scenario.id,
        "title": scenario.title,
        "claim": scenario.claim,
        "why": list(scenario.why),
        "seed": seed,
        "verdict": worst(*verdicts).word,
        "arms": list(arms),
        "compare": [figures.comparison(each) for each in compared],
    }


def report(run: RunEntry, scenarios: Sequence[ScenarioEntry]) -> Report:
    """All of it.

    Args:
        run: Where and with what.
        scenarios: In order.
    """
    verdict = worst(*(Verdict(entry["verdict"]) for entry in scenarios)).word
    return {"schema": SCHEMA, "run": run, "scenarios": list(scenarios), "verdict": verdict}
