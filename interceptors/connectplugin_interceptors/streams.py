"""Sends one stream of requests more than once: for client-stream and bidi calls.

The caller's iterator can be walked only once. What an attempt has taken from it is kept, until the
attempt is known to count, so that another one can begin with the same messages.

Why so little is kept: an attempt that found nobody has taken nothing. Measured with pyqwest 0.12
(`HTTPTransport`, HTTP/1.1 and h2c, messages of 10 B and 100 kB): on a refused port and an unknown
host 0 messages are taken before the `ConnectionError`. A server that accepts and closes, or reads
100 bytes and closes, makes a `WriteError` or `RemoteProtocolError` after 0 to 24 of them (HTTP/1.1,
as chance has it; 0 over h2c), but that attempt may have been executed, and does not come again.
What is kept matters for attempts that the server refused: a nack, a REFUSED_STREAM. In none of
these cases does anything close the caller's generator; `RequestReplay.aclose` does.
"""

import asyncio
import types
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any, Final, Generic, TypeVar, cast

from protobuf import Message

T = TypeVar("T")

MAX_MESSAGES: Final = 64
MAX_BYTES: Final = 256 * 1024
"""As grpc-go's default; encoded, and counted for protobuf messages only."""


_TWICE: Final = "the next request of this attempt is already being awaited"


