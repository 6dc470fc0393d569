"""One toxiproxy process: started, watched, and killed when it does not behave."""

import asyncio
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from connectplugin_chaos.engine.process import Leashed, ProcessError, start
from connectplugin_chaos.toxiproxy.api import Toxiproxy, ToxiproxyError, ToxiproxyHungError
from connectplugin_chaos.toxiproxy.binary import Binary

_READY_WITHIN: Final = 5.0
_WATCH_EVERY: Final = 0.5
_HANGS: Final = 2
"""Calls in a row without an answer; on a busy machine one may be late."""


class Supervisor:
    """Owns a toxiproxy process; a fresh one for each arm of each scenario.

    The watchdog asks for its version every half second. A server that hangs is killed, since only
    that ends a hang; what has been measured with it proves nothing (`trouble` says why).

    Args:
        binary: The program.
        folder: For its log.
        watched: Whether the watchdog runs.
    """

    def __init__(self, binary: Binary, folder: Path, *, watched: bool = True) -> None:
        self._binary = binary
        self._folder = folder
        self._watched = watched
        self._process: Leashed | None = None
        self._watchdog: asyncio.Task[None] | None = None
        self._api: Toxiproxy | None = None
        self.trouble: str | None = None
        self.reached = asyncio.Event()

    @property
    def api(self) -> Toxiproxy:
        """Its API."""
        if self._api is None:
            msg = "the toxiproxy is not running"
            raise RuntimeError(msg)
        return self._api

    @property
    def pid(self) -> int:
        """Its process."""
        return 0 if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        """Start it, and wait until it answers.

        Raises:
            ToxiproxyError: It does not come up, or something else does.
        """
        port = _free_port()
        try:
            self._process = await start(
                [str(self._binary.path), "-host", "127.0.0.1", "-port", str(port)],
                name="toxiproxy",
                log=self._folder / "toxiproxy.log",
                environment={"LOG_LEVEL": "error"},
            )
        except ProcessError as error:
            raise ToxiproxyError(str(error)) from error
        self._api = Toxiproxy(f"http://127.0.0.1:{port}")
        try:
            await self._ready(port)
        except BaseException:
            await self._end()
            raise
        if self._watched:
            self._watchdog = asyncio.create_task(self._watch(), name="toxiproxy watchdog")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Kill it."""
        await self._end()

    async def _ready(self, port: int) -> None:
        process, api = self._process, self.api
        if process is None:
            return
        until = time.monotonic() + _READY_WITHIN
        while time.monotonic() < until:
            if not process.alive:
                msg = (
                    f"{self._binary.path} ({self._binary.found}) ended at once, with exit code "
                    f"{process.exit_code}: it is no toxiproxy; {process.last_words()}"
                )
                raise ToxiproxyError(msg)
            try:
                version = await api.version()
            except ToxiproxyHungError:
                await asyncio.sleep(0.02)
                continue
            if not _owns(process.pid, port):
                msg = f"port {port} is served by another process, which says it is {version!r}"
                raise ToxiproxyError(msg)
            return
        msg = (
            f"{self._binary.path} ({self._binary.found}) has not answered within "
            f"{_READY_WITHIN:g} s; {process.last_words()}"
        )
        raise ToxiproxyError(msg)

    async def _watch(self) -> None:
        """Kill it when it hangs; note when it has died."""
        hung = 0
        while True:
            await asyncio.sleep(_WATCH_EVERY)
            process = self._process
            if process is None:
                return
            if not process.alive:
                self._note(f"toxiproxy died with exit code {process.exit_code}")
                return
            try:
                await self.api.proxies()
            except ToxiproxyHungError as error:
                hung += 1
                if hung < _HANGS:
                    continue
                self._note(str(error))
                await process.kill()
                return
            except ToxiproxyError as error:
                self._note(str(error))
                return
            hung = 0

    def _note(self, trouble: str) -> None:
        if self.trouble is None:
            self.trouble = trouble
        self.reached.set()

    async def _end(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait([self._watchdog])
            self._watchdog = None
        if self._api is not None:
            await self._api.aclose()
            self._api = None
        if self._process is not None:
            await self._process.kill()
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _owns(pid: int, port: int) -> bool:
    """Whether a process has a socket that listens on a port; True where that cannot be told."""
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    if not tables[0].exists():
        return True
    inodes: set[str] = set()
    for table in tables:
        if not table.exists():
            continue
        for row in table.read_text().splitlines()[1:]:
            words = row.split()
            if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{words[9]}]")
    found = (path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())
    return any(str(target) in inodes for target in found)
