"""Processes that the harness starts: on a leash, in a group of their own, killed at the end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

_LEASH: Final = Path(__file__).with_name("leash.py")
_GRACE: Final = 5.0
"""Seconds between asking a process to end and killing it."""


class ProcessError(Exception):
    """A process did not do what it is there for."""


class Leashed:
    """A running process.

    Attributes:
        name: For messages.
        log: What it writes to stderr, and to stdout unless that is read here.
    """

    def __init__(self, process: asyncio.subprocess.Process, *, name: str, log: Path) -> None:
        self._process = process
        self.name = name
        self.log = log

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, or is stopped."""
        return self._process.returncode is None

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended."""
        return self._process.returncode

    async def line(self, limit: float) -> str:
        """The next line that it prints; empty if it ends instead.

        Raises:
            ProcessError: Nothing came within `limit` seconds.
        """
        stdout = self._process.stdout
        if stdout is None:
            msg = f"{self.name}: its output is not read here"
            raise ProcessError(msg)
        try:
            async with asyncio.timeout(limit):
                return (await stdout.readline()).decode().strip()
        except TimeoutError:
            msg = f"{self.name} has said nothing for {limit:g} s; {self.last_words()}"
            raise ProcessError(msg) from None

    def feed(self, line: str) -> None:
        """Write a line to its stdin; for a process that was started with `feed`."""
        stdin = self._process.stdin
        if stdin is None:
            msg = f"{self.name}: nothing can be written to it"
            raise ProcessError(msg)
        stdin.write(line.encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its group; nothing if it has ended."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, and wait."""
        self.signal(signal.SIGKILL)
        await self._process.wait()

    async def stop(self, grace: float = _GRACE) -> int:
        """Ask it to end, and kill it after `grace` seconds; its exit code."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            async with asyncio.timeout(grace):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return self._process.returncode or 0

    def last_words(self) -> str:
        """The end of its log, for messages."""
        try:
            text = self.log.read_text(errors="replace").strip()
        except OSError:
            text = ""
        return f"the end of its log: {text[-500:]}" if text else "its log is empty"


async def start(
    command: Sequence[str],
    *,
    name: str,
    log: Path,
    environment: Mapping[str, str] | None = None,
    read: bool = False,
    feed: bool = False,
) -> Leashed:
    """Start a program that ends when this process ends.

    Args:
        command: The program's path, and its arguments.
        name: For messages.
        log: Where its output goes; appended to.
        environment: Besides this process's own.
        read: Whether its stdout is read by `Leashed.line` instead.
        feed: Whether its stdin is written by `Leashed.feed`.

    Raises:
        ProcessError: It cannot be started.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.endswith("_proxy")}
    with log.open("ab") as sink:
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-S",
                str(_LEASH),
                str(os.getpid()),
                *command,
                stdin=asyncio.subprocess.PIPE if feed else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if read else sink,
                stderr=sink,
                env={**inherited, "NO_PROXY": "*", **(environment or {})},
                process_group=0,
            )
        except OSError as error:
            msg = f"{name} cannot be started: {error}"
            raise ProcessError(msg) from error
    return Leashed(process, name=name, log=log)
