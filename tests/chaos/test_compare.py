"""Two arms are compared by one figure, and what was not proven of either is not of the ratio."""

from dataclasses import replace

import pytest

from connectplugin_chaos.check.compare import compare, measure
from connectplugin_chaos.check.judgement import Verdict
from connectplugin_chaos.record.model import History
from connectplugin_chaos.scenario.load import parse
from connectplugin_chaos.scenario.model import Comparison
from connectplugin_chaos.scenario.nodes import ScenarioError
from tests.chaos.clean import clean
from tests.chaos.test_scenario_files import GOOD

SLOWER = Comparison(metric="p99", of="none", over="stack", phase="recovery", min=3.0)
ASKED = (
    "  compare:\n    - ratio: {metric: goodput, phase: fault, of: stack, over: naive, min: 1.3}\n"
)


def arms(factor: float) -> dict[str, History]:
    """Every call of `none` takes longer by a factor."""
    history, _ = clean()
    slow = tuple(
        replace(o, ended=o.called + factor * (o.ended - o.called))
        for o in history.operations
        if o.ended is not None
    )
    return {"stack": history, "none": replace(history, operations=slow)}


@pytest.mark.parametrize(("factor", "verdict"), [(3.01, Verdict.PASS), (2.9, Verdict.FAIL)])
def test_a_bar_is_held_or_not(factor: float, verdict: Verdict) -> None:
    (found,) = compare((SLOWER,), arms(factor))
    assert found.verdict is verdict
    assert found.check == "p99 in recovery: none / stack"
    assert found.bar == ">= 3"


@pytest.mark.parametrize(("most", "verdict"), [(1.0, Verdict.PASS), (0.9, Verdict.FAIL)])
def test_a_bar_from_above(most: float, verdict: Verdict) -> None:
    asked = Comparison(metric="attempts", of="none", over="stack", max=most)
    (found,) = compare((asked,), arms(1.0))
    assert found.verdict is verdict


def test_each_figure_is_what_its_name_says() -> None:
    history, _ = clean()
    assert measure(history, "success", "base") == 1.0
    assert measure(history, "goodput", "base") == pytest.approx(10.0)
    assert measure(history, "goodput", "fault") == pytest.approx(1.0)  # two calls of 2 s
    assert measure(history, "p50", "base") == pytest.approx(0.05)
    assert measure(history, "p99", "fault") == pytest.approx(0.05)
    assert measure(history, "attempts", "recovery") == pytest.approx(42 / 40)


def test_nothing_is_not_divided_by() -> None:
    history, _ = clean()
    never = replace(
        history, operations=tuple(replace(o, outcome="info") for o in history.operations)
    )
    asked = Comparison(metric="goodput", of="stack", over="none", min=1.3)
    (found,) = compare((asked,), {"stack": history, "none": never})
    assert found.verdict is Verdict.PASS
    (found,) = compare((asked,), {"stack": never, "none": never})
    assert found.verdict is Verdict.FAIL


def test_an_arm_that_was_not_run_or_proves_nothing() -> None:
    both = arms(3.5)
    assert compare((SLOWER,), {"stack": both["stack"]}) == ()
    (found,) = compare((SLOWER,), both, frozenset({"none"}))
    assert found.verdict is Verdict.INCONCLUSIVE


def test_a_scenario_asks_for_comparisons() -> None:
    scenario = parse(GOOD + ASKED, "t.yaml")
    assert scenario.compare == (
        Comparison(metric="goodput", of="stack", over="naive", phase="fault", min=1.3),
    )
    assert "compare" not in scenario.arms


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("goodput", "godput", r"ratio.metric is 'godput'; did you mean 'goodput'\?"),
        ("over: naive", "over: naiv", r"no arm 'naiv'; did you mean 'naive'\?"),
        ("phase: fault", "phase: falt", r"no phase 'falt'; did you mean 'fault'\?"),
        (", min: 1.3", "", r"ratio lacks a bar"),
        ("- ratio", "- ration", r"no key 'ration'; did you mean 'ratio'\?"),
    ],
)
def test_a_mistake_is_told(right: str, wrong: str, told: str) -> None:
    assert right in ASKED
    with pytest.raises(ScenarioError, match=rf"t.yaml:21: .*{told}"):
        parse(GOOD + ASKED.replace(right, wrong, 1), "t.yaml")
