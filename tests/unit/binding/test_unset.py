"""What an implementation is given for fields that a caller of another language left unset."""

from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, Protocol

from connectplugin.plugin import ConnectPlugin
from tests.gen.shapes.v1.shapes_connect import ShapeService, ShapeServiceClient
from tests.gen.shapes.v1.shapes_pb import (
    AllRequest,
    Choice,
    Color,
    Empty,
    MaybeText,
    Point,
    Tree,
    Two,
    Words,
)
from tests.unit.binding.making import interface
from tests.unit.binding.serving import dispensed, serving


class Asked:
    """Keeps its arguments; its methods are made by each test."""

    seen: dict[str, Any]


def asked(method: str, **names: Any) -> Any:
    """An implementation with one method, whose parameters are kept."""
    namespace: dict[str, Any] = dict(names)
    exec(f"{method}\n    self.seen = dict(locals())\n    del self.seen['self']", namespace)  # noqa: S102
    name = method.split("(", maxsplit=1)[0].rsplit(maxsplit=1)[-1]
    return type("Mine", (Asked,), {name: namespace[name]})()


async def given(declared: str, implemented: str) -> dict[str, Any]:
    """What arrives for parameters when nothing is set."""
    names = {"Color": Color, "Point": Point}
    wrong = interface(f"async def all(self, {declared}) -> None: ...", **names)
    impl = asked(f"async def all(self, {implemented}) -> None:", **names)
    plugin: ConnectPlugin[Any] = ConnectPlugin("shapes", wrong, service=ShapeService)
    async with serving(plugin.bind(impl)) as connection:
        await connection.client(ShapeServiceClient).all(AllRequest())
    seen: dict[str, Any] = impl.seen
    return seen


async def test_its_own_default_comes_first() -> None:
    declared = "maybe_number: int | None = 3"
    assert await given(declared, "maybe_number: int | None = 4") == {"maybe_number": 4}
    assert await given(declared, "maybe_number=None") == {"maybe_number": None}


async def test_then_the_default_of_the_interface() -> None:
    declared = "maybe_number: int | None = 3"
    assert await given(declared, "maybe_number: int | None") == {"maybe_number": 3}
    assert await given(declared, "**rest") == {"rest": {"maybe_number": 3}}


async def test_then_none_where_the_annotation_admits_it() -> None:
    declared = "maybe_number: int | None, maybe_color: Color | None, point: Point | None"
    expected = {"maybe_number": None, "maybe_color": None, "point": None}
    assert await given(declared, declared) == expected
    assert await given(declared, "maybe_number, maybe_color, point") == expected
    assert await given("maybe_number, maybe_color, point", "**rest") == {"rest": expected}


async def test_else_the_zero_of_the_type() -> None:
    declared = "maybe_number: int, maybe_color: Color, point: Point, maybe_text: str = ..."
    implemented = "maybe_number: int, maybe_color: Color, point: Point, maybe_text: str"
    assert await given(declared, implemented) == {
        "maybe_number": 0,
        "maybe_color": Color.UNSPECIFIED,
        "point": Point(),
        "maybe_text": "",
    }


async def test_members_of_a_oneof_are_none() -> None:
    declared = "by_name: str | None = None, by_point: Point | None = None"
    assert await given(declared, "by_name: str | None, by_point: Point | None") == {
        "by_name": None,
        "by_point": None,
    }
    assert await given("by_name: str", "by_name: str") == {"by_name": None}


async def test_a_field_without_presence_always_has_its_value() -> None:
    assert await given("small: int = 5", "small: int = 6") == {"small": 0}


class Results(Protocol):
    async def find(self, text: str | None = None) -> str: ...
    async def plant(self, label: str) -> Tree: ...
    async def choose(self) -> int | None: ...


class NoResults:
    async def find(self, text: str | None = None) -> str:
        return ""

    async def plant(self, label: str) -> Tree:
        return Tree()

    async def choose(self) -> int | None:
        return None


async def test_an_unset_result_is_none_only_where_the_interface_admits_it() -> None:
    class Foreign(ShapeService):
        async def find(self, request: MaybeText, _: Any, /) -> MaybeText:
            return MaybeText()

        async def choose(self, request: Choice, _: Any, /) -> Choice:
            return Choice()

    plugin = ConnectPlugin("results", Results, service=ShapeService)
    async with serving(plugin.bind_service(Foreign())) as connection:
        results = plugin.new_client(connection)
        assert await results.find() == ""
        assert await results.choose() is None
    async with dispensed(plugin, NoResults()) as results:
        assert await results.choose() is None


class ByName(Protocol):
    async def locate(self, *, request: MaybeText = MaybeText(text="abc")) -> Point: ...  # noqa: B008
    async def find(self, request: MaybeText = ...) -> MaybeText: ...
    async def collect(self, *, texts: AsyncIterable[MaybeText]) -> Words: ...
    def draw(self, *, points: AsyncIterable[Point]) -> AsyncIterator[Two]: ...
    async def nothing(self) -> Empty: ...


class Named:
    async def locate(self, *, request: MaybeText = MaybeText(text="ab")) -> Point:  # noqa: B008
        return Point(x=len(request.text))

    async def find(self, question: MaybeText = MaybeText()) -> MaybeText:  # noqa: B008
        return question

    async def collect(self, *, texts: AsyncIterable[MaybeText]) -> Words:
        return Words(words=[message.text async for message in texts])

    async def draw(self, *, points: AsyncIterable[Point]) -> AsyncIterator[Two]:
        async for point in points:
            yield Two(first=point.x)

    async def nothing(self) -> Empty:
        return Empty()


async def test_messages_and_streams_by_name_and_by_default() -> None:
    plugin = ConnectPlugin("named", ByName, service=ShapeService)
    impl: Any = Named()

    async def texts() -> AsyncIterator[MaybeText]:
        yield MaybeText(text="a")

    async def points() -> AsyncIterator[Point]:
        yield Point(x=1)

    async with dispensed(plugin, impl) as named:
        assert await named.locate() == Point(x=3)
        assert await named.locate(request=MaybeText(text="a")) == Point(x=1)
        assert await named.find() == MaybeText()
        assert await named.collect(texts=texts()) == Words(words=["a"])
        assert [two async for two in named.draw(points=points())] == [Two(first=1)]
        assert await named.nothing() == Empty()
