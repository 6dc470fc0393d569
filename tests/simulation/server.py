"""Servers as queueing theory sees them: so many workers, a queue before them, times by chance."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from pyqwest import Headers, HTTPVersion, Request, Response

from connectplugin_interceptors.wire import NACK_HEADER, PUSHBACK_HEADER
from kv.v1.kv_pb import GetResponse

ServiceTime: TypeAlias = Callable[[float], float]
"""Seconds that a worker needs for a request that it begins at a given time."""

_DONE: Final = GetResponse(value=b"1").to_binary()
_EXPIRED: Final = b'{"code":"deadline_exceeded","message":"it waited too long"}'
_UNAVAILABLE: Final = b'{"code":"unavailable","message":"out of order"}'


class QueueServer:
    """Answers first come first served; whoever has gone away stays in the queue all the same.

    That is what a server does that notices a client's departure only when it writes the answer.

    Attributes:
        arrivals: When each request has come, in the loop's seconds.
    """

    def __init__(
        self, service: ServiceTime, *, workers: int = 1, drops_expired: bool = False
    ) -> None:
        """Make a server with an empty queue.

        Args:
            service: How long a worker takes.
            workers: Requests that are worked on at a time.
            drops_expired: Whether a worker leaves out a request whose deadline is over.
        """
        self.arrivals: list[float] = []
        self._service = service
        self._idle = workers
        self._drops_expired = drops_expired
        self._queue: deque[tuple[asyncio.Future[Response], float]] = deque()

    async def execute(self, request: Request) -> Response:
        """Queue up, and wait for the answer."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        self.arrivals.append(now)
        answer: asyncio.Future[Response] = loop.create_future()
        timeout = request.headers.get("connect-timeout-ms")
        deadline = float("inf") if timeout is None else now + int(timeout) / 1000.0
        self._queue.append((answer, deadline))
        self._begin()
        return await answer

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._idle and self._queue:
            answer, deadline = self._queue.popleft()
            if self._drops_expired and now >= deadline:
                _answer(answer, _failure(504, _EXPIRED, nack="expired"))
                continue
            self._idle -= 1
            loop.call_later(self._service(now), self._end, answer)

    def _end(self, answer: asyncio.Future[Response]) -> None:
        _answer(answer, _success())
        self._idle += 1
        self._begin()


class FailingServer:
    """Fails every request after the same short time."""

    def __init__(self, after: float) -> None:
        """Make a server.

        Args:
            after: Seconds.
        """
        self.arrivals: list[float] = []
        self._after = after

    async def execute(self, request: Request) -> Response:
        """Wait a little, and fail."""
        self.arrivals.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self._after)
        return _failure(503, _UNAVAILABLE)


def overloaded(pushback: float) -> Response:
    """What our servers answer when they have no room: refused, and come back in `pushback` s."""
    response = _failure(503, _UNAVAILABLE, nack="overloaded")
    response.headers.add(PUSHBACK_HEADER, str(int(pushback * 1000)))
    return response


def _answer(answer: asyncio.Future[Response], response: Response) -> None:
    if not answer.done():  # else nobody waits any more
        answer.set_result(response)


def _success() -> Response:
    return _response(200, "application/proto", _DONE)


def _failure(status: int, body: bytes, *, nack: str | None = None) -> Response:
    response = _response(status, "application/json", body)
    if nack is not None:
        response.headers.add(NACK_HEADER, nack)
    return response


def _response(status: int, content_type: str, body: bytes) -> Response:
    return Response(
        status=status,
        http_version=HTTPVersion.HTTP2,
        headers=Headers([("content-type", content_type), ("content-length", str(len(body)))]),
        content=body,
    )
