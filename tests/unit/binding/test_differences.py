"""What is refused when a plugin is declared, and what the error says."""

# The interfaces below are wrong on purpose.
# pyright: reportUnusedClass=false
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from enum import IntEnum
from typing import Any, ClassVar, Protocol

import pytest

from connectplugin.binding import PluginDefinitionError
from connectplugin.plugin import ConnectPlugin
from connectplugin_interceptors.errors import ConfigError
from tests.gen.shapes.v1.shapes_connect import ShapeService
from tests.gen.shapes.v1.shapes_pb import Choice, MaybeText, Point, Two
from tests.unit.binding.making import interface


def refused(interface: Any) -> PluginDefinitionError:
    with pytest.raises(PluginDefinitionError) as caught:
        ConnectPlugin("shapes", interface, service=ShapeService)
    return caught.value


def only_difference(interface: Any) -> str:
    error = refused(interface)
    assert len(error.differences) == 1, str(error)
    return str(error.differences[0])


def test_all_differences_come_in_one_error_in_the_order_of_the_interface() -> None:
    class Wrong(Protocol):
        limit: int

        async def nothink(self) -> None: ...
        async def split(self, txt: str) -> list[str]: ...
        def find(self, text: str) -> str: ...
        async def tell(self, words: list[str]) -> AsyncIterator[str]: ...
        async def pair(self) -> bytes: ...

    error = refused(Wrong)
    assert isinstance(error, ConfigError)
    wheres = [difference.where for difference in error.differences]
    assert wheres == [
        "Wrong.limit",
        "nothink()",
        "split(): parameter 'txt'",
        "find()",
        "tell()",
        "pair()",
    ]
    assert "Wrong does not match shapes.v1.ShapeService: 6 differences" in str(error)
    assert all(str(difference) in str(error) for difference in error.differences)


def test_a_method_that_the_service_lacks_is_named_with_the_nearest() -> None:
    class Wrong(Protocol):
        async def nothings(self, a: int) -> None: ...

    said = only_difference(Wrong)
    assert "the interface has `async def nothings(self, a: int) -> None`" in said
    assert "shapes.v1.ShapeService has no method of that name, but all, nothing, pair" in said
    assert "Did you mean 'nothing'?" in said


def test_a_method_that_is_nothing_like_any_other_is_to_be_added_or_left_out() -> None:
    class Wrong(Protocol):
        async def zzzzzz(self) -> None: ...

    assert "Add it to the service, or leave it out here." in only_difference(Wrong)


def test_an_unknown_parameter_is_told_with_all_fields_and_the_nearest() -> None:
    class Wrong(Protocol):
        async def split(self, texts: str) -> list[str]: ...

    said = only_difference(Wrong)
    assert "split(): parameter 'texts': is no field of the request" in said
    assert "shapes.v1.MaybeText has `text: str | None`" in said
    assert "Did you mean 'text'?" in said


def test_a_parameter_for_a_request_without_fields() -> None:
    class Wrong(Protocol):
        async def nothing(self, key: str) -> None: ...

    said = only_difference(Wrong)
    assert "shapes.v1.Empty has no fields" in said
    assert "Remove it, or take the whole request: `request: Empty`." in said


def test_a_oneof_is_given_by_its_members() -> None:
    class Wrong(Protocol):
        async def choose(self, answer: str) -> Choice: ...

    assert "It is a oneof: name its members, each `= None`: text, number." in only_difference(Wrong)


def test_members_of_one_oneof_need_the_default_none() -> None:
    class Wrong(Protocol):
        async def choose(self, text: str, number: int = 3) -> Choice: ...

    error = refused(Wrong)
    assert [d.found for d in error.differences] == ["has no default", "has the default 3"]
    assert "of the oneof answer of shapes.v1.Choice at most one may be set" in str(error)
    assert "Write `text: str | None = None`." in str(error)


def test_kinds_of_parameters_that_are_not_passed_by_name() -> None:
    class Wrong(Protocol):
        async def split(self, text: str, /) -> list[str]: ...
        async def find(self, *text: str) -> str | None: ...
        async def locate(self, **text: str) -> Point: ...

    found = [(d.where, d.found) for d in refused(Wrong).differences]
    assert found == [
        ("split(): parameter 'text'", "is positional-only"),
        ("find(): parameter 'text'", "is *text"),
        ("locate(): parameter 'text'", "is **text"),
    ]


