"""An interface over all kinds of fields and all shapes of a call, and what implements it."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from connectplugin.plugin import ConnectPlugin
from tests.gen.shapes.v1.shapes_connect import ShapeService
from tests.gen.shapes.v1.shapes_pb import (
    AllRequest,
    Choice,
    Color,
    MaybeText,
    Point,
    Tree,
    Two,
)


class Everything(Protocol):
    """Everything at once."""

    async def all(  # noqa: PLR0917  # one of each
        self,
        text: str = "",
        data: bytes = b"",
        flag: bool = False,
        small: int = 0,
        large: int = 0,
        real: float = 0.0,
        short_real: float = 0.0,
        color: Color = Color.UNSPECIFIED,
        point: Point | None = None,
        words: Sequence[str] = (),
        points: list[Point] | None = None,
        counts: Mapping[str, int] | None = None,
        maybe_text: str | None = "by default",
        maybe_number: int | None = None,
        maybe_color: Color | None = None,
        by_name: str | None = None,
        by_number: int | None = None,
        by_point: Point | None = None,
        *,
        colors: Sequence[Color] = ...,  # as in a stub: the default of the .proto
        places: dict[int, Point] | None = None,
    ) -> AllRequest:
        """Send back what arrived."""
        ...

    async def nothing(self) -> None:
        """Do nothing."""
        ...

    async def pair(self) -> Two: ...
    async def split(self, text: str = "a b") -> list[str]: ...
    async def find(self, text: str | None = None) -> str | None: ...
    async def locate(self, request: MaybeText) -> Point: ...
    async def plant(self, label: str, child: Tree | None = None) -> Tree: ...
    async def choose(self, text: str | None = None, number: int | None = None) -> Choice: ...
    def tell(self, words: list[str]) -> AsyncIterator[str | None]: ...
    async def collect(self, texts: AsyncIterable[str]) -> list[str]: ...
    def chat(self, texts: AsyncIterable[str]) -> AsyncIterator[str]: ...
    def draw(self, points: AsyncIterable[Point]) -> AsyncIterator[Two]: ...


everything = ConnectPlugin("everything", Everything, service=ShapeService)


class Recorder:
    """Implements it, and keeps the arguments of the last call of each method."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        self.closed: list[str] = []

    async def all(  # noqa: PLR0917  # one of each
        self,
        text: str = "",
        data: bytes = b"",
        flag: bool = False,
        small: int = 0,
        large: int = 0,
        real: float = 0.0,
        short_real: float = 0.0,
        color: Color = Color.UNSPECIFIED,
        point: Point | None = None,
        words: Sequence[str] = (),
        points: list[Point] | None = None,
        counts: Mapping[str, int] | None = None,
        maybe_text: str | None = None,
        maybe_number: int | None = None,
        maybe_color: Color | None = Color.BLUE,
        by_name: str | None = None,
        by_number: int | None = None,
        by_point: Point | None = None,
        *,
        colors: Sequence[Color] = (),
        places: dict[int, Point] | None = None,
    ) -> AllRequest:
        arguments = dict(locals())
        del arguments["self"]
        self.seen = arguments
        return AllRequest(text=text, words=list(words))

    async def nothing(self) -> None:
        self.seen = {"nothing": True}

    async def pair(self) -> Two:
        return Two(first=1, second=2, name="two")

    async def split(self, text: str = "by the implementation") -> list[str]:
        return text.split()

    async def find(self, text: str | None = None) -> str | None:
        return text

    async def locate(self, request: MaybeText) -> Point:
        self.seen = {"request": request}
        return Point(x=len(request.text))

    async def plant(self, label: str, child: Tree | None = None) -> Tree:
        return Tree(label=label, child=child)

    async def choose(self, text: str | None = None, number: int | None = None) -> Choice:
        self.seen = {"text": text, "number": number}
        return Choice()

    async def tell(self, words: list[str]) -> AsyncIterator[str | None]:
        try:
            for word in words:
                yield word or None
        finally:
            self.closed.append("tell")

    async def collect(self, texts: AsyncIterable[str]) -> list[str]:
        return [text async for text in texts]

    async def chat(self, texts: AsyncIterable[str]) -> AsyncIterator[str]:
        try:
            async for text in texts:
                yield text.upper()
        finally:
            self.closed.append("chat")

    async def draw(self, points: AsyncIterable[Point]) -> AsyncIterator[Two]:
        async for point in points:
            yield Two(first=point.x, second=point.y)
