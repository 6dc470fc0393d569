"""Nothing that the harness has started outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectplugin_chaos.engine.process import ProcessError, start

HARNESS = """
import asyncio, signal, sys
from pathlib import Path
from connectplugin_chaos.engine.process import start

async def main():
    program = "import time; print('up', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", program]
    child = await start(command, name="child", log=Path(sys.argv[1]), read=True)
    await child.line(20)
    if sys.argv[2] == "stopped":
        child.signal(signal.SIGSTOP)
    print(child.pid, flush=True)
    await child.wait()

asyncio.run(main())
"""


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_what_it_started_dies_with_a_harness_that_is_killed(tmp_path: Path, state: str) -> None:
    command = [sys.executable, "-c", HARNESS, str(tmp_path / "log"), state]
    harness = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    child = int(harness.stdout.readline())
    assert running(child)
    os.kill(harness.pid, signal.SIGKILL)
    harness.wait(10)
    harness.stdout.close()
    until = time.monotonic() + 30  # to die takes the processor, too
    while running(child):
        assert time.monotonic() < until, "the child lives on"
        time.sleep(0.01)


async def test_a_stopped_process_ends_all_the_same(tmp_path: Path) -> None:
    process = await start(
        [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"],
        name="sleeper",
        log=tmp_path / "log",
        read=True,
    )
    assert await process.line(10) == "up"
    process.signal(signal.SIGSTOP)
    assert await process.stop() == -signal.SIGTERM
    assert not process.alive


async def test_silence_is_told_with_the_log(tmp_path: Path) -> None:
    process = await start(
        [sys.executable, "-c", "import sys,time; sys.stderr.write('why'); time.sleep(60)"],
        name="mute",
        log=tmp_path / "log",
        read=True,
    )
    with pytest.raises(ProcessError, match=r"mute has said nothing for 0\.5 s; .*why"):
        await process.line(0.5)
    await process.kill()


async def test_a_successor_waits_for_its_line(tmp_path: Path) -> None:
    echo = "import sys; print('ready', flush=True); print(sys.stdin.readline(), flush=True)"
    process = await start(
        [sys.executable, "-c", echo], name="echo", log=tmp_path / "log", read=True, feed=True
    )
    assert await process.line(10) == "ready"
    process.feed("go")
    assert await process.line(10) == "go"
    await process.kill()


async def test_what_is_not_fed_cannot_be_written_to(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = await start(command, name="deaf", log=tmp_path / "log")
    with pytest.raises(ProcessError, match="deaf: nothing can be written to it"):
        process.feed("go")
    await process.kill()
