"""What a match decides: which fields are sent, and what of the response is returned."""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    MutableSequence,
    Sequence,
)
from enum import IntEnum
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypeVar

import pytest
from typing_extensions import Buffer, TypeAliasType

from connectplugin.binding import match_interface, read_schema
from connectplugin.binding.model import (
    NOT_GIVEN,
    AsField,
    AsMessage,
    Dropped,
    FieldsRequest,
    Match,
    MessageRequest,
    StreamRequest,
    Value,
)
from tests.gen.shapes.v1.shapes_connect import ShapeService
from tests.gen.shapes.v1.shapes_pb import (
    AllRequest,
    AllResponse,
    Color,
    MaybeText,
    Point,
    Tree,
    Two,
    Words,
)
from tests.unit.binding.making import interface

UserId = NewType("UserId", str)
T = TypeVar("T")
Parts = TypeAliasType("Parts", list[str])


def matched(protocol: Any) -> Match:
    matches = match_interface(protocol, read_schema(ShapeService))
    [match] = matches.values()
    return match


def declared(name: str, parameters: str, result: Any, **types: Any) -> Match:
    """The match of an interface with one method, `async def` unless its name is a stream's."""
    prefix = "def" if name in {"tell", "chat", "draw"} else "async def"
    names = {**globals(), **types, "R": result}
    return matched(interface(f"{prefix} {name}(self, {parameters}) -> R: ...", **names))


def chosen(value: Value) -> str:
    match value:
        case Dropped():
            return "dropped"
        case AsMessage():
            return "message"
        case AsField(field, none):
            return field.name + (" or None" if none else "")


@pytest.mark.parametrize(
    ("name", "result", "expected"),
    [
        ("nothing", None, "dropped"),
        ("pair", None, "dropped"),
        ("pair", Two, "message"),
        ("pair", Any, "message"),
        ("pair", object, "message"),
        ("pair", str, "name"),
        ("pair", UserId, "name"),
        ("pair", Literal["a", "b"], "name"),
        ("pair", Annotated[str, "words"], "name"),
        ("split", list[str], "words"),
        ("split", list, "words"),
        ("split", Sequence[str], "words"),
        ("split", Iterable[str], "words"),
        ("split", Collection[str], "words"),
        ("split", MutableSequence[str], "words"),
        ("split", list[T], "words"),  # type: ignore[valid-type]
        ("split", Parts, "words"),
        ("split", Words, "message"),
        ("split", Optional[list[str]], "words or None"),  # noqa: UP045
        ("find", str, "text"),
        ("find", str | None, "text or None"),
        ("find", str | bytes, "text"),
        ("all", AllRequest, "echo"),
        ("all", AllRequest | None, "echo or None"),
        ("all", AllResponse, "message"),
        ("plant", Tree, "message"),
        ("choose", int, "number"),
        ("choose", int | None, "number or None"),
        ("pair", "Missing", "message"),
        ("pair", "Missing | None", "message"),
        ("pair", "missing.Two", "message"),
        ("pair", "this is no Python", "message"),
        ("split", "Missing[int]", "words or None"),
        ("split", "list[Missing]", "words"),
        ("split", "list['Missing']", "words"),
        ("nothing", "Missing", "dropped"),
    ],
    ids=str,
)
def test_what_is_returned(name: str, result: Any, expected: str) -> None:
    assert chosen(declared(name, "", result).response) == expected


@pytest.mark.parametrize(
    "stream", ["AsyncIterator[A]", "AsyncIterable[A]", "AsyncGenerator[A, None]"]
)
@pytest.mark.parametrize(
    ("item", "expected"),
    [(MaybeText, "message"), (str, "text"), (str | None, "text or None"), (None, "dropped")],
    ids=str,
)
def test_what_a_stream_yields(stream: str, item: Any, expected: str) -> None:
    assert chosen(declared("tell", "words: list[str]", stream, A=item).response) == expected


def test_a_bare_stream_yields_messages() -> None:
    assert chosen(declared("tell", "words: list[str]", AsyncIterator).response) == "message"


@pytest.mark.parametrize("wrapper", [Awaitable[str], Coroutine[Any, Any, str]], ids=str)
def test_a_plain_function_that_returns_an_awaitable(wrapper: Any) -> None:
    assert chosen(matched(interface("def pair(self) -> R: ...", R=wrapper)).response) == "name"


class Level(IntEnum):
    LOW = 0


