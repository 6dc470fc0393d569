"""Streams between domain values and messages, in both directions, which leak nothing."""

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, NoReturn, Protocol

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.shapes import close

Convert = Callable[[Any], Any]


class Encodable(Protocol):
    """A message, or what keeps the error of making one."""

    def to_binary(self) -> bytes:
        """Raise if it cannot be encoded."""
        ...


def explain(error: ConnectError, request: Encodable, label: str) -> None:
    """Raise the caller's own mistake, if a call failed because its request could not be encoded.

    connectrpc reports that as `unavailable`, as if the network were to blame. Encoding it once more
    costs something only here, after the failure.

    Raises:
        TypeError: A message of the request holds a value of the wrong type.
        ValueError: One that is out of range, or text that is no Unicode.
    """
    if error.code is not Code.UNAVAILABLE or not isinstance(
        error.__cause__, TypeError | ValueError | OverflowError | RecursionError
    ):
        return
    try:
        request.to_binary()
    except TypeError as mistake:
        msg = f"{label}: the request cannot be encoded: {mistake}"
        raise TypeError(msg) from None
    except (ValueError, OverflowError, RecursionError) as mistake:
        msg = f"{label}: the request cannot be encoded: {mistake}"
        raise ValueError(msg) from None


async def received(
    stream: AsyncIterator[Any], convert: Convert | None, request: Encodable, label: str
) -> AsyncGenerator[Any, None]:
    """What a server sends, as the interface has it; closing this closes the stream at once."""
    try:
        if convert is None:
            async for message in stream:
                yield message
        else:
            async for message in stream:
                yield convert(message)
    except ConnectError as error:
        explain(error, request, label)
        raise
    finally:
        await close(stream)


class Requests:
    """What a client sends, as messages.

    It owns the caller's iterator, and closes it when the call has ended, however it ended: nobody
    else would. An error that the caller's iterator raises, or an item of the wrong type, is kept,
    so that the caller gets it as it is rather than as a failure of the call.
    """

    __slots__ = ("_closed", "_error", "_iterator", "_write")

    def __init__(self, items: AsyncIterable[Any], write: Convert, label: str) -> None:
        try:
            self._iterator = aiter(items)
        except TypeError:
            hint = "; a coroutine was given, call an async generator" * hasattr(items, "send")
            msg = f"{label} must be an async iterable, not {type(items).__qualname__}{hint}"
            raise TypeError(msg) from None
        self._write = write
        self._closed = False
        self._error: Exception | None = None

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        if self._closed:
            raise StopAsyncIteration
        try:
            return self._write(await anext(self._iterator))
        except StopAsyncIteration:
            raise
        except Exception as error:
            self._error = error
            raise

    async def aclose(self) -> None:
        """Close the caller's iterator."""
        if self._closed:
            return
        self._closed = True
        try:
            await close(self._iterator)
        except RuntimeError:
            # The transport still waits for the next item, in a task of its own, and a generator
            # cannot be closed while it runs. Whoever ends that wait ends the generator too.
            if not getattr(self._iterator, "ag_running", False):
                raise

    def to_binary(self) -> bytes:
        """Nothing to encode: each item was checked as it was sent."""
        return b""

    def raise_own(self) -> None:
        """Raise the error of the caller's iterator, if that is why the call failed."""
        if self._error is not None:
            raise self._error


async def sent(call: Callable[[Any], Any], requests: Requests) -> Any:
    """Make a client-stream call."""
    try:
        return await call(requests)
    except ConnectError:
        requests.raise_own()
        raise
    finally:
        await requests.aclose()


async def exchanged(
    stream: AsyncIterator[Any], convert: Convert | None, requests: Requests
) -> AsyncGenerator[Any, None]:
    """What comes back on a bidi stream; closing this closes both directions."""
    try:
        async for message in stream:
            yield message if convert is None else convert(message)
    except ConnectError:
        requests.raise_own()
        raise
    finally:
        try:
            await close(stream)
        finally:
            await requests.aclose()


async def arriving(
    stream: AsyncIterator[Any], convert: Convert | None
) -> AsyncGenerator[Any, None]:
    """What a client sends, as an implementation sees it."""
    try:
        async for message in stream:
            yield message if convert is None else convert(message)
    finally:
        await close(stream)


async def answered(stream: Any, write: Convert, label: str) -> AsyncGenerator[Any, None]:
    """What an implementation yields, as messages; closing this closes the implementation's."""
    if not hasattr(stream, "__aiter__"):
        _no_stream(stream, label)
    iterator = aiter(stream)
    try:
        async for item in iterator:
            yield write(item)
    finally:
        await close(iterator)


def _no_stream(stream: object, label: str) -> NoReturn:
    close_coroutine = getattr(stream, "close", None)
    if close_coroutine is not None and hasattr(stream, "send"):
        close_coroutine()  # else Python warns that it was never awaited
    msg = f"{label} must be an async iterator, not {type(stream).__qualname__}"
    raise TypeError(msg)
