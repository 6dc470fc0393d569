"""What a server's application does wrong, as told over the control connection."""

import asyncio
import random
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError

Fault: TypeAlias = Mapping[str, Any]

Struck: TypeAlias = Callable[[str], None]
"""Told the verb of each fault that a call has met."""


class AppFaults:
    """The faults that are there now.

    Args:
        struck: Told the verb whenever a call meets one.
    """

    def __init__(self, struck: Struck) -> None:
        self._struck = struck
        self._active: dict[str, Fault] = {}
        self._chances: dict[str, random.Random] = {}

    def set(self, name: str, fault: Fault) -> None:
        """Begin a fault; `fault["fault"]` is its verb."""
        self._active[name] = fault
        self._chances[name] = random.Random(fault.get("seed", 7))  # noqa: S311  # reproducible

    def clear(self, name: str) -> None:
        """End it."""
        self._active.pop(name, None)

    def draw(self, verbs: Collection[str], method: str) -> Fault | None:
        """The first fault of these verbs that a call meets; None if it meets none.

        Args:
            verbs: Names.
            method: The call's, `Read`.
        """
        for name, fault in tuple(self._active.items()):
            if fault["fault"] not in verbs:
                continue
            methods = fault.get("methods")
            if methods and method.lower() not in map(str.lower, methods):
                continue
            if self._chances[name].random() < fault.get("p", 1.0):
                self._struck(fault["fault"])
                return fault
        return None

    async def before(self, method: str) -> None:
        """Be slow, or fail, before a method runs.

        Raises:
            ConnectError: A fault says so.
        """
        if (delay := self.draw(("app_delay",), method)) is not None:
            await asyncio.sleep(delay["delay"])
        if (error := self.draw(("app_error",), method)) is not None:
            raise ConnectError(
                Code(error.get("code", "unavailable")), "the chaos harness said so"
            ) from None

    @property
    def slower(self) -> float:
        """By how much the service time is multiplied."""
        factors = [f["factor"] for f in self._active.values() if f["fault"] == "slow_service"]
        return max(factors, default=1.0)
