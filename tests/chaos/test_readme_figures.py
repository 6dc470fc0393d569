"""The figures in README are those of the run that the picture beside them was made from."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from connectplugin_chaos.report.picture import Summary, markdown

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "chaos"


@pytest.fixture
def figures() -> Summary:
    found: Summary = json.loads((DOCS / "c1.json").read_text())
    return found


def test_the_table_is_that_of_the_run(figures: Summary) -> None:
    readme = (ROOT / "README.md").read_text()
    assert markdown(figures) in readme, "connectplugin-chaos report RUN --picture C1 ..."


def test_the_figures_bear_out_what_the_text_says(figures: Summary) -> None:
    arms = {arm["arm"]: arm for arm in figures["arms"]}
    assert list(arms) == ["none", "naive", "textbook", "goref", "stack"]
    assert [name for name, arm in arms.items() if arm["recovery"] == "never"] == [
        "naive",
        "textbook",
    ]
    assert arms["naive"]["done_twice"] > 0
    assert arms["stack"]["done_twice"] == 0
    assert float(arms["stack"]["recovery"].removesuffix(" s")) <= 3.0
    assert float(arms["stack"]["attempts"]) <= 1.1


def test_the_picture_and_the_sample_are_of_the_same_run(figures: Summary) -> None:
    drawing = ET.fromstring((DOCS / "c1.svg").read_text())  # noqa: S314  # ours
    words = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {arm["arm"] for arm in figures["arms"]} <= words
    sample = (DOCS / "sample-report.html").read_text()
    assert f"Run {figures['run']}" in sample
    assert len(sample) < 1_000_000
    assert "http" not in sample


def test_links_of_the_section_lead_somewhere() -> None:
    section = (ROOT / "README.md").read_text().partition("## What it buys")[2].partition("\n## ")[0]
    links = re.findall(r"\]\(([^)]+)\)", section)
    assert "docs/chaos/c1.svg" in links
    for link in links:
        assert link.startswith("https://") or (ROOT / link).is_file(), link
