"""For tests: virtual time, where a 30 s deadline costs milliseconds, and a recording listener.

Enable the fixture in your `conftest.py` with `pytest_plugins = ["connectplugin.testing"]` (or
`"connectplugin_interceptors.testing"`); it needs the extra `connectplugin[testing]`.
"""

import asyncio
import importlib
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, Final, TypeVar

import pytest
import pytest_asyncio

from connectplugin_interceptors.clock import SystemClock
from connectplugin_interceptors.events import Event

E = TypeVar("E", bound=Event)

# Where connectrpc reads time.monotonic by itself: for `RequestContext.timeout_ms`.
_CONNECTRPC_TIME: Final = ("connectrpc.request", "connectrpc._protocol_grpc")


class LoopClock:
    """The running loop's time: virtual whenever the loop's is."""

    def now(self) -> float:
        """Seconds of the loop."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in the loop's time."""
        await asyncio.sleep(seconds)


class VirtualTime:
    """Handle of the fixture `virtual_time`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        """Virtual seconds since the test began."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        await asyncio.sleep(seconds)

    def __repr__(self) -> str:
        return f"<VirtualTime {self.now():.6f} s>"


@pytest_asyncio.fixture
async def virtual_time(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[VirtualTime]:
    """Time that jumps to the next timer whenever everything in the loop waits.

    The generated client, the chain, an in-process server and its handlers run in it whole:
    connectrpc's timers, the handlers' sleeps and `SystemClock` all tell the loop's time.
    """
    loop: Any = asyncio.get_running_loop()
    if not hasattr(loop, "setup_looptime"):
        msg = "virtual_time needs the looptime plugin: install connectplugin[testing]"
        raise RuntimeError(msg)
    loop.setup_looptime(start=0.0)
    virtual = SimpleNamespace(monotonic=loop.time)
    for name in _CONNECTRPC_TIME:
        module = importlib.import_module(name)
        if hasattr(module, "time"):
            monkeypatch.setattr(module, "time", virtual)
    monkeypatch.setattr(SystemClock, "now", staticmethod(loop.time))
    with loop.looptime_enabled():
        yield VirtualTime(loop)


class RecordingListener:
    """Keeps every event, in order."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Take down one event."""
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]
