"""Where and with what a run was made: `env.json`, enough to make it again."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from connectplugin_chaos.report.model import RunEntry
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.toxiproxy.binary import repository
from connectplugin_chaos.toxiproxy.doctor import Diagnosis

_LOCK = Path("requirements") / "dev.txt"


def run_entry(identity: str, diagnosis: Diagnosis) -> RunEntry:
    """What `report.json` says of a run.

    Args:
        identity: Of the run.
        diagnosis: Of the toxiproxy.
    """
    return {
        "id": identity,
        "commit": commit(),
        "python": sys.version.split()[0],
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpus": os.cpu_count() or 0,
        "fault_engine": f"toxiproxy {diagnosis.version}",
    }


def env_file(
    run: RunEntry, diagnosis: Diagnosis, scenarios: Sequence[Scenario], seeds: Sequence[int]
) -> dict[str, Any]:
    """What `env.json` holds.

    Args:
        run: As in `report.json`.
        diagnosis: Of the toxiproxy.
        scenarios: What was run; their files' texts are kept.
        seeds: Of the schedules.
    """
    return {
        **run,
        "lock_sha256": _lock(),
        "toxiproxy": {
            "path": diagnosis.path,
            "found": diagnosis.found,
            "module": diagnosis.module,
            "go_version_m": _go_version(diagnosis.path),
        },
        "doctor": [{"name": f.name, "good": f.good, "seen": f.seen} for f in diagnosis.findings],
        "seeds": sorted(set(seeds)),
        "scenarios": {
            s.id: {"target": "" if s.custom is None else s.custom.target, "text": s.text}
            for s in scenarios
        },
    }


def commit() -> str:
    """Of the working tree, with `+` if something in it is changed; empty outside a repository."""
    root = repository()
    if root is None or not (head := _said("git", "-C", str(root), "rev-parse", "HEAD")):
        return ""
    changed = _said("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def _lock() -> str:
    root = repository()
    path = None if root is None else root / _LOCK
    if path is None or not path.is_file():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _go_version(path: str) -> str:
    return _said("go", "version", "-m", path)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def _said(*command: str) -> str:
    """What a program prints; empty if it is not there, or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
