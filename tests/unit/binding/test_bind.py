"""What is refused as an implementation, before a server starts; and what it may look like."""

# handlers here have the right parameters, and use none of them

import functools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Protocol
from unittest.mock import AsyncMock, Mock

import pytest

from connectplugin.binding import PluginDefinitionError
from connectplugin.plugin import BoundPlugin, ConnectPlugin
from kv.v1.kv_connect import KVService
from tests.gen.shapes.v1.shapes_connect import ShapeService
from tests.gen.shapes.v1.shapes_pb import AllRequest, MaybeText, Point, Two
from tests.unit.binding.everything import Recorder, everything
from tests.unit.binding.serving import dispensed


class Small(Protocol):
    async def split(self, text: str) -> list[str]: ...
    async def find(self, text: str | None = None) -> str | None: ...
    def tell(self, words: list[str]) -> AsyncIterator[str]: ...
    async def collect(self, texts: AsyncIterable[str]) -> list[str]: ...
    async def locate(self, request: MaybeText) -> Point: ...


small = ConnectPlugin("small", Small, service=ShapeService)


class Right:
    async def split(self, text: str) -> list[str]:
        return text.split()

    async def find(self, text: str | None = None) -> str | None:
        return text

    async def tell(self, words: list[str]) -> AsyncIterator[str]:
        for word in words:
            yield word

    async def collect(self, texts: AsyncIterable[str]) -> list[str]:
        return [text async for text in texts]

    async def locate(self, request: MaybeText) -> Point:
        return Point(x=len(request.text))


def with_method(name: str, method: Any) -> Any:
    return type("Mine", (Right,), {name: method})()


def refused(impl: Any) -> PluginDefinitionError:
    with pytest.raises(PluginDefinitionError) as caught:
        small.bind(impl)
    return caught.value


def only_difference(name: str, method: Any) -> str:
    error = refused(with_method(name, method))
    assert len(error.differences) == 1, str(error)
    assert error.differences[0].where.startswith(f"{name}()")
    return str(error.differences[0])


def test_all_differences_come_in_one_error() -> None:
    class Wrong:
        async def split(self, txt: str) -> list[str]:
            return [txt]

        def find(self, text: str | None = None) -> str | None:
            return text

        async def tells(self) -> None: ...

        collect = 3

        async def locate(self) -> None: ...

    error = refused(Wrong())
    assert "Wrong does not implement Small: 7 differences" in str(error)
    assert [(d.where, d.found) for d in error.differences] == [
        ("split(): parameter 'text'", "is missing"),
        ("split(): parameter 'txt'", "is not in the interface"),
        ("find()", "is synchronous"),
        ("tell()", "is missing"),
        ("collect()", "is int"),
        ("locate()", "is `()`"),
        ("locate()", "returns `None`"),
    ]


def test_a_missing_method_is_told_with_the_nearest() -> None:
    class Wrong(Right):
        split = None  # type: ignore[assignment]

        async def splits(self) -> None: ...

    [difference] = refused(Wrong()).differences
    assert difference.found == "is missing"
    assert difference.expected == (
        "the interface has `async def split(self, text: str) -> list[str]`"
    )
    assert difference.remedy == (
        "Write `async def split(self, text: str) -> list[str]`. Did you mean 'splits'?"
    )


def test_a_parameter_of_another_name() -> None:
    async def split(self: Any, test: str) -> list[str]:
        return []

    error = refused(with_method("split", split))
    assert [d.where for d in error.differences] == [
        "split(): parameter 'text'",
        "split(): parameter 'test'",
    ]
    assert error.differences[0].remedy == "Did you mean 'test'?"


def test_a_parameter_that_nobody_would_give() -> None:
    async def split(self: Any, text: str, limit: int) -> list[str]:
        return []

    said = only_difference("split", split)
    assert "parameter 'limit': is not in the interface" in said
    assert "Give it a default, or remove it." in said


def test_a_positional_only_parameter() -> None:
    async def split(self: Any, text: str, /) -> list[str]:
        return []

    assert "Remove the `/`: it is passed by name." in only_difference("split", split)


