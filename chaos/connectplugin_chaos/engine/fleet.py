"""The plugin servers of a run, each a process, seen from the harness."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.engine.process import Leashed, ProcessError, start
from connectplugin_chaos.record.model import Execution, Ledger, Notice
from connectplugin_chaos.scenario.model import Topology

_START_WITHIN: Final = 30.0
_GRACE: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKind:
    """What stands before the handlers of an arm's servers; see `target.server_stack`."""

    stack: str = "ours"
    policies: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Target:
    """One server.

    Attributes:
        name: `s1`, `s2`, ...
        address: `host:port`, the same after a restart.
        successors: Processes that wait to be the next one; see `prepare`.
    """

    def __init__(
        self, name: str, folder: Path, topology: Topology, kind: ServerKind, target: str = ""
    ) -> None:
        self.name = name
        self._target = target
        self.address = ""
        self.ledger = folder / f"{name}.ledger"
        self._folder = folder
        self._topology = topology
        self._kind = kind
        self._process: Leashed | None = None
        self.successors: list[Leashed] = []
        self._control = 0
        self._log = folder / f"{name}.log"
        self._faults: dict[str, dict[str, Any]] = {}
        self._next: dict[str, Any] | None = None

    async def start(self) -> None:
        """Start it, and wait until it serves; takes a successor if there is one.

        Raises:
            ProcessError: It does not.
        """
        config = {
            "name": self.name,
            "port": int(self.address.rpartition(":")[2] or 0),
            "ledger": str(self.ledger),
            "workers": self._topology.workers,
            "service_time": self._topology.service_time,
            "queue": self._topology.queue,
            "stack": self._kind.stack,
            "policies": dict(self._kind.policies),
            "keep_alive": self._topology.keep_alive,
            "grace": _GRACE,
            "faults": self._faults,
        }
        if self.successors:
            self._process = self.successors.pop()
            self._process.feed(json.dumps(config))
        else:
            self._process = await self._spawn(json.dumps(config))
        line = await self._process.line(_START_WITHIN)
        if not line:
            msg = f"{self.name} did not start; {self._process.last_words()}"
            raise ProcessError(msg)
        told = json.loads(line)
        self.address = told["url"].removeprefix("http://")
        self._control = told["control"]
        if self._next is not None:
            await self.tell(**self._next)

    async def chain(self, url: str, *, arm: str, deadline: float) -> None:
        """Make it call the next server before it answers, now and after each restart.

        Args:
            url: Where.
            arm: Through which, of those without a variant.
            deadline: Seconds that each of its calls has, besides what is left of its own.
        """
        self._next = {"do": "next", "url": url, "arm": arm, "deadline": deadline}
        await self.tell(**self._next)

    async def prepare(self) -> None:
        """Start a successor that waits to be needed.

        What takes long in a start is to load the code. A kill is about the server, not about that,
        and the processor is for the calls.

        Raises:
            ProcessError: It does not.
        """
        successor = await self._spawn("-", feed=True)
        self.successors.append(successor)
        await successor.line(_START_WITHIN)

    async def _spawn(self, config: str, *, feed: bool = False) -> Leashed:
        module = "user_target" if self._target else "target"
        module = f"connectplugin_chaos.engine.{module}"
        command = [sys.executable, "-m", module, config, self._target]
        return await start(command, name=self.name, log=self._log, read=True, feed=feed)

    async def tell(self, **command: Any) -> dict[str, Any]:
        """A command over the control connection; see `target.Control`."""
        async with asyncio.timeout(5.0):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self._control, limit=64 << 20
            )
            try:
                writer.write(json.dumps(command).encode() + b"\n")
                answer: dict[str, Any] = json.loads(await reader.readline())
            finally:
                writer.close()
        if "error" in answer:
            raise ProcessError(f"{self.name}: {answer['error']}")
        return answer

    async def begin_fault(self, name: str, fault: dict[str, Any]) -> None:
        """Let the application do something wrong; it goes on after a restart."""
        self._faults[name] = fault
        if self.alive:
            await self.tell(do="set", name=name, fault=fault)

    async def end_fault(self, name: str) -> None:
        """Let it be right again."""
        del self._faults[name]
        if self.alive:
            await self.tell(do="clear", name=name)

    def block(self, seconds: float) -> None:
        """Make its event loop stand still; returns at once."""
        _background(self._send({"do": "block", "seconds": seconds}))

    async def _send(self, command: dict[str, Any]) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._control)
        writer.write(json.dumps(command).encode() + b"\n")
        await writer.drain()
        writer.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.signal(number)

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            await self._process.kill()

    async def end(self) -> None:
        """SIGKILL, also for the successors that were not needed."""
        for process in self.successors:
            await process.kill()
        self.successors.clear()
        await self.kill()

    async def stop(self) -> int:
        """SIGTERM: it drains; its exit code."""
        return 0 if self._process is None else await self._process.stop(grace=_GRACE + 3.0)

    @property
    def pid(self) -> int:
        """Of its process; 0 if there is none."""
        return self._process.pid if self._process is not None and self._process.alive else 0

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.alive

    def tracebacks(self) -> list[str]:
        """The last lines of the tracebacks in its log."""
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except OSError:
            return []
        found: list[str] = []
        inside = False
        for line in lines:
            if line.startswith("Traceback "):
                inside = True
            elif inside and line and not line[0].isspace():
                found.append(line)
                inside = False
        return found

    def read_ledger(self, zero: float) -> tuple[list[Execution], list[Notice]]:
        """What it has written down, with times from `zero` on."""
        begun: dict[int, dict[str, Any]] = {}
        done: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
        notices: list[Notice] = []
        text = self.ledger.read_text() if self.ledger.exists() else ""
        for raw in text.splitlines():
            line = json.loads(raw)
            match line["t"]:
                case "start":
                    done += [(start, None) for start in begun.values()]
                    begun.clear()
                case "begin":
                    begun[line["run"]] = line
                case "end" | "cut":
                    done.append((begun.pop(line["run"]), line))
                case kind:
                    notices.append(
                        Notice(
                            at=line["at"] - zero,
                            kind=kind,
                            endpoint=self.name,
                            detail=line.get("reason") or line.get("detail", ""),
                            value=line.get("value", 0.0),
                        )
                    )
        done += [(start, None) for start in begun.values()]
        return [_execution(start, end, zero) for start, end in done], notices