def test_synchronous_methods() -> None:
    class Wrong(Protocol):
        def split(self, text: str) -> list[str]: ...
        def nothing(self) -> None: ...

    first, second = refused(Wrong).differences
    assert first.found == "is `def split(self, text: str) -> list[str]`"
    assert first.expected == "Split answers with one message, which is awaited"
    assert first.remedy == "Write `async def split(self, text) -> list[str]`."
    assert second.remedy == "Write `async def nothing(self) -> None`."


def test_a_stream_declared_async_is_told_to_drop_it() -> None:
    class Wrong(Protocol):
        async def tell(self, words: list[str]) -> AsyncIterator[str]: ...

    said = only_difference(Wrong)
    assert "Tell answers with a stream" in said
    assert (
        "Write `def tell(self, words) -> AsyncIterator[str]`, without `async`: the call itself is "
        "not awaited." in said
    )


@pytest.mark.parametrize("annotation", [list[str], str, Iterator[str], None])
def test_a_stream_declared_as_something_else(annotation: Any) -> None:
    wrong = interface("def tell(self, words: list[str]) -> A: ...", A=annotation)
    assert "Write `def tell(self, words) -> AsyncIterator[str]`." in only_difference(wrong)


def test_one_message_declared_as_a_stream() -> None:
    class Wrong(Protocol):
        def split(self, text: str) -> AsyncIterator[str]: ...

    assert "Write `async def split(self, text) -> list[str]`." in only_difference(Wrong)


class OwnColor(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("field", "annotation", "right"),
    [
        ("text", bytes, "text: str"),
        ("text", list[str], "text: str"),
        ("data", str, "data: bytes"),
        ("data", bytearray, "data: bytes"),
        ("flag", int, "flag: bool"),
        ("small", str, "small: int"),
        ("small", float, "small: int"),
        ("small", bool, "small: int"),
        ("real", int, "real: float"),
        ("color", str, "color: Color"),
        ("color", OwnColor, "color: Color"),
        ("point", Two, "point: Point | None"),
        ("point", dict[str, int], "point: Point | None"),
        ("words", str, "words: list[str]"),
        ("words", list[int], "words: list[str]"),
        ("words", tuple[str, ...], "words: list[str]"),
        ("words", dict[str, str], "words: list[str]"),
        ("points", list[Two], "points: list[Point]"),
        ("counts", list[str], "counts: dict[str, int]"),
        ("counts", dict[str, str], "counts: dict[str, int]"),
        ("counts", dict[int, int], "counts: dict[str, int]"),
        ("maybe_text", int | None, "maybe_text: str | None"),
        ("text", int | bytes, "text: str"),
    ],
    ids=str,
)
def test_a_parameter_of_another_type(field: str, annotation: Any, right: str) -> None:
    wrong = interface(f"async def all(self, {field}: A) -> None: ...", A=annotation)
    said = only_difference(wrong)
    assert f"all(): parameter '{field}': is annotated" in said
    assert f"shapes.v1.AllRequest has `{right}`" in said
    assert said.endswith(f"Write `{right}`.")


def test_none_where_it_cannot_be_told_from_zero() -> None:
    class Wrong(Protocol):
        async def all(self, text: str | None = None, small: int | None = 0) -> None: ...

    first, second = refused(Wrong).differences
    assert 'which cannot tell None from ""' in first.expected
    assert 'Make it `optional` in the .proto, or write `text: str = ""`.' in first.remedy
    assert "which cannot tell None from 0" in second.expected


@pytest.mark.parametrize(
    ("declaration", "why"),
    [
        ("small: int = 1 << 40", "must be an int32, -2147483648 to 2147483647"),
        ("small: int = None", "must be int, not None"),
        ("text: str = 3", "must be str, not int"),
        ("maybe_number: int = 'x'", "must be int, not str"),
        ("large: int = -1", "must be an uint64, 0 to 18446744073709551615, not -1"),
    ],
)
def test_a_default_that_cannot_be_sent(declaration: str, why: str) -> None:
    said = only_difference(interface(f"async def all(self, {declaration}) -> None: ..."))
    assert "has the default" in said
    assert why in said
    assert "`= ...` for the one of the .proto" in said


