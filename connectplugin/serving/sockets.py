"""Where a server listens: parsing of addresses, and sockets bound by ourselves."""

import contextlib
import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connectplugin.address import is_loopback
from connectplugin_interceptors.errors import ConfigError

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; the system's own limit may be lower."""

_UNIX: Final = "unix://"
_MAX_PORT: Final = 65535
# sockaddr_un holds 108 bytes on Linux, 104 on macOS, the closing zero included.
_MAX_UNIX_PATH: Final = 103
_RIGHT: Final = (
    "it must be like '127.0.0.1:8080', 'localhost:0' (any free port), '[::1]:8080',"
    " ':8080' (all interfaces) or 'unix:///run/user/1000/kv/plugin.sock'"
)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and port to listen on; an empty host is all interfaces."""

    host: str
    port: int

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.host) and is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a unix socket."""

    path: Path

    @property
    def local(self) -> bool:
        """Always."""
        return True


def parse_address(field: str, text: str) -> TcpAddress | UnixAddress:
    """What a server is told to listen on.

    Raises:
        ConfigError: It is no address; the text shows right ones.
    """
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or len(os.fsencode(path)) > _MAX_UNIX_PATH:
            msg = (
                f"{field} is {text!r}; a unix socket is an absolute path of at most"
                f" {_MAX_UNIX_PATH} bytes, like 'unix:///run/user/1000/kv/plugin.sock'"
            )
            raise ConfigError(msg)
        return UnixAddress(Path(path))
    host, colon, digits = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if (
        not colon
        or not (digits.isascii() and digits.isdigit())
        or int(digits) > _MAX_PORT
        or (":" in host and not bracketed)
        or "/" in text
        or any(c.isspace() for c in text)
    ):
        msg = f"{field} is {text!r}; {_RIGHT}"
        raise ConfigError(msg)
    return TcpAddress(host.strip("[]"), int(digits))


def bind(address: TcpAddress | UnixAddress) -> socket.socket:
    """A socket that is bound and listens.

    Raises:
        OSError: It cannot be bound; the text names the address.
    """
    try:
        if isinstance(address, UnixAddress):
            return _bind_unix(address.path)
        return _bind_tcp(address)
    except OSError as error:
        where = address.path if isinstance(address, UnixAddress) else _shown(address)
        msg = f"cannot listen on {where}: {error.strerror or error}"
        raise OSError(error.errno, msg) from error


def describe(sock: socket.socket) -> tuple[str, str]:
    """The URL by which this machine reaches a bound socket, and its address as it is."""
    name = sock.getsockname()
    if sock.family == getattr(socket, "AF_UNIX", None):
        path = os.fsdecode(name)
        return f"{_UNIX}{path}", f"{_UNIX}{path}"
    host, port = str(name[0]), int(name[1])
    reachable = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104  # read, not bound
    return f"http://{_joined(reachable, port)}", _joined(host, port)


def unlink(address: TcpAddress | UnixAddress | None) -> None:
    """Remove a unix socket's file."""
    if isinstance(address, UnixAddress):
        with contextlib.suppress(OSError):
            address.path.unlink()


def _bind_tcp(address: TcpAddress) -> socket.socket:
    if not address.host:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        return socket.create_server(("", address.port), backlog=BACKLOG)
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    # IPv4 first where a name has both: it is what "localhost" means to most clients.
    family, _, _, _, where = min(found, key=lambda info: info[0] != socket.AF_INET)
    return socket.create_server((str(where[0]), int(where[1])), family=family, backlog=BACKLOG)


def _bind_unix(path: Path) -> socket.socket:
    """Bind a unix socket that only its owner can connect to, in a directory of the same kind."""
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux gives the file the socket's own mode, so there is no moment in which others may
        # connect; elsewhere the mode is set right after.
        os.fchmod(sock.fileno(), 0o600)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: Path) -> None:
    """Remove the file of a server that is gone; leave that of one that lives, and other files."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        msg = "there is a file of that name that is no socket"
        raise FileExistsError(errno.EEXIST, msg)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError:
            pass  # a full backlog, say: somebody is there
    msg = "another server is listening there"
    raise FileExistsError(errno.EADDRINUSE, msg)


def _shown(address: TcpAddress) -> str:
    return _joined(address.host or "all interfaces", address.port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
