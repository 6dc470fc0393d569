"""Would the tests notice? Changes the machines in small ways, one at a time, and runs their tests.

    make mutants                              every machine
    make mutants ARGS='retry server/drain'    some of them
    make mutants ARGS='--survivors retry'     only those that survived last, with the tests of now
    make mutants ARGS='--table'               the table of what was found last, without a new run

A mutant is *killed* if some test of its machine fails, or no longer ends. Those that survive are
shown as a diff; `tests/mutants.md` explains the ones that are known. Ends with 1 if fewer than
90 % are killed in all, 2 if not all mutants were tried.

Each machine runs apart, in `build/mutate/NAME`: mutmut takes the name of a module from its path,
so packages and tests are copied side by side. The tests' seeds are fixed, and Hypothesis does not
shrink what it finds: that it found something is enough.
"""

# ruff: noqa: S603, T201  # it runs mutmut, and prints

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build/mutate"
INTERCEPTORS = ROOT / "interceptors/connectplugin_interceptors"
GOAL = 0.9

TESTS = {
    "adaptive": [
        "tests/unit/adaptive/test_machine.py",
        "tests/properties/test_adaptive_formula.py",
        "tests/properties/test_adaptive_limit.py",
    ],
    "balance": ["tests/unit/balance", "tests/properties/test_endpoint_pool.py"],
    "bulkhead": ["tests/properties/test_bulkhead.py"],
    "circuit_breaker": [
        "tests/unit/circuit_breaker/test_machine.py",
        "tests/properties/test_circuit_breaker.py",
    ],
    "deadline": ["tests/properties/test_deadline.py"],
    "fallback": ["tests/unit/fallback/test_machine.py"],
    "fault": ["tests/unit/fault", "tests/properties/test_fault.py"],
    "hedge": ["tests/unit/test_hedge_machine.py", "tests/properties/test_hedge.py"],
    "outlier_ejection": [
        "tests/unit/balance/test_outliers.py",
        "tests/properties/test_outliers.py",
    ],
    "rate_limit": [
        "tests/unit/rate_limit/test_machine.py",
        "tests/properties/test_rate_limit.py",
    ],
    "ready": ["tests/unit/ready", "tests/properties/test_ready_gate.py"],
    "retry": ["tests/unit/test_retry_decision.py", "tests/properties/test_retry_decision.py"],
    "server/deadline": ["tests/properties/test_server_deadline.py"],
    "server/drain": ["tests/properties/test_server_machines.py"],
    "server/masking": ["tests/unit/server/test_masking.py"],
    "server/rate_limit": ["tests/unit/rate_limit/test_server_machine.py"],
    "throttle": ["tests/properties/test_throttle.py"],
}
"""What holds each machine to its word. The chain's tests would kill more, at a hundred times the
cost, and not say what is wrong."""

SLOW = {
    "rate_limit": [
        "tests/unit/rate_limit/test_machine.py::test_a_million_keys_do_not_grow_memory",
        "tests/unit/rate_limit/test_machine.py::"
        "test_ten_thousand_waiters_that_leave_at_once_cost_no_quadratic_time",
        "tests/unit/rate_limit/test_machine.py::"
        "test_calls_that_are_a_token_apart_all_pass_for_a_day",
    ],
}
"""Tests that are left out: about cost and long times, they would make hours of it."""

PROJECT = """
[tool.pytest]
pythonpath = ["."]
addopts = ["--import-mode=importlib", "-p", "no:cacheprovider"]
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"

[tool.mutmut]
source_paths = ["connectplugin", "connectplugin_interceptors"]
only_mutate = ["connectplugin_interceptors/{machine}/machine.py"]
also_copy = ["kv", "kv_plugin.py", "server.py"]
pytest_add_cli_args_test_selection = [{tests}]
process_isolation = "forkserver"
timeout_constant = 20.0
use_git_change_detection = false
track_dependencies = false
"""

PROFILE = """

import hypothesis

hypothesis.settings.register_profile(
    "mutants",
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list) -> None:
    # The quick ones first: mutmut stops at the first test that fails.
    items.sort(key=lambda item: "/properties/" in item.nodeid)
"""


@dataclass(frozen=True)
class Found:
    """What became of one machine's mutants: their names by fate."""

    machine: str
    fates: dict[str, str]

    @property
    def made(self) -> int:
        """How many there are."""
        return len(self.fates)

    @property
    def killed(self) -> int:
        """How many were noticed."""
        return len(self.fates) - len(self.survivors)

    @property
    def untried(self) -> int:
        """How many were not run."""
        return Counter(self.fates.values())["not checked"]

    @property
    def survivors(self) -> list[str]:
        """Those that no test noticed, or that no test reached."""
        return [one for one, fate in self.fates.items() if fate not in {"killed", "timeout"}]


def chosen(names: Sequence[str]) -> Sequence[str]:
    """The machines of these names; all, if none is given."""
    for name in names:
        if name not in TESTS:
            sys.exit(f"mutants: {name!r} has no tests here; there are: {', '.join(TESTS)}")
    return names or list(TESTS)


