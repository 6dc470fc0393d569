"""The server's side of the handshake RPC."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail

from connectplugin._gen.connectplugin.v1.handshake_pb import (
    HandshakeRequest,
    HandshakeResponse,
    PluginInfo,
)
from connectplugin.handshake.machine import Offer, Refusal, Terms, negotiate
from connectplugin.wire import CORE_PROTOCOL_VERSION, ERROR_DOMAIN
from connectplugin_interceptors._gen.google.rpc.error_details_pb import ErrorInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class PluginFacts:
    """What a server announces of one plugin.

    Attributes:
        name: The plugin's name.
        version: Its own version, not that of its protocol.
        service_path: Where its service is mounted, without slashes at the ends.
        capabilities: What it can do beyond its service.
    """

    name: str
    version: str
    service_path: str
    capabilities: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerFacts:
    """What a server announces of itself.

    Attributes:
        plugins: By application version.
        cookie: Key and value that clients must show, or None.
        capabilities: What clients may require.
        instance_id: Random for each start of the server.
        metadata: Free text for people and tools.
    """

    plugins: Mapping[int, Sequence[PluginFacts]]
    cookie: tuple[str, str] | None
    capabilities: Sequence[str]
    instance_id: str
    metadata: Mapping[str, str]

    @property
    def terms(self) -> Terms:
        """What negotiation needs of it."""
        names = {version: [p.name for p in plugins] for version, plugins in self.plugins.items()}
        return Terms(CORE_PROTOCOL_VERSION, names, self.cookie, self.capabilities)


class Handshake:
    """Answers `HandshakeService.Handshake`, and the same of `PluginController`."""

    def __init__(self, facts: ServerFacts) -> None:
        self._facts = facts
        self._terms = facts.terms

    async def handshake(self, request: HandshakeRequest, _ctx: Any, /) -> HandshakeResponse:
        """Agree on a version, or say why not and what either side has."""
        verdict = negotiate(_offer(request), self._terms)
        if isinstance(verdict, Refusal):
            raise _error(verdict)
        facts = self._facts
        chosen = set(verdict.plugins)
        return HandshakeResponse(
            core_protocol_version=CORE_PROTOCOL_VERSION,
            app_protocol_version=verdict.app_version,
            plugins=[
                PluginInfo(
                    name=plugin.name,
                    version=plugin.version,
                    service_path=plugin.service_path,
                    capabilities=list(plugin.capabilities),
                )
                for plugin in facts.plugins[verdict.app_version]
                if plugin.name in chosen
            ],
            server_metadata=dict(facts.metadata),
            runtime_id=_runtime_id(request.self_id),
            supported_versions=sorted(facts.plugins),
            instance_id=facts.instance_id,
        )


def _offer(request: HandshakeRequest) -> Offer:
    return Offer(
        core_version=request.core_protocol_version,
        app_version=request.app_protocol_version,
        app_versions=list(request.app_protocol_versions),
        cookie=(request.magic_cookie_key, request.magic_cookie_value),
        requested=list(request.requested_plugins),
        required_capabilities=list(request.required_capabilities),
        metadata=dict(request.client_metadata),
        self_id=request.self_id,
        self_version=request.self_version,
        nonce=request.instance_nonce,
    )


def _error(refusal: Refusal) -> ConnectError:
    info = ErrorInfo(reason=refusal.fault.value, domain=ERROR_DOMAIN, metadata=dict(refusal.facts))
    code = Code.FAILED_PRECONDITION if refusal.fault.is_precondition else Code.INVALID_ARGUMENT
    return ConnectError(code, refusal.message, details=[ErrorDetail(info)])


def _runtime_id(self_id: str) -> str:
    """A name for a peer that introduces itself; no credential, and nothing is granted on it.

    The token that belongs to it comes with authentication: one that nobody checks would only look
    like security.
    """
    if not self_id:
        return ""
    plain = re.sub(r"[^a-z0-9._\-]+", "-", self_id.lower())
    return f"{plain}-{secrets.token_hex(16)}"
