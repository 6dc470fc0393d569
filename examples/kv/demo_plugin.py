"""A plugin's process, for the demo: started, killed, frozen, continued, stopped."""

import asyncio
import signal
import sys
from pathlib import Path

SERVER = Path(__file__).with_name("server.py")
LATENCY = 0.06
"""Seconds that an increment takes, so that some are under way when the plugin dies."""


class Plugin:
    """One process that serves the KV plugin, always at the same address.

    Args:
        journal: The file that gets a line for each increment it has executed.

    Attributes:
        url: Where it serves; empty before the first start.
        state: `down`, `starting`, `up`, `killed` or `frozen`: what was done to it, not what a
            client may know of it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.url: str = ""
        self.state = "down"
        self._address: str = "127.0.0.1:0"
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Its process; 0 before the first start."""
        return self._process.pid if self._process is not None else 0

    async def start(self) -> None:
        """Start it, and wait until it says where it serves.

        Raises:
            RuntimeError: It ended, or said something else.
        """
        self.state = "starting"
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(SERVER), "--addr", self._address, "--journal", str(self.journal),
            "--latency", str(LATENCY), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None  # noqa: S101  # it was asked for
        line = (await self._process.stdout.readline()).decode().strip()
        if not line.startswith("serving at "):
            msg = f"the plugin did not start; it said {line!r}"
            raise RuntimeError(msg)
        self.url = line.removeprefix("serving at ")
        self._address = self.url.removeprefix("http://")
        self.state = "up"

    async def kill(self) -> None:
        """SIGKILL: it cannot say goodbye."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self.state = "killed"

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, and nobody answers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.state = "frozen"

    def thaw(self) -> None:
        """SIGCONT: it goes on where it was, and knows nothing of the time between."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self.state = "up"

    async def stop(self) -> None:
        """SIGTERM: it drains and exits; a frozen one cannot, and is killed."""
        if self._process is None or self._process.returncode is not None:
            return
        if self.state == "frozen":
            await self.kill()
            return
        self._process.terminate()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            await self.kill()
