"""An interface whose types exist for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from typing import TypeAlias

    from tests.gen.shapes.v1 import shapes_pb
    from tests.gen.shapes.v1.shapes_pb import Choice, MaybeText, Tree, Two

    Parts: TypeAlias = list[str]
    Text: TypeAlias = str
    Void: TypeAlias = None
    Answer: TypeAlias = Choice
    Replies: TypeAlias = AsyncIterator[MaybeText]


class Hidden(Protocol):
    """Every name below is unknown at run time."""

    async def pair(self) -> Two: ...
    async def split(self, text: Text) -> Parts: ...
    async def find(self, text: Text | None = None) -> Text | None: ...
    async def nothing(self) -> Void: ...
    async def choose(self, text: Text | None = None) -> Answer: ...
    async def locate(self, text: str) -> shapes_pb.Point: ...
    async def plant(self, tree: Tree) -> Tree: ...
    def tell(self, words: Parts) -> AsyncIterator[str]: ...
    def chat(self, texts: AsyncIterable[str]) -> Replies: ...
    async def collect(self, texts: AsyncIterable[str]) -> list[str]: ...


class HiddenMemory:
    """Implements it; none of its annotations can be read at run time either."""

    async def pair(self) -> Two:
        raise NotImplementedError

    async def split(self, text: Text) -> Parts:
        return text.split()

    async def find(self, text: Text | None = None) -> Text | None:
        return text

    async def nothing(self) -> Void:
        return None

    async def choose(self, text: Text | None = None) -> Answer:
        raise NotImplementedError

    async def locate(self, text: str) -> shapes_pb.Point:
        raise NotImplementedError

    async def plant(self, tree: Tree) -> Tree:
        return tree

    async def tell(self, words: Parts) -> AsyncIterator[str]:
        for word in words:
            yield word

    async def chat(self, texts: AsyncIterable[str]) -> Replies:
        raise NotImplementedError
        yield

    async def collect(self, texts: AsyncIterable[str]) -> list[str]:
        return [text async for text in texts]
