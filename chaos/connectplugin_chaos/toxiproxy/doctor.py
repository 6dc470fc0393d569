"""`doctor`: measures that the toxiproxy at hand does what the faults count on.

Some three seconds. A scenario is refused if a verb that it uses behaves otherwise.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.toxiproxy.api import Proxy, ToxiproxyError
from connectplugin_chaos.toxiproxy.binary import VERSION, Binary, module_of
from connectplugin_chaos.toxiproxy.echo import Caller, Echo, refused
from connectplugin_chaos.toxiproxy.supervisor import Supervisor
from connectplugin_chaos.toxiproxy.toxics import Bandwidth, LimitData, Slicer, Timeout

_SHORT: Final = 0.25
"""Seconds in which nothing may come, where nothing should."""

_LONG: Final = 2.0
"""Seconds in which something must come, where it should; a busy machine needs some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One probe: what was looked at, whether it is as it should be, and what was seen."""

    name: str
    good: bool
    seen: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """All probes of one program."""

    path: str
    found: str
    version: str
    module: str
    findings: tuple[Finding, ...]

    @property
    def good(self) -> bool:
        """Whether every probe saw what it should."""
        return all(finding.good for finding in self.findings)

    @property
    def surprises(self) -> tuple[Finding, ...]:
        """The probes that did not."""
        return tuple(finding for finding in self.findings if not finding.good)


@asynccontextmanager
async def _connected(proxy: Proxy) -> AsyncGenerator[Caller]:
    caller = await Caller.connect(proxy.listen)
    try:
        yield caller
    finally:
        caller.close()


async def _latency(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        before = await caller.ask(b"warm", _LONG)
        await proxy.latency("upstream", 100)
        during = await caller.ask(b"slow", _LONG)
        await proxy.latency("upstream", 0)
        after = await caller.ask(b"fast", _LONG)
    if before is None or during is None or after is None:
        return False, "a line was not answered"
    good = during >= 0.09 and after < during  # noqa: PLR2004  # 100 ms, with some tolerance
    return good, f"{before * 1e3:.1f} ms, with 100 ms: {during * 1e3:.1f}, after {after * 1e3:.1f}"


async def _pipelining(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        await proxy.latency("upstream", 150)
        started = time.monotonic()
        for number in range(5):
            caller.send(b"%d" % number)
            await asyncio.sleep(0.01)
        answers = [await caller.read(_LONG) for _ in range(5)]
        took = time.monotonic() - started
        await proxy.latency("upstream", 0)
    good = answers == [b"0", b"1", b"2", b"3", b"4"] and took < 5 * 0.15
    return good, f"5 lines 10 ms apart with 150 ms each took {took * 1e3:.0f} ms: {answers}"


async def _freeze(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        async with proxy.frozen("upstream", "downstream"):
            caller.send(b"frozen")
            early = await caller.read(_SHORT)
            arrived = b"frozen\n" in echo.received
        started = time.monotonic()
        late = await caller.read(_LONG)
        took = time.monotonic() - started
    good = early is None and not arrived and late == b"frozen"
    return good, f"while frozen {early!r}, {took * 1e3:.0f} ms after the heal {late!r}"


async def _hole_down(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        async with proxy.blackhole("downstream"):
            caller.send(b"down")
            answer = await caller.read(_SHORT)
            executed = b"down\n" in echo.received
        end = await caller.end(_LONG)
    good = answer is None and executed and end in ("eof", "reset")
    return good, f"executed {executed}, answer {answer!r}, at the heal {end}"


async def _hole_up(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        async with proxy.blackhole("upstream"):
            caller.send(b"up")
            answer = await caller.read(_SHORT)
            executed = b"up\n" in echo.received
        end = await caller.end(_LONG)
    executed = executed or b"up\n" in echo.received
    good = answer is None and not executed and end in ("eof", "reset")
    return good, f"executed {executed}, answer {answer!r}, at the heal {end}"


async def _slow_close(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        async with proxy.blackhole("downstream", drop_fin=True):
            echo.hang_up()
            end = await caller.end(_SHORT)
    return end == "open", f"after the server has closed: {end}"


async def _reset(proxy: Proxy, echo: Echo, stream: Any, line: bytes) -> tuple[bool, str]:
    async with proxy.reset(stream):
        async with _connected(proxy) as caller:
            caller.send(line)
            end = await caller.end(_LONG)
        await asyncio.sleep(0.02)
    executed = line + b"\n" in echo.received
    good = end in ("reset", "eof") and executed is (stream == "downstream")
    return good, f"{end}, executed {executed}"


async def _reset_up(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    return await _reset(proxy, echo, "upstream", b"reset up")


async def _reset_down(proxy: Proxy, echo: Echo) -> tuple[bool, str]:
    return await _reset(proxy, echo, "downstream", b"reset down")


async def _limit_data(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with proxy.toxic(LimitData(10), "downstream"), _connected(proxy) as caller:
        caller.send(b"0123456789abcdef")
        passed = await caller.count(_LONG)
    return passed == 10, f"{passed} bytes of 17 passed a limit of 10"  # noqa: PLR2004  # as above


async def _bandwidth(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with proxy.toxic(Bandwidth(100), "downstream"), _connected(proxy) as caller:
        took = await caller.ask(b"x" * 30_000, _LONG)
    good = took is not None and took >= 0.2  # noqa: PLR2004  # 0.3 s, and a first piece for nothing
    return good, f"30 KB at 100 KB/s took {took if took is None else round(took, 2)} s"


async def _slicer(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with (
        proxy.toxic(Slicer(average_size=8, size_variation=4, delay=1000), "downstream"),
        _connected(proxy) as caller,
    ):
        took = await caller.ask(b"sliced" * 20, _LONG)
    return took is not None, f"120 bytes in slices of 8 came whole: {took is not None}"


async def _timeout_closes(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with proxy.toxic(Timeout(50), "downstream"), _connected(proxy) as caller:
        caller.send(b"quiet")
        end = await caller.end(_LONG)
    return end in ("eof", "reset"), f"after 50 ms without data: {end}"


async def _down(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    async with _connected(proxy) as caller:
        await caller.ask(b"warm", _LONG)
        async with proxy.down():
            end = await caller.end(_LONG)
            closed = await refused(proxy.listen)
    async with _connected(proxy) as again:
        back = await again.ask(b"back", _LONG)
    good = end in ("eof", "reset") and closed and back is not None
    return good, f"open ones: {end}, new ones refused: {closed}, after it answered: {bool(back)}"


async def _rebuild(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    before = proxy.listen
    await proxy.latency("downstream", 5000)
    await proxy.rebuild()
    async with _connected(proxy) as caller:
        took = await caller.ask(b"rebuilt", _LONG)
    return took is not None and proxy.listen == before, f"{before}, then {proxy.listen}: {took}"


async def _unknown(proxy: Proxy, _: Echo) -> tuple[bool, str]:
    """An attribute that does not exist is dropped in silence, and the reply shows it."""
    reply = await proxy.raw_toxic("misspelt", {"latncy": 100})
    await proxy.remove("misspelt")
    return reply == {"latency": 0, "jitter": 0}, f"latncy=100 became {reply}"


_Probe = Callable[[Proxy, Echo], Awaitable[tuple[bool, str]]]

PROBES: Final[dict[str, _Probe]] = {
    "latency on a live connection": _latency,
    "latency is pipelined": _pipelining,
    "freeze loses nothing, and heals": _freeze,
    "blackhole downstream: executed": _hole_down,
    "blackhole upstream: not executed": _hole_up,
    "slow_close holds the end back": _slow_close,
    "reset before execution": _reset_up,
    "reset after execution": _reset_down,
    "limit_data is exact": _limit_data,
    "bandwidth slows down": _bandwidth,
    "slicer keeps the content": _slicer,
    "timeout closes a silent connection": _timeout_closes,
    "down refuses, and comes back": _down,
    "rebuild heals on the same port": _rebuild,
    "an unknown attribute is dropped": _unknown,
}


async def examine(binary: Binary, folder: Path) -> Diagnosis:
    """Run every probe against a toxiproxy of its own.

    Args:
        binary: The program.
        folder: For its log.

    Raises:
        ToxiproxyError: It does not even start.
    """
    async with Supervisor(binary, folder, watched=False) as supervisor, Echo() as echo:
        version = await supervisor.api.version()
        numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
        wanted = tuple(map(int, VERSION.split(".")))
        newer = numbers[:1] == wanted[:1] and numbers >= wanted
        findings = [Finding(name=f"version {VERSION} or newer", good=newer, seen=version or "none")]
        for number, (name, probe) in enumerate(PROBES.items()):
            findings.append(await _run(supervisor, echo, name, probe, number))
            if supervisor.trouble:
                break
    return Diagnosis(
        path=str(binary.path),
        found=binary.found,
        version=version,
        module=module_of(binary.path),
        findings=tuple(findings),
    )


async def _run(
    supervisor: Supervisor, echo: Echo, name: str, probe: _Probe, number: int
) -> Finding:
    try:
        proxy = await supervisor.api.create(f"probe{number}", echo.address)
        good, seen = await probe(proxy, echo)
    except (ToxiproxyError, OSError, TimeoutError, KeyError, TypeError) as error:
        return Finding(name=name, good=False, seen=f"{type(error).__name__}: {error}")
    return Finding(name=name, good=good, seen=seen)
