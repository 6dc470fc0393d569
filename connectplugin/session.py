"""The host's side of the handshake: who is at the other end, and is it still the same?"""

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Final, TypeVar

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin._gen.connectplugin.v1.handshake_connect import HandshakeServiceClient
from connectplugin._gen.connectplugin.v1.handshake_pb import HandshakeRequest, HandshakeResponse
from connectplugin.errors import (
    HandshakeError,
    IncompatibleVersionError,
    MissingCapabilityError,
    PluginError,
    PluginUnavailableError,
)
from connectplugin.wire import CORE_PROTOCOL_VERSION
from connectplugin_interceptors._gen.google.rpc.error_details_pb import ErrorInfo
from connectplugin_interceptors.errors import retry_after
from connectplugin_interceptors.options import with_options
from connectplugin_interceptors.outcome import Cause, classify

Q = TypeVar("Q")
R = TypeVar("R")

# Behind one address there may be several instances; each is known once it was accepted.
_MOST_INSTANCES: Final = 256


@dataclass(frozen=True, slots=True)
class RemotePlugin:
    """A plugin as its server lists it."""

    name: str
    version: str
    service_path: str


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server said of itself in the handshake.

    Attributes:
        app_version: The application version that both sides speak.
        plugins: What it serves in that version, by name.
        metadata: What else it told.
        instance_id: Which start of which process answered; empty if it does not tell.
        supported_versions: The application versions that it has, if it tells.
    """

    app_version: int
    plugins: dict[str, RemotePlugin]
    metadata: dict[str, str]
    instance_id: str
    supported_versions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What this host offers."""

    versions: Sequence[int]
    plugins: Sequence[str]
    cookie: tuple[str, str] | None
    capabilities: Sequence[str]
    metadata: dict[str, str]
    self_id: str
    self_version: str


class Agreement:
    """The application version that a client and its endpoints speak.

    Attributes:
        version: None before the first handshake, which decides.
    """

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version: int | None = None


