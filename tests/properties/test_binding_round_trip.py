"""Whatever a facade may be called with arrives at the implementation as it was sent, and back.

Between the two is what is on the wire: each message is encoded and decoded.
"""

from collections.abc import AsyncIterator, Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from protobuf import Message

from tests.gen.shapes.v1.shapes_pb import Color, Point, Tree
from tests.unit.binding.everything import Recorder, everything

texts = st.text(st.characters(codec="utf-8"), max_size=12)
int32 = st.integers(-(2**31), 2**31 - 1)
int64 = st.integers(-(2**63), 2**63 - 1)
points = st.builds(Point, x=int32, y=int32)
colors = st.sampled_from(Color)


class Wire:
    """A client whose calls are encoded, decoded, and answered by a service, at once."""

    endpoint = "wire"

    def __init__(self, service: Any) -> None:
        self.service = service

    def client(self, _: Any, /) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        handler = getattr(self.service, name)

        def stream(request: Any) -> AsyncIterator[Any]:
            return over_wire(handler(arriving(request), None))

        async def call(request: Any) -> Any:
            return encoded(await handler(arriving(request), None))

        return stream if name in {"tell", "chat"} else call


def encoded(message: Any) -> Any:
    return message.__class__.from_binary(message.to_binary())


def arriving(request: Any) -> Any:
    is_message = isinstance(request, Message)
    return encoded(request) if is_message else over_wire(request)


async def over_wire(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield encoded(message)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to its end what never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError


def plugin(recorder: Recorder) -> Any:
    return everything.new_client(Wire(everything.bind(recorder).service))


async def each(values: list[str]) -> AsyncIterator[str]:
    for value in values:
        yield value


async def listed(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


@given(
    arguments=st.fixed_dictionaries(
        {
            "text": texts,
            "data": st.binary(max_size=12),
            "flag": st.booleans(),
            "small": int32,
            "large": st.integers(0, 2**64 - 1),
            "real": st.floats(allow_nan=False),
            "short_real": st.floats(width=32, allow_nan=False),
            "color": colors,
            "point": st.none() | points,
            "words": st.lists(texts, max_size=3),
            "points": st.lists(points, max_size=3),
            "counts": st.dictionaries(texts, int64, max_size=3),
            "maybe_text": st.none() | texts,
            "maybe_number": st.none() | int64,
            # None is not among these: the implementation has a default for it.
            "maybe_color": colors,
            "colors": st.lists(colors, max_size=3),
            "places": st.dictionaries(int32, points, max_size=3),
        }
    ),
    chosen=st.none()
    | st.tuples(st.just("by_name"), texts)
    | st.tuples(st.just("by_number"), int64)
    | st.tuples(st.just("by_point"), points),
)
def test_arguments(arguments: dict[str, Any], chosen: tuple[str, Any] | None) -> None:
    recorder = Recorder()
    members: dict[str, Any] = {"by_name": None, "by_number": None, "by_point": None}
    if chosen is not None:
        members[chosen[0]] = chosen[1]
    run(plugin(recorder).all(**arguments, **members))
    # maybe_text has a default in the implementation too: None.
    assert recorder.seen == {**arguments, **members}


@given(text=st.none() | texts)
def test_a_value_that_may_be_missing(text: str | None) -> None:
    assert run(plugin(Recorder()).find(text)) == text


trees = st.recursive(
    st.builds(Tree, label=texts),
    lambda children: st.builds(Tree, label=texts, child=children),
    max_leaves=4,
)


@given(label=texts, child=st.none() | trees)
def test_messages_in_messages(label: str, child: Tree | None) -> None:
    assert run(plugin(Recorder()).plant(label, child)) == Tree(label=label, child=child)


@given(words=st.lists(texts, max_size=4))
def test_streams(words: list[str]) -> None:
    facade = plugin(Recorder())
    assert run(facade.collect(each(words))) == words
    assert run(listed(facade.tell(words))) == [word or None for word in words]
    assert run(listed(facade.chat(each(words)))) == [word.upper() for word in words]
