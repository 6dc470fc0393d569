"""Facts of the plugin wire that both sides share."""

from typing import Final

CORE_PROTOCOL_VERSION: Final = 1
"""Version of the handshake itself."""

APP_VERSION_HEADER: Final = "x-connectplugin-app-version"
"""Which application version the caller has agreed on; sent with every call to a plugin.

Only needed where one service path is served in several versions; a call without it gets the highest
one."""

DEFAULT_COOKIE: Final = ("CONNECT_PLUGIN", "d3f40b3c2e1a5f8b9c4d7e6a1b2c3d4e")
"""Magic cookie, key and value. A guard against calling the wrong program by mistake; no secret."""

ERROR_DOMAIN: Final = "connectplugin"
"""`google.rpc.ErrorInfo.domain` of our errors."""

WELL_KNOWN_PATH: Final = "/.well-known/connectplugin"
