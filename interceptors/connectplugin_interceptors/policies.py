"""Which settings a method has: a stack's own, then the overrides that match, last one wins."""

from collections.abc import Sequence
from typing import Final

from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.options import CallOptions
from connectplugin_interceptors.settings import Changes, Settings, change

# One entry for each set of options in use: `with_options` in a loop must not grow it for ever.
_MOST_CHANGED: Final = 256


def check_pattern(pattern: str) -> None:
    """Refuse what is neither `package.Service/Method` nor `package.Service/*`."""
    service, slash, method = pattern.partition("/")
    if (
        not slash
        or not service
        or not method
        or "/" in method
        or ("*" in pattern and method != "*")
    ):
        msg = (
            f"for_method got {pattern!r}; it takes 'package.Service/Method' for one method or "
            "'package.Service/*' for all of a service"
        )
        raise ConfigError(msg)


def effective(
    base: Settings, overrides: Sequence[tuple[str, Changes]], service: str, method: str
) -> Settings:
    """The settings of one method: its own entry beats its service's, a later one an earlier."""
    settings = base
    for wanted in (f"{service}/*", f"{service}/{method}"):
        for pattern, changes in overrides:
            if pattern == wanted:
                settings = change(settings, changes)
    return settings


class PolicyTable:
    """Settings by method, computed at a method's first call."""

    def __init__(self, base: Settings, overrides: Sequence[tuple[str, Changes]]) -> None:
        self._base = base
        self._overrides = tuple(overrides)
        self._known: dict[tuple[str, str], Settings] = {}
        self._changed: dict[tuple[int, int], tuple[Settings, CallOptions, Settings]] = {}

    def settings(self, service: str, method: str) -> Settings:
        """The settings in force for a method."""
        if not self._overrides:
            return self._base
        key = (service, method)
        found = self._known.get(key)
        if found is None:
            found = effective(self._base, self._overrides, service, method)
            self._known[key] = found
        return found

    def changed(self, settings: Settings, options: CallOptions) -> Settings:
        """Those settings, changed by options; remembered, since options are used again."""
        if not options.changes:
            return settings
        key = (id(settings), id(options))
        found = self._changed.get(key)
        if found is not None:
            return found[2]
        result = change(settings, options.changes)
        if len(self._changed) >= _MOST_CHANGED:
            self._changed.clear()
        # The entry holds both objects, so that their ids cannot be given to others.
        self._changed[key] = (settings, options, result)
        return result
