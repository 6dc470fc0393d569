"""`connectplugin-chaos`: breaks a system of plugins on purpose, and says what held."""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from connectplugin_chaos.arms.names import SABOTAGES, check_arm
from connectplugin_chaos.engine.session import Session, Step, new_folder, write, write_json
from connectplugin_chaos.report import picture
from connectplugin_chaos.report.claims import table as table_of_claims
from connectplugin_chaos.report.diff import differences
from connectplugin_chaos.report.model import Report
from connectplugin_chaos.report.recompute import ReportError, read_records, read_report, recomputed
from connectplugin_chaos.report.text import table
from connectplugin_chaos.scenario.load import load, load_all
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.scenario.nodes import ScenarioError, nearest
from connectplugin_chaos.scenario.schema import schema
from connectplugin_chaos.toxiproxy.api import ToxiproxyError
from connectplugin_chaos.toxiproxy.binary import Binary, NoToxiproxyError, find
from connectplugin_chaos.toxiproxy.doctor import Diagnosis, examine

PASSED: Final = 0
FAILED: Final = 1
NOT_PROVEN: Final = 2
"""Exit code of a run that says nothing: no toxiproxy, a busy machine, a command that is wrong."""

LIMITS: Final = {"smoke": 120.0, "core": 600.0, "full": 2400.0}
"""Seconds of a tier; a plan that takes longer is refused."""


class UsageError(Exception):
    """The command line asks for what does not exist."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, and do it; the exit code."""
    given = command_line().parse_args(arguments)
    # What was started is ended in order on SIGTERM too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        match given.command:
            case "doctor":
                return doctor()
            case "list":
                return show_scenarios(claims=given.claims)
            case "schema":
                print(json.dumps(schema(), indent=1))
                return PASSED
            case "report":
                return rebuild(Path(given.folder), given.picture)
            case "diff":
                return diff(Path(given.before), Path(given.after))
            case _:
                return run(given)
    except (NoToxiproxyError, ToxiproxyError, ScenarioError, UsageError, ReportError) as error:
        print(error, file=sys.stderr)
        return NOT_PROVEN
    except KeyboardInterrupt:
        print("\ninterrupted; everything that was started is stopped", file=sys.stderr)
        return 130


def command_line() -> argparse.ArgumentParser:
    """What it understands."""
    parser = argparse.ArgumentParser(
        prog="connectplugin-chaos",
        description=__doc__,
        epilog="Exit codes: 0 all held, 1 something did not, 2 nothing is proven.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check that toxiproxy is there and does what it should")
    listing = commands.add_parser("list", help="the scenarios, and what each shows")
    listing.add_argument("--claims", action="store_true", help="as the page chaos/CLAIMS.md")
    commands.add_parser("schema", help="the JSON Schema of scenario files, for editors")
    running = commands.add_parser("run", help="run scenarios", allow_abbrev=False)
    running.add_argument("scenarios", nargs="*", help="ids, or files; by default a whole tier")
    running.add_argument(
        "--target",
        default="",
        metavar="MODULE:CONFIG",
        help="a ServeConfig of yours, or a function that returns one, instead of the harness's"
        " plugin; the scenario files say what is called",
    )
    running.add_argument("--tier", choices=tuple(LIMITS), help="which to run (default: smoke)")
    running.add_argument("--arms", help="instead of the scenario's, with commas between")
    running.add_argument(
        "--minus", action="append", default=[], help="also our stack without this layer"
    )
    running.add_argument(
        "--sabotage",
        action="append",
        default=[],
        choices=(*SABOTAGES, "all"),
        help="our stack broken on purpose, where a scenario says what must break then",
    )
    running.add_argument("--seeds", help="instead of the first of the scenario, with commas")
    running.add_argument("--short", action="store_true", help="the short phases, where there are")
    running.add_argument("--tries", type=int, default=2, help="of what is inconclusive (default 2)")
    running.add_argument("--out", default="runs", help="where the run's folder is made")
    reporting = commands.add_parser("report", help="compute a run's reports again from its records")
    reporting.add_argument("folder")
    reporting.add_argument(
        "--picture",
        nargs=2,
        metavar=("SCENARIO", "FILE.svg"),
        help="also draw a scenario's arms, and write their figures beside it as FILE.json",
    )
    differing = commands.add_parser("diff", help="what has changed between two runs")
    differing.add_argument("before")
    differing.add_argument("after")
    return parser


