"""Every check has a clean history that passes, and one with a planted bug that it names."""

from typing import Any

import pytest

from connectplugin_chaos.check.judgement import Judgement, Verdict
from connectplugin_chaos.check.mechanisms import ALL_CHECKS
from connectplugin_chaos.record.model import History, Ledger
from tests.chaos.clean import Bug, clean
from tests.chaos.planted import CASES


def check(name: str, history: History, ledger: Ledger, **arguments: Any) -> Judgement:
    return ALL_CHECKS[name](history, ledger, **arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "bug"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)]
)
def test_tells_the_bug_from_the_clean_history(
    name: str, arguments: dict[str, Any], bug: Bug
) -> None:
    history, ledger = clean()
    good = check(name, history, ledger, **arguments)
    assert good.verdict is Verdict.PASS, good
    bad_history, bad_ledger, offending = bug(history, ledger)
    bad = check(name, bad_history, bad_ledger, **arguments)
    assert bad.verdict is Verdict.FAIL, bad
    assert offending <= set(bad.evidence), bad


def test_every_check_has_a_planted_bug() -> None:
    assert {name for name, _, _ in CASES} == set(ALL_CHECKS)


def test_a_goal_is_told_and_judges_nothing() -> None:
    history, ledger = clean()
    found = check("recovery", history, ledger, within=6.0, goal=-1.0)
    assert found.verdict is Verdict.PASS
    assert found.bar == "<= 6 s (goal -1 s)"
