"""Threads that compute for nothing, beside the event loop that wants the same interpreter."""

import threading


class Hogs:
    """The hogs of a process, by the name of their fault."""

    def __init__(self) -> None:
        self._ends: dict[str, threading.Event] = {}

    def start(self, name: str, threads: int) -> None:
        """Let so many threads spin."""
        end = self._ends[name] = threading.Event()
        for _ in range(threads):
            threading.Thread(target=_spin, args=(end,), name=f"hog {name}", daemon=True).start()

    def stop(self, name: str) -> None:
        """End them; nothing if there are none."""
        if (end := self._ends.pop(name, None)) is not None:
            end.set()


def _spin(end: threading.Event) -> None:
    while not end.is_set():
        sum(range(1000))
