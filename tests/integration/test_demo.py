"""`make demo` tells the truth: 0 only if nothing was lost, and nothing of it lives on."""

import asyncio
import os
import signal
from pathlib import Path

from tests.integration.test_readme import IMPORTABLE, ROOT, python

PATH = [*IMPORTABLE, ROOT / "examples/kv"]
DEMO = str(ROOT / "examples/kv/demo.py")


def servers_of(folder: Path) -> list[int]:
    """Processes of plugins whose journal is below a folder."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if b"server.py" in command and bytes(folder) in command:
                found.append(int(entry.name))
    return found


async def demo(folder: Path, *arguments: str) -> tuple[int | None, str]:
    process = await python(DEMO, *arguments, "--folder", str(folder), cwd=folder, path=PATH)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_it_succeeds_and_with_the_restart_sabotaged_it_does_not(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    (code, text), (sabotaged, _) = await asyncio.gather(
        demo(good), demo(bad, "--no-restart", "--deadline", "2")
    )
    assert code == 0, text
    for shape in ("unary", "client stream", "server stream", "bidi stream"):
        assert shape in text
    assert "idempotent calls succeeded" in text
    assert sabotaged == 1
    assert servers_of(tmp_path) == []


async def test_ctrl_c_ends_it_and_leaves_no_child(tmp_path: Path) -> None:
    process = await python(DEMO, "--folder", str(tmp_path), cwd=tmp_path, path=PATH)
    assert process.stdout is not None
    while b"kill " not in (line := await process.stdout.readline()):
        assert line, "the demo ended early"
    os.kill(process.pid, signal.SIGINT)
    rest, _ = await process.communicate()
    assert process.returncode == 130
    assert b"interrupted" in rest
    assert b"Traceback" not in rest
    assert servers_of(tmp_path) == []
