"""Faults of the network: what toxiproxy does to the connections of a proxy."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from connectplugin_chaos.engine.syn_blackhole import syn_blackhole
from connectplugin_chaos.engine.verb import STREAM, Argument, Streams, Verb
from connectplugin_chaos.scenario.model import Seconds, Share
from connectplugin_chaos.toxiproxy.api import STREAMS, Proxy
from connectplugin_chaos.toxiproxy.toxics import (
    Bandwidth,
    LimitData,
    Slicer,
    SlowClose,
    Stream,
    Toxic,
)


def _streams(stream: str) -> tuple[Stream, ...]:
    return STREAMS if stream == "both" else tuple(s for s in STREAMS if s == stream)


def _freeze(proxy: Proxy, *, stream: Streams = "both") -> AbstractAsyncContextManager[None]:
    return proxy.frozen(*_streams(stream))


@asynccontextmanager
async def _latency(
    proxy: Proxy, *, delay: float, jitter: float = 0.0, stream: Streams = "downstream"
) -> AsyncGenerator[None]:
    for one in _streams(stream):
        await proxy.latency(one, round(delay * 1000), round(jitter * 1000))
    try:
        yield
    finally:
        for one in _streams(stream):
            await proxy.latency(one, 0)


def _too_much_jitter(arguments: Mapping[str, Any]) -> str | None:
    if arguments.get("jitter", 0.0) > arguments["delay"]:
        return "latency.jitter is above its delay; it is added or taken away"
    return None


def _blackhole(
    proxy: Proxy, *, stream: Streams = "both", drop_fin: bool = False
) -> AbstractAsyncContextManager[None]:
    return proxy.blackhole(*_streams(stream), drop_fin=drop_fin)


def _down(proxy: Proxy) -> AbstractAsyncContextManager[None]:
    return proxy.down()


@asynccontextmanager
async def _syn_blackhole(proxy: Proxy) -> AsyncGenerator[None]:
    """The proxy is down, and where it listened a full queue drops what wants to connect."""
    async with proxy.down(), syn_blackhole(proxy.listen):
        yield


@asynccontextmanager
async def _flap(proxy: Proxy, *, period: float = 1.0, duty: float = 0.5) -> AsyncGenerator[None]:
    """Down for `duty` of each period."""

    async def switch() -> None:
        while True:
            await proxy.enable(enabled=False)
            await asyncio.sleep(period * duty)
            await proxy.enable(enabled=True)
            await asyncio.sleep(period * (1 - duty))

    task = asyncio.create_task(switch(), name=f"flap {proxy.name}")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await proxy.enable(enabled=True)


@asynccontextmanager
async def _reset(proxy: Proxy, *, after_execution: bool) -> AsyncGenerator[None]:
    async with proxy.reset("downstream" if after_execution else "upstream"):
        yield
    # What was opened under the toxic is lingering: only a new listener is clean.
    await proxy.rebuild()


@asynccontextmanager
async def _rebuilt(proxy: Proxy, toxic: Toxic, stream: str) -> AsyncGenerator[None]:
    """A toxic that ends with the hard heal.

    To take one off with pieces pending can hang the server; connections are closed by it.
    """
    for one in _streams(stream):
        await proxy.add(f"{toxic.type}_{one}", toxic, one)
    try:
        yield
    finally:
        await proxy.rebuild()


def _bandwidth(
    proxy: Proxy, *, rate: int, stream: Streams = "downstream"
) -> AbstractAsyncContextManager[None]:
    return _rebuilt(proxy, Bandwidth(rate), stream)


def _slice(
    proxy: Proxy, *, size: int, delay: float = 0.0, stream: Streams = "downstream"
) -> AbstractAsyncContextManager[None]:
    toxic = Slicer(average_size=size, size_variation=size // 2, delay=round(delay * 1e6))
    return _rebuilt(proxy, toxic, stream)


def _truncate(
    proxy: Proxy, *, size: int, stream: Streams = "downstream"
) -> AbstractAsyncContextManager[None]:
    """Each connection ends after so many bytes; those that are open begin to count now."""
    return _rebuilt(proxy, LimitData(size), stream)


def _slow_close(
    proxy: Proxy, *, delay: float, stream: Streams = "upstream"
) -> AbstractAsyncContextManager[None]:
    """Whoever hangs up is thought to be there still, as behind a proxy that ignores it."""
    return _rebuilt(proxy, SlowClose(round(delay * 1000)), stream)


_LONGEST: Final = 3600.0
_DELAY: Final = Argument(kind=Seconds, most=_LONGEST)

NETWORK_VERBS: Final[Mapping[str, Verb]] = {
    "freeze": Verb(of="proxies", make=_freeze, arguments=STREAM),
    "latency": Verb(
        of="proxies",
        make=_latency,
        arguments={
            "delay": Argument(kind=Seconds, required=True, most=_LONGEST),
            "jitter": _DELAY,
            **STREAM,
        },
        problem=_too_much_jitter,
    ),
    "blackhole": Verb(
        of="proxies", make=_blackhole, arguments={"drop_fin": Argument(kind=bool), **STREAM}
    ),
    "down": Verb(of="proxies", make=_down),
    "syn_blackhole": Verb(of="proxies", make=_syn_blackhole),
    "flap": Verb(
        of="proxies",
        make=_flap,
        arguments={
            "period": Argument(kind=Seconds, least=0.1),
            "duty": Argument(kind=Share, most=1.0),
        },
    ),
    "reset": Verb(
        of="proxies",
        make=_reset,
        arguments={"after_execution": Argument(kind=bool, required=True)},
    ),
    "bandwidth": Verb(
        of="proxies",
        make=_bandwidth,
        arguments={"rate": Argument(kind=int, required=True, least=1), **STREAM},
    ),
    "slice": Verb(
        of="proxies",
        make=_slice,
        arguments={
            "size": Argument(kind=int, required=True, least=1),
            "delay": _DELAY,
            **STREAM,
        },
    ),
    "truncate": Verb(
        of="proxies",
        make=_truncate,
        arguments={"size": Argument(kind=int, required=True, least=0), **STREAM},
    ),
    "slow_close": Verb(
        of="proxies",
        make=_slow_close,
        arguments={
            "delay": Argument(kind=Seconds, required=True, most=_LONGEST),
            **STREAM,
        },
    ),
}
"""By the names of the scenario files."""