def test_a_parameter_of_another_type() -> None:
    async def split(self: Any, text: bytes) -> list[str]:
        return []

    said = only_difference("split", split)
    assert "is annotated `bytes`" in said
    assert "It is given `text: str | None`." in said


@pytest.mark.parametrize("result", [bytes, list[int], dict[str, str], None, str], ids=str)
def test_a_result_of_another_type(result: Any) -> None:
    async def split(self: Any, text: str) -> Any: ...

    split.__annotations__["return"] = result
    said = only_difference("split", split)
    assert "returns `" in said
    assert "Write `async def split(self, text: str) -> list[str]`." in said


def test_a_synchronous_generator_and_a_coroutine_where_a_stream_is_due() -> None:
    def sync_tell(self: Any, words: list[str]) -> Iterator[str]:
        yield from words

    async def awaited_tell(self: Any, words: list[str]) -> AsyncIterator[str]:
        return Right().tell(words)

    assert "is a synchronous generator" in only_difference("tell", sync_tell)
    said = only_difference("tell", awaited_tell)
    assert "is `async def` without `yield`, so that calling it gives a coroutine" in said
    assert "Write `yield` in it, or `def` and return an async iterator." in said


def test_a_stream_where_one_answer_is_due() -> None:
    async def split(self: Any, text: str) -> AsyncIterator[str]:
        yield text

    said = only_difference("split", split)
    assert "is an async generator" in said
    assert "Write `return` instead of `yield`: it answers once." in said


def test_a_stream_of_another_type() -> None:
    async def tell(self: Any, words: list[str]) -> AsyncIterator[int]:
        yield 1

    assert "returns `collections.abc.AsyncIterator[int]`" in only_difference("tell", tell)


def test_a_stream_handler_without_its_stream() -> None:
    async def collect(self: Any) -> list[str]:
        return []

    assert "is `()`" in only_difference("collect", collect)


def test_a_class_instead_of_an_instance() -> None:
    with pytest.raises(PluginDefinitionError, match=r"Write `bind\(Right\(...\)\)`"):
        small.bind(Right)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(PluginDefinitionError, match=r"Write `bind_service\(Right\(...\)\)`"):
        small.bind_service(Right)


