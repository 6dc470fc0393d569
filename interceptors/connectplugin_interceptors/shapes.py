"""The four RPC shapes as types, and how to leave a stream without leaking it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic, TypeAlias, TypeVar

from connectplugin_interceptors.call import Ctx

Q = TypeVar("Q")
R = TypeVar("R")
T = TypeVar("T")

Unary: TypeAlias = Callable[[Q, Ctx], Awaitable[R]]
"""`call_next` of a unary or client-stream call (there Q is the stream of requests)."""

Stream: TypeAlias = Callable[[Q, Ctx], AsyncIterator[R]]
"""`call_next` of a server-stream or bidi call."""


async def close(stream: object) -> None:
    """Close an iterator that may have no `aclose`."""
    aclose: Any = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


class closing(Generic[T]):  # noqa: N801  # reads as contextlib.aclosing does
    """`contextlib.aclosing`, for streams whose `aclose` may be missing.

    A generator that is left early does not close the one that it wraps; that one's `finally`
    blocks would wait for the garbage collector.
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: AsyncIterator[T]) -> None:
        self._stream = stream

    async def __aenter__(self) -> AsyncIterator[T]:
        return self._stream

    async def __aexit__(self, *_: object) -> None:
        await close(self._stream)