def doctor() -> int:
    """Examine the toxiproxy that would be used."""
    diagnosis = _examine(find())
    print(f"toxiproxy {diagnosis.version} at {diagnosis.path} ({diagnosis.found})")
    if diagnosis.module:
        print(f"module    {diagnosis.module}")
    for finding in diagnosis.findings:
        print(f"  {'ok  ' if finding.good else 'BAD '} {finding.name:<36} {finding.seen}")
    if diagnosis.good:
        print("ok: the faults do what the scenarios count on")
        return PASSED
    count = len(diagnosis.surprises)
    print(f"not ok: {count} of {len(diagnosis.findings)} probes; nothing will be run with it")
    return NOT_PROVEN


def _examine(binary: Binary) -> Diagnosis:
    with tempfile.TemporaryDirectory(prefix="connectplugin-chaos-") as folder:
        return asyncio.run(examine(binary, Path(folder)))


def show_scenarios(*, claims: bool = False) -> int:
    """One line for each scenario, or the page of what they claim."""
    if claims:
        print(table_of_claims(load_all().values()), end="")
        return PASSED
    for scenario in load_all().values():
        print(f"{scenario.id:<5} {scenario.title}")
        arms = ", ".join(scenario.arms)
        print(f"      tiers: {', '.join(scenario.tier)}; arms: {arms}; claim: {scenario.claim}")
    return PASSED


def plan(given: argparse.Namespace) -> list[Step]:
    """What a command line asks for.

    Raises:
        UsageError: It asks for what does not exist, or takes longer than the tier allows.
    """
    tier: str = given.tier or "smoke"
    chosen = _chosen(given, tier)
    smoke = not given.scenarios and not given.sabotage and tier == "smoke"
    steps: list[Step] = []
    for scenario in chosen:
        arms = _arms(given, scenario, tier="" if given.scenarios else tier)
        seeds = (
            [int(seed) for seed in given.seeds.split(",")] if given.seeds else scenario.seeds[:1]
        )
        short = (smoke or given.short) and scenario.short is not None
        phases = scenario.short if short and scenario.short is not None else scenario.plan
        steps += [
            Step(scenario=scenario, arm=arm, seed=seed, plan=phases)
            for seed in seeds
            for arm in arms
        ]
    total = sum(step.seconds for step in steps)
    if not given.scenarios and not given.sabotage and total > LIMITS[tier]:
        msg = (
            f"the tier {tier} would take {total:.0f} s, and may take {LIMITS[tier]:.0f}: name"
            " scenarios, or fewer arms"
        )
        raise UsageError(msg)
    return steps


def _chosen(given: argparse.Namespace, tier: str) -> list[Scenario]:
    known = load_all()
    chosen: list[Scenario] = []
    for name in given.scenarios:
        if name.endswith((".yaml", ".yml")):
            chosen.append(load(Path(name), given.target))
        elif given.target:
            raise UsageError(f"--target takes files of scenarios (.yaml), and {name!r} is none")
        elif name.upper() in known:
            chosen.append(known[name.upper()])
        else:
            raise UsageError(f"there is no scenario {name!r}{nearest(name, known)}")
    if given.target and not given.scenarios:
        raise UsageError("--target takes files of scenarios, which say what is called: my.yaml")
    if given.sabotage:
        chosen = [s for s in chosen or known.values() if _sabotages(given, s)]
        if not chosen:
            raise UsageError(f"no scenario here says what breaks under {', '.join(given.sabotage)}")
    elif not given.scenarios:
        chosen = [scenario for scenario in known.values() if tier in scenario.tier]
    return chosen


def _sabotages(given: argparse.Namespace, scenario: Scenario) -> list[str]:
    """The arms that a scenario has for the sabotages that are asked for."""
    asked = SABOTAGES if "all" in given.sabotage else given.sabotage
    return [arm for arm in (f"stack!{name}" for name in asked) if arm in scenario.expect]


def _arms(given: argparse.Namespace, scenario: Scenario, *, tier: str) -> list[str]:
    if given.sabotage:
        arms = _sabotages(given, scenario)
    elif given.arms:
        arms = str(given.arms).split(",")
    else:
        arms = list(scenario.tier_arms.get(tier, scenario.arms))
    arms += [f"stack-{layer}" for layer in given.minus]
    for arm in arms:
        if (problem := check_arm(arm, scenario.variants)) is not None:
            raise UsageError(problem)
    return arms