@pytest.mark.parametrize(
    ("field", "annotation"),
    [
        ("text", str),
        ("text", UserId),
        ("text", Literal["a"]),
        ("text", Annotated[str, 3]),
        ("text", Any),
        ("text", object),
        ("text", T),
        ("text", str | int),
        ("data", bytes),
        ("data", bytes | bytearray | memoryview),
        ("data", Buffer),
        ("flag", bool),
        ("flag", Literal[True]),
        ("small", int),
        ("large", int),
        ("real", float),
        ("real", int | float),
        ("short_real", float),
        ("color", Color),
        ("color", int),
        ("color", IntEnum),
        ("point", Point),
        ("point", Point | None),
        ("words", list[str]),
        ("words", list[UserId]),
        ("words", Sequence[str]),
        ("words", Iterable[str]),
        ("words", Collection[str]),
        ("words", list[str] | None),
        ("points", list[Point]),
        ("colors", list[Color]),
        ("colors", Sequence[int]),
        ("counts", dict[str, int]),
        ("counts", Mapping[str, int]),
        ("counts", dict),
        ("counts", dict[str, int] | None),
        ("places", Mapping[int, Point]),
        ("maybe_text", str),
        ("maybe_text", str | None),
        ("maybe_color", Color | None),
        ("by_point", Point | None),
    ],
    ids=str,
)
def test_annotations_that_fit(field: str, annotation: Any) -> None:
    request = declared("all", f"{field}: A", None, A=annotation).request
    assert isinstance(request, FieldsRequest)
    [parameter] = request.parameters
    assert parameter.field.name == field
    assert parameter.default is NOT_GIVEN
    assert not parameter.keyword_only


def test_parameters_without_annotations_are_matched_by_name() -> None:
    request = declared("all", "text, flag=True, *, words=()", None).request
    assert isinstance(request, FieldsRequest)
    found = [(p.field.name, p.default, p.keyword_only) for p in request.parameters]
    assert found == [("text", NOT_GIVEN, False), ("flag", True, False), ("words", (), True)]


def test_a_single_parameter_may_be_the_request() -> None:
    assert declared("find", "question: MaybeText", MaybeText).request == MessageRequest(
        "question", NOT_GIVEN, keyword_only=False
    )
    assert declared("find", "*, question: MaybeText", MaybeText).request == MessageRequest(
        "question", NOT_GIVEN, keyword_only=True
    )


def test_a_message_in_itself_is_told_from_the_request_by_its_name() -> None:
    assert isinstance(declared("plant", "child: Tree", Tree).request, FieldsRequest)
    assert isinstance(declared("plant", "tree: Tree", Tree).request, MessageRequest)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (AsyncIterable[MaybeText], "message"),
        (AsyncIterator[str], "text"),
        (AsyncGenerator[str, None], "text"),
        (AsyncIterable[str | None], "text or None"),
        (AsyncIterable, "message"),
        (Any, "message"),
    ],
    ids=str,
)
def test_what_a_stream_of_requests_holds(annotation: Any, expected: str) -> None:
    request = declared("collect", "texts: A", list[str], A=annotation).request
    assert isinstance(request, StreamRequest)
    assert request.name == "texts"
    assert chosen(request.item) == expected


def test_methods_are_inherited_and_may_be_narrowed() -> None:
    class Base(Protocol):
        async def pair(self) -> Two: ...
        async def split(self, text: str) -> list[str]: ...

    class Other(Protocol):
        async def nothing(self) -> None: ...

    class Derived(Base, Other, Protocol):
        async def pair(self) -> str: ...  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]

    matches = match_interface(Derived, read_schema(ShapeService))
    assert set(matches) == {"pair", "split", "nothing"}
    assert chosen(matches["pair"].response) == "name"


def test_a_generic_interface_is_matched_as_far_as_it_can_be_read() -> None:
    class Box(Protocol[T]):
        async def pair(self) -> T: ...
        async def split(self, text: str) -> list[T]: ...

    for box in (Box, Box[str]):
        matches = match_interface(box, read_schema(ShapeService))
        assert chosen(matches["pair"].response) == "message"
        assert chosen(matches["split"].response) == "words"


def test_a_recursive_import_of_names_for_checkers_only() -> None:
    from tests.unit.binding import hidden_types  # noqa: PLC0415  # read here, as it is odd

    matches = match_interface(hidden_types.Hidden, read_schema(ShapeService))
    decided = {name: chosen(match.response) for name, match in matches.items()}
    assert decided == {
        "pair": "message",  # the message's own name
        "split": "words or None",  # an alias: the one field
        "find": "text or None",  # unreadable inside of a union
        "nothing": "dropped",  # an alias of whatever: there are no fields
        "choose": "message",  # an alias: more than one field
        "locate": "message",  # `shapes_pb.Point`, by its last name
        "plant": "message",
        "tell": "text",  # AsyncIterator itself is for checkers only
        "chat": "message",  # an alias of the whole stream
        "collect": "words",
    }
    tree = matches["plant"].request
    assert isinstance(tree, MessageRequest)
    texts = matches["collect"].request
    assert isinstance(texts, StreamRequest)
    assert chosen(texts.item) == "text"
