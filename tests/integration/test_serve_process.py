"""`serve` in a process of its own: signals, the order of the drain, and the exit code."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest import Client as HTTPClient
from pyqwest import HTTPTransport

from connectplugin import ClientStack
from connectplugin._gen.connectplugin.health.v1.health_connect import HealthServiceClient
from connectplugin._gen.connectplugin.health.v1.health_pb import HealthCheckRequest, ServingStatus
from connectplugin._gen.connectplugin.v1.control_connect import PluginControlClient
from connectplugin._gen.connectplugin.v1.control_pb import ShutdownRequest
from connectplugin._gen.grpc.health.v1.health_connect import HealthClient
from connectplugin._gen.grpc.health.v1.health_pb import HealthCheckRequest as GrpcHealthCheckRequest
from connectplugin._gen.grpc.health.v1.health_pb import HealthCheckResponse as GrpcReply
from connectplugin_interceptors.circuit_breaker.interceptor import breakers_of
from connectplugin_interceptors.circuit_breaker.machine import CircuitState
from kv.v1.kv_connect import KVServiceClient
from kv.v1.kv_pb import GetRequest, IncrementRequest, SyncRequest, WatchRequest

ROOT = Path(__file__).parents[2]


class Program:
    """A running `serve_program.py`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, cleaned: Path) -> None:
        self.process = process
        self.url = url
        self._cleaned = cleaned
        self.signalled = 0.0

    def send(self, number: signal.Signals) -> None:
        self.signalled = time.monotonic()
        self.process.send_signal(number)

    async def code(self, within: float) -> int:
        """The exit code, which must be there `within` seconds of the last signal."""
        async with asyncio.timeout(30):
            code = await self.process.wait()
        took = time.monotonic() - self.signalled
        assert took < within, f"ended after {took:.2f} s"
        return code

    @property
    def cleaned(self) -> bool:
        return self._cleaned.exists()

    async def stderr(self) -> str:
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path, *, grace: float = 2.0, streams: str = "default", addr: str = "127.0.0.1:0"
) -> AsyncGenerator[Program]:
    paths = (ROOT, ROOT / "interceptors", ROOT / "examples/kv/gen")
    tmp_path.mkdir(exist_ok=True)  # noqa: ASYNC240  # once, and nobody waits
    cleaned = tmp_path / "cleaned"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.serve_program",
        str(cleaned),
        addr,
        str(grace),
        streams,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(30):
            line = await process.stdout.readline()
        assert line, (await process.communicate())[1].decode()
        yield Program(process, line.decode().strip(), cleaned)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Open:
    """A stream that is open, and how it ends."""

    def __init__(self, stream: AsyncIterator[Any]) -> None:
        self._stream = stream
        self.messages: list[Any] = []
        self.ended_at = 0.0
        self.error: ConnectError | None = None

    async def begin(self) -> "asyncio.Task[None]":
        """Read the first message; then on, in a task."""
        self.messages.append(await anext(self._stream))
        return asyncio.create_task(self._to_the_end())

    async def _to_the_end(self) -> None:
        try:
            async for message in self._stream:
                self.messages.append(message)
        except ConnectError as error:
            self.error = error
        self.ended_at = time.monotonic()


async def never() -> AsyncIterator[SyncRequest]:
    yield SyncRequest(key="a")
    await asyncio.Event().wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_in_order(number: signal.Signals, tmp_path: Path) -> None:
    """cases.md: open streams keep the shutdown hook from running."""
    async with running(tmp_path, grace=2.0) as program:
        client = KVServiceClient(program.url)
        watches = [Open(client.watch(WatchRequest(prefix="a"))) for _ in range(2)]
        watches.append(Open(client.sync(never())))
        health = Open(HealthServiceClient(program.url).watch(HealthCheckRequest()))
        grpc = Open(HealthClient(program.url).watch(GrpcHealthCheckRequest(service="kv")))
        readers = [await stream.begin() for stream in (*watches, health, grpc)]
        call = asyncio.create_task(client.get(GetRequest(key="sleep:0.5")))
        await asyncio.sleep(0.1)

        program.send(number)
        assert (await call).value == b"sleep:0.5"
        assert await program.code(within=4.0) == 0
        await asyncio.gather(*readers)

        assert [m.status for m in health.messages] == [
            ServingStatus.SERVING,
            ServingStatus.NOT_SERVING,
        ]
        assert [m.status for m in grpc.messages] == [
            GrpcReply.ServingStatus.SERVING,
            GrpcReply.ServingStatus.NOT_SERVING,
        ]
        for told in (health, grpc):
            assert told.error is None
            assert told.ended_at - program.signalled < 0.4
        for watch in watches:
            assert watch.error is not None
            assert watch.error.code is Code.UNAVAILABLE
            assert f"draining: the server got {number.name}" in watch.error.message
            assert watch.ended_at - program.signalled < 2.2
        assert program.cleaned
        assert "Traceback" not in await program.stderr()


