"""The faults that a timeline can name: one verb, one effect that can be observed."""

import asyncio
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from connectplugin_chaos.engine.fleet import Target
from connectplugin_chaos.toxiproxy.api import STREAMS, Proxy
from connectplugin_chaos.toxiproxy.toxics import Bandwidth, LimitData, Slicer, Stream, Toxic


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A fault.

    Attributes:
        of: What it is done to: `proxies` or `servers`.
        make: The fault as a context: it begins, and at the end it is gone.
        arguments: Names, and whether each is required.
    """

    of: str
    make: Callable[..., AbstractAsyncContextManager[None]]
    arguments: Mapping[str, bool] = field(default_factory=dict[str, bool])


def _streams(stream: str) -> tuple[Stream, ...]:
    return STREAMS if stream == "both" else tuple(s for s in STREAMS if s == stream)


def _freeze(proxy: Proxy, *, stream: str = "both") -> AbstractAsyncContextManager[None]:
    return proxy.frozen(*_streams(stream))


@asynccontextmanager
async def _latency(
    proxy: Proxy, *, delay: float, jitter: float = 0.0, stream: str = "downstream"
) -> AsyncGenerator[None]:
    for one in _streams(stream):
        await proxy.latency(one, round(delay * 1000), round(jitter * 1000))
    try:
        yield
    finally:
        for one in _streams(stream):
            await proxy.latency(one, 0)


def _blackhole(
    proxy: Proxy, *, stream: str = "both", drop_fin: bool = False
) -> AbstractAsyncContextManager[None]:
    return proxy.blackhole(*_streams(stream), drop_fin=drop_fin)


def _down(proxy: Proxy) -> AbstractAsyncContextManager[None]:
    return proxy.down()


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
    await proxy.add(f"{toxic.type}_{stream}", toxic, _streams(stream)[0])
    try:
        yield
    finally:
        await proxy.rebuild()


def _bandwidth(
    proxy: Proxy, *, rate: int, stream: str = "downstream"
) -> AbstractAsyncContextManager[None]:
    return _rebuilt(proxy, Bandwidth(rate), stream)


def _slice(
    proxy: Proxy, *, size: int, delay: float = 0.0, stream: str = "downstream"
) -> AbstractAsyncContextManager[None]:
    toxic = Slicer(average_size=size, size_variation=size // 2, delay=round(delay * 1e6))
    return _rebuilt(proxy, toxic, stream)


def _truncate(
    proxy: Proxy, *, size: int, stream: str = "downstream"
) -> AbstractAsyncContextManager[None]:
    """Each connection ends after so many bytes; those that are open begin to count now."""
    return _rebuilt(proxy, LimitData(size), stream)


@asynccontextmanager
async def _kill(target: Target) -> AsyncGenerator[None]:
    """SIGKILL; started again at the heal."""
    await target.kill()
    yield
    await target.start()


@asynccontextmanager
async def _stop(target: Target) -> AsyncGenerator[None]:
    """SIGSTOP: alive, and deaf; SIGCONT at the heal."""
    target.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        target.signal(signal.SIGCONT)


@asynccontextmanager
async def _restart(target: Target) -> AsyncGenerator[None]:
    """SIGTERM: it drains, ends, and is started again; all at the beginning."""
    await target.stop()
    await target.start()
    yield


@asynccontextmanager
async def _block(target: Target, *, seconds: float) -> AsyncGenerator[None]:
    target.block(seconds)
    yield


def _app(name: str) -> Callable[..., AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def make(target: Target, **arguments: Any) -> AsyncGenerator[None]:
        await target.tell(do="set", name=name, fault={"fault": name, **arguments})
        try:
            yield
        finally:
            await target.tell(do="clear", name=name)

    return make


_STREAM: Final = {"stream": False}

VERBS: Final[Mapping[str, Verb]] = {
    "freeze": Verb(of="proxies", make=_freeze, arguments=_STREAM),
    "latency": Verb(
        of="proxies", make=_latency, arguments={"delay": True, "jitter": False, **_STREAM}
    ),
    "blackhole": Verb(of="proxies", make=_blackhole, arguments={"drop_fin": False, **_STREAM}),
    "down": Verb(of="proxies", make=_down),
    "flap": Verb(of="proxies", make=_flap, arguments={"period": False, "duty": False}),
    "reset": Verb(of="proxies", make=_reset, arguments={"after_execution": True}),
    "bandwidth": Verb(of="proxies", make=_bandwidth, arguments={"rate": True, **_STREAM}),
    "slice": Verb(of="proxies", make=_slice, arguments={"size": True, "delay": False, **_STREAM}),
    "truncate": Verb(of="proxies", make=_truncate, arguments={"size": True, **_STREAM}),
    "kill": Verb(of="servers", make=_kill),
    "stop": Verb(of="servers", make=_stop),
    "restart": Verb(of="servers", make=_restart),
    "block_loop": Verb(of="servers", make=_block, arguments={"seconds": True}),
    "app_error": Verb(
        of="servers", make=_app("app_error"), arguments={"code": False, "p": False, "seed": False}
    ),
    "app_delay": Verb(
        of="servers", make=_app("app_delay"), arguments={"delay": True, "p": False, "seed": False}
    ),
    "slow_service": Verb(of="servers", make=_app("slow_service"), arguments={"factor": True}),
}


@asynccontextmanager
async def strike(
    verb: str, places: Mapping[str, Proxy | Target], arguments: Mapping[str, Any]
) -> AsyncGenerator[None]:
    """A fault at several places at once, as one context."""
    make = VERBS[verb].make
    async with AsyncExitStack() as stack:
        for place in places.values():
            await stack.enter_async_context(make(place, **arguments))
        yield
