"""Four busy loops beside a run: it may prove nothing, and must not accuse.

It takes minutes, and the whole machine: `CHAOS_BUSY=3` and pytest on this file runs each
scenario three times. What the gate does with late histories is tested in test_verdicts.py, always.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectplugin_chaos import cli

TIMES = int(os.environ.get("CHAOS_BUSY", "0"))

pytestmark = [
    pytest.mark.skipif(TIMES == 0, reason="set CHAOS_BUSY to how often; it keeps the machine busy"),
    pytest.mark.timeout(900),
]

LOOP = "import time; end = time.monotonic() + 300\nwhile time.monotonic() < end: pass"


@pytest.fixture
def busy_loops() -> Iterator[None]:
    loops = [subprocess.Popen([sys.executable, "-c", LOOP]) for _ in range(4)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@pytest.mark.parametrize("scenario", ["A6", "C1"])
@pytest.mark.usefixtures("toxiproxy", "busy_loops")
def test_beside_four_busy_loops_nothing_fails(scenario: str, tmp_path: Path) -> None:
    for number in range(TIMES):
        out = tmp_path / str(number)
        code = cli.main(
            ["run", scenario, "--short", "--arms", "stack", "--tries", "1", "--out", str(out)]
        )
        (folder,) = out.iterdir()
        verdict = json.loads((folder / "report.json").read_text())["verdict"]
        assert (code, verdict) in {(0, "pass"), (2, "inconclusive")}
