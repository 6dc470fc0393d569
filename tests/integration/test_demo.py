"""`make demo` tells the truth: 0 only if every promise was kept, and nothing of it lives on."""

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest

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


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    return good, bad


async def demo(folder: Path, *arguments: str) -> tuple[int | None, str]:
    process = await python(DEMO, *arguments, "--folder", str(folder), cwd=folder, path=PATH)
    output, _ = await process.communicate()
    return process.returncode, output.decode()


def is_plain(text: str) -> bool:
    """Nothing that only a terminal understands, and no line that one would break."""
    return "\x1b" not in text and "\r" not in text and max(map(len, text.splitlines())) < 80


async def test_a_killed_plugin_costs_no_call_and_without_the_restart_the_demo_fails(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = folders
    (code, text), (sabotaged, _) = await asyncio.gather(
        demo(good, "--part", "1"),
        demo(bad, "--part", "1", "--no-restart", "--deadline", "2"),
    )
    assert code == 0, text
    for shape in ("unary", "client stream", "server stream", "bidi stream"):
        assert shape in text
    assert "idempotent calls succeeded" in text
    assert is_plain(text)
    assert sabotaged == 1
    assert servers_of(tmp_path) == []


async def test_two_of_three_replicas_break_and_come_back_and_unless_they_do_the_demo_fails(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    good, bad = folders
    (code, text), (sabotaged, failed) = await asyncio.gather(
        demo(good, "--part", "2"),
        demo(bad, "--part", "2", "--no-restart"),
    )
    assert code == 0, text
    assert "b killed" in text
    assert "c frozen" in text
    assert "c answered again" in text
    assert is_plain(text)
    assert sabotaged == 1
    assert "FAIL b has not answered again" in failed
    assert "FAIL c has not answered again" in failed
    assert servers_of(tmp_path) == []


async def test_ctrl_c_ends_it_and_leaves_no_child(tmp_path: Path) -> None:
    process = await python(DEMO, "--folder", str(tmp_path), cwd=tmp_path, path=PATH)
    assert process.stdout is not None
    while b"plugin killed" not in (line := await process.stdout.readline()):
        assert line, "the demo ended early"
    os.kill(process.pid, signal.SIGINT)
    rest, _ = await process.communicate()
    assert process.returncode == 130
    assert b"interrupted" in rest
    assert b"Traceback" not in rest
    assert servers_of(tmp_path) == []


async def test_a_terminal_of_80_columns_is_drawn_over_and_ctrl_c_leaves_no_frozen_child(
    tmp_path: Path,
) -> None:
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, DEMO, "--part", "2", "--folder", str(tmp_path),
        env={"PYTHONPATH": ":".join(map(str, PATH)), "PATH": "/usr/bin:/bin"},
        stdout=slave,
    )  # fmt: skip
    os.close(slave)
    shown = b""
    while b"frozen " not in shown.rpartition(b"\x1b[4A")[2]:
        shown += await asyncio.to_thread(os.read, master, 4096)
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130
    os.close(master)
    lines = re.sub(r"\x1b\[\d*[A-Z]|\r", "", shown.decode()).splitlines()
    assert max(map(len, lines)) < 80
    assert servers_of(tmp_path) == []
