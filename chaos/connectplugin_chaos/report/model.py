"""What `report.json` holds. `report.schema.json` beside this file is made from it."""

import json
from typing import Any, Final, Literal, TypedDict, cast

from connectplugin_chaos.check.judgement import VerdictName
from connectplugin_chaos.report import schema

SCHEMA: Final = 2
"""Of `report.json`; counted up when a field changes its meaning."""


class AttemptEntry(TypedDict):
    """One try of an operation; times are seconds since the end of the warm-up."""

    number: int
    kind: str
    endpoint: str
    started: float
    ended: float | None
    code: str


class OffenderEntry(TypedDict):
    """An operation that offends a check."""

    op: int
    method: str
    called: float
    ended: float | None
    deadline: float
    """Seconds that it had, from `called`."""
    code: str
    attempts: list[AttemptEntry]


class JudgementEntry(TypedDict):
    """A check of an arm."""

    check: str
    verdict: VerdictName
    measured: str
    bar: str
    offending: int
    """How many operations offend; `evidence` has 20 of them at most."""
    evidence: list[OffenderEntry]


class ComparisonEntry(TypedDict):
    """A bar between two arms."""

    check: str
    verdict: VerdictName
    measured: str
    bar: str


class Metrics(TypedDict):
    """The figures of an arm, all out of its history and its ledger."""

    ops: int
    ok: int
    """Well, and within the deadline and 150 ms."""
    goodput: float
    """Well and within the deadline, a second."""
    success_by_phase: dict[str, float]
    amplification_by_phase: dict[str, float]
    amplification: float
    """Attempts for each operation."""
    p50: float
    """Seconds from call to end; so are the other two."""
    p99: float
    p999: float
    recovery_s: float | None
    """From the last heal to three seconds in a row with 99 %; null is never."""
    duplicates: int
    """Operations that were executed twice and must not be."""
    executions: int
    dead_work: int
    """Executions that began after their caller's deadline."""
    deadline_overrun_max_ms: float
    gen_lateness_p99_ms: float
    gen_lag_p99_ms: float
    gen_lag_max_ms: float
    circuit_opened: int
    codes: dict[str, int]


class ArmEntry(TypedDict):
    """One arm of a scenario."""

    name: str
    verdict: VerdictName
    reason: str
    """Why it is inconclusive; empty if it is not."""
    trouble: str
    """What went wrong with the harness; empty if nothing."""
    folder: str
    """Where its history and its ledger are, in the run's folder."""
    metrics: Metrics | None
    """Null if nothing was run."""
    invariants: list[JudgementEntry]


class ScenarioEntry(TypedDict):
    """A scenario with one seed."""

    id: str
    title: str
    claim: str
    why: list[str]
    seed: int
    verdict: VerdictName
    arms: list[ArmEntry]
    compare: list[ComparisonEntry]


class RunEntry(TypedDict):
    """Where and with what it was run; `env.json` has more."""

    id: str
    commit: str
    python: str
    kernel: str
    machine: str
    cpu: str
    cpus: int
    fault_engine: str


class Report(TypedDict):
    """All of `report.json`."""

    schema: Literal[2]
    run: RunEntry
    scenarios: list[ScenarioEntry]
    verdict: VerdictName


def validated(found: Any) -> Report:
    """The same, known to be a report.

    Args:
        found: What was read from JSON.

    Raises:
        ValueError: It is none; the text says where.
    """
    version = cast("dict[str, Any]", found).get("schema") if isinstance(found, dict) else None
    if version != SCHEMA:
        msg = f"schema is {version!r}; this harness reads {SCHEMA}: use the one that wrote it"
        raise ValueError(msg)
    wrong = list(schema.problems(found, Report))
    if wrong:
        raise ValueError("; ".join(wrong[:5]))
    return cast("Report", found)


def json_schema() -> dict[str, Any]:
    """JSON Schema of `report.json`."""
    return schema.json_schema(Report, "report.json of connectplugin-chaos")


if __name__ == "__main__":  # > report.schema.json
    print(json.dumps(json_schema(), indent=1))
