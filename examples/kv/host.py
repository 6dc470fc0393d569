"""The host: calls the plugin as if it were an object here.

python examples/kv/host.py http://127.0.0.1:8080
"""

import asyncio
import sys

from connectplugin import Client, ClientConfig
from kv_plugin import kv_plugin


async def main(endpoint: str) -> None:
    """Put, get, watch."""
    async with Client(ClientConfig(endpoint=endpoint, plugins=[kv_plugin])) as client:
        kv = client.dispense(kv_plugin)
        await kv.put("hello", b"world")
        print(await kv.get("hello"))
        async for change in kv.watch("h"):
            print(change.key, change.value)
            break


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"))
