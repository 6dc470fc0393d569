"""What is served to browsers, probes and curl: plain HTTP beside the RPCs."""

import hashlib
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from connectplugin.health.service import HealthBoard
from connectplugin.serve_config import ServeConfig
from connectplugin.wire import CORE_PROTOCOL_VERSION, WELL_KNOWN_PATH

if TYPE_CHECKING:
    from connectplugin.handshake.service import ServerFacts


class Pages:
    """`/healthz`, `/readyz`, `/.well-known/connectplugin`.

    Attributes:
        facts: What the last of them tells; there once the plugins are mounted.
    """

    facts: "ServerFacts"

    def __init__(self, config: ServeConfig, health: HealthBoard) -> None:
        self.config = config
        self.health = health

    @property
    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route(WELL_KNOWN_PATH, self._well_known),
        ]

    async def _healthz(self, _: Request) -> Response:
        """The process lives and its loop turns."""
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        """Whether calls should be sent here."""
        health = self.health.get()
        if health is not None and health.state.serving:
            return PlainTextResponse("ready\n")
        reason = "" if health is None else health.reason
        return PlainTextResponse(f"not serving: {reason}\n", status_code=503)

    async def _well_known(self, request: Request) -> Response:
        """What is served here, for people and tools."""
        facts = self.facts
        # gRPC ends in trailers, which not every HTTP server can send.
        trailers = "http.response.trailers" in (request.scope.get("extensions") or {})
        document = {
            "core_protocol_version": CORE_PROTOCOL_VERSION,
            "app_protocol_versions": sorted(facts.plugins),
            "instance_id": facts.instance_id,
            "self_id": self.config.self_id,
            "self_version": self.config.self_version,
            "protocols": ["connect", "grpc-web", *(["grpc"] if trailers else [])],
            "codecs": ["proto", "json"],
            "plugins": {
                str(version): [
                    {
                        "name": plugin.name,
                        "version": plugin.version,
                        "service_path": f"/{plugin.service_path}/",
                    }
                    for plugin in plugins
                ]
                for version, plugins in facts.plugins.items()
            },
            "descriptor_sha256": self._descriptor_hash(),
        }
        return JSONResponse(document)

    def _descriptor_hash(self) -> str | None:
        """One hash over the descriptors of all plugins' services, newest version."""
        newest = self.config.plugin_sets[max(self.config.plugin_sets)]
        hashes = [getattr(plugin.plugin, "descriptor_sha256", None) for plugin in newest.values()]
        known = sorted(h for h in hashes if isinstance(h, bytes))
        return hashlib.sha256(b"".join(known)).hexdigest() if known else None
