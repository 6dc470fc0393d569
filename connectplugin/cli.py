"""The command line: `connectplugin generate PROTO_DIR --out DIR`.

Importing connectrpc takes a fifth of a second, so each command imports what it needs when it runs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

FAILED = 1
INTERRUPTED = 130  # as a shell reports SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The arguments without the program's name; by default those of the process.

    Returns:
        The exit code: 0, or 1 where the command failed and said so on stderr. Wrong usage exits
        with 2, from argparse.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _generate(arguments.proto_dir, arguments.out, arguments.include)
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="connectplugin", description="Remote-first plugins over Connect RPC."
    )
    parser.add_argument("--version", action=_PrintVersion, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="Python code from .proto files",
        description="Generates the messages (*_pb.py) and services (*_connect.py) of all .proto "
        "files in a folder. Needs the extra connectplugin[codegen]; works offline.",
    )
    generate.add_argument(
        "proto_dir",
        type=Path,
        metavar="PROTO_DIR",
        help="the folder that the imports of your .proto files are relative to",
    )
    generate.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the code goes: a folder on your import path, or a package; made if missing",
    )
    generate.add_argument(
        "--include",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="another root for imported .proto files, without code for them; may be repeated",
    )
    return parser


class _PrintVersion(argparse.Action):
    """As argparse's own, but the metadata is read only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - slow, and rarely needed

        print(f"connectplugin {version('connectplugin')}")
        parser.exit()


def _generate(proto_dir: Path, out: Path, includes: Sequence[Path]) -> int:
    from connectplugin.codegen import CodegenError, generate  # noqa: PLC0415 - see the top

    try:
        done = generate(proto_dir, out, includes=includes)
    except CodegenError as error:
        print(f"connectplugin generate: {error}", file=sys.stderr)
        return FAILED
    total = len(done.changed) + len(done.unchanged)
    print(f"{out}: {total} files from {len(done.sources)} .proto, {len(done.changed)} changed")
    for path in done.stale:
        advice = "its .proto is gone; remove it if nothing imports it"
        print(f"connectplugin generate: {out / path}: {advice}", file=sys.stderr)
    return 0
