"""What a plugin may be called, and how it tells its version."""

import re
from typing import Final

from connectplugin.binding.difference import PluginDefinitionError

RESERVED_NAMES: Final = frozenset(
    {"broker", "capabilities", "connectplugin", "handshake", "health", "plugin", "services"}
)
"""Names that mean something else on the wire: path prefixes of the router and the broker, and what
health checks ask for."""

RESERVED_PACKAGES: Final = ("connectplugin.", "grpc.health.", "grpc.reflection.")
"""Services of these packages are served by connectplugin itself."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*")
_NAME_MAX: Final = 128
_PART: Final = r"(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)"
_VERSION: Final = re.compile(
    r"(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    rf"(-{_PART}(\.{_PART})*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
_VERSION_MAX: Final = 64


def check_name(name: object) -> None:
    """Refuse what cannot be a plugin's name.

    Raises:
        PluginDefinitionError: The text names the characters that are allowed.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _NAME_MAX:
        msg = (
            f"name={name!r} cannot be a plugin's name; it must be a letter (A-Z, a-z), then "
            f"letters, digits, '_', '.' or '-', at most {_NAME_MAX} characters in all"
        )
        raise PluginDefinitionError(msg)
    if name.lower() in RESERVED_NAMES:
        reserved = ", ".join(sorted(RESERVED_NAMES))
        msg = f"name={name!r} is reserved, as are {reserved}; choose another"
        raise PluginDefinitionError(msg)


def check_version(name: str, version: object) -> None:
    """Refuse what is no semantic version.

    Raises:
        PluginDefinitionError: The text shows how one is written.
    """
    if (
        not isinstance(version, str)
        or len(version) > _VERSION_MAX
        or not _VERSION.fullmatch(version)
    ):
        msg = (
            f"plugin {name!r}: version={version!r} is no semantic version; write it like "
            f"'1.4.0' or '2.0.0-rc.1', at most {_VERSION_MAX} characters"
        )
        raise PluginDefinitionError(msg)