def place(machine: str) -> Path:
    """Where a machine's mutants live."""
    return PLACE / machine.replace("/", "-")


def prepare(machine: str) -> None:
    """Copy what is needed, side by side."""
    folder = place(machine)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for source in (ROOT / "connectplugin", INTERCEPTORS):
        shutil.copytree(source, folder / source.name, ignore=ignore)
    shutil.copytree(ROOT / "examples/kv/gen/kv", folder / "kv", ignore=ignore)
    for name in ("kv_plugin.py", "server.py"):
        shutil.copy(ROOT / "examples/kv" / name, folder / name)


def copy_tests(machine: str) -> None:
    """The tests as they are now, with the profile for this, and what mutmut is told of them."""
    folder = place(machine)
    for copy in (folder / "tests", folder / "mutants/tests"):
        shutil.rmtree(copy, ignore_errors=True)
    # Which test reaches which function: it may have changed.
    (folder / "mutants/mutmut-stats.json").unlink(missing_ok=True)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=ignore)
    with (folder / "tests/conftest.py").open("a") as conftest:
        conftest.write(PROFILE)
    left_out = [f"--deselect={test}" for test in SLOW.get(machine, [])]
    project = PROJECT.format(machine=machine, tests=_quoted([*TESTS[machine], *left_out]))
    (folder / "pyproject.toml").write_text(project)


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in texts)


def mutmut(machine: str, *arguments: str) -> str:
    """Run mutmut in the copy; what it printed, without the pictures of its progress."""
    program = Path(sys.executable).with_name("mutmut")
    done = subprocess.run(
        [str(program), *arguments],
        cwd=place(machine),
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return "\n".join(line.rpartition("\r")[2] for line in done.stdout.splitlines())


def run(machine: str, jobs: int, *, survivors: bool) -> None:
    """Try every mutant of a machine, or only what has survived; keep what mutmut said."""
    names: list[str] = []
    if survivors and is_unchanged(machine):
        names = read(machine).survivors
        if not names:
            return
    else:
        prepare(machine)
    copy_tests(machine)
    print(f"{machine} ...", flush=True)
    said = mutmut(machine, "run", "--max-children", str(jobs), *names)
    (place(machine) / "output.txt").write_text(said)


def is_unchanged(machine: str) -> bool:
    """Whether there are verdicts about this machine as it is now."""
    copy = place(machine) / "connectplugin_interceptors" / machine / "machine.py"
    if not copy.exists() or not read(machine).made:
        return False
    return copy.read_bytes() == (INTERCEPTORS / machine / "machine.py").read_bytes()


def read(machine: str) -> Found:
    """What the last run of a machine has found."""
    fates: dict[str, str] = {}
    if place(machine).exists():
        for line in mutmut(machine, "results", "--all", "true").splitlines():
            if match := re.fullmatch(r"\s+(\S+\.machine\.\S+): (.+)", line):
                fates[match[1]] = match[2]
    return Found(machine, fates)


def show(found: Found) -> None:
    """Print the survivors of a machine, as what they change."""
    for mutant in found.survivors:
        diff = mutmut(found.machine, "show", mutant).splitlines()
        changed = [line for line in diff if line[:1] in "+-" and line[:3] not in {"+++", "---"}]
        print(f"\n  {mutant.partition('.machine.')[2]}: {found.fates[mutant]}")
        print("\n".join(f"  {line}" for line in changed))
    if not found.made:
        print((place(found.machine) / "output.txt").read_text()[-3000:])


def table(results: Sequence[Found]) -> int:
    """Print the result; the exit code."""
    print(f"\n{'machine':<18}{'mutants':>9}{'killed':>9}{'survive':>9}")
    rows = [(one.machine, one.made, one.killed) for one in results]
    made = sum(one.made for one in results)
    killed = sum(one.killed for one in results)
    for name, all_of_it, dead in [*rows, ("all", made, killed)]:
        share = f"{dead / all_of_it:.1%}" if all_of_it else "not run"
        print(f"{name:<18}{all_of_it:>9}{dead:>9}{all_of_it - dead:>9}{share:>9}")
    if any(not one.made or one.untried for one in results):
        print("\nnot all mutants were tried: see build/mutate/*/output.txt")
        return 2
    good = killed >= GOAL * made
    print(f"\n{killed / made:.1%} killed, {GOAL:.0%} wanted: {'ok' if good else 'FAILED'}")
    return 0 if good else 1


def main() -> int:
    """Mutate, test, report."""
    parser = argparse.ArgumentParser(description="Mutation tests of the machines.")
    parser.add_argument("machines", nargs="*", help="such as: retry server/drain")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time (default: 2)")
    parser.add_argument("--survivors", action="store_true", help="only what survived last")
    parser.add_argument("--table", action="store_true", help="print what was found last")
    arguments = parser.parse_args()
    results: list[Found] = []
    for machine in chosen(arguments.machines):
        if not arguments.table:
            run(machine, arguments.jobs, survivors=arguments.survivors)
        results.append(read(machine))
        if not arguments.table:
            show(results[-1])
    return table(results)


if __name__ == "__main__":
    sys.exit(main())
