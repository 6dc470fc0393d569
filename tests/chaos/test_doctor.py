"""The real toxiproxy does what the scenarios count on; what is none is refused."""

import sys
from pathlib import Path

import pytest

from connectplugin_chaos import cli
from connectplugin_chaos.toxiproxy.binary import (
    VARIABLE,
    Binary,
    NoToxiproxyError,
    find,
    repository,
)
from connectplugin_chaos.toxiproxy.doctor import examine


async def test_every_toxic_behaves_as_measured(toxiproxy: Binary, tmp_path: Path) -> None:
    diagnosis = await examine(toxiproxy, tmp_path)
    assert not diagnosis.surprises
    assert diagnosis.version == "2.12.0"
    assert len(diagnosis.findings) == 16


def test_a_program_that_is_no_toxiproxy_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "/bin/true")
    assert cli.main(["doctor"]) == 2
    assert "it is no toxiproxy" in capsys.readouterr().err


def test_an_imitation_of_the_api_is_found_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "toxiproxy-server"
    program.write_text(f"#!{sys.executable}\n{IMITATION}")
    program.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(program))
    assert cli.main(["doctor"]) == 2
    assert "BAD  latency on a live connection" in capsys.readouterr().out


def test_without_program_and_without_go_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoToxiproxyError, match=r"Go 1\.24.*\n.*toxiproxy-server"):
        find(tmp_path)
    monkeypatch.setattr("connectplugin_chaos.toxiproxy.binary.repository", lambda: None)
    assert cli.main(["doctor"]) == 2
    assert "install Go" in capsys.readouterr().err


def test_outside_the_repository_the_pinned_module_of_the_package_is_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a Go that only says what it was asked for; the real one builds for a minute."""
    shipped = tmp_path / "package" / "pinned"
    shipped.mkdir(parents=True)
    (shipped / "go.sum").touch()
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text(f"#!{sys.executable}\n{GO}")
    go.chmod(0o755)
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(go.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("connectplugin_chaos.toxiproxy.binary.repository", lambda: None)
    module = str(shipped.parent / "binary.py")
    monkeypatch.setattr("connectplugin_chaos.toxiproxy.binary.__file__", module)
    built = tmp_path / "cache" / "connectplugin-chaos" / "toxiproxy-server-2.12.0"
    assert find() == Binary(path=built, found="built from the pinned module")
    said = built.read_text().split()
    assert said[said.index("-C") + 1] == str(shipped)
    assert "-mod=readonly" in said
    assert list(built.parent.iterdir()) == [built]
    go.unlink()
    assert find().path == built


GO = """\
import pathlib, sys
if sys.argv[1] == "env":
    print("go1.26.0")
else:
    made = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(" ".join(sys.argv))
    made.chmod(0o755)
"""


def test_the_order_of_the_search(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def program(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    named = program(tmp_path / "named")
    on_path = program(tmp_path / "bin" / "toxiproxy-server")
    built = program(tmp_path / "repo" / ".tools" / "bin" / "toxiproxy-server")
    root = tmp_path / "repo"
    monkeypatch.setenv("PATH", str(on_path.parent))
    monkeypatch.setenv(VARIABLE, str(named))
    assert find(root).path == named
    monkeypatch.delenv(VARIABLE)
    assert find(root).path == built
    built.unlink()
    assert find(root).path == on_path


def test_the_module_is_pinned_by_its_hash() -> None:
    root = repository()
    assert root is not None
    sums = (root / "tools" / "toxiproxy" / "go.sum").read_text()
    assert "v2.12.0 h1:d1x++lYZg/zijXPPcv7PH0MvHMzEI5aX/YuUi/Sw+yg=" in sums


IMITATION = """
import http.server, json, sys
port = int(sys.argv[sys.argv.index("-port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args): pass
    def answer(self):
        length = int(self.headers.get("content-length", 0))
        body = json.loads(self.rfile.read(length) or "{}")
        text = json.dumps({"version": "2.12.0", "listen": "127.0.0.1:1", **body}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST = do_PATCH = do_DELETE = answer
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
