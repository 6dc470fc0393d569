"""Part one of the demo: one plugin in a process of its own is called, killed and restarted."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

from connectplugin import Client, ClientConfig, with_options
from connectplugin_interceptors.events import Event
from demo_load import CALLS_PER_SECOND, Load, Screen, tell
from demo_plugin import Plugin
from kv.v1.kv_pb import LoadRequest, SyncRequest
from kv_plugin import KV, kv_plugin

KILL_AT, RESTART_AT, END_AT = 1.5, 2.5, 6.0


async def shapes(kv: KV) -> None:
    """One call of each of the four shapes."""
    await kv.put("greeting", b"hello")
    print(f"  unary          get('greeting') -> {await kv.get('greeting')!r}")

    async def entries() -> AsyncIterator[LoadRequest]:
        for name in ("ada", "bob", "cyd"):
            yield LoadRequest(key=f"user/{name}", value=name.encode())

    print(f"  client stream  load(3 entries) -> {await kv.load(entries())}")
    seen: list[str] = []
    async for change in kv.watch("user/"):
        seen.append(change.key)
        if len(seen) == 3:  # noqa: PLR2004  # as many as were loaded
            break
    print(f"  server stream  watch('user/') -> {', '.join(seen)}")
    answered = asyncio.Event()

    async def questions() -> AsyncIterator[SyncRequest]:
        for number in range(3):
            answered.clear()
            yield SyncRequest(key="ball", value=b"%d" % number)
            await answered.wait()  # the next one only after the answer to this

    rally: list[str] = []
    async for reply in kv.sync(questions()):
        rally.append(f"{int(reply.value)}")
        answered.set()
    print(f"  bidi stream    sync(ping-pong) -> {' '.join(rally)}")


async def kill_under_load(plugin: Plugin, load: Load, *, restart: bool) -> None:
    """The plugin dies under a stream of calls, and comes back."""
    screen = Screen()

    async def kill_and_restart() -> None:
        await asyncio.sleep(KILL_AT)
        await plugin.kill()
        await asyncio.sleep(RESTART_AT - KILL_AT)
        if restart:
            await plugin.start()

    def look(now: float) -> bool:
        line = (
            f"  {now:4.1f} s  plugin {plugin.state:<8}  ok {load.succeeded:4}"
            f"  waiting {load.in_flight:3}  failed {load.failed:2}"
        )
        screen.draw(now, [line], line)
        return now < END_AT

    async with asyncio.TaskGroup() as group:
        group.create_task(kill_and_restart())
        await load.run(look)


async def part_one(folder: Path, *, deadline: float, restart: bool) -> bool:
    """Run it; whether all promises were kept."""
    plugin = Plugin(folder / "journal")
    loads: list[Load] = []

    def listen(event: Event) -> None:
        for load in loads:
            load.listen(event)

    try:
        await plugin.start()
        print(f"1. One plugin, in process {plugin.pid} at {plugin.url}")
        config = ClientConfig(
            endpoint=plugin.url,
            plugins=[kv_plugin],
            wait_for_ready=True,
            listeners=[listen],
            rng=random.Random(7),  # noqa: S311  # jitter
        )
        async with Client(config) as client:
            info = client.server
            served = ", ".join(f"{p.name} {p.version}" for p in info.plugins.values())
            print(f"  handshake      plugins: {served}; instance {info.instance_id[:8]}")
            kv = client.dispense(kv_plugin)
            await shapes(kv)
            print(
                f"\n  {CALLS_PER_SECOND} calls/s, {deadline:g} s for each; "
                f"SIGKILL at {KILL_AT:g} s, restart at {RESTART_AT:g} s"
            )
            load = Load(with_options(kv, timeout=deadline), deadline)
            loads.append(load)
            await kill_under_load(plugin, load, restart=restart)
            again = client.server.instance_id
        load.table()
        print(f"  {load.waited} calls waited for the plugin, {load.retries} retries")
        if again != info.instance_id:
            print(f"  the client shook hands again: instance {again[:8]}")
        return tell(load.promises(Counter(plugin.journal.read_text().split())))
    finally:
        await plugin.stop()
