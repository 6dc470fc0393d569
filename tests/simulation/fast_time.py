"""Virtual time for hundreds of thousands of calls: a loop that jumps from timer to timer.

The fixture `virtual_time` gives each step of time 42 idle rounds of the loop, since a test may
have threads and sockets. A simulation has neither, and would spend most of its time on that.
"""

import asyncio
import importlib
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from connectplugin_interceptors.clock import SystemClock

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """Never waits: whoever would have to, finds that time has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            msg = "everything waits, and nothing will ever happen"
            raise RuntimeError(msg)
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time begins at 0, and passes only while all wait."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now


def simulate(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to its end in virtual time, which is that of connectrpc and of `SystemClock` too."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        time = runner.get_loop().time
        with (
            mock.patch.object(
                importlib.import_module("connectrpc.request"),
                "time",
                SimpleNamespace(monotonic=time),
            ),
            mock.patch.object(SystemClock, "now", staticmethod(time)),
        ):
            return runner.run(main())
