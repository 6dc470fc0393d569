"""The faults that a timeline can name: one verb, one effect that can be observed."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from connectplugin_chaos.engine.fleet import Target
from connectplugin_chaos.engine.network_verbs import NETWORK_VERBS
from connectplugin_chaos.engine.server_verbs import SERVER_VERBS
from connectplugin_chaos.engine.verb import Verb
from connectplugin_chaos.toxiproxy.api import Proxy

VERBS: Final[Mapping[str, Verb]] = {**NETWORK_VERBS, **SERVER_VERBS}


@asynccontextmanager
async def strike(
    verb: str, places: Mapping[str, Proxy | Target], arguments: Mapping[str, Any]
) -> AsyncGenerator[None]:
    """A fault at several places at once, as one context."""
    make = VERBS[verb].make
    async with AsyncExitStack() as stack:
        for place in places.values():
            await stack.enter_async_context(make(place, **arguments))
        yield
