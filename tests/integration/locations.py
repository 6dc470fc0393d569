"""The places a plugin can be in; tests of what must be the same everywhere run in each of them."""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from connectplugin import Client, ClientConfig, ServeConfig, Server, create_app

LOCATIONS = ("url", "in process")


@dataclass
class Location:
    """Serves a configuration in one place."""

    name: str

    @contextlib.asynccontextmanager
    async def served(self, **fields: Any) -> AsyncGenerator[Any]:
        """The endpoint of a server with these fields of `ServeConfig`."""
        config = ServeConfig(addr="127.0.0.1:0", **fields)
        if self.name == "in process":
            yield create_app(config)
        else:
            async with Server(config) as server:
                yield server.url

    @contextlib.asynccontextmanager
    async def client(self, serve: dict[str, Any], **fields: Any) -> AsyncGenerator[Client]:
        """A client of such a server."""
        async with (
            self.served(**serve) as endpoint,
            Client(ClientConfig(endpoint=endpoint, **fields)) as client,
        ):
            yield client


everywhere = pytest.mark.parametrize(
    "location", [Location(name) for name in LOCATIONS], ids=LOCATIONS
)