def run(given: argparse.Namespace) -> int:
    """Run what is asked for."""
    steps = plan(given)
    binary = find()
    diagnosis = _examine(binary)
    if not diagnosis.good:
        for finding in diagnosis.surprises:
            print(f"  BAD  {finding.name}: {finding.seen}", file=sys.stderr)
        raise UsageError(f"{binary.path} surprises; see `connectplugin-chaos doctor`")
    total = sum(step.seconds for step in steps)
    print(f"{len(steps)} arms, {total:.0f} s, toxiproxy {diagnosis.version}")
    named = given.scenarios or given.sabotage
    session = Session(
        steps=steps,
        folder=new_folder(Path(given.out)),
        binary=binary,
        diagnosis=diagnosis,
        tries=max(1, given.tries),
        limit=float("inf") if named else LIMITS[given.tier or "smoke"],
        progress=Progress(),
    )
    report = session.run()
    summarize(report)
    print(f"report: {session.folder / 'report.html'}")
    return exit_code(report["verdict"])


def exit_code(verdict: str) -> int:
    """Of a run with this verdict."""
    return {"pass": PASSED, "inconclusive": NOT_PROVEN}.get(verdict, FAILED)


def summarize(report: Report) -> None:
    """Print what came out."""
    for scenario in report["scenarios"]:
        print(f"\n{scenario['id']} {scenario['title']} (seed {scenario['seed']})")
        print(table(scenario))
        for arm in scenario["arms"]:
            if arm["reason"]:
                print(f"  {arm['name']}: {arm['verdict']}: {arm['reason']}")
            for found in arm["invariants"]:
                if found["verdict"] != "pass":
                    told = f"{found['measured']} (bar {found['bar']})"
                    print(f"  {arm['name']}: {found['check']} {found['verdict']}: {told}")
    print(f"\n{report['verdict']}")


class Progress:
    """A line on the terminal that is written over; elsewhere nothing."""

    def __init__(self) -> None:
        self._started = time.monotonic()

    def __call__(self, now: float, total: float, what: str) -> None:
        """Draw it."""
        if not sys.stdout.isatty():
            return
        done = int(30 * min(1.0, now / total)) if total else 0
        left = max(0.0, total - now)
        bar = "#" * done + "." * (30 - done)
        print(f"\r[{bar}] {left:4.0f} s left  {what:<24}", end="\r", flush=True)


def rebuild(folder: Path, drawn: Sequence[str] | None = None) -> int:
    """Write a run's reports anew from its records; exit code 1 if they tell another story.

    Args:
        folder: Of the run.
        drawn: A scenario's id, and the file for its picture.
    """
    found = recomputed(folder)
    report, differences = found.report, found.differences
    write(folder, report)
    summarize(report)
    if drawn:
        draw(folder, report, drawn[0], Path(drawn[1]))
    for line in (*found.remarks, *differences):
        print(line)
    agree = "report.json agreed with the records" if not differences else "written anew"
    print(f"{agree}: {folder / 'report.html'}")
    return FAILED if differences else exit_code(report["verdict"])


def draw(folder: Path, report: Report, wanted: str, path: Path) -> None:
    """A scenario's picture, its figures beside it, and their table on the terminal.

    Raises:
        UsageError: There is no such scenario, or the file is to be something else.
    """
    scenario = picture.chosen(report["scenarios"], wanted)
    if scenario is None:
        known = [entry["id"] for entry in report["scenarios"]]
        raise UsageError(f"the run has no scenario {wanted!r}{nearest(wanted, known)}")
    if path.suffix != ".svg":
        raise UsageError(f"{path} must end with .svg: that is what is drawn")
    histories = {
        arm["name"]: read_records(folder / arm["folder"])[0]
        for arm in scenario["arms"]
        if arm["metrics"] is not None
    }
    found = picture.summary(report["run"], scenario)
    path.write_text(picture.svg(scenario, histories))
    write_json(path.with_suffix(".json"), found)
    print(picture.markdown(found))


def diff(before: Path, after: Path) -> int:
    """Print what is different between two runs; exit code 1 if a verdict got worse."""
    told, worse = differences(read_report(before), read_report(after))
    print("\n".join(told) or "no difference")
    return FAILED if worse else PASSED


if __name__ == "__main__":
    sys.exit(main())
