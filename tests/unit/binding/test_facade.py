"""What a dispensed object is, apart from its calls: its look, its mistakes, its streams' ends."""

import asyncio
import contextlib
import copy
import gc
import inspect
import pickle
import traceback
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol, get_type_hints, runtime_checkable

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.plugin import ConnectPlugin
from connectplugin_interceptors.options import with_options
from tests.gen.shapes.v1.shapes_connect import ShapeService, ShapeServiceClient
from tests.gen.shapes.v1.shapes_pb import AllRequest, MaybeText, Point, Tree, Two, Words
from tests.unit.binding.everything import Everything, Recorder, everything
from tests.unit.binding.serving import dispensed, serving


class Script:
    """Stands for a generated client: answers with what is given, and keeps what it was sent."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.sent: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name in {"tell", "chat", "draw"}:
            return self._stream
        return self._call

    async def _call(self, request: Any) -> Any:
        self.sent.append(request)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def _stream(self, request: Any) -> Any:
        self.sent.append(request)
        return self.answer


class Scripted:
    """A connection to a script."""

    endpoint = "http://127.0.0.1:8080"

    def __init__(self, script: Any) -> None:
        self.script = script

    def client(self, _: Any, /) -> Any:
        return self.script


def over(script: Any) -> Any:
    return everything.new_client(Scripted(script))


def test_it_says_what_it_is_and_where_it_leads() -> None:
    assert repr(over(Script())) == "<Everything plugin 'everything' at http://127.0.0.1:8080>"


def test_help_shows_the_interface() -> None:
    facade = over(Script())
    assert type(facade).__doc__ == "Everything at once."
    assert type(facade).__name__ == "Everything"
    assert type(facade).__module__ == Everything.__module__
    assert facade.nothing.__doc__ == "Do nothing."
    assert facade.nothing.__qualname__ == "Everything.nothing"
    assert inspect.signature(facade.all) == inspect.signature(Everything.all).replace(
        parameters=list(inspect.signature(Everything.all).parameters.values())[1:]
    )
    assert get_type_hints(facade.find) == {"text": str | None, "return": str | None}
    assert inspect.iscoroutinefunction(facade.all)
    assert inspect.iscoroutinefunction(facade.collect)
    assert not inspect.iscoroutinefunction(facade.tell)


@runtime_checkable
class Checkable(Protocol):
    async def nothing(self) -> None: ...
    async def pair(self) -> Two: ...


def test_it_satisfies_the_interface_at_run_time() -> None:
    plugin = ConnectPlugin("checkable", Checkable, service=ShapeService)
    assert isinstance(plugin.new_client(Scripted(Script())), Checkable)


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
def test_it_is_a_connection_and_no_value(attempt: Any) -> None:
    with pytest.raises(TypeError, match="is a connection, which cannot be copied or pickled"):
        attempt(over(Script()))


def test_nothing_can_be_set_on_it() -> None:
    with pytest.raises(AttributeError):
        over(Script()).pair = None


def test_options_are_for_the_chain() -> None:
    class Chained(Script):
        def __with_options__(self, options: Any) -> Any:
            made = Script()
            made.answer = options
            return made

    facade = over(Chained())
    quick = with_options(facade, timeout=0.5)
    assert type(quick) is type(facade)
    assert repr(quick) == repr(facade)
    assert quick._client.answer.timeout == 0.5  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]


def test_options_without_a_chain_say_what_is_missing() -> None:
    class Plain:
        pass

    with pytest.raises(TypeError, match="with_options needs the chain: <Everything plugin"):
        with_options(over(Plain()), timeout=0.5)


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"text": b"a"}, TypeError, "parameter 'text' must be str, not bytes"),
        ({"text": None}, TypeError, "parameter 'text' must be str, not None"),
        ({"data": "a"}, TypeError, "parameter 'data' must be bytes, not str"),
        ({"flag": 1}, TypeError, "parameter 'flag' must be bool, not int"),
        ({"small": True}, TypeError, "parameter 'small' must be int, not bool"),
        ({"small": 1.0}, TypeError, "parameter 'small' must be int, not float"),
        ({"small": 2**31}, ValueError, "must be an int32, -2147483648 to 2147483647, not 21474836"),
        ({"large": -1}, ValueError, "must be an uint64, 0 to 18446744073709551615, not -1"),
        ({"real": "1"}, TypeError, "parameter 'real' must be float, not str"),
        ({"real": True}, TypeError, "parameter 'real' must be float, not bool"),
        ({"real": 10**400}, ValueError, "must be a float; this int is too large for one"),
        (
            {"short_real": 1e39},
            ValueError,
            "must be a float of 32 bits, up to 3.4028234663852886e+",
        ),
        ({"color": "RED"}, TypeError, "parameter 'color' must be Color, not str"),
        ({"color": 2**31}, ValueError, "must be a Color, which has no member 2147483648"),
        ({"point": {"x": 1}}, TypeError, "parameter 'point' must be Point, not dict"),
        ({"point": Two()}, TypeError, "parameter 'point' must be Point, not Two"),
        ({"words": "ab"}, TypeError, "parameter 'words' must be an iterable of str, not str"),
        ({"words": Point()}, TypeError, "must be an iterable of str, not Point"),
        ({"words": 3}, TypeError, "parameter 'words' must be an iterable of str, not int"),
        ({"words": ["a", b"b"]}, TypeError, "'words' must be str, not bytes (element 1)"),
        ({"points": [Point(), 1]}, TypeError, "'points' must be Point, not int (element 1)"),
        ({"counts": [1]}, TypeError, "'counts' must be a mapping of str to int, not list"),
        ({"counts": {1: 1}}, TypeError, "'counts' must be str, not int (a key)"),
        ({"counts": {"a": 2**63}}, ValueError, "not 9223372036854775808 (a value)"),
        ({"maybe_number": "1"}, TypeError, "parameter 'maybe_number' must be int, not str"),
        (
            {"by_name": "a", "by_number": 0},
            ValueError,
            "got both by_name and by_number; of by_name, by_number, by_point at most one may be",
        ),
    ],
    ids=str,
)
async def test_a_wrong_argument_is_told_before_anything_is_sent(
    arguments: dict[str, Any], kind: type[Exception], said: str
) -> None:
    script = Script()
    with pytest.raises(kind) as caught:
        await over(script).all(**arguments)
    assert str(caught.value).startswith("Everything.all()")
    assert said in str(caught.value)
    assert script.sent == []


async def test_a_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(TypeError) as caught:
        await over(Script()).all(data="hunter2")
    assert "hunter2" not in str(caught.value)


async def test_arguments_are_bound_as_python_binds_them() -> None:
    facade = over(Script())
    with pytest.raises(TypeError, match="unexpected keyword argument 'nope'"):
        await facade.all(nope=1)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'label'"):
        await facade.plant()


async def test_the_request_must_be_the_message_itself() -> None:
    with pytest.raises(TypeError, match="parameter 'request' must be MaybeText, not str"):
        await over(Script()).locate("a")


async def test_a_stream_of_responses_is_refused_at_the_call_not_at_the_first_step() -> None:
    with pytest.raises(TypeError, match=r"Everything.tell\(\): parameter 'words' must be"):
        over(Script()).tell("ab")


@pytest.mark.parametrize("given", [["a"], "a", None, 3], ids=str)
async def test_what_is_no_async_iterable(given: Any) -> None:
    expected = r"Everything.collect\(\): parameter 'texts' must be an async iterable, not"
    with pytest.raises(TypeError, match=expected):
        await over(Script()).collect(given)


async def test_tracebacks_show_the_compiled_text() -> None:
    with pytest.raises(ConnectError) as caught:
        await over(Script(ConnectError(Code.INTERNAL, "x"))).pair()
    shown = "".join(traceback.format_exception(caught.value))
    assert "<connectplugin Everything.pair()>" in shown
    assert "await _c_self._client.pair(_c_request)" in shown


@pytest.mark.parametrize(
    "broken",
    [Tree(label=3), Tree(label="\ud800"), Tree(child=Tree(label=b"x"))],  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ids=["wrong type", "no Unicode", "nested"],
)
async def test_a_message_that_cannot_be_encoded_is_the_callers_mistake(broken: Tree) -> None:
    async with dispensed(everything, Recorder()) as plugin:
        with pytest.raises((TypeError, ValueError)) as caught:
            await plugin.plant("a", broken)
    assert str(caught.value).startswith("Everything.plant(): the request cannot be encoded: ")


async def test_an_unavailable_peer_stays_unavailable() -> None:
    failed = ConnectError(Code.UNAVAILABLE, "refused")
    failed.__cause__ = ConnectionError("refused")
    with pytest.raises(ConnectError) as caught:
        await over(Script(failed)).pair()
    assert caught.value is failed
    misread = ConnectError(Code.UNAVAILABLE, "the peer's answer made no sense")
    misread.__cause__ = ValueError("no JSON")
    with pytest.raises(ConnectError) as caught:
        await over(Script(misread)).pair()
    assert caught.value is misread


class Items:
    """An async iterator whose end can be seen."""

    def __init__(self, *items: Any, error: Exception | None = None) -> None:
        self.items = list(items)
        self.error = error
        self.closed = 0

    def __aiter__(self) -> "Items":
        return self

    async def __anext__(self) -> Any:
        if self.items:
            return self.items.pop(0)
        if self.error is not None:
            raise self.error
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


async def test_closing_a_stream_closes_the_clients_stream_at_once() -> None:
    inner = Items(*[MaybeText(text="a")] * 3)
    async with aclosing(over(Script(inner)).tell(["a"])) as words:
        assert await anext(words) == "a"
        assert inner.closed == 0
    assert inner.closed == 1
    assert len(inner.items) == 2  # it is not drained


async def test_a_stream_that_is_dropped_is_closed_by_the_loop() -> None:
    inner = Items(*[MaybeText(text="a")] * 3)
    async for _ in over(Script(inner)).tell(["a"]):
        break
    gc.collect()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert inner.closed == 1


async def test_a_stream_that_was_never_walked_leaves_nothing() -> None:
    inner = Items()
    over(Script(inner)).tell(["a"])
    gc.collect()
    await asyncio.sleep(0)
    assert inner.closed == 0  # nothing was opened; and Python warns of nothing


async def test_a_stream_that_fails_is_closed_too() -> None:
    inner = Items(error=ConnectError(Code.UNAVAILABLE, "cut"))
    with pytest.raises(ConnectError, match="cut"):
        await anext(over(Script(inner)).tell(["a"]))
    assert inner.closed == 1


async def test_a_cancelled_stream_ends_with_the_cancellation() -> None:
    class Hanging(Items):
        async def __anext__(self) -> Any:
            await asyncio.Event().wait()

    inner = Hanging()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await anext(over(Script(inner)).tell(["a"]))
    assert inner.closed == 1


async def test_leaving_a_bidi_stream_closes_both_directions() -> None:
    async with dispensed(everything, recorder := Recorder()) as plugin:
        requests = Items("a", "b", "c")
        stream: Any = plugin.chat(requests)
        async with aclosing(stream) as answers:
            assert await anext(answers) == "A"
    assert requests.closed == 1
    assert recorder.closed == ["chat"]


async def test_the_callers_iterator_is_closed_however_the_call_ends() -> None:
    for answer in (None, ConnectError(Code.ABORTED, "no"), asyncio.CancelledError()):
        requests = Items("a")
        with contextlib.suppress(ConnectError, asyncio.CancelledError, AttributeError):
            await over(Script(answer)).collect(requests)
        assert requests.closed == 1


async def test_an_answer_before_all_requests_are_taken() -> None:
    class Hasty(Recorder):
        async def collect(self, texts: AsyncIterable[str]) -> list[str]:
            async for text in texts:
                return [text]
            return []

    closed: list[str] = []

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "a"
        finally:
            closed.append("endless")

    async with dispensed(everything, Hasty()) as plugin:
        assert await plugin.collect(endless()) == ["a"]
    assert closed == ["endless"]


async def test_the_callers_own_error_comes_back_as_it_is() -> None:
    async def failing() -> AsyncIterator[str]:
        yield "a"
        msg = "no more"
        raise LookupError(msg)

    async with dispensed(everything, Recorder()) as plugin:
        with pytest.raises(LookupError, match="no more"):
            await plugin.collect(failing())
        with pytest.raises(LookupError, match="no more"):
            async for _ in plugin.chat(failing()):
                pass


async def test_an_item_of_the_wrong_type_is_the_callers_mistake() -> None:
    def wrong() -> Any:
        return Items("a", b"b")

    expected = r"an item of 'texts' must be str, not bytes"
    async with dispensed(everything, Recorder()) as plugin:
        with pytest.raises(TypeError, match=r"Everything.collect\(\): " + expected):
            await plugin.collect(wrong())
        with pytest.raises(TypeError, match=r"Everything.chat\(\): " + expected):
            async for _ in plugin.chat(wrong()):
                pass
        with pytest.raises(TypeError, match="an item of 'points' must be Point, not str"):
            async for _ in plugin.draw(Items("a")):
                pass


async def test_a_closed_iterator_that_its_transport_still_reads() -> None:
    reading = asyncio.Event()

    async def waiting() -> AsyncIterator[str]:
        reading.set()
        await asyncio.Event().wait()
        yield "never"

    class Detached(Script):
        """Answers while a task of its own still waits for the next request."""

        async def _call(self, request: Any) -> Any:
            self.task = asyncio.ensure_future(anext(request))
            await reading.wait()
            return self.answer

    script = Detached(Words(words=["early"]))
    assert await over(script).collect(waiting()) == ["early"]
    script.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await script.task


async def test_the_generated_client_works_beside_it() -> None:
    async with serving(everything.bind(Recorder())) as connection:
        client = connection.client(ShapeServiceClient)
        assert (await client.all(AllRequest(text="a"))).echo == AllRequest(text="a")
        assert (await client.locate(MaybeText(text="ab"))) == Point(x=2)
