"""How CI takes the smoke tier: 0 passes, 1 fails, 2 is tried once more and then told loudly."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "chaos-smoke"

FAKE = """#!/usr/bin/env bash
echo "$*" >> {folder}/asked
codes=({codes})
exit "${{codes[$(wc -l < {folder}/asked) - 1]}}"
"""


def smoke(folder: Path, *codes: int) -> tuple[int, list[str], str]:
    """Run the script with a harness that ends with these codes: its own, what was asked, told."""
    fake = folder / "connectplugin-chaos"
    fake.write_text(FAKE.format(folder=folder, codes=" ".join(map(str, codes))))
    fake.chmod(0o755)
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "CONNECTPLUGIN_CHAOS": str(fake)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, (folder / "asked").read_text().splitlines(), done.stderr


@pytest.mark.parametrize(
    ("codes", "ends", "tries", "told"),
    [
        ((0,), 0, 1, ""),
        ((1,), 1, 1, "failed with exit code 1"),
        ((2, 0), 0, 2, "try 1 of 2"),
        ((2, 1), 1, 2, "failed with exit code 1"),
        ((2, 2), 0, 2, "!!! NOT PROVEN"),
        ((139,), 1, 1, "failed with exit code 139"),
    ],
)
def test_only_what_did_not_hold_fails(
    tmp_path: Path, codes: tuple[int, ...], ends: int, tries: int, told: str
) -> None:
    code, asked, text = smoke(tmp_path, *codes)
    assert code == ends
    assert asked == ["run --tier smoke"] * tries
    assert told in text
    assert ("NOT PROVEN" in text) == (codes == (2, 2))


def test_without_a_harness_it_fails(tmp_path: Path) -> None:
    nowhere = {**os.environ, "CONNECTPLUGIN_CHAOS": str(tmp_path / "nowhere")}
    done = subprocess.run([SCRIPT], env=nowhere, capture_output=True, timeout=30, check=False)
    assert done.returncode == 1


def test_ci_runs_it_last() -> None:
    lines = (SCRIPT.parent / "run").read_text().split()
    assert lines[-1] == ".ci/chaos-smoke"
