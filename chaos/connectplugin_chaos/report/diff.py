"""What is different between two runs, for whoever reviews a change."""

from collections.abc import Mapping
from typing import Final

from connectplugin_chaos.check.judgement import Verdict
from connectplugin_chaos.report.model import ArmEntry, Metrics, Report

_FIGURES: Final = ("success", "goodput", "amplification", "recovery_s", "duplicates", "p50", "p99")
_FAILED: Final = {Verdict.FAIL.word, Verdict.NEGATIVE_CONTROL_FAILED.word}


def differences(before: Report, after: Report) -> tuple[list[str], bool]:
    """Lines for people, and whether a verdict got worse: from anything else to failed.

    Args:
        before: The run that is compared with.
        after: The run that is looked at.
    """
    old, new = _by_arm(before), _by_arm(after)
    told: list[str] = []
    worse = False
    for key in dict.fromkeys((*old, *new)):
        if key not in new or key not in old:
            told.append(f"{key}: only in the {'first' if key in old else 'second'}")
            continue
        was, now = old[key], new[key]
        worse = worse or (now["verdict"] in _FAILED and was["verdict"] not in _FAILED)
        lines = _of_arm(was, now)
        told += [f"{key}: {was['verdict']} -> {now['verdict']}", *lines] if lines else []
    return told, worse


def _of_arm(was: ArmEntry, now: ArmEntry) -> list[str]:
    found: list[str] = []
    if was["verdict"] != now["verdict"] and now["reason"]:
        found.append(f"  {now['reason']}")
    checks = {j["check"]: j for j in was["invariants"]}
    for judged in now["invariants"]:
        earlier = checks.get(judged["check"])
        if earlier is not None and earlier["verdict"] != judged["verdict"]:
            found.append(
                f"  {judged['check']}: {earlier['verdict']} ({earlier['measured']}) -> "
                f"{judged['verdict']} ({judged['measured']})"
            )
    a, b = _figures(was["metrics"]), _figures(now["metrics"])
    found += [f"  {name}: {a[name]} -> {b[name]}" for name in a if a[name] != b.get(name)]
    return found


def _figures(metrics: Metrics | None) -> Mapping[str, str]:
    if metrics is None:
        return {}
    seconds = metrics["recovery_s"]
    shown = {
        "success": f"{100 * metrics['ok'] / max(1, metrics['ops']):.1f} %",
        "goodput": f"{metrics['goodput']:.1f}/s",
        "amplification": f"{metrics['amplification']:.2f} attempts/call",
        "recovery_s": "never" if seconds is None else f"{seconds:.2f} s",
        "duplicates": str(metrics["duplicates"]),
        "p50": f"{1000 * metrics['p50']:.0f} ms",
        "p99": f"{1000 * metrics['p99']:.0f} ms",
    }
    return {name: shown[name] for name in _FIGURES}


def _by_arm(report: Report) -> dict[str, ArmEntry]:
    return {
        f"{scenario['id']} {arm['name']} seed {scenario['seed']}": arm
        for scenario in report["scenarios"]
        for arm in scenario["arms"]
    }
