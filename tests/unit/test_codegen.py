"""`connectplugin generate`, run on files made here; nothing of it needs a network."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from connectplugin.cli import main
from connectplugin.codegen import CodegenError, generate

ECHO = """
syntax = "proto3";
package acme.v1;
import "google/protobuf/timestamp.proto";
import "acme/v1/shared.proto";
service Echo { rpc Say(SayRequest) returns (stream Words); }
message SayRequest { string text = 1; google.protobuf.Timestamp at = 2; }
"""
SHARED = 'syntax = "proto3"; package acme.v1; message Words { string text = 1; }'


@pytest.fixture
def protos(tmp_path: Path) -> Path:
    root = tmp_path / "proto"
    write(root / "acme/v1/echo.proto", ECHO)
    write(root / "acme/v1/shared.proto", SHARED)
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run_python(code: str, *, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.check_output(
        [sys.executable, "-c", code], env=environment, text=True, stderr=subprocess.STDOUT
    )


def test_makes_messages_and_services_of_a_whole_folder(protos: Path, tmp_path: Path) -> None:
    done = generate(protos, tmp_path / "new" / "gen")
    assert [path.as_posix() for path in done.sources] == [
        "acme/v1/echo.proto",
        "acme/v1/shared.proto",
    ]
    assert {path.as_posix() for path in done.changed} >= {
        "acme/v1/echo_connect.py",
        "acme/v1/echo_pb.py",
        "acme/v1/shared_pb.py",
    }
    assert tree(tmp_path / "new" / "gen").keys() == {path.as_posix() for path in done.changed}


@pytest.mark.parametrize("package", ["", "inner.gen."])
def test_result_imports_from_the_path_and_as_a_package(
    protos: Path, tmp_path: Path, package: str
) -> None:
    generate(protos, tmp_path / "root" / package.replace(".", "/"))
    said = run_python(
        f"from {package}acme.v1.echo_connect import Echo\n"
        f"from {package}acme.v1.echo_pb import SayRequest\n"
        "print(Echo.desc().type_name, SayRequest(text='hi').text)",
        path=tmp_path / "root",
    )
    assert said == "acme.v1.Echo hi\n"


def test_same_input_gives_the_same_bytes_and_touches_nothing(protos: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    generate(protos, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.py")}
    again = generate(protos, out)
    assert not again.changed
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.py")}
    generate(protos, tmp_path / "elsewhere")
    assert tree(out) == tree(tmp_path / "elsewhere")


def test_a_changed_proto_rewrites_only_what_it_changes(protos: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    generate(protos, out)
    write(protos / "acme/v1/shared.proto", SHARED.replace("text = 1", "text = 2"))
    assert [path.as_posix() for path in generate(protos, out).changed] == ["acme/v1/shared_pb.py"]


def test_protoc_speaks_for_itself_and_leaves_the_output_alone(protos: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    generate(protos, out)
    before = tree(out)
    write(protos / "acme/v1/shared.proto", SHARED + "message Broken { strin x = 1; }")
    with pytest.raises(CodegenError, match=r"acme/v1/shared\.proto:1:.*strin.* is not defined"):
        generate(protos, out)
    assert tree(out) == before


def test_modules_of_a_removed_proto_are_named_and_kept(
    protos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "gen"
    write(protos / "old/v1/old.proto", 'syntax = "proto3"; package old.v1; message Old {}')
    generate(protos, out)
    (protos / "old/v1/old.proto").unlink()
    write(out / "mine_pb.py", "# written by hand, whatever its name\n")
    assert main(["generate", str(protos), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert f"{out / 'old/v1/old_pb.py'}: its .proto is gone" in said.err
    assert "mine_pb.py" not in said.err
    assert (out / "old/v1/old_pb.py").exists()


def test_never_replaces_what_a_person_wrote(protos: Path, tmp_path: Path) -> None:
    out = tmp_path / "gen"
    write(out / "__init__.py", '"""My own package."""\n')
    write(out / "acme/v1/echo_pb.py", "mine = 1\n")
    with pytest.raises(CodegenError, match=r"echo_pb\.py: is in the way and was not generated"):
        generate(protos, out)
    assert (out / "acme/v1/echo_pb.py").read_text() == "mine = 1\n"
    (out / "acme/v1/echo_pb.py").unlink()
    generate(protos, out)
    assert (out / "__init__.py").read_text() == '"""My own package."""\n'


def test_includes_are_searched_but_not_generated(protos: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    write(
        own / "mine.proto",
        'syntax = "proto3"; package mine; import "acme/v1/shared.proto";'
        "message Mine { acme.v1.Words words = 1; }",
    )
    done = generate(own, tmp_path / "gen", includes=[protos])
    assert [path.name for path in done.sources] == ["mine.proto"]
    assert not (tmp_path / "gen" / "acme").exists()


def test_hidden_folders_hold_no_sources(protos: Path, tmp_path: Path) -> None:
    write(protos / ".venv/lib/broken.proto", "not proto")
    assert len(generate(protos, tmp_path / "gen").sources) == 2


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "no such folder"),
        ("file", "not a folder; give the root that the imports"),
        ("empty", "no .proto file in this folder or below it"),
    ],
)
def test_command_line_says_what_is_wrong_with_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    folder = tmp_path / source
    assert main(["generate", str(folder), "--out", str(tmp_path / "gen")]) == 1
    assert capsys.readouterr().err.startswith(f"connectplugin generate: {folder}: {message}")
    assert not (tmp_path / "gen").exists()


def test_output_that_cannot_be_written_is_named(
    protos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gen").write_text("a file")
    assert main(["generate", str(protos), "--out", str(tmp_path / "gen")]) == 1
    assert f"{tmp_path / 'gen'}: cannot be written: File exists" in capsys.readouterr().err


def test_without_the_extra_the_error_names_it(
    protos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    monkeypatch.setattr("shutil.which", find_nothing)
    with pytest.raises(
        CodegenError,
        match=r"grpcio-tools, protoc-gen-py, protoc-gen-connectrpc; .*connectplugin\[codegen\]",
    ):
        generate(protos, tmp_path / "gen")


def test_wrong_usage_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["generate"])
    assert "PROTO_DIR, --out" in capsys.readouterr().err


def test_says_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("connectplugin 0.")


def test_runs_as_the_installed_command(protos: Path, tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("connectplugin")), "generate", str(protos)]
    said = subprocess.check_output([*command, "--out", str(tmp_path / "gen")], text=True)
    assert said == f"{tmp_path / 'gen'}: 6 files from 2 .proto, 6 changed\n"
