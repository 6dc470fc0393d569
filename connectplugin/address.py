"""Addresses of plugins: what is a good one, and which may be spoken to in the clear."""

import ipaddress
from urllib.parse import urlsplit

from connectplugin_interceptors.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a host name or address stays on this machine."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_url(field: str, url: str, *, allow_insecure: bool) -> str:
    """A plugin's URL, without a slash at its end.

    Raises:
        ConfigError: It is no URL of a plugin, or would send in the clear over a network.
    """
    right = "it must be like 'http://127.0.0.1:8080' or 'https://plugin-svc:8443'"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        msg = f"{field} is {url!r}: {error}; {right}"
        raise ConfigError(msg) from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = f"{field} is {url!r}; {right}"
        raise ConfigError(msg)
    if port == 0 or parts.query or parts.fragment or any(c.isspace() for c in url):
        msg = f"{field} is {url!r}; {right}, without query, fragment or spaces"
        raise ConfigError(msg)
    if parts.username is not None or parts.password is not None:
        # The value is not shown: it holds a secret.
        msg = f"{field} holds a user name or password; credentials do not belong into the address"
        raise ConfigError(msg)
    if parts.scheme == "http" and not allow_insecure and not is_loopback(parts.hostname):
        msg = (
            f"{field} is {url!r}: plaintext to another machine can be read and changed on its way; "
            "use https://, or set allow_insecure=True if the network itself is trusted"
        )
        raise ConfigError(msg)
    return url.rstrip("/")
