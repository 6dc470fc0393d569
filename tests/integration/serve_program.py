"""A plugin server in a process of its own: prints its URL, and writes a file as its clean-up."""

import asyncio
import sys
from pathlib import Path
from typing import Any, Self

from connectplugin import ServeConfig, Server, serve
from tests.integration.serving_kv import TellingKV, bound


class Store(TellingKV):
    """Writes a file when its server has stopped."""

    def __init__(self, cleaned: Path) -> None:
        super().__init__()
        self._cleaned = cleaned

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._cleaned.write_text("yes")


def main() -> None:
    cleaned, addr, grace, streams = sys.argv[1:]
    options: dict[str, Any] = {"graceful_shutdown_timeout": float(grace)}
    if streams != "default":
        options["stream_drain_timeout"] = float(streams)

    def started(server: Server) -> None:
        print(server.url, flush=True)  # noqa: T201  # told to the test

    config = ServeConfig(plugins=[bound(Store(Path(cleaned)))], addr=addr, **options)
    asyncio.run(serve(config, started=started))


if __name__ == "__main__":
    main()
