"""Runs an ASGI application's lifespan: `start`, later `stop`."""

import asyncio
from contextvars import Context
from typing import Any, Final

from connectplugin.serving.layers import ASGIApp, Message

_LAST_WORDS: Final = 1.0


class LifespanError(RuntimeError):
    """An application failed to start or to stop."""


class Lifespan:
    """One application's lifespan, in a task and a context of its own.

    An application that knows no lifespan (it raises at the start) is left in peace.

    Attributes:
        state: What the application wants its requests to see (`scope["state"]`).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.state: dict[str, Any] = {}
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message | None] = asyncio.Queue()
        self._error: BaseException | None = None

    async def start(self) -> None:
        """Let the application start.

        Raises:
            LifespanError: It says that it cannot.
        """
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._run(), context=Context(), name="lifespan")
        try:
            answer = await self._ask("lifespan.startup")
        except BaseException:
            await self._drop()
            raise
        if answer is None:
            await self._drop()
        elif answer["type"] == "lifespan.startup.failed":
            await self._drop()
            msg = f"the application failed to start: {answer.get('message', '')}"
            raise LifespanError(msg) from self._error

    async def stop(self) -> None:
        """Let the application clean up; harmless if it never started.

        Raises:
            LifespanError: It says that it could not, or raised.
        """
        if self._task is None:
            return
        answer = await self._ask("lifespan.shutdown")
        await self._drop()
        if answer is None and self._error is not None:
            msg = "the application failed to stop"
            raise LifespanError(msg) from self._error
        if answer is not None and answer["type"] == "lifespan.shutdown.failed":
            msg = f"the application failed to stop: {answer.get('message', '')}"
            raise LifespanError(msg) from self._error

    async def _ask(self, what: str) -> Message | None:
        """The application's answer; None if it has ended without one."""
        self._to_app.put_nowait({"type": what})
        return await self._from_app.get()

    async def _run(self) -> None:
        async def send(message: Message) -> None:
            self._from_app.put_nowait(message)

        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._to_app.get, send)
        except Exception as error:  # noqa: BLE001  # the application's, told by `start` or `stop`
            self._error = error
        finally:
            self._from_app.put_nowait(None)

    async def _drop(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        # It has answered; what it does after that should take no time, and gets a little.
        await asyncio.wait([task], timeout=_LAST_WORDS)
        task.cancel()
        await asyncio.wait([task])
