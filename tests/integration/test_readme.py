"""What README.md and the examples say is run as it stands."""

import asyncio
import re
import socket
import sys
import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError
from pyqwest.testing import ASGITransport

from connectplugin import OverloadedError
from kv.v1.kv_connect import KVServiceASGIApplication, KVServiceClient
from kv.v1.kv_pb import GetRequest, GetResponse

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
IMPORTABLE = [ROOT, ROOT / "interceptors", ROOT / "examples/kv/gen"]


def block(mark: str) -> str:
    """The one code block that holds the mark."""
    found = [text for text in BLOCKS if mark in text]
    assert len(found) == 1, f"{mark!r} is in {len(found)} code blocks of README.md"
    return found[0]


async def python(
    *arguments: str, cwd: Path, path: list[Path] = IMPORTABLE
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        cwd=cwd,
        env={"PYTHONPATH": ":".join(map(str, path)), "PATH": "/usr/bin:/bin"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def listening(port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            if process.returncode is not None:
                raise
            await asyncio.sleep(0.02)
        else:
            writer.close()
            await writer.wait_closed()
            return


@asynccontextmanager
async def running(
    process: asyncio.subprocess.Process, port: int
) -> AsyncGenerator[asyncio.subprocess.Process]:
    try:
        async with asyncio.timeout(20):
            await listening(port, process)
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_the_three_files_run_as_they_stand(tmp_path: Path) -> None:
    port = free_port()
    for name in ("kv_plugin.py", "server.py", "host.py"):
        text = block(f"# {name}\n").replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        (tmp_path / name).write_text(text)
    server = await python("server.py", cwd=tmp_path)
    async with running(server, port):
        host = await python("host.py", cwd=tmp_path)
        output, _ = await host.communicate()
    assert output.decode().splitlines() == ["b'world'", "hello b'world'", "2"]
    assert server.returncode == 0, "a server that is told to stop exits with 0"


async def test_the_examples_of_the_repository_run(tmp_path: Path) -> None:
    port = free_port()
    path = [*IMPORTABLE, ROOT / "examples/kv"]
    server = await python(
        str(ROOT / "examples/kv/server.py"), "--addr", f"127.0.0.1:{port}", cwd=tmp_path, path=path
    )
    async with running(server, port):
        host = await python(
            str(ROOT / "examples/kv/host.py"), f"http://127.0.0.1:{port}", cwd=tmp_path, path=path
        )
        output, _ = await host.communicate()
    assert output.decode().splitlines() == ["b'world'", "hello b'world'"]


@pytest.mark.parametrize(
    ("error", "prints"),
    [
        (OverloadedError("full", reason="queue_full", retry_after=0.5), "queue_full 0.5"),
        (ConnectError(Code.UNAVAILABLE, "gone"), "Code.UNAVAILABLE Delivery.MAYBE"),
        (ConnectError(Code.NOT_FOUND, "no"), "Code.NOT_FOUND Delivery.ANSWERED"),
    ],
)
async def test_errors_tell_what_the_readme_says(
    error: ConnectError, prints: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing:
        async def increment(self, key: str, delta: int) -> int:
            raise error

    await run_async(block("# refused on this side"), kv=Failing())
    assert capsys.readouterr().out.strip() == prints


async def run_async(text: str, **names: Any) -> dict[str, Any]:
    """Run a block that awaits at its top level."""
    body = textwrap.indent(text, "    ")
    exec(f"async def main():\n{body}    return locals()", names)  # noqa: S102  # our own README
    result: dict[str, Any] = await names["main"]()
    return result


async def test_the_chain_alone_serves_and_calls(capsys: pytest.CaptureFixture[str]) -> None:
    class Service:
        async def get(self, request: GetRequest, ctx: Any) -> GetResponse:
            return GetResponse(value=request.key.encode())

        def __getattr__(self, name: str) -> Any:
            return self.get

    names = await run_async(
        block("ServerStack().interceptors()"),
        KVServiceClient=KVServiceClient,
        KVServiceASGIApplication=KVServiceASGIApplication,
        implementation=Service(),
    )
    described = capsys.readouterr().out
    assert "total=5.0" in described
    assert "max_attempts=3" in described
    await names["client"].close()
    async with ASGITransport(names["app"]) as transport:
        client = names["stack"].client(KVServiceClient, "http://kv", transport=transport)
        assert (await client.get(GetRequest(key="a"))).value == b"a"


async def test_a_deadline_in_virtual_time_as_the_readme_shows(tmp_path: Path) -> None:
    prelude = """
        import asyncio
        import pytest
        from connectplugin import *
        from connectplugin import ServeConfig, create_app
        from kv_plugin import kv_plugin

        class Hanging:
            def __init__(self): self.calls = 0
            async def get(self, key: str) -> bytes:
                await asyncio.sleep(3600)
                return b""
            async def put(self, key: str, value: bytes) -> None: ...
            async def increment(self, key: str, delta: int = 1) -> int: return 0
            async def watch(self, prefix: str):
                yield

        hanging = ServeConfig(plugins=[kv_plugin.bind(Hanging())])
    """
    (tmp_path / "kv_plugin.py").write_text(block("# kv_plugin.py\n"))
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["connectplugin.testing"]\n')
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    test = block("async def test_gives_up_at_its_deadline(virtual_time)")
    (tmp_path / "test_it.py").write_text(textwrap.dedent(prelude) + test)
    process = await python("-m", "pytest", "-q", cwd=tmp_path, path=[*IMPORTABLE, tmp_path])
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    assert "1 passed" in output.decode()


GREETER = """
syntax = "proto3";
package greet.v1;
service GreetService {
  rpc Greet(GreetRequest) returns (GreetResponse) { option idempotency_level = NO_SIDE_EFFECTS; }
}
message GreetRequest { string name = 1; }
message GreetResponse { string greeting = 1; }
"""
PROGRAM = """
import asyncio
from typing import Protocol
from connectplugin import Client, ClientConfig, ConnectPlugin, ServeConfig, create_app
from greet.v1.greet_connect import GreetService

class Greeter(Protocol):
    async def greet(self, name: str) -> str: ...

class Polite:
    async def greet(self, name: str) -> str:
        return f"good day, {name}"

greeter = ConnectPlugin("greeter", Greeter, service=GreetService)

async def main():
    app = create_app(ServeConfig(plugins=[greeter.bind(Polite())]))
    async with Client(ClientConfig(endpoint=app, plugins=[greeter])) as client:
        print(await client.dispense(greeter).greet("Ada"))

asyncio.run(main())
"""


async def test_from_a_proto_of_ones_own_to_a_running_plugin(tmp_path: Path) -> None:
    (tmp_path / "proto/greet/v1").mkdir(parents=True)
    (tmp_path / "proto/greet/v1/greet.proto").write_text(GREETER)
    command = re.search(r"\$ connectplugin (generate .*)", README)
    assert command is not None
    main = "import sys; from connectplugin.cli import main; sys.exit(main(sys.argv[1:]))"
    process = await python("-c", main, *command[1].split(), cwd=tmp_path)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    (tmp_path / "program.py").write_text(PROGRAM)
    process = await python("program.py", cwd=tmp_path, path=[*IMPORTABLE, tmp_path / "gen"])
    output, _ = await process.communicate()
    assert output.decode() == "good day, Ada\n"