class Session:
    """The handshakes with one endpoint: one at a time, for all calls that wait for it.

    Args:
        address: Of the endpoint, for people to read.
        terms: What this host offers.
        timeout: Seconds for a handshake.
        agreement: Shared by the sessions of a client; by default this one's own.
        accepted: Called after each handshake that has succeeded.

    Attributes:
        info: What the last handshake told; None before the first.
    """

    def __init__(
        self,
        address: str,
        terms: Terms,
        timeout: float,
        *,
        agreement: Agreement | None = None,
        accepted: Callable[[], None] | None = None,
    ) -> None:
        self.address = address
        self._agreement = agreement or Agreement()
        self._on_accepted = accepted
        self.info: ServerInfo | None = None
        self.send_version = len(terms.versions) > 1
        self._terms = terms
        self._timeout = timeout
        self._nonce = secrets.token_hex(16)
        self._client: HandshakeServiceClient | None = None
        self._accepted: OrderedDict[str, None] = OrderedDict()
        self._unknown: str | None = None
        self._running: asyncio.Task[ServerInfo] | None = None

    def use(self, client: HandshakeServiceClient) -> None:
        """The client to shake hands with."""
        self._client = client

    @property
    def due(self) -> bool:
        """Whether the next call must be preceded by a handshake."""
        return self.info is None or self._unknown is not None

    def saw(self, instance: str | None) -> None:
        """Note who has answered a call."""
        if instance is not None and instance not in self._accepted:
            self._unknown = instance

    async def shake(self) -> ServerInfo:
        """Shake hands; calls that come meanwhile wait for the same handshake.

        Raises:
            ConnectError: It could not be made.
            PluginError: It was made, and the sides do not fit.
        """
        task = self._running
        if task is None or task.done():
            # In a task of its own, so that one caller's cancellation is not the others', and in a
            # context of its own, so that nothing of that caller is seen by them.
            task = asyncio.get_running_loop().create_task(
                self._shake(), context=Context(), name=f"handshake with {self.address}"
            )
            self._running = task
        return await asyncio.shield(task)

    async def _shake(self) -> ServerInfo:
        seen = self._unknown
        info = await self._negotiate(self._terms.versions)
        agreed = self._agreement.version
        if agreed is not None and agreed != info.app_version:
            # The highest common version of another endpoint, or of what was here before, is lower.
            info = await self._insist(agreed, info.app_version)
        self._agreement.version = info.app_version
        for instance in (seen, info.instance_id):
            if instance:
                self._accepted[instance] = None
        while len(self._accepted) > _MOST_INSTANCES:
            self._accepted.popitem(last=False)
        self.info = info
        if self._unknown in self._accepted:
            self._unknown = None
        if self._on_accepted is not None:
            self._on_accepted()
        return info

    async def _insist(self, agreed: int, offered: int) -> ServerInfo:
        """Ask for the version that this client speaks already."""
        try:
            return await self._negotiate([agreed])
        except (ConnectError, IncompatibleVersionError) as error:
            if isinstance(error, ConnectError) and error.code is not Code.FAILED_PRECONDITION:
                raise
            what = "is" if self.info is None else "was replaced by one"
            msg = (
                f"the plugin at {self.address} {what} of application version {offered}; this "
                f"client speaks {agreed}: make a new one"
            )
            raise IncompatibleVersionError(msg) from error

    async def _negotiate(self, offered: Sequence[int]) -> ServerInfo:
        """Ask for the highest version; a server that takes exact matches only, for each in turn."""
        versions = sorted(offered, reverse=True)
        refusal: ConnectError | None = None
        for version in versions:
            try:
                return self._checked(await self._ask(version, versions))
            except ConnectError as error:
                if error.code is not Code.FAILED_PRECONDITION or _reason(error) is not None:
                    raise
                refusal = error
        message = refusal.message if refusal is not None else ""
        raise IncompatibleVersionError(self._no_version(versions, message)) from refusal

    def _no_version(self, versions: Sequence[int], message: str) -> str:
        return (
            f"no common application version with the plugin at {self.address}: this host offers "
            f"{_listed(versions)}; the plugin says: {message}"
        )

    async def _ask(self, version: int, versions: Sequence[int]) -> HandshakeResponse:
        terms = self._terms
        key, value = terms.cookie or ("", "")
        request = HandshakeRequest(
            core_protocol_version=CORE_PROTOCOL_VERSION,
            app_protocol_version=version,
            magic_cookie_key=key,
            magic_cookie_value=value,
            requested_plugins=list(terms.plugins),
            client_metadata=terms.metadata,
            self_id=terms.self_id,
            self_version=terms.self_version,
            app_protocol_versions=list(versions),
            instance_nonce=self._nonce,
            required_capabilities=list(terms.capabilities),
        )
        if self._client is None:
            msg = "the session has no client yet"
            raise RuntimeError(msg)
        return await with_options(self._client, timeout=self._timeout).handshake(request)

    def _checked(self, reply: HandshakeResponse) -> ServerInfo:
        if reply.core_protocol_version != CORE_PROTOCOL_VERSION:
            msg = (
                f"the plugin at {self.address} speaks core protocol {reply.core_protocol_version}; "
                f"this host speaks {CORE_PROTOCOL_VERSION}"
            )
            raise IncompatibleVersionError(msg)
        if reply.app_protocol_version not in self._terms.versions:
            msg = self._no_version(
                self._terms.versions, f"application version {reply.app_protocol_version}"
            )
            raise IncompatibleVersionError(msg)
        return ServerInfo(
            app_version=reply.app_protocol_version,
            plugins={
                plugin.name: RemotePlugin(plugin.name, plugin.version, plugin.service_path)
                for plugin in reply.plugins
            },
            metadata=dict(reply.server_metadata),
            instance_id=reply.instance_id,
            supported_versions=tuple(reply.supported_versions),
        )

    def explain(self, error: ConnectError) -> PluginError:
        """What a failed handshake means to the host's author."""
        reason = _reason(error)
        if reason == "APP_VERSION_UNSUPPORTED":
            return IncompatibleVersionError(
                self._no_version(sorted(self._terms.versions), error.message)
            )
        if reason == "CAPABILITY_MISSING":
            return MissingCapabilityError(f"the plugin at {self.address}: {error.message}")
        cause = classify(error).cause
        if cause is Cause.CERTIFICATE:
            return HandshakeError(
                f"the certificate of {self.address} was not accepted: {error.message}"
            )
        if reason is None and error.code in {Code.UNIMPLEMENTED, Code.UNKNOWN}:
            return HandshakeError(
                f"what answers at {self.address} is no connectplugin server "
                f"({error.code.value}: {error.message})"
            )
        if error.code in {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED}:
            return PluginUnavailableError(
                f"no plugin could be reached at {self.address}: {error.message}"
            )
        if error.code is Code.RESOURCE_EXHAUSTED:
            # Many hosts come back at once, say, from behind one address.
            after = retry_after(error)
            when = "" if after is None else f"; try again in {after:.3g} s"
            return PluginUnavailableError(
                f"the plugin at {self.address} takes no more handshakes just now: "
                f"{error.message}{when}"
            )
        return HandshakeError(
            f"the plugin at {self.address} refused the handshake "
            f"({error.code.value}: {error.message})"
        )

    async def aclose(self) -> None:
        """Stop a handshake that is under way."""
        task = self._running
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait([task])
        elif task is not None and not task.cancelled():
            task.exception()  # retrieved: whoever waited for it has been told


def _reason(error: ConnectError) -> str | None:
    """The reason that a connectplugin server gives; None from any other."""
    for detail in error.details:
        if detail.type_name == "google.rpc.ErrorInfo":
            info = detail.value(ErrorInfo)
            if info is not None:
                return info.reason
    return None


def _listed(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions))
