"""The control connection of a server's process, which no proxy stands before."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from connectplugin_chaos.engine.app_faults import AppFaults, Fault
from connectplugin_chaos.engine.hog import Hogs

Aim: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[None]]
"""Told which server to call before it answers; see `Target.chain`."""


class Control:
    """Takes commands, a line of JSON each: `set`, `clear`, `block`, `dump`, `next`.

    Args:
        faults: What `set` and `clear` change.
        kept: What `dump` answers: the operations of each key that took effect; None if the server
            keeps no such thing.
        aim: What `next` does; None for a server that can call none.
    """

    def __init__(
        self,
        faults: AppFaults,
        *,
        kept: Callable[[], Mapping[str, list[int]] | None],
        aim: Aim | None = None,
    ) -> None:
        self._faults = faults
        self._aim = aim
        self._hogs = Hogs()
        self._kept = kept
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        """Begin to take commands; the port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    def begin(self, name: str, fault: Fault) -> None:
        """Begin a fault."""
        if fault["fault"] == "hog_cpu":
            self._hogs.start(name, fault.get("threads", 1))
        else:
            self._faults.set(name, fault)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                command: dict[str, Any] = json.loads(line)
                if command["do"] == "next" and self._aim is not None:
                    await self._aim(command)
                    answer: dict[str, Any] = {}
                else:
                    answer = self._obey(command)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        match command["do"]:
            case "set":
                self.begin(command["name"], command["fault"])
            case "clear":
                self._hogs.stop(command["name"])
                self._faults.clear(command["name"])
            case "block":
                # The event loop stands still: that is the fault.
                time.sleep(command["seconds"])
            case "dump":
                return {"kept": self._kept()}
            case other:
                return {"error": f"unknown command {other!r}"}
        return {}