async def test_streams_end_after_a_time_of_their_own(tmp_path: Path) -> None:
    async with running(tmp_path, grace=20.0, streams="0.3") as program:
        watch = Open(KVServiceClient(program.url).watch(WatchRequest(prefix="a")))
        reader = await watch.begin()
        program.send(signal.SIGTERM)
        assert await program.code(within=1.5) == 0
        await reader
        assert watch.error is not None
        assert "streams end after 0.3 s" in watch.error.message


async def test_a_server_that_nobody_is_connected_to_ends_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, grace=20.0) as program:
        async with HTTPTransport() as transport:
            await KVServiceClient(program.url, http_client=HTTPClient(transport)).get(
                GetRequest(key="a")
            )
        program.send(signal.SIGTERM)
        assert await program.code(within=1.0) == 0
        assert program.cleaned


async def test_idle_connections_hold_a_server_for_a_second(tmp_path: Path) -> None:
    async with running(tmp_path, grace=20.0) as program:
        await KVServiceClient(program.url).get(GetRequest(key="a"))
        host, port = program.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        program.send(signal.SIGTERM)
        assert await program.code(within=2.0) == 0
        assert program.cleaned
        writer.close()


async def test_a_call_that_does_not_end_is_cut_off_by_the_grace(tmp_path: Path) -> None:
    async with running(tmp_path, grace=1.0) as program:
        call = asyncio.create_task(KVServiceClient(program.url).get(GetRequest(key="hang")))
        await asyncio.sleep(0.3)
        program.send(signal.SIGTERM)
        with pytest.raises(ConnectError, match=r"draining: .* everything ends after 1 s"):
            await call
        assert await program.code(within=2.0) == 0
        assert program.cleaned


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, grace=20.0) as program:
        call = asyncio.create_task(KVServiceClient(program.url).get(GetRequest(key="hang")))
        await asyncio.sleep(0.3)
        program.send(signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert program.process.returncode is None
        program.send(signal.SIGTERM)
        assert await program.code(within=0.5) == -signal.SIGTERM
        assert not program.cleaned
        with pytest.raises(ConnectError):
            await call


async def test_the_second_signal_leaves_no_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "kv.sock"
    async with running(tmp_path, grace=20.0, addr=f"unix://{path}") as program:
        _, writer = await asyncio.open_unix_connection(str(path))
        writer.write(
            b"POST /kv.v1.KVService/Get HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            b'content-length: 14\r\n\r\n{"key":"hang"}'
        )
        await writer.drain()
        await asyncio.sleep(0.3)
        program.send(signal.SIGINT)
        await asyncio.sleep(0.1)
        program.send(signal.SIGINT)
        assert await program.code(within=0.5) == -signal.SIGINT
        assert not path.exists()
        writer.close()


async def test_the_shutdown_rpc_ends_the_process(tmp_path: Path) -> None:
    async with running(tmp_path, grace=20.0) as program:
        watch = Open(KVServiceClient(program.url).watch(WatchRequest(prefix="a")))
        reader = await watch.begin()
        program.signalled = time.monotonic()
        request = ShutdownRequest(grace_period_seconds=1, reason="an upgrade")
        assert (await PluginControlClient(program.url).shutdown(request)).acknowledged
        assert await program.code(within=1.8) == 0
        await reader
        assert watch.error is not None
        assert "draining: an upgrade" in watch.error.message
        assert program.cleaned


async def test_an_address_in_use_is_an_error_that_names_it(tmp_path: Path) -> None:
    async with running(tmp_path) as program:
        addr = program.url.removeprefix("http://")
        with pytest.raises(
            AssertionError, match=f"cannot listen on {addr}: Address already in use"
        ):
            async with running(tmp_path, addr=addr):
                pass


async def test_a_rolling_restart_loses_no_call_whatever_the_method(tmp_path: Path) -> None:
    """An increment that may have been executed is not repeated: none may end so."""
    ended, stop = Counter[str](), asyncio.Event()

    async def increments(client: KVServiceClient) -> None:
        while not stop.is_set():
            try:
                await client.increment(IncrementRequest(key="a"))
            except ConnectError as error:
                ended[f"{error.code.value}: {error.message}"] += 1
                await asyncio.sleep(0.1)
            else:
                ended["ok"] += 1

    async with contextlib.AsyncExitStack() as stack:
        programs = [
            await stack.enter_async_context(running(tmp_path / name)) for name in ("one", "two")
        ]
        urls = [program.url for program in programs]
        client = await stack.enter_async_context(ClientStack().client(KVServiceClient, urls))
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(increments(client))
            for program, name in zip(programs, ("three", "four"), strict=True):
                before = ended["ok"]
                while ended["ok"] < before + 200:  # noqa: ASYNC110  # both have connections
                    await asyncio.sleep(0.01)
                program.send(signal.SIGTERM)
                assert await program.code(within=5.0) == 0
                addr = program.url.removeprefix("http://")
                await stack.enter_async_context(running(tmp_path / name, addr=addr))
                await back_in_traffic(client)
            stop.set()
    assert set(ended) == {"ok"}, ended


async def back_in_traffic(client: KVServiceClient) -> None:
    """Wait until the client has found every server again: who restarts the next waits so long."""
    async with asyncio.timeout(20):
        while {s.state for s in breakers_of(client).status()} != {CircuitState.CLOSED}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