def test_a_result_of_a_type_that_the_response_does_not_have() -> None:
    class Wrong(Protocol):
        async def split(self, text: str) -> dict[str, int]: ...
        async def pair(self) -> bytes: ...
        async def nothing(self) -> int: ...

    first, second, third = refused(Wrong).differences
    assert first.found == "returns `dict[str, int]`"
    assert first.expected == "shapes.v1.Words has `words: list[str]`, none of that type"
    assert second.remedy == "Write `async def pair(self) -> Two`."
    assert third.expected == "shapes.v1.Empty has no fields, nothing of that type"


def test_a_result_that_two_fields_could_be() -> None:
    class Wrong(Protocol):
        async def pair(self) -> int: ...

    said = only_difference(Wrong)
    assert "shapes.v1.Two has `first: int` and `second: int` of that type" in said
    assert "Write `Two` there, and take the field from it." in said


def test_a_result_that_says_none_where_the_field_is_never_none() -> None:
    class Wrong(Protocol):
        async def locate(self, text: str) -> None: ...
        async def pair(self) -> str | None: ...

    said = only_difference(Wrong)
    assert "shapes.v1.Two has `name: str`, which is never None" in said


def test_a_method_without_return_annotation() -> None:
    said = only_difference(interface("async def split(self, text: str): ..."))
    assert "has no return annotation" in said
    assert "Write `async def split(self, text) -> list[str]`." in said


@pytest.mark.parametrize(
    ("declaration", "found"),
    [
        ("texts: list[str]", "is annotated `list[str]`"),
        ("texts: Iterator[str]", "is annotated `collections.abc.Iterator[str]`"),
        ("texts: str", "is annotated `str`"),
        ("", "has 0 parameters (none)"),
        ("texts: AsyncIterable[str], more: int", "has 2 parameters (texts, more)"),
        ("texts: AsyncIterable[str] = None", "has the default None"),
        ("texts: AsyncIterable[bytes]", "is annotated `collections.abc.AsyncIterable[bytes]`"),
    ],
)
def test_what_a_stream_of_requests_is_not(declaration: str, found: str) -> None:
    method = f"async def collect(self, {declaration}) -> list[str]: ..."
    assert found in only_difference(
        interface(method, AsyncIterable=AsyncIterable, Iterator=Iterator)
    )


def test_members_that_are_no_methods() -> None:
    class Wrong(Protocol):
        plain: int
        shared: ClassVar[str] = "x"

        @property
        def asked(self) -> int: ...
        @staticmethod
        async def fixed() -> None: ...
        @classmethod
        async def made(cls) -> None: ...
        async def nothing(self) -> None: ...

    found = {d.where: d.found for d in refused(Wrong).differences}
    assert found == {
        "Wrong.plain": "is an attribute",
        "Wrong.shared": "is an attribute",
        "Wrong.asked": "is a property",
        "Wrong.fixed": "is a static method",
        "Wrong.made": "is a class method",
    }


def test_a_method_without_self() -> None:
    wrong = interface("async def nothing() -> None: ...")
    assert "takes no self" in only_difference(wrong)


def test_an_interface_without_methods() -> None:
    class Wrong(Protocol): ...

    assert "has no methods" in only_difference(Wrong)


def test_what_is_no_protocol() -> None:
    class Plain:
        async def nothing(self) -> None: ...

    assert "the class Plain is no Protocol" in str(refused(Plain))
    assert "interface=3 is no Protocol" in str(refused(3))


def test_differences_in_a_base_are_told_too() -> None:
    class Base(Protocol):
        async def split(self, text: bytes) -> list[str]: ...

    class Derived(Base, Protocol):
        async def nothing(self) -> None: ...

    assert "split(): parameter 'text'" in only_difference(Derived)


def test_a_message_of_another_rpc_is_no_request() -> None:
    class Wrong(Protocol):
        async def split(self, request: Point) -> MaybeText: ...

    error = refused(Wrong)
    assert "parameter 'request': is no field of the request" in str(error)
    assert "take the whole request: `request: MaybeText`" in str(error)
