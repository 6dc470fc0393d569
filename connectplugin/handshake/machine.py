"""The server's decision on a handshake: deterministic, from what either side offers.

What if a handshake comes twice, or late? Nothing is kept: the same offer gets the same answer.
"""

import enum
import hashlib
import hmac
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

MAX_METADATA: Final = 100
MAX_METADATA_KEY: Final = 256
MAX_METADATA_VALUE: Final = 4096
MAX_SELF_ID: Final = 128
MAX_SELF_VERSION: Final = 64
MAX_REQUESTED: Final = 100
MAX_VERSIONS: Final = 100
MAX_CAPABILITIES: Final = 100
MAX_NONCE: Final = 128

_KEY: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.\-]*\Z")


class Fault(enum.Enum):
    """Why a handshake fails; the value is `google.rpc.ErrorInfo.reason`."""

    CORE_VERSION = "CORE_VERSION_UNSUPPORTED"
    COOKIE = "MAGIC_COOKIE_MISMATCH"
    APP_VERSION = "APP_VERSION_UNSUPPORTED"
    CAPABILITY = "CAPABILITY_MISSING"
    LIMIT = "LIMIT_EXCEEDED"

    @property
    def is_precondition(self) -> bool:
        """Whether it is `failed_precondition`; else `invalid_argument`."""
        return self in {Fault.APP_VERSION, Fault.CAPABILITY}


@dataclass(frozen=True, slots=True)
class Refusal:
    """The handshake fails.

    Attributes:
        fault: The kind of it.
        message: For people: what each side offered.
        facts: The same for programs (`ErrorInfo.metadata`).
    """

    fault: Fault
    message: str
    facts: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Offer:
    """What a client says of itself."""

    core_version: int
    app_version: int
    app_versions: Sequence[int]
    cookie: tuple[str, str]
    requested: Sequence[str]
    required_capabilities: Sequence[str]
    metadata: Mapping[str, str]
    self_id: str
    self_version: str
    nonce: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the server has.

    Attributes:
        core_version: The one that it speaks.
        plugins: The names of the plugins, by application version.
        cookie: Key and value that a client must show; None to ask for none.
        capabilities: What it can do for clients that require it.
    """

    core_version: int
    plugins: Mapping[int, Collection[str]]
    cookie: tuple[str, str] | None
    capabilities: Collection[str]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The handshake succeeds.

    Attributes:
        app_version: The application version to speak.
        plugins: Those of the requested plugins that the version has; all if none was named.
    """

    app_version: int
    plugins: Sequence[str]


def negotiate(offer: Offer, terms: Terms) -> Agreement | Refusal:
    """Decide on a handshake."""
    refusal = _check_sizes(offer) or _check_core(offer, terms) or _check_cookie(offer, terms)
    if refusal is not None:
        return refusal
    version = _choose(offer, terms)
    if isinstance(version, Refusal):
        return version
    missing = sorted(set(offer.required_capabilities) - set(terms.capabilities))
    if missing:
        has = ", ".join(sorted(terms.capabilities)) or "none"
        return Refusal(
            Fault.CAPABILITY,
            f"the client requires {_names(missing)}, which this server lacks; it has: {has}",
            {"missing": ",".join(missing), "available": ",".join(sorted(terms.capabilities))},
        )
    there = terms.plugins[version]
    wanted = set(offer.requested)
    names = [name for name in there if not wanted or name in wanted]
    return Agreement(version, names)


def _check_core(offer: Offer, terms: Terms) -> Refusal | None:
    if offer.core_version == terms.core_version:
        return None
    return Refusal(
        Fault.CORE_VERSION,
        f"the client speaks version {offer.core_version} of the plugin protocol,"
        f" this server version {terms.core_version}",
        {"client": str(offer.core_version), "server": str(terms.core_version)},
    )


def _check_cookie(offer: Offer, terms: Terms) -> Refusal | None:
    if terms.cookie is None:
        return None
    matches = [
        hmac.compare_digest(_digest(theirs), _digest(ours))
        for theirs, ours in zip(offer.cookie, terms.cookie, strict=True)
    ]
    if all(matches):
        return None
    return Refusal(
        Fault.COOKIE,
        "the magic cookie differs: this client and this plugin were not made for each other"
        " (or one of them has a cookie of its own configured)",
    )


def _digest(text: str) -> bytes:
    # Of equal length, so that nothing of the cookie's own length shows.
    return hashlib.sha256(text.encode()).digest()


def _choose(offer: Offer, terms: Terms) -> int | Refusal:
    """The highest version in common; a client without a list names exactly one."""
    offered = sorted(set(offer.app_versions)) or [offer.app_version]
    common = set(offered) & set(terms.plugins)
    if common:
        return max(common)
    ours = sorted(terms.plugins)
    return Refusal(
        Fault.APP_VERSION,
        f"no application version in common: the client has {_numbers(offered)},"
        f" this server has {_numbers(ours)}",
        {"client": ",".join(map(str, offered)), "server": ",".join(map(str, ours))},
    )


def _check_sizes(offer: Offer) -> Refusal | None:
    counts = (
        ("requested_plugins", len(offer.requested), MAX_REQUESTED, "entries"),
        ("app_protocol_versions", len(offer.app_versions), MAX_VERSIONS, "entries"),
        ("required_capabilities", len(offer.required_capabilities), MAX_CAPABILITIES, "entries"),
        ("client_metadata", len(offer.metadata), MAX_METADATA, "entries"),
        ("self_id", len(offer.self_id), MAX_SELF_ID, "characters"),
        ("self_version", len(offer.self_version), MAX_SELF_VERSION, "characters"),
        ("instance_nonce", len(offer.nonce), MAX_NONCE, "characters"),
    )
    for name, size, most, unit in counts:
        if size > most:
            return _too_much(name, f"{size} {unit}; at most {most} are taken")
    if not offer.self_id.isprintable():
        return _too_much("self_id", "characters that cannot be printed")
    for key, value in offer.metadata.items():
        if len(key.encode()) > MAX_METADATA_KEY or not _KEY.match(key):
            # Not the key itself: it may be anything.
            return _too_much("client_metadata", "a key that is no plain name of at most 256 bytes")
        if len(value.encode()) > MAX_METADATA_VALUE:
            return _too_much("client_metadata", f"a value above 4096 bytes, of the key {key!r}")
    return None


def _too_much(name: str, what: str) -> Refusal:
    return Refusal(Fault.LIMIT, f"{name} has {what}", {"field": name})


def _numbers(versions: Sequence[int]) -> str:
    return ", ".join(map(str, versions)) or "none"


def _names(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
