"""Which claim is shown by which scenario: `chaos/CLAIMS.md`."""

import re
from collections.abc import Iterable

from connectplugin_chaos.scenario.model import Scenario

_HEAD = """\
# What is claimed, and what shows it

Written by `connectplugin-chaos list --claims`; a test holds it against the scenario files. Each
scenario runs by its id: `make chaos SCENARIO=C1`. Tiers: smoke
runs in CI, core is `make chaos`, full is `make chaos-full`.

| claim | scenario | tier | why one asks |
|---|---|---|---|
"""


def table(scenarios: Iterable[Scenario]) -> str:
    """The page, in the order of the ids.

    Args:
        scenarios: All that come with the harness.
    """
    rows = [
        f"| {_cell(scenario.claim)} | {scenario.id}: {_cell(scenario.title)} | {scenario.tier[0]} |"
        f" {_cell('; '.join(scenario.why))} |"
        for scenario in sorted(scenarios, key=_order)
    ]
    return _HEAD + "\n".join(rows) + "\n"


def _order(scenario: Scenario) -> tuple[str, int, str]:
    """A2 comes before A10."""
    found = re.fullmatch(r"(\D*)(\d*)(.*)", scenario.id)
    letters, number, rest = found.groups() if found is not None else (scenario.id, "", "")
    return letters, int(number or 0), rest


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
