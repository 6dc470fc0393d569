"""One picture of a scenario, with the figures of its arms: for a README, made from a run."""

from collections.abc import Mapping
from html import escape
from typing import Any, Final, TypedDict

from connectplugin_chaos.record.model import History
from connectplugin_chaos.report.model import RunEntry, ScenarioEntry
from connectplugin_chaos.report.plots import Drawing
from connectplugin_chaos.report.style import DRAWING, VARIABLES, inks
from connectplugin_chaos.report.svg import HEIGHT, LEFT, WIDTH
from connectplugin_chaos.report.text import row

_MARGIN: Final = 12
_HEAD: Final = 26
_KEY: Final = 22


class ArmFigures(TypedDict):
    """What the table beside the picture says of an arm."""

    arm: str
    success: str
    recovery: str
    attempts: str
    done_twice: int


class Summary(TypedDict):
    """The picture's figures, to be kept with it."""

    scenario: str
    seed: int
    verdict: str
    run: str
    commit: str
    arms: list[ArmFigures]


def summary(run: RunEntry, scenario: ScenarioEntry) -> Summary:
    """The figures of each arm.

    Args:
        run: Where it was made.
        scenario: With its arms.
    """
    figures: list[ArmFigures] = []
    for arm in scenario["arms"]:
        if arm["metrics"] is not None:
            name, _, success, recovery, attempts, *_ = row(arm)
            figures.append(
                {
                    "arm": name,
                    "success": success,
                    "recovery": recovery,
                    "attempts": attempts,
                    "done_twice": arm["metrics"]["duplicates"],
                }
            )
    return {
        "scenario": scenario["id"],
        "seed": scenario["seed"],
        "verdict": scenario["verdict"],
        "run": run["id"],
        "commit": run["commit"],
        "arms": figures,
    }


def markdown(found: Summary) -> str:
    """The table of these figures."""
    lines = [
        "| arm | calls that succeed | well again after | attempts per call | done twice |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{arm['arm']}` | {arm['success']} | {arm['recovery']} | {arm['attempts']} |"
        f" {arm['done_twice']} |"
        for arm in found["arms"]
    ]
    return "\n".join(lines) + "\n"


def svg(scenario: ScenarioEntry, histories: Mapping[str, History]) -> str:
    """The drawing: success and attempts of each second, side by side, in one file of its own.

    Args:
        scenario: With its arms.
        histories: Of these, by name.
    """
    names = [arm["name"] for arm in scenario["arms"] if arm["name"] in histories]
    colours = inks(names)
    success, _, attempts = Drawing(histories, colours).together()
    width = 2 * WIDTH + 3 * _MARGIN
    height = _HEAD + HEIGHT + _KEY + _MARGIN
    title = f"{scenario['id']}: {scenario['title']} (seed {scenario['seed']})"
    parts = [
        f'<text x="{_MARGIN + LEFT}" y="{_MARGIN + 8}" class="title">{escape(plot.title)}</text>'
        f'<g transform="translate(0 {_MARGIN + 14})">{plot.inside()}</g>'
        for plot in (success, attempts)
    ]
    placed = "".join(
        f'<g transform="translate({n * (WIDTH + _MARGIN)} 0)">{part}</g>'
        for n, part in enumerate(parts)
    )
    keys = ""
    x = _MARGIN + LEFT
    for name in names:
        keys += (
            f'<line x1="{x}" x2="{x + 28}" y1="-4" y2="-4" style="{colours[name].style}"/>'
            f'<text x="{x + 34}" y="0" class="key">{escape(name)}</text>'
        )
        x += 60 + 8 * len(name)
    bottom = height - _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f"<style>{VARIABLES}{DRAWING}.title{{font-size:13px;font-weight:600;fill:var(--ink)}}"
        ".key{font-size:12px;fill:var(--ink)}</style>"
        f'<rect width="{width}" height="{height}" fill="var(--paper)"/>{placed}'
        f'<g transform="translate(0 {bottom})">{keys}</g></svg>\n'
    )


def chosen(scenarios: list[ScenarioEntry], wanted: str) -> ScenarioEntry | None:
    """The first scenario of an id; None if there is none."""
    found: dict[str, Any] = {}
    for scenario in scenarios:
        found.setdefault(scenario["id"], scenario)
    return found.get(wanted.upper())
