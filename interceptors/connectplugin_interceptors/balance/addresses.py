"""What a source of endpoints tells, checked."""

from collections.abc import Iterable
from typing import TypeAlias

from connectplugin_interceptors.balance.endpoint import Address, Endpoint
from connectplugin_interceptors.errors import ConfigError

Source: TypeAlias = Iterable[Address | str]


def addresses(source: Source) -> dict[str, Address]:
    """The addresses by key.

    Raises:
        ConfigError: One is no URL, or is there twice.
    """
    found: dict[str, Address] = {}
    for given in source:
        address = Address(given, given) if isinstance(given, str) else given
        if not isinstance(address, Address) or not address.url.startswith(("http://", "https://")):
            msg = (
                f"EndpointPool got the endpoint {given!r}; it must be a URL with a scheme, such as "
                "'http://127.0.0.1:8080', or an Address"
            )
            raise ConfigError(msg)
        if address.key in found:
            msg = f"EndpointPool got the endpoint {address.key!r} twice; each must be there once"
            raise ConfigError(msg)
        found[address.key] = address
    return found


def is_at(endpoint: Endpoint, address: Address) -> bool:
    """Whether an endpoint is what its source says now."""
    same_target = address.target is None or endpoint.target == address.target
    return endpoint.url == address.url.rstrip("/") and same_target


def still_leaving(leaving: Iterable[Endpoint], address: Address) -> Endpoint | None:
    """One that has left, has calls left, and is back."""
    for endpoint in leaving:
        if endpoint.key == address.key and is_at(endpoint, address):
            return endpoint
    return None
