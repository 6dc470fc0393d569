"""A TCP server that answers each line, and its caller: what the doctor's probes talk through."""

import asyncio
import contextlib
import socket
import struct
import time
from types import TracebackType
from typing import Self


class Echo:
    """Answers each line with the same line.

    Attributes:
        received: Every line that has arrived.
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """`host:port`."""
        if self._server is None:
            msg = "the echo server is not running"
            raise RuntimeError(msg)
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the connections."""
        for writer in tuple(self._open):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while line := await reader.readline():
                self.received.append(line)
                writer.write(line)
                await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


class Caller:
    """One connection to an echo server; `end` says how it ended."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, address: str) -> "Caller":
        """Connect, within a second."""
        host, _, port = address.rpartition(":")
        async with asyncio.timeout(1.0):
            return cls(*await asyncio.open_connection(host, int(port)))

    def send(self, line: bytes) -> None:
        """Send a line, and do not wait."""
        self._writer.write(line + b"\n")

    async def ask(self, line: bytes, limit: float) -> float | None:
        """Seconds until the line was answered; None if it was not, within `limit`."""
        started = time.monotonic()
        self.send(line)
        answer = await self.read(limit)
        return None if answer != line else time.monotonic() - started

    async def read(self, limit: float) -> bytes | None:
        """The next line; None if none comes within `limit`, or the connection ends."""
        try:
            async with asyncio.timeout(limit):
                line = await self._reader.readline()
        except (TimeoutError, OSError):
            return None
        return line.rstrip(b"\n") if line.endswith(b"\n") else None

    async def end(self, limit: float) -> str:
        """How the connection ends: `eof`, `reset`, or `open` if it does not within `limit`."""
        try:
            async with asyncio.timeout(limit):
                while await self._reader.read(65536):
                    pass
        except TimeoutError:
            return "open"
        except OSError:
            return "reset"
        return "eof"

    async def count(self, limit: float) -> int:
        """Bytes until the connection ends, or `limit` is over."""
        total = 0
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(limit):
                while chunk := await self._reader.read(65536):
                    total += len(chunk)
        return total

    def close(self) -> None:
        """Close it with a reset, so that no port stays behind."""
        sock: socket.socket | None = self._writer.get_extra_info("socket")
        if sock is not None:
            with contextlib.suppress(OSError):
                linger = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._writer.transport.abort()


async def refused(address: str) -> bool:
    """Whether a connection is refused."""
    try:
        caller = await Caller.connect(address)
    except (OSError, TimeoutError):
        return True
    caller.close()
    return False
