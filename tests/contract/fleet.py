"""Several scripted peers behind one client, each by its own host name."""

from typing import Any
from urllib.parse import urlsplit

from pyqwest import Request, Response

from connectplugin_interceptors import ClientStack, EndpointPool
from kv.v1.kv_connect import KVServiceClient
from tests.contract.peer import Peer, Step, seeded


class Fleet:
    """Peers `http://a`, `http://b`, ... in the order of their scripts.

    Attributes:
        peers: By URL.
        urls: Of every request that was sent, in order.
    """

    def __init__(self, *scripts: tuple[Step, ...]) -> None:
        names = "abcdefghijklmnopqrstuvwxyz"[: len(scripts)]
        self.peers = {
            f"http://{name}": Peer(*script) for name, script in zip(names, scripts, strict=True)
        }
        self.urls: list[str] = []

    @property
    def addresses(self) -> list[str]:
        return list(self.peers)

    @property
    def asked(self) -> list[str]:
        """The peer of every request, in order."""
        return [urlsplit(url).netloc for url in self.urls]

    def peer(self, name: str) -> Peer:
        return self.peers[f"http://{name}"]

    def client(
        self, stack: ClientStack, addresses: list[str] | EndpointPool | None = None, **options: Any
    ) -> KVServiceClient:
        options.setdefault("rng", seeded(7))
        return stack.client(
            KVServiceClient,
            self.addresses if addresses is None else addresses,
            transport=self,
            **options,
        )

    async def execute(self, request: Request) -> Response:
        self.urls.append(request.url)
        parts = urlsplit(request.url)
        return await self.peers[f"{parts.scheme}://{parts.netloc}"].transport.execute(request)