def _execution(start: dict[str, Any], end: dict[str, Any] | None, zero: float) -> Execution:
    done = end if end is not None and end["t"] == "end" else None
    cut = None if end is done else end
    return Execution(
        op=start["op"],
        method=start["m"],
        key=start["k"],
        server=start["s"],
        started=start["at"] - zero,
        ended=None if done is None else done["at"] - zero,
        deadline_at=None if start["d"] is None else start["d"] - zero,
        effect=done is not None and bool(done["e"]),
        reply="" if done is None else done["r"],
        cancelled=None if cut is None else cut["at"] - zero,
    )


_tasks: set[asyncio.Task[None]] = set()


def _background(work: Any) -> None:
    task = asyncio.ensure_future(work)
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


class Fleet:
    """All servers of a run.

    Args:
        topology: How many, and what they can do.
        kind: Of the arm.
        folder: For ledgers and logs.
        target: The name of the `ServeConfig` to serve; empty for the harness's own service.
    """

    def __init__(
        self, topology: Topology, kind: ServerKind, folder: Path, target: str = ""
    ) -> None:
        self.targets = {
            f"s{number + 1}": Target(f"s{number + 1}", folder, topology, kind, target)
            for number in range(topology.servers)
        }

    async def start(self, deaths: Iterable[str] = ()) -> None:
        """Start all of them, and a successor for each that will be killed.

        Args:
            deaths: Their names; as often as they are killed.

        Raises:
            ProcessError: One does not start.
        """
        await asyncio.gather(*(target.start() for target in self.targets.values()))
        await asyncio.gather(*(self.targets[name].prepare() for name in deaths))

    async def kill(self) -> None:
        """End all of them, at once."""
        for target in self.targets.values():
            await target.end()

    async def ledger(self, zero: float) -> Ledger:
        """What all have written down, and what they have in the end."""
        final: dict[str, list[int]] | None = {}
        for target in self.targets.values():
            if target.alive:
                kept: dict[str, list[int]] | None = (await target.tell(do="dump"))["kept"]
                if kept is None or final is None:
                    final = None  # a server of somebody's own: nobody can ask it
                    continue
                for key, ops in kept.items():
                    final.setdefault(key, []).extend(ops)
        executions: list[Execution] = []
        notices: list[Notice] = []
        for target in self.targets.values():
            runs, seen = target.read_ledger(zero)
            executions += runs
            notices += seen
            notices += [
                Notice(at=0.0, kind="crash", endpoint=target.name, detail=line)
                for line in target.tracebacks()
            ]
        return Ledger(
            executions=tuple(sorted(executions, key=lambda e: e.started)),
            notices=tuple(sorted(notices, key=lambda n: n.at)),
            final=None if final is None else {key: tuple(ops) for key, ops in final.items()},
        )
