"""Generated clients over a chain: a subclass that knows how to close, and how to take options."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeVar, cast

from connectrpc.client import ConnectClient
from pyqwest import Client as HTTPClient
from pyqwest import Transport

from connectplugin_interceptors.balance.pool import EndpointPool
from connectplugin_interceptors.deadline.interceptor import CallScope
from connectplugin_interceptors.foreign import Link
from connectplugin_interceptors.hedge.interceptor import close_chain
from connectplugin_interceptors.options import CallOptions, OptionsLink
from connectplugin_interceptors.renewal import RenewedTransport
from connectplugin_interceptors.routing import RoutingTransport
from connectplugin_interceptors.settings import Changes
from connectplugin_interceptors.transport import CLIENT_OPTIONS, TapTransport, make_transport

C = TypeVar("C", bound=ConnectClient)


class _Recipe:
    """What a client was made of, so that another can be made over the same chain."""

    __slots__ = (
        "address",
        "chain",
        "client_class",
        "http_client",
        "keywords",
        "options",
        "owned",
        "owns_chain",
    )

    def __init__(
        self,
        *,
        client_class: type[ConnectClient],
        address: str,
        chain: Sequence[Any],
        http_client: HTTPClient,
        owned: TapTransport | None,
        keywords: Mapping[str, Any],
        options: CallOptions | None = None,
        owns_chain: bool = False,
    ) -> None:
        self.client_class = client_class
        self.address = address
        self.chain = chain
        self.http_client = http_client
        self.owned = owned
        self.keywords = keywords
        self.options = options
        self.owns_chain = owns_chain

    def build(self) -> ConnectClient:
        links = needed_links(self.chain, {} if self.options is None else self.options.changes)
        if self.options is not None:
            links.insert(0, OptionsLink(self.options))
        client: Any = _subclass(cast("Any", self.client_class))(
            self.address, interceptors=links, http_client=self.http_client, **self.keywords
        )
        client.connectplugin_recipe = self
        return cast("ConnectClient", client)


def needed_links(chain: Sequence[Any], changes: Changes) -> list[Any]:
    """The links less those whose policy is off for all methods: even doing nothing takes time."""
    table = next((link.table for link in chain if isinstance(link, CallScope)), None)

    def isneeded_links(link: Any) -> bool:
        name = link.only_for if isinstance(link, Link) else None
        return name is None or table is None or table.uses(name) or changes.get(name) is not None

    return [link for link in chain if isneeded_links(link)]


class _Bound:
    """What is added to a generated client's class."""

    connectplugin_recipe: _Recipe

    def __with_options__(self, options: CallOptions, /) -> Any:
        """The same client, over the same chain, with options."""
        recipe = self.connectplugin_recipe
        merged = options if recipe.options is None else options.over(recipe.options)
        return _Recipe(
            client_class=recipe.client_class,
            address=recipe.address,
            chain=recipe.chain,
            http_client=recipe.http_client,
            owned=None,  # whoever made the transport closes it
            keywords=recipe.keywords,
            options=merged,
        ).build()

    async def close(self, *request: Any, **options: Any) -> Any:
        """Close the client, and the transport that was made for it.

        With a request it is the call of an RPC that is named Close.
        """
        if request or options:
            rpc: Any = super()
            return await rpc.close(*request, **options)
        await ConnectClient.close(cast("ConnectClient", self))
        recipe = self.connectplugin_recipe
        if recipe.owns_chain:
            await close_chain(recipe.chain)
        if recipe.owned is not None:
            await recipe.owned.aclose()
        return None

    def __repr__(self) -> str:
        recipe = self.connectplugin_recipe
        return f"<{recipe.client_class.__name__} at {recipe.address}>"


@cache
def _subclass(client_class: Any) -> type[ConnectClient]:
    return cast(
        "type[ConnectClient]",
        type(
            client_class.__name__, (_Bound, client_class), {"__module__": client_class.__module__}
        ),
    )


def _transport(url: str) -> Transport:
    return RenewedTransport(lambda: make_transport(url))


def bound_client(
    client_class: type[C],
    address: str,
    chain: Sequence[Any],
    transport: Transport | None,
    keywords: Mapping[str, Any],
    *,
    pool: EndpointPool | None = None,
    owns_chain: bool = False,
) -> C:
    """A client of a generated class over a chain; see `ClientStack.client`.

    Args:
        client_class: The generated class.
        address: Of the server; `BALANCED_URL` if there is a pool.
        chain: The interceptors.
        transport: Instead of the default one; it stays open.
        keywords: What the generated class takes.
        pool: The endpoints to send to.
        owns_chain: Whether the chain ends with this client.
    """
    given = {**CLIENT_OPTIONS, **keywords}
    inner: Transport
    if pool is not None:
        inner = RoutingTransport(
            pool,
            (lambda endpoint: _transport(endpoint.url))
            if transport is None
            else (lambda _: transport),
            base=address,
            owned=transport is None,
        )
    else:
        inner = transport if transport is not None else _transport(address)
    tap = TapTransport(inner, read_max_bytes=given["read_max_bytes"])
    owned = tap if transport is None or pool is not None else None
    recipe = _Recipe(
        client_class=client_class,
        address=address,
        chain=chain,
        http_client=HTTPClient(tap),
        owned=owned,
        keywords=given,
        owns_chain=owns_chain,
    )
    return cast("C", recipe.build())
