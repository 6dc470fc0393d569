"""Faults of a server's process, and of the application in it."""

import itertools
import resource
import signal
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.engine.fleet import Target
from connectplugin_chaos.engine.process import ProcessError
from connectplugin_chaos.engine.verb import CHANCE, Argument, Arguments, CodeName, Verb
from connectplugin_chaos.scenario.model import Seconds

_numbers = itertools.count(1)


@asynccontextmanager
async def _kill(target: Target) -> AsyncGenerator[None]:
    """SIGKILL; started again at the heal."""
    await target.kill()
    yield
    await target.start()


@asynccontextmanager
async def _term(target: Target) -> AsyncGenerator[None]:
    """SIGTERM: it drains and ends; started again at the heal."""
    await target.stop()
    yield
    await target.start()


@asynccontextmanager
async def _restart(target: Target) -> AsyncGenerator[None]:
    """SIGTERM: it drains, ends, and is started again; all at the beginning."""
    await target.stop()
    await target.start()
    yield


@asynccontextmanager
async def _stop(target: Target) -> AsyncGenerator[None]:
    """SIGSTOP: alive, and deaf; SIGCONT at the heal."""
    target.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        target.signal(signal.SIGCONT)


@asynccontextmanager
async def _block(target: Target, *, seconds: float) -> AsyncGenerator[None]:
    target.block(seconds)
    yield


@asynccontextmanager
async def _exhaust_fds(target: Target, *, spare: int = 0) -> AsyncGenerator[None]:
    """The process may open `spare` more files or connections than it has, and no more.

    Its limit is lowered from outside (Linux): a process without a file left could not even take the
    command that ends the fault.

    Raises:
        ProcessError: The kernel refuses.
    """
    process = target.pid
    if not process:  # to the kernel 0 would be this process
        raise ProcessError(f"{target.name} does not run: exhaust_fds cannot be done to it")
    try:
        before = resource.prlimit(process, resource.RLIMIT_NOFILE)
        # The limit is the number above the highest that may be given out.
        limit = _free_number(process, spare)
        resource.prlimit(process, resource.RLIMIT_NOFILE, (limit, before[1]))
    except (AttributeError, OSError) as error:
        msg = f"{target.name}: exhaust_fds cannot be done here: {error!r}"
        raise ProcessError(msg) from error
    try:
        yield
    finally:
        if target.pid == process:
            resource.prlimit(process, resource.RLIMIT_NOFILE, before)


def _free_number(process: int, skip: int) -> int:
    """The lowest number that no open file of a process has, behind `skip` others."""
    used = {int(path.name) for path in Path(f"/proc/{process}/fd").iterdir()}
    free = (number for number in itertools.count() if number not in used)
    return next(itertools.islice(free, skip, None))


def _app(name: str, **fixed: Any) -> Callable[..., AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def make(target: Target, **arguments: Any) -> AsyncGenerator[None]:
        # Two of a kind may be there at once, each with a name of its own.
        own = f"{name}-{next(_numbers)}"
        await target.begin_fault(own, {"fault": name, **fixed, **arguments})
        try:
            yield
        finally:
            await target.end_fault(own)

    return make


def _told_twice(arguments: Mapping[str, Any]) -> str | None:
    if ("delay" in arguments) == arguments.get("forbid", False):
        return "pushback takes either delay: 300ms, or forbid: true"
    return None


@asynccontextmanager
async def _push_back(
    target: Target, *, delay: float | None = None, forbid: bool = False, **others: Any
) -> AsyncGenerator[None]:
    async with _app("pushback")(target, delay=None if forbid else delay, **others):
        yield


def _application(name: str, arguments: Arguments, *, own_service: bool = False) -> Verb:
    return Verb(of="servers", make=_app(name), arguments=arguments, own_service=own_service)


_CODE: Final = {"code": Argument(kind=CodeName)}
_DELAY: Final = {"delay": Argument(kind=Seconds, required=True)}

SERVER_VERBS: Final[Mapping[str, Verb]] = {
    "kill": Verb(of="servers", make=_kill),
    "term": Verb(of="servers", make=_term),
    "restart": Verb(of="servers", make=_restart),
    "stop": Verb(of="servers", make=_stop),
    "block_loop": Verb(
        of="servers", make=_block, arguments={"seconds": Argument(kind=Seconds, required=True)}
    ),
    "exhaust_fds": Verb(
        of="servers", make=_exhaust_fds, arguments={"spare": Argument(kind=int, least=0)}
    ),
    "hog_cpu": _application("hog_cpu", {"threads": Argument(kind=int, least=1, most=8)}),
    "slow_service": _application(
        "slow_service",
        {"factor": Argument(kind=float, required=True, least=1.0)},
        own_service=True,
    ),
    "app_error": _application("app_error", {**_CODE, **CHANCE}),
    "app_delay": _application("app_delay", {**_DELAY, **CHANCE}),
    "pushback": Verb(
        of="servers",
        make=_push_back,
        arguments={
            "delay": Argument(kind=Seconds),
            "forbid": Argument(kind=bool),
            **_CODE,
            **CHANCE,
        },
        problem=_told_twice,
    ),
    "slow_handshake": _application("slow_handshake", {**_DELAY, **CHANCE}),
    "html_503": _application("html_503", {"after_execution": Argument(kind=bool), **CHANCE}),
    "bad_content_type": _application("bad_content_type", CHANCE),
    "missing_end_stream": _application("missing_end_stream", CHANCE),
    "cut_json": _application("cut_json", CHANCE),
    "garbage": _application("garbage", CHANCE),
}
"""By the names of the scenario files."""