class RequestReplay(Generic[T]):
    """The caller's requests, to be walked by one attempt after another.

    ```python
    replay = RequestReplay(requests)
    try:
        ... call_next(replay.attempt(), ctx) ...     # nothing was sent, and replay.can_replay:
        ... call_next(replay.attempt(), ctx) ...     # the same messages, from the first
        replay.commit()                              # this attempt counts
    finally:
        await replay.aclose()
    ```
    Until it is committed, by the owner or by an overflow, each message is awaited in a task of its
    own: an attempt that is cancelled or closed while it waits neither loses the message nor throws
    anything into the caller's generator. Afterwards messages are passed through without tasks.

    One attempt at a time: an earlier one that asks on gets an `AttemptOverError`, so that a
    transport which is slow to die sees its body fail rather than end well. Wherever it is resumed
    from, the caller's iterator runs in one context, a copy of that in which this object was made:
    a generator may set a ContextVar before a `yield` and reset it after.

    Attributes:
        error: What the caller's iterator has raised. The attempt gets it too, and whatever the
            transport makes of that, it is the caller's own mistake.
    """

    __slots__ = (
        "_attempt",
        "_before",
        "_bytes",
        "_closed",
        "_committed",
        "_context",
        "_ended",
        "_interrupted",
        "_interruptions",
        "_iterator",
        "_kept",
        "_max_bytes",
        "_max_messages",
        "_pull",
        "_puller",
        "error",
    )

    def __init__(
        self,
        requests: AsyncIterable[T],
        *,
        max_messages: int = MAX_MESSAGES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Take over the caller's requests; nothing is taken from them yet.

        Args:
            requests: The caller's.
            max_messages: How many are kept; one more commits.
            max_bytes: How much is kept; a byte more commits.
        """
        self.error: BaseException | None = None
        self._iterator = aiter(requests)
        self._context = copy_context()
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._kept: list[T] = []
        self._bytes = 0
        self._ended = False
        self._committed = False
        self._closed = False
        self._attempt: _AttemptRequests[T] | None = None
        # The task that awaits a message to be kept; or the consumer's, while one passes through.
        self._pull: asyncio.Task[None] | None = None
        self._puller: asyncio.Task[Any] | None = None
        # Set while `aclose` waits for the puller to let go.
        self._interrupted: asyncio.Future[None] | None = None
        self._before = 0  # how often the puller's task had been cancelled when it began
        self._interruptions = 0

    @property
    def can_replay(self) -> bool:
        """Whether another attempt would get all messages from the first."""
        return not self._committed and not self._closed and self.error is None

    def attempt(self) -> AsyncIterator[T]:
        """The requests for one more attempt; ends the one before.

        Its `aclose` ends the attempt's part, and never closes the caller's iterator.

        Raises:
            RuntimeError: There was an attempt before, and `can_replay` is false.
        """
        if self._attempt is not None:
            if not self.can_replay:
                msg = f"these requests cannot be sent again: {self!r}"
                raise RuntimeError(msg)
            self._attempt.end(AttemptOverError("another attempt has begun"))
        self._attempt = _AttemptRequests(self)
        return self._attempt

    def commit(self) -> None:
        """Keep nothing from now on: the attempt under way is the last one."""
        if self._committed:
            return
        self._committed = True
        if self._attempt is None or self._attempt.over is not None:
            self._kept.clear()
        else:
            del self._kept[: self._attempt.position]
            self._attempt.position = 0

    async def aclose(self) -> None:
        """Stop awaiting the next message, if anybody does, and close the caller's iterator.

        Waits until a generator of the caller's has reacted to that. What it raises while it is
        being closed goes to the loop's exception handler, as it does for every generator that is
        left early; the result of the call stands.
        """
        if self._closed:
            return
        self._closed = True
        self._kept.clear()
        if self._attempt is not None:
            self._attempt.end(AttemptOverError("the call is over"))
        if self._pull is not None:
            self._pull.cancel()
            await _end_of(self._pull, self._pull.cancel)
        if self._puller is not None:
            self._interrupted = asyncio.get_running_loop().create_future()
            # A transport that has given up its own wait must not be told twice: the second time
            # would interrupt what the caller's generator does to clean up.
            if self._puller.cancelling() <= self._before:
                self._interrupt()
            await _end_of(self._interrupted, self._interrupt)
        close: Any = getattr(self._iterator, "aclose", None)
        if close is None:
            return
        try:
            await within(self._context, awaited(close))
        except Exception as error:  # noqa: BLE001  # handed on, see above
            asyncio.get_running_loop().call_exception_handler(
                {
                    "message": "an error occurred while a stream of requests was being closed",
                    "exception": error,
                    "asyncgen": self._iterator,
                }
            )

    def _interrupt(self) -> None:
        """Let the puller's wait end.

        Only its wait is cancelled, not its task, which is a transport's: `_pass_through` takes the
        cancellation back, as `asyncio.timeout` does.
        """
        if self._puller is not None:
            self._interruptions += 1
            self._puller.cancel()

    async def next_for(self, attempt: "_AttemptRequests[T]") -> T:
        """The next message of an attempt."""
        while True:
            if attempt.over is not None:
                raise attempt.over
            if attempt.position < len(self._kept):
                return self._take(attempt)
            if self.error is not None:
                raise self.error
            if self._ended:
                raise StopAsyncIteration
            if self._pull is None:
                if self._committed:
                    return await self._pass_through()
                pull = asyncio.create_task(self._pull_one())
                if pull.done():  # the loop's tasks are eager
                    continue
                self._pull = pull
            await attempt.woken()

    def _take(self, attempt: "_AttemptRequests[T]") -> T:
        message = self._kept[attempt.position]
        attempt.position += 1
        if self._committed and attempt.position == len(self._kept):
            self._kept.clear()
            attempt.position = 0
        return message

    async def _pull_one(self) -> None:
        """Await one message and keep it, whoever still wants it when it comes."""
        try:
            message = await within(self._context, awaited(self._iterator.__anext__))
        except StopAsyncIteration:
            self._ended = True
        except asyncio.CancelledError as error:
            if not self._closed:  # something the iterator itself has awaited was cancelled
                self.error = error
            raise
        except Exception as error:  # noqa: BLE001  # given to the attempt
            self.error = error
        else:
            self._kept.append(message)
            if not self._committed:
                self._bytes += _size(message)
                if len(self._kept) > self._max_messages or self._bytes > self._max_bytes:
                    self.commit()
        finally:
            self._pull = None
            if self._attempt is not None:
                self._attempt.wake()

    async def _pass_through(self) -> T:
        """Await one message in the consumer's own task."""
        if self._puller is not None:
            raise RuntimeError(_TWICE)
        # Never None: whatever awaits under asyncio is part of a task.
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        left = before = self._before = task.cancelling()
        self._puller = task
        try:
            try:
                message: T = await within(self._context, awaited(self._iterator.__anext__))
            finally:
                self._puller = None
                left = task.cancelling()
                if self._interrupted is not None:
                    for _ in range(self._interruptions):
                        left = task.uncancel()
                    if not self._interrupted.done():
                        self._interrupted.set_result(None)
        except StopAsyncIteration:
            self._ended = True
            raise
        except asyncio.CancelledError as error:
            if left > before:
                raise
            if self._interrupted is not None:
                raise AttemptOverError("the call is over") from None
            self.error = error  # something the iterator itself has awaited was cancelled
            raise
        except Exception as error:
            self.error = error
            raise
        return message

    def __repr__(self) -> str:
        state = (
            "closed"
            if self._closed
            else "committed"
            if self._committed
            else f"{len(self._kept)} kept"
        )
        failed = "" if self.error is None else f", {type(self.error).__name__}"
        return f"<RequestReplay {state}{failed}>"


class AttemptOverError(Exception):
    """Requests were asked for by an attempt that is over; nobody but its transport sees this."""


class _AttemptRequests(AsyncIterator[T]):
    """The requests as one attempt sees them."""

    __slots__ = ("_replay", "_wake", "over", "position")

    def __init__(self, replay: RequestReplay[T]) -> None:
        self._replay = replay
        self._wake: asyncio.Future[None] | None = None
        self.over: AttemptOverError | StopAsyncIteration | None = None
        self.position = 0

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self._replay.next_for(self)

    async def aclose(self) -> None:
        """End this attempt's part; the caller's iterator stays open for the next attempt."""
        self.end(StopAsyncIteration())

    def end(self, how: AttemptOverError | StopAsyncIteration) -> None:
        """Let whoever asks on have this instead of a message."""
        if self.over is None:
            self.over = how
        self.wake()

    def wake(self) -> None:
        """Let a waiter look again."""
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def woken(self) -> None:
        """Wait until there may be something new."""
        if self._wake is not None:
            raise RuntimeError(_TWICE)
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self._wake
        finally:
            self._wake = None


async def _end_of(future: "asyncio.Future[None]", cancel: Callable[[], object]) -> None:
    """Wait for a future; whoever cancels the wait cancels, again, what it waits for."""
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancel()
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def awaited(call: Any) -> Any:
    """Call it and await that: `__anext__` may return any awaitable, `within` takes coroutines."""
    return await call()


@types.coroutine
def within(context: Context, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine with each of its steps run in a context that is not the task's."""
    try:
        future = context.run(coroutine.send, None)
        while True:
            try:
                value = yield future
            except BaseException as error:  # noqa: BLE001  # handed in, not kept
                future = context.run(coroutine.throw, error)
            else:
                future = context.run(coroutine.send, value)
    except StopIteration as stop:
        return stop.value


def _size(message: object) -> int:
    if not isinstance(message, Message):
        return 0
    try:
        return len(message.to_binary())
    except Exception:  # noqa: BLE001  # a message that cannot be encoded fails where it is sent
        return 0
