"""Would the tests notice? Changes the machines in small ways, one at a time, and runs their tests.

    make mutants                           every machine
    make mutants ARGS='retry bulkhead'     some of them

mutmut takes the name of a module from its path, so packages and tests are copied side by side into
`build/mutate/`.
"""

# ruff: noqa: S603, T201  # it runs mutmut, and prints

import argparse
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build/mutate"
INTERCEPTORS = ROOT / "interceptors/connectplugin_interceptors"
GOAL = 0.9

TESTS = {
    "adaptive": ["tests/unit/adaptive/test_machine.py", "tests/properties/test_adaptive_limit.py"],
    "balance": ["tests/unit/balance", "tests/properties/test_endpoint_pool.py"],
    "bulkhead": ["tests/properties/test_bulkhead.py"],
    "circuit_breaker": [
        "tests/unit/circuit_breaker/test_machine.py",
        "tests/properties/test_circuit_breaker.py",
    ],
    "deadline": ["tests/properties/test_deadline.py"],
    "fault": ["tests/unit/fault"],
    "hedge": ["tests/unit/test_hedge_machine.py", "tests/properties/test_hedge.py"],
    "outlier_ejection": ["tests/unit/balance", "tests/properties/test_endpoint_pool.py"],
    "rate_limit": [
        "tests/unit/rate_limit/test_machine.py",
        "tests/properties/test_rate_limit.py",
    ],
    "ready": ["tests/properties/test_ready_gate.py"],
    "retry": ["tests/unit/test_retry_decision.py", "tests/properties/test_retry_decision.py"],
    "throttle": ["tests/unit/throttle", "tests/properties/test_throttle.py"],
}
"""What holds each machine to its word. The chain's tests would kill more, at a hundred times the
cost, and not say what is wrong."""

PROJECT = """
[tool.pytest]
pythonpath = ["."]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.mutmut]
source_paths = ["connectplugin", "connectplugin_interceptors"]
only_mutate = [{machines}]
also_copy = ["kv", "kv_plugin.py", "server.py"]
pytest_add_cli_args_test_selection = [{tests}]
timeout_constant = 20.0
use_git_change_detection = false
track_dependencies = false
"""


def machines(names: list[str]) -> list[str]:
    """The machines of these policies; of all, if none is named."""
    known = sorted(TESTS)
    for name in names:
        if name not in known:
            sys.exit(f"mutants: there are no tests for {name!r}; there are: {', '.join(known)}")
    return names or known


def prepare(names: list[str]) -> None:
    """Copy what is needed, side by side, and write the configuration."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for source in (ROOT / "connectplugin", INTERCEPTORS, ROOT / "tests"):
        shutil.copytree(source, PLACE / source.name, ignore=ignore)
    shutil.copytree(ROOT / "examples/kv/gen/kv", PLACE / "kv", ignore=ignore)
    for name in ("kv_plugin.py", "server.py"):
        shutil.copy(ROOT / "examples/kv" / name, PLACE / name)
    tests = dict.fromkeys(test for name in names for test in TESTS[name])
    (PLACE / "pyproject.toml").write_text(
        PROJECT.format(
            machines=_quoted(f"connectplugin_interceptors/{name}/machine.py" for name in names),
            tests=_quoted(tests),
        )
    )


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def mutmut(*arguments: str, capture: bool = False) -> str:
    """Run mutmut in the copy."""
    program = Path(sys.executable).with_name("mutmut")
    done = subprocess.run(
        [str(program), *arguments], cwd=PLACE, check=False, text=True, capture_output=capture
    )
    return done.stdout or ""


def report(names: list[str]) -> int:
    """Tell what has survived; 1 if it is too much, 2 if not all were tried."""
    fates: dict[str, str] = {}
    for line in mutmut("results", "--all", "true", capture=True).splitlines():
        mutant, found, fate = line.strip().rpartition(": ")
        if found:
            fates[mutant] = fate
    if (left := Counter(fates.values())["not checked"]) > 0:
        print(f"mutmut ended early: {left} of {len(fates)} mutants were not tried")
        return 2
    worst = 1.0
    for name in names:
        mine = {
            mutant: fate
            for mutant, fate in fates.items()
            if mutant.startswith(f"connectplugin_interceptors.{name}.machine.")
        }
        counts = Counter(mine.values())
        killed = counts["killed"] + counts["timeout"]
        share = killed / len(mine) if mine else 0.0
        worst = min(worst, share)
        print(f"{name:<18} {killed:>4} of {len(mine):>4} killed  {share:>6.1%}")
        for mutant, fate in mine.items():
            if fate not in {"killed", "timeout"}:
                print(f"\n  {fate}")
                print(mutmut("show", mutant, capture=True))
    return 0 if worst >= GOAL else 1


def main() -> int:
    """Mutate, test, report."""
    parser = argparse.ArgumentParser(description="Mutation tests of the machines.")
    parser.add_argument("policies", nargs="*", help="such as: retry bulkhead")
    parser.add_argument("--jobs", default="2", help="processes at a time")
    arguments = parser.parse_args()
    names = machines(arguments.policies)
    prepare(names)
    mutmut("run", "--max-children", arguments.jobs)
    return report(names)


if __name__ == "__main__":
    sys.exit(main())
