"""The one distribution as users get it: sdist, wheel, regular and editable install; offline.

And a host and its plugin, written against the installed wheel: they run, and both checkers agree.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectplugin_chaos.toxiproxy.binary import NoToxiproxyError, find

ROOT = Path(__file__).parents[2]
SOURCES = {
    "connectplugin": ROOT / "connectplugin",
    "connectplugin_interceptors": ROOT / "interceptors" / "connectplugin_interceptors",
    "connectplugin_chaos": ROOT / "chaos" / "connectplugin_chaos",
}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command: str | Path, cwd: Path, exit_code: int = 0) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == exit_code, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(kind: str, *, source: Path, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", into, cwd=source)
    (made,) = into.iterdir()
    return made


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def source_files() -> Iterator[str]:
    for package, folder in SOURCES.items():
        for path in folder.rglob("*"):
            if path.suffix == ".py" or path.name in {"py.typed", "report.schema.json"}:
                yield f"{package}/{path.relative_to(folder).as_posix()}"
    for path in (ROOT / "chaos" / "scenarios").iterdir():
        yield f"connectplugin_chaos/scenarios/{path.name}"
    for name in ("go.mod", "go.sum"):
        yield f"connectplugin_chaos/toxiproxy/pinned/{name}"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", source=ROOT, into=tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel made from the unpacked sdist, as an installer makes it."""
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    return build("wheel", source=source, into=tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and the dependencies of this one.

    The dependencies come by a path line. Path lines inside such a folder are not read, so this
    environment's editable install does not come with them.
    """
    environment = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", wheel, cwd=environment)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_holds_two_packages_and_nothing_else(wheel: Path) -> None:
    metadata = f"{wheel.name.rsplit('-', 3)[0]}.dist-info"
    assert {name.split("/")[0] for name in names_in(wheel)} == {*SOURCES, metadata}


def test_wheel_holds_every_module_and_both_type_markers(wheel: Path) -> None:
    packed = {name for name in names_in(wheel) if not name.split("/")[0].endswith(".dist-info")}
    assert packed == set(source_files())
    assert "connectplugin/py.typed" in packed
    assert "connectplugin_interceptors/py.typed" in packed
    assert "connectplugin/_gen/connectplugin/v1/handshake_pb.py" in packed
    assert "connectplugin_interceptors/_gen/google/rpc/error_details_pb.py" in packed


def test_wheel_straight_from_the_tree_is_the_same(wheel: Path, tmp_path: Path) -> None:
    assert names_in(build("wheel", source=ROOT, into=tmp_path)) == names_in(wheel)


def test_sdist_holds_what_a_build_needs_and_no_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        packed = {name.split("/", 1)[1] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO"} <= packed
    assert "proto/connectplugin/v1/handshake.proto" in packed
    assert {"tests", "examples", "benchmarks", ".ci"}.isdisjoint(
        name.split("/")[0] for name in packed
    )


IMPORT_ALL = (
    "import connectplugin, connectplugin_chaos, connectplugin_interceptors; "
    "from connectplugin._gen.connectplugin.v1 import controller_connect; "
    "print(connectplugin.__file__); print(connectplugin_interceptors.__file__); "
    "print(connectplugin_chaos.__file__)"
)


def test_regular_install_imports_from_another_folder(installed: Path, tmp_path: Path) -> None:
    places = run(installed, "-W", "error", "-c", IMPORT_ALL, cwd=tmp_path).split()
    environment = installed.parents[1]
    assert all(Path(place).is_relative_to(environment) for place in places), places


def test_editable_install_imports_from_another_folder(tmp_path: Path) -> None:
    places = run(sys.executable, "-W", "error", "-c", IMPORT_ALL, cwd=tmp_path).split()
    assert [Path(place).parent for place in places] == list(SOURCES.values())


def test_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    said = run(installed.with_name("connectplugin"), "--version", cwd=tmp_path)
    assert said.startswith("connectplugin 0.")


def test_installed_harness_brings_its_scenarios(installed: Path, tmp_path: Path) -> None:
    harness = installed.with_name("connectplugin-chaos")
    said = run(harness, "list", cwd=tmp_path)
    ours = {path.stem.upper() for path in (ROOT / "chaos" / "scenarios").glob("*.yaml")}
    assert {line.split()[0] for line in said.splitlines() if not line.startswith(" ")} == ours
    assert "tiers: smoke, core, full" in said


@pytest.mark.timeout(180)
def test_installed_harness_runs_a_scenario_by_its_id(installed: Path, tmp_path: Path) -> None:
    try:
        toxiproxy = find()
    except NoToxiproxyError as error:
        pytest.skip(str(error))
    environment = {**ENVIRONMENT, "TOXIPROXY_SERVER": str(toxiproxy.path)}
    done = subprocess.run(
        [installed.with_name("connectplugin-chaos"), "run", "F1", "--short", "--arms", "stack"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    # What came out depends on how busy this machine is; that it was run does not.
    assert "attempts/call" in done.stdout, done.stderr
    (report,) = tmp_path.glob("runs/*/report.html")
    assert "One of three is killed" in report.read_text()


# A user's own project against the installed wheel.

SHARED = """\
from typing import Protocol

from connectplugin import ConnectPlugin
from kv.v1.kv_connect import KVService


class KV(Protocol):
    async def get(self, key: str) -> bytes: ...
    async def put(self, key: str, value: bytes) -> None: ...
    async def increment(self, key: str, delta: int = 1) -> int: ...


kv_plugin = ConnectPlugin("kv", KV, service=KVService)
"""
HOST = """\
import asyncio
from typing import assert_type

from connectplugin import Client, ClientConfig, RetryPolicy, ServeConfig, create_app, with_options
from kv_plugin import KV, kv_plugin


class MemoryKV:
    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    async def get(self, key: str) -> bytes:
        return self._values[key]

    async def put(self, key: str, value: bytes) -> None:
        self._values[key] = value

    async def increment(self, key: str, delta: int = 1) -> int:
        return int(self._values.get(key, b"0")) + delta


async def main() -> None:
    app = create_app(ServeConfig(plugins=[kv_plugin.bind(MemoryKV())]))
    config = ClientConfig(endpoint=app, plugins=[kv_plugin], retry_policy=RetryPolicy())
    async with Client(config) as client:
        kv = client.dispense(kv_plugin)
        assert_type(kv, KV)
        assert_type(client.dispense("kv", KV), KV)
        await with_options(kv, timeout=5.0, retry_policy=None).put("hello", b"world")
        print(await kv.get("hello"), await kv.increment("n"))


asyncio.run(main())
"""
WRONG = """\
from connectplugin import Client, ClientConfig
from kv_plugin import kv_plugin


class Halved:
    async def get(self, key: int) -> bytes:
        return bytes(key)


async def main(client: Client) -> None:
    kv_plugin.bind(Halved())
    await client.dispense(kv_plugin).put("hello", "text")
    ClientConfig(endpoint="http://127.0.0.1", plugins=[kv_plugin], retries=3)
"""
WRONG_LINES = (11, 12, 13)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: their generated code, their plugin, their host."""
    shutil.copytree(ROOT / "examples" / "kv" / "gen" / "kv", tmp_path / "kv")
    for name, text in (("kv_plugin", SHARED), ("host", HOST), ("wrong", WRONG)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "ignore": ["kv"]}')
    return tmp_path


def checker(name: str, python: Path) -> list[str | Path]:
    program = Path(sys.executable).with_name(name)
    if name == "mypy":
        return [
            program,
            "--strict",
            "--config-file=",
            "--no-incremental",
            "--python-executable",
            python,
        ]
    return [program, "--pythonpath", python]


def test_host_runs_on_the_installed_wheel(installed: Path, project: Path) -> None:
    assert run(installed, "-W", "error", "host.py", cwd=project) == "b'world' 1\n"


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_checker_accepts_the_host(name: str, installed: Path, project: Path) -> None:
    run(*checker(name, installed), "host.py", "kv_plugin.py", cwd=project)


@pytest.mark.parametrize("name", ["mypy", "pyright"])
def test_checker_finds_each_mistake(name: str, installed: Path, project: Path) -> None:
    """Else the test above could pass because a checker sees only Any."""
    said = run(*checker(name, installed), "wrong.py", cwd=project, exit_code=1)
    for line in WRONG_LINES:
        assert f"wrong.py:{line}:" in said, said
