"""Finding the toxiproxy program; building the pinned one where that is possible."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

VERSION: Final = "2.12.0"
VARIABLE: Final = "TOXIPROXY_SERVER"

_INSTRUCTIONS: Final = f"""\
toxiproxy {VERSION} was not found, and there is no Go 1.24 or newer to build it with.
The chaos harness runs against the real toxiproxy only; nothing stands in for it. Either
  - install Go 1.24 or newer, and run the command again (in the repository: `make toxiproxy`), or
  - take the program `toxiproxy-server` of the release v{VERSION} of Shopify/toxiproxy, and put it
    on PATH or name it: {VARIABLE}=/path/to/toxiproxy-server"""


class NoToxiproxyError(Exception):
    """There is no toxiproxy, and none can be built; the text says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """A toxiproxy program, and how it was found."""

    path: Path
    found: str


def find(root: Path | None = None) -> Binary:
    """The program to use.

    In this order: the environment variable TOXIPROXY_SERVER, one that was built before (in the
    repository in `.tools/bin`, elsewhere in the user's cache), PATH, and a build of the pinned
    module, which comes with the package (one to two minutes).

    Args:
        root: The repository; by default the folder above, if it holds the pinned module.

    Raises:
        NoToxiproxyError: There is none; or the variable names something that cannot be run.
    """
    named = os.environ.get(VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file() or not os.access(path, os.X_OK):
            msg = f"{VARIABLE} is {named!r}, which is no program that can be run"
            raise NoToxiproxyError(msg)
        return Binary(path=path, found=f"named by {VARIABLE}")
    pinned = _pinned(root)
    if pinned is not None and os.access(pinned.built, os.X_OK):
        return Binary(path=pinned.built, found="built from the pinned module")
    on_path = shutil.which("toxiproxy-server")
    if on_path is not None:
        return Binary(path=Path(on_path), found="on PATH")
    if pinned is not None and _has_go():
        _build(pinned)
        return Binary(path=pinned.built, found="built from the pinned module")
    raise NoToxiproxyError(_INSTRUCTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pinned:
    """The folder of the pinned module's go.mod and go.sum, and the program that comes of it."""

    module: Path
    built: Path


def _pinned(root: Path | None) -> _Pinned | None:
    home = root if root is not None else repository()
    if home is not None:
        built = home / ".tools" / "bin" / "toxiproxy-server"
        return _Pinned(module=home / "tools" / "toxiproxy", built=built)
    shipped = Path(__file__).with_name("pinned")
    if not (shipped / "go.sum").is_file():
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    name = f"toxiproxy-server-{VERSION}"
    return _Pinned(module=shipped, built=cache / "connectplugin-chaos" / name)


def repository() -> Path | None:
    """The repository's root, if this package lies in one."""
    root = Path(__file__).resolve().parents[3]
    return root if (root / "tools" / "toxiproxy" / "go.sum").is_file() else None


def module_of(path: Path) -> str:
    """What `go version -m` says of a program's module: version and hash. Empty without Go."""
    go = shutil.which("go")
    if go is None:
        return ""
    done = subprocess.run(
        [go, "version", "-m", str(path)], capture_output=True, text=True, timeout=10, check=False
    )
    for line in done.stdout.splitlines():
        words = line.split()
        if words[:1] == ["mod"]:
            return " ".join(words[1:])
    return ""


def _has_go() -> bool:
    go = shutil.which("go")
    if go is None:
        return False
    done = subprocess.run(
        [go, "env", "GOVERSION"], capture_output=True, text=True, timeout=10, check=False
    )
    numbers = done.stdout.strip().removeprefix("go").split(".")
    try:
        return tuple(int(number) for number in numbers[:2]) >= (1, 24)
    except ValueError:
        return False


def _build(pinned: _Pinned) -> None:
    # Under another name first: another harness may look for it in the meantime.
    made = pinned.built.with_name(f"{pinned.built.name}.{os.getpid()}")
    made.parent.mkdir(parents=True, exist_ok=True)
    package = "github.com/Shopify/toxiproxy/v2"
    command = [
        "go", "build", "-C", str(pinned.module), "-mod=readonly", "-trimpath",
        "-ldflags", f"-s -w -X {package}.Version={VERSION}", "-o", str(made),
        f"{package}/cmd/server",
    ]  # fmt: skip
    environment = {**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    told = f"building toxiproxy {VERSION} into {pinned.built.parent}, once (1-2 min)"
    print(told, file=sys.stderr, flush=True)
    done = subprocess.run(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode != 0 or not made.is_file():
        msg = f"toxiproxy could not be built:\n{done.stdout}\n{_INSTRUCTIONS}"
        raise NoToxiproxyError(msg)
    made.replace(pinned.built)