def logged(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return function(*args, **kwargs)

    return wrapper


def logged_async(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return wrapper


class Splitter:
    async def __call__(self, text: str) -> list[str]:
        return text.split()


async def split_with(separator: str, text: str) -> list[str]:
    return text.split(separator)


class Decorated(Right):
    split = logged(Right.split)  # type: ignore[assignment]
    find = logged_async(Right.find)  # type: ignore[assignment]


class Objects(Right):
    def __init__(self) -> None:
        self.split = Splitter()  # type: ignore[method-assign]


class Partials(Right):
    def __init__(self) -> None:
        self.split = functools.partial(split_with, " ")  # type: ignore[method-assign]


class Plain(Right):
    def split(self, text: str) -> Awaitable[list[str]]:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return split_with(" ", text)

    def tell(self, words: list[str]) -> AsyncIterator[str]:
        return Right().tell(words)


class Free(Right):
    async def split(self, **arguments: Any) -> Any:  # type: ignore[override]
        return arguments["text"].split()

    async def collect(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, *arguments: Any
    ) -> Any:
        return [text async for text in arguments[0]]

    async def find(self, text: Any = None, more: int = 1, *rest: Any) -> Any:
        return text


class Static(Right):
    @staticmethod
    async def split(text: str) -> list[str]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return text.split()

    @classmethod
    async def find(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, text: str | None = None
    ) -> str | None:
        return text


@pytest.mark.parametrize("kind", [Right, Decorated, Objects, Partials, Plain, Free, Static])
async def test_however_a_method_is_made(kind: Callable[[], Any]) -> None:
    async with dispensed(small, kind()) as plugin:
        assert await plugin.split("a b") == ["a", "b"]
        assert await plugin.find("c") == "c"
        assert [word async for word in plugin.tell(["d"])] == ["d"]
        assert await plugin.collect(_two()) == ["e", "f"]


async def _two() -> AsyncIterator[str]:
    yield "e"
    yield "f"


async def test_mocks_of_the_interface() -> None:
    mock = AsyncMock(spec=Right)
    mock.split.return_value = ["mocked"]
    mock.tell = Right().tell
    async with dispensed(small, mock) as plugin:
        assert await plugin.split("a") == ["mocked"]
        mock.split.assert_awaited_once_with(text="a")
    assert [d.found for d in refused(Mock(spec=[])).differences] == ["is missing"] * 5


async def test_a_method_may_be_replaced_after_it_was_bound() -> None:
    impl = Right()
    async with dispensed(small, impl) as plugin:
        impl.split = AsyncMock(return_value=["later"])  # type: ignore[method-assign]
        assert await plugin.split("a") == ["later"]


class Wrong(Recorder):
    """Right by its annotations, wrong in what it does."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result

    async def split(self, text: str = "") -> Any:
        return self.result

    async def pair(self) -> Any:
        return self.result

    async def tell(self, words: list[str]) -> AsyncIterator[Any]:
        yield self.result

    async def all(self, **_: Any) -> Any:  # type: ignore[override]
        return self.result

    def chat(self, texts: Any) -> Any:
        return self.result


def wrong(result: Any) -> Any:
    return Wrong(result)


@pytest.mark.parametrize(
    ("name", "result", "said"),
    [
        ("split", "ab", "Wrong.split(): its result must be an iterable of str, not str"),
        ("split", [1], "Wrong.split(): its result must be str, not int (element 0)"),
        ("split", None, "Wrong.split(): its result must be an iterable of str, not None"),
        ("pair", Point(), "Wrong.pair(): its result must be Two, not Point"),
        ("pair", None, "Wrong.pair(): its result must be Two, not None"),
        ("all", Two(), "Wrong.all(): its result must be AllRequest, not Two"),
    ],
)
async def test_a_result_of_the_wrong_type_is_told_on_the_server(
    name: str, result: Any, said: str
) -> None:
    service = everything.bind(wrong(result)).service
    requests = {"split": MaybeText(), "pair": None, "all": AllRequest()}
    with pytest.raises(TypeError) as caught:
        await getattr(service, name)(requests[name], None)
    assert str(caught.value) == said


async def test_an_item_of_the_wrong_type_is_told_on_the_server() -> None:
    stream = everything.bind(wrong(3)).service.tell(AllRequest(), None)
    with pytest.raises(TypeError, match=r"Wrong.tell\(\): its result must be str, not int"):
        await anext(stream)


async def test_what_is_no_stream_is_told_on_the_server() -> None:
    async def chat() -> None: ...

    for result in (3, chat()):
        stream = everything.bind(wrong(result)).service.chat(_two(), None)
        with pytest.raises(
            TypeError, match=r"Wrong.chat\(\): its result must be an async iterator"
        ):
            await anext(stream)


class Generated(KVService):
    """Leaves all to the generated class."""


class KV(Protocol):
    async def get(self, key: str) -> bytes: ...


kv = ConnectPlugin("kv", KV, service=KVService)


def test_an_implementation_of_the_generated_service() -> None:
    impl = Generated()
    assert kv.bind_service(impl) == BoundPlugin(kv, impl, impl)


def test_an_implementation_of_the_interface_is_none_of_the_service() -> None:
    class Domain:
        async def get(self, key: str) -> bytes:
            return key.encode()

        def put(self, request: Any, ctx: Any) -> None: ...
        async def watch(self, request: Any, ctx: Any) -> None: ...

    with pytest.raises(PluginDefinitionError) as caught:
        kv.bind_service(Domain())
    found = [(d.where, d.found) for d in caught.value.differences]
    assert found == [
        ("get()", "does not take two arguments"),
        ("scan()", "is missing"),
        ("put()", "is synchronous"),
        ("delete()", "is missing"),
        ("increment()", "is missing"),
        ("watch()", "is `async def` without `yield`, so that calling it gives a coroutine"),
        ("load()", "is missing"),
        ("sync()", "is missing"),
    ]
    assert "make KVService a base of Domain" in str(caught.value)
