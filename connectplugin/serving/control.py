"""The services by which a host asks a plugin server how it is, who it is, and to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin._gen.connectplugin.v1.control_pb import (
    GetHealthRequest,
    GetHealthResponse,
    ShutdownRequest,
    ShutdownResponse,
)
from connectplugin._gen.connectplugin.v1.handshake_pb import (
    HandshakeRequest,
    HandshakeResponse,
    ServiceDeclaration,
)
from connectplugin._gen.connectplugin.v1.identity_pb import (
    GetPluginInfoRequest,
    GetPluginInfoResponse,
    SetRuntimeIdentityRequest,
    SetRuntimeIdentityResponse,
)
from connectplugin._gen.connectplugin.v1.lifecycle_pb import HealthState as WireState
from connectplugin.address import is_loopback
from connectplugin.handshake.service import Handshake, PluginFacts
from connectplugin.health.machine import HealthState
from connectplugin.health.service import HealthBoard

_STATES: Final = {
    HealthState.HEALTHY: WireState.HEALTHY,
    HealthState.DEGRADED: WireState.DEGRADED,
    HealthState.UNHEALTHY: WireState.UNHEALTHY,
}
_MAX_REASON: Final = 256
_MAX_GRACE: Final = 3600

StopRequested = Callable[[str, float | None], None]
"""Told the reason, and the seconds of grace that were asked for (None: the server's own)."""


@dataclass(kw_only=True, slots=True)
class Control:
    """`PluginControl`: health and shutdown.

    Attributes:
        board: The server's health.
        in_flight: Counts the calls being answered.
        stop: What to do when a host asks the server to stop.
        remote_shutdown: Whether another machine may ask so.
    """

    board: HealthBoard
    in_flight: Callable[[], int]
    stop: StopRequested = field(repr=False)
    remote_shutdown: bool

    async def get_health(self, _request: GetHealthRequest, _ctx: Any, /) -> GetHealthResponse:
        """How the server is."""
        health = self.board.get()
        if health is None:  # pragma: no cover  # the server itself always has a state
            raise ConnectError(Code.NOT_FOUND, "no health")
        return GetHealthResponse(
            state=_STATES[health.state],
            reason=health.reason,
            in_flight=self.in_flight(),
        )

    async def shutdown(self, request: ShutdownRequest, ctx: Any, /) -> ShutdownResponse:
        """Begin an orderly stop."""
        if not self.remote_shutdown and not _is_local(ctx.client_address):
            msg = (
                "only this machine may stop the server, unless it was started with"
                " allow_remote_shutdown=True"
            )
            raise ConnectError(Code.PERMISSION_DENIED, msg)
        grace = request.grace_period_seconds
        if not 0 <= grace <= _MAX_GRACE:
            msg = f"grace_period_seconds is {grace}; it must be from 0 to {_MAX_GRACE}"
            raise ConnectError(Code.INVALID_ARGUMENT, msg)
        reason = "".join(c for c in request.reason[:_MAX_REASON] if c.isprintable())
        self.stop(reason or "its host asked it to stop", float(grace) if grace else None)
        return ShutdownResponse(acknowledged=True)


@dataclass(frozen=True, slots=True)
class Controller:
    """`PluginController`: handshake, health and shutdown under one name."""

    shaker: Handshake
    control: Control

    async def handshake(self, request: HandshakeRequest, ctx: Any, /) -> HandshakeResponse:
        """As `HandshakeService.Handshake`."""
        return await self.shaker.handshake(request, ctx)

    async def shutdown(self, request: ShutdownRequest, ctx: Any, /) -> ShutdownResponse:
        """As `PluginControl.Shutdown`."""
        return await self.control.shutdown(request, ctx)

    async def health(self, request: GetHealthRequest, ctx: Any, /) -> GetHealthResponse:
        """As `PluginControl.GetHealth`."""
        return await self.control.get_health(request, ctx)


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """`PluginIdentity`: what a host that launched this server asks first."""

    self_id: str
    self_version: str
    plugins: Sequence[PluginFacts]

    async def get_plugin_info(
        self,
        _request: GetPluginInfoRequest,
        _ctx: Any,
        /,
    ) -> GetPluginInfoResponse:
        """What this server is, and provides in its newest version."""
        return GetPluginInfoResponse(
            self_id=self.self_id,
            self_version=self.self_version,
            provides=[
                ServiceDeclaration(type=plugin.name, version=plugin.version, path=f"/{path}/")
                for plugin in self.plugins
                for path in [plugin.service_path]
            ],
            metadata={"name": self.self_id, "version": self.self_version},
        )

    async def set_runtime_identity(
        self,
        _request: SetRuntimeIdentityRequest,
        _ctx: Any,
        /,
    ) -> SetRuntimeIdentityResponse:
        """Refused: nothing uses an identity that is given so yet, and it is a credential."""
        msg = "this server takes no runtime identity; it does not call its host"
        raise ConnectError(Code.UNIMPLEMENTED, msg)


def _is_local(client_address: str | None) -> bool:
    """Whether a caller is on this machine; unix sockets and callers in process have no address."""
    if client_address is None:
        return True
    return is_loopback(client_address.rpartition(":")[0])
