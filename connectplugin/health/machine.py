"""What is known of a server's health; a book with one page for each plugin and one for the server.

What if a status is set twice, or after the server has begun to stop? The same status again is no
change; once the book is closed all are unhealthy for good.
"""

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final


class HealthState(enum.Enum):
    """How a server or a plugin is."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    """It takes calls, but not as it should; peers prefer others."""

    UNHEALTHY = "unhealthy"
    """It takes no calls."""

    @property
    def serving(self) -> bool:
        """Whether calls should be sent to it."""
        return self is not HealthState.UNHEALTHY


@dataclass(frozen=True, slots=True)
class Health:
    """A state and the reason for it."""

    state: HealthState
    reason: str = ""


HEALTHY: Final = Health(HealthState.HEALTHY)


@dataclass(slots=True)
class HealthBook:
    """Who is how. Names are plugins' names or their services' full names; `""` is the server.

    Attributes:
        revision: Grows with every change.
        closed: Whether the server stops; then nobody is serving any more.
    """

    revision: int = 0
    closed: bool = False
    _reason: str = ""
    _aliases: dict[str, str] = field(default_factory=dict[str, str])
    _own: dict[str, Health] = field(default_factory=lambda: {"": HEALTHY})

    @property
    def names(self) -> list[str]:
        """All names that can be asked for."""
        return ["", *self._aliases]

    def add(self, name: str, aliases: Iterable[str] = ()) -> None:
        """Make a plugin known, healthy until something else is said."""
        self._own.setdefault(name, HEALTHY)
        for alias in (name, *aliases):
            self._aliases[alias] = name
        self.revision += 1

    def set(self, name: str, health: Health) -> bool:
        """Write down how a plugin, or by `""` the server, is; True if that is news.

        Raises:
            KeyError: There is no such name.
        """
        key = self._aliases[name] if name else ""
        if self._own[key] == health:
            return False
        self._own[key] = health
        self.revision += 1
        return True

    def close(self, reason: str) -> bool:
        """All are unhealthy from now on; True if that is news."""
        if self.closed:
            return False
        self.closed, self._reason = True, reason
        self.revision += 1
        return True

    def get(self, name: str) -> Health | None:
        """How the named one is; None if nobody has that name."""
        if name and name not in self._aliases:
            return None
        if self.closed:
            return Health(HealthState.UNHEALTHY, self._reason)
        if name:
            return self._own[self._aliases[name]]
        return self._overall()

    def unhealthy(self) -> list[str]:
        """The names of the plugins that are not serving."""
        return [name for name, health in self._own.items() if name and not health.state.serving]

    def _overall(self) -> Health:
        """The server's own state, or worse if its plugins are.

        One broken plugin of several degrades the server; it must not take the others out of
        service. When none is left, there is nothing to send calls to.
        """
        own = self._own[""]
        plugins = {name: health for name, health in self._own.items() if name}
        troubled = [name for name, health in plugins.items() if health != HEALTHY]
        down = self.unhealthy()
        if own.state is HealthState.UNHEALTHY or not troubled:
            return own
        if len(down) == len(plugins):
            return Health(HealthState.UNHEALTHY, f"no plugin is serving: {', '.join(down)}")
        if own.state is HealthState.DEGRADED:
            return own
        return Health(HealthState.DEGRADED, f"not healthy: {', '.join(troubled)}")
