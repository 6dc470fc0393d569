"""History and ledger as files: one JSON object a line, packed."""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from connectplugin_chaos.record.model import (
    Attempt,
    Execution,
    Fault,
    History,
    Ledger,
    Notice,
    Operation,
)


def write_history(path: Path, history: History) -> None:
    """Write `history.jsonl.gz`: a line for the run, then one for each fault, notice, operation."""
    head = {
        "scenario": history.scenario,
        "arm": history.arm,
        "seed": history.seed,
        "phases": {name: list(span) for name, span in history.phases.items()},
        "end": history.end,
        "zero": history.zero,
    }
    _write(
        path,
        [
            {"type": "run", **head},
            *({"type": "fault", **asdict(fault)} for fault in history.faults),
            *({"type": "notice", **asdict(notice)} for notice in history.notices),
            *({"type": "op", **asdict(operation)} for operation in history.operations),
        ],
    )


def read_history(path: Path) -> History:
    """Read it back.

    Raises:
        ValueError: The file is none.
    """
    head: dict[str, Any] = {}
    found: dict[str, list[dict[str, Any]]] = {"run": [], "fault": [], "notice": [], "op": []}
    for line in _read(path):
        found[line.pop("type")].append(line)
    if len(found["run"]) != 1:
        msg = f"{path} holds {len(found['run'])} lines of type 'run'; a history has one"
        raise ValueError(msg)
    head = found["run"][0]
    for line in found["op"]:
        line["attempts"] = tuple(Attempt(**attempt) for attempt in line["attempts"])
        line["received"] = tuple(line["received"])
    operations = [Operation(**line) for line in found["op"]]
    return History(
        scenario=head["scenario"],
        arm=head["arm"],
        seed=head["seed"],
        phases={name: (span[0], span[1]) for name, span in head["phases"].items()},
        operations=tuple(operations),
        notices=tuple(Notice(**line) for line in found["notice"]),
        faults=tuple(Fault(**line) for line in found["fault"]),
        end=head["end"],
        zero=head.get("zero", ""),
    )


def write_ledger(path: Path, ledger: Ledger) -> None:
    """Write `ledger.jsonl.gz`."""
    lines: list[dict[str, Any]] = [
        *({"type": "execution", **asdict(execution)} for execution in ledger.executions),
        *({"type": "notice", **asdict(notice)} for notice in ledger.notices),
    ]
    if ledger.final is not None:
        lines += [
            {"type": "final", "key": key, "ops": list(ops)} for key, ops in ledger.final.items()
        ]
        lines.append({"type": "asked"})
    _write(path, lines)


def read_ledger(path: Path) -> Ledger:
    """Read it back."""
    executions: list[Execution] = []
    notices: list[Notice] = []
    final: dict[str, tuple[int, ...]] = {}
    asked = False
    for line in _read(path):
        match line.pop("type"):
            case "execution":
                executions.append(Execution(**line))
            case "notice":
                notices.append(Notice(**line))
            case "final":
                final[line["key"]] = tuple(line["ops"])
            case _:
                asked = True
    return Ledger(
        executions=tuple(executions), notices=tuple(notices), final=final if asked else None
    )


def _write(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    # Without name and time in its head the same content is the same file.
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as out:
        for line in lines:
            out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
