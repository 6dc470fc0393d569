"""Calls through facade, client, application and adapter: values arrive as they left."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from enum import StrEnum
from typing import Any, Protocol

import pytest
from connectrpc.code import Code
from connectrpc.codec import proto_json_codec
from connectrpc.errors import ConnectError

from connectplugin.plugin import ConnectPlugin
from kv.v1.kv_connect import KVService, KVServiceClient
from kv.v1.kv_pb import GetRequest, GetResponse, PutRequest
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
from tests.unit.binding.everything import Everything, Recorder, everything
from tests.unit.binding.hidden_types import Hidden, HiddenMemory
from tests.unit.binding.serving import dispensed, serving


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def plugin(recorder: Recorder) -> AsyncIterator[Everything]:
    async with dispensed(everything, recorder) as facade:
        yield facade


async def test_what_the_caller_leaves_out_has_the_default_of_the_interface(
    plugin: Everything, recorder: Recorder
) -> None:
    assert await plugin.all("hello") == AllRequest(text="hello")
    assert recorder.seen == {
        "text": "hello",
        "data": b"",
        "flag": False,
        "small": 0,
        "large": 0,
        "real": 0.0,
        "short_real": 0.0,
        "color": Color.UNSPECIFIED,
        "point": None,
        "words": [],
        "points": [],
        "counts": {},
        "maybe_text": "by default",
        "maybe_number": None,
        "maybe_color": Color.BLUE,  # unset on the wire: the implementation's own default
        "by_name": None,
        "by_number": None,
        "by_point": None,
        "colors": [],
        "places": {},
    }


async def test_every_kind_of_value_arrives_as_it_left(
    plugin: Everything, recorder: Recorder
) -> None:
    sent: dict[str, Any] = {
        "text": "héllo",
        "data": b"\x00\xff",
        "flag": True,
        "small": -(2**31),
        "large": 2**64 - 1,
        "real": 0.1,
        "short_real": 0.5,
        "color": Color.RED,
        "point": Point(x=-1, y=2),
        "words": ["a", "b"],
        "points": [Point(x=1), Point(y=2)],
        "counts": {"a": 1, "b": -1},
        "maybe_text": "",
        "maybe_number": 0,
        "maybe_color": Color.UNSPECIFIED,
        "by_name": None,
        "by_number": 0,
        "by_point": None,
        "colors": [Color.RED, Color.BLUE],
        "places": {-1: Point(x=3)},
    }
    await plugin.all(**sent)
    assert recorder.seen == sent


async def test_json_on_the_wire(recorder: Recorder) -> None:
    async with dispensed(everything, recorder, codec=proto_json_codec()) as plugin:
        await plugin.all("a", b"\x00", maybe_number=3, by_point=Point(x=1))
        assert recorder.seen["data"] == b"\x00"
        assert recorder.seen["by_point"] == Point(x=1)


class Word(StrEnum):
    HELLO = "hello"


class Indexed:
    """As an integer of numpy: no int, but it can say which one it is."""

    def __index__(self) -> int:
        return 7


async def test_values_that_only_behave_like_the_right_ones(
    plugin: Everything, recorder: Recorder
) -> None:
    anything: Any = plugin
    await anything.all(
        Word.HELLO,
        bytearray(b"a"),
        small=Indexed(),
        large=Color.BLUE,
        real=2,
        color=2,
        words=(word for word in ("a", Word.HELLO)),
        points=(Point(x=1),),
    )
    seen = recorder.seen
    assert (seen["text"], type(seen["text"])) == ("hello", str)
    assert (seen["data"], type(seen["data"])) == (b"a", bytes)
    assert (seen["small"], seen["large"], seen["real"]) == (7, 2, 2.0)
    assert seen["color"] is Color.BLUE
    assert seen["words"] == ["a", "hello"]
    assert seen["points"] == [Point(x=1)]


async def test_a_memoryview_and_an_enum_without_a_name(
    plugin: Everything, recorder: Recorder
) -> None:
    anything: Any = plugin
    await anything.all(data=memoryview(b"ab"), color=77, short_real=float("inf"))
    assert recorder.seen["data"] == b"ab"
    assert int(recorder.seen["color"]) == 77
    assert recorder.seen["short_real"] == float("inf")


@pytest.mark.parametrize(
    ("text", "number"), [("a", None), (None, 3), (None, None), ("", None), (None, 0)]
)
async def test_members_of_a_oneof(
    plugin: Everything, recorder: Recorder, text: str | None, number: int | None
) -> None:
    await plugin.choose(text, number)
    assert recorder.seen == {"text": text, "number": number}


async def test_an_optional_result_may_be_unset(plugin: Everything) -> None:
    assert await plugin.find("a") == "a"
    assert await plugin.find("") == ""
    assert await plugin.find() is None


async def test_results_of_all_sorts(plugin: Everything, recorder: Recorder) -> None:
    result: object = await plugin.nothing()  # type: ignore[func-returns-value]
    assert result is None
    assert recorder.seen == {"nothing": True}
    assert await plugin.pair() == Two(first=1, second=2, name="two")
    assert await plugin.split() == ["a", "b"]
    assert await plugin.plant("a", Tree(label="b")) == Tree(label="a", child=Tree(label="b"))
    assert await plugin.choose("a") == Choice()


async def test_the_request_itself_as_the_parameter(plugin: Everything, recorder: Recorder) -> None:
    assert await plugin.locate(MaybeText(text="four")) == Point(x=4)
    assert await plugin.locate(request=MaybeText(text="a")) == Point(x=1)
    assert recorder.seen == {"request": MaybeText(text="a")}


async def test_a_stream_of_responses(plugin: Everything) -> None:
    assert [word async for word in plugin.tell(["a", "", "b"])] == ["a", None, "b"]


async def texts(*values: str) -> AsyncIterator[str]:
    for value in values:
        yield value


async def test_a_stream_of_requests(plugin: Everything) -> None:
    assert await plugin.collect(texts("a", "b")) == ["a", "b"]
    assert await plugin.collect(texts=texts()) == []


async def test_streams_both_ways(plugin: Everything) -> None:
    assert [text async for text in plugin.chat(texts("a", "b"))] == ["A", "B"]

    async def points() -> AsyncIterator[Point]:
        yield Point(x=1, y=2)

    assert [two async for two in plugin.draw(points())] == [Two(first=1, second=2)]


async def test_an_async_iterable_that_is_no_iterator(plugin: Everything) -> None:
    class Twice:
        def __aiter__(self) -> AsyncIterator[str]:
            return texts("a", "b")

    again = Twice()
    assert await plugin.collect(again) == ["a", "b"]
    assert await plugin.collect(again) == ["a", "b"]


async def test_a_response_stream_left_early_closes_the_implementation(
    plugin: Everything, recorder: Recorder
) -> None:
    stream: Any = plugin.tell(["a", "b", "c"])  # an AsyncIterator, so far as the interface says
    async with aclosing(stream) as words:
        assert await anext(words) == "a"
    assert recorder.closed == ["tell"]


async def test_errors_of_the_implementation_arrive_with_their_code() -> None:
    class Failing(Recorder):
        async def pair(self) -> Two:
            raise ConnectError(Code.NOT_FOUND, "no pair")

        async def tell(self, words: list[str]) -> AsyncIterator[str | None]:
            yield words[0]
            raise ConnectError(Code.DATA_LOSS, "the rest is gone")

    async with dispensed(everything, Failing()) as plugin:
        with pytest.raises(ConnectError) as caught:
            await plugin.pair()
        assert (caught.value.code, caught.value.message) == (Code.NOT_FOUND, "no pair")
        words = plugin.tell(["a"])
        assert await anext(words) == "a"
        with pytest.raises(ConnectError, match="the rest is gone"):
            await anext(words)


class Pairs(Protocol):
    async def pair(self) -> Two: ...


class KV(Protocol):
    async def get(self, key: str) -> bytes: ...


async def test_methods_that_the_interface_leaves_out_are_unimplemented(recorder: Recorder) -> None:
    pairs = ConnectPlugin("pairs", Pairs, service=ShapeService)
    async with serving(pairs.bind(recorder)) as connection:
        client = connection.client(ShapeServiceClient)
        assert (await client.pair(Empty())).name == "two"
        with pytest.raises(ConnectError) as caught:
            await client.nothing(Empty())
        assert caught.value.code is Code.UNIMPLEMENTED
        with pytest.raises(ConnectError) as caught:
            async for _ in client.tell(Words()):
                pass
        assert caught.value.code is Code.UNIMPLEMENTED


async def test_an_implementation_of_the_generated_service_can_be_bound() -> None:
    class Generated(KVService):
        async def get(self, request: GetRequest, _: Any, /) -> GetResponse:
            return GetResponse(value=request.key.encode())

    plugin = ConnectPlugin("kv", KV, service=KVService)
    async with serving(plugin.bind_service(Generated())) as connection:
        assert await plugin.new_client(connection).get("a") == b"a"
        with pytest.raises(ConnectError) as caught:
            await connection.client(KVServiceClient).put(PutRequest())
        assert caught.value.code is Code.UNIMPLEMENTED


async def test_types_that_exist_for_checkers_only() -> None:
    hidden = ConnectPlugin("hidden", Hidden, service=ShapeService)
    impl: Any = HiddenMemory()
    async with dispensed(hidden, impl) as plugin:
        assert await plugin.split("a b") == ["a", "b"]
        assert await plugin.find() is None
        assert await plugin.plant(Tree(label="a")) == Tree(label="a")
        assert [word async for word in plugin.tell(["a"])] == ["a"]
        assert await plugin.collect(texts("a")) == ["a"]
