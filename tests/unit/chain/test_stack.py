"""`ClientStack`: what it refuses and why, what it says of itself, and what it makes."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from connectrpc.request import Headers, RequestContext

from connectplugin_interceptors import (
    CircuitBreakerPolicy,
    ClientStack,
    ConfigError,
    DeadlinePolicy,
    RetryPolicy,
)
from connectplugin_interceptors.attempt import AttemptScope
from connectplugin_interceptors.call import context_of
from connectplugin_interceptors.cancellation import CancellationRestore
from connectplugin_interceptors.chain import ATTEMPT_ORDER, CALL_ORDER
from connectplugin_interceptors.deadline.interceptor import CallScope
from connectplugin_interceptors.retry.interceptor import Retry
from kv.v1.kv_connect import KVServiceClient
from tests.unit.chain.test_policies import method


async def _single(self: Any, call_next: Any, request: Any, ctx: Any) -> Any:
    del self
    return await call_next(request, ctx)


async def _stream(self: Any, call_next: Any, request: Any, ctx: Any) -> AsyncIterator[Any]:
    del self
    async for response in call_next(request, ctx):
        yield response


async def _start(self: Any, ctx: Any) -> None:
    del self, ctx


async def _end(self: Any, token: Any, ctx: Any, error: Any) -> None:
    del self, token, ctx, error


def make(name: str, **hooks: Any) -> Any:
    """An object of a class with these hooks only."""
    return type(name, (), hooks)()


WHOLE: dict[str, Any] = {
    "intercept_unary": _single,
    "intercept_client_stream": _single,
    "intercept_server_stream": _stream,
    "intercept_bidi_stream": _stream,
}
METADATA: dict[str, Any] = {"on_start": _start, "on_end": _end}


def without(*hooks: str) -> dict[str, Any]:
    return {name: hook for name, hook in WHOLE.items() if name not in hooks}


REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    (
        "one shape only",
        lambda: make("Auth", intercept_unary=_single),
        "Auth lacks intercept_client_stream, intercept_server_stream, intercept_bidi_stream: calls "
        "of that shape would pass unguarded",
    ),
    (
        "three shapes",
        lambda: make("Auth", **without("intercept_bidi_stream")),
        "Auth lacks intercept_bidi_stream",
    ),
    ("on_start alone", lambda: make("Auth", on_start=_start), "on_start but no on_end"),
    ("on_end alone", lambda: make("Auth", on_end=_end), "on_end but no on_start"),
    (
        "both kinds",
        lambda: make("Auth", **WHOLE, **METADATA),
        "on_start beside intercept_unary; connectrpc would ignore",
    ),
    (
        "sync hooks",
        lambda: make("Auth", intercept_unary_sync=_single),
        "has intercept_unary_sync only, for connectrpc's sync clients",
    ),
    ("a class", lambda: type("Auth", (), WHOLE), "holds the class Auth; give an object of it"),
    ("nothing", object, "object is no interceptor: it needs intercept_unary"),
    ("a function", lambda: _single, "function is no interceptor"),
    (
        "a hook that is none",
        lambda: make("Auth", **{**WHOLE, "intercept_unary": 5}),
        "Auth.intercept_unary is not callable",
    ),
    (
        "a stream that returns",
        lambda: make("Auth", **{**WHOLE, "intercept_server_stream": _single}),
        "Auth.intercept_server_stream is a coroutine function; it must be an async generator",
    ),
    (
        "a response that yields",
        lambda: make("Auth", **{**WHOLE, "intercept_unary": _stream}),
        "Auth.intercept_unary yields; it must return one response",
    ),
]


@pytest.mark.parametrize("scope", ["call", "attempt"])
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[0].replace(" ", "-"))
def test_an_interceptor_that_would_be_ignored_is_refused(
    case: tuple[str, Callable[[], Any], str], scope: str
) -> None:
    _, build, reason = case
    given: dict[str, Any] = {scope: [make("Good", **WHOLE), build()]}
    with pytest.raises(ConfigError) as caught:
        ClientStack(**given)
    assert str(caught.value).startswith(f"ClientStack.{scope}[1]")
    assert reason in str(caught.value)


def test_whole_interceptors_are_taken() -> None:
    for hooks in (WHOLE, METADATA):
        good = make("Good", **hooks)
        assert ClientStack(call=[good], attempt=(good,)).call == (good,)


@pytest.mark.parametrize("wrong", [None, "x", 5, make("Good", **WHOLE)])
def test_interceptors_come_in_a_list(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"ClientStack\.call is .*; it must be a list"):
        ClientStack(call=wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("deadline", 5.0),
        ("retry_policy", DeadlinePolicy()),
        ("retry_policy", 3),
        ("circuit_breaker", True),
        ("wait_for_ready", None),
        ("wait_for_ready", "yes"),
    ],
)
def test_a_policy_of_the_wrong_kind_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^ClientStack\.{name} is .*; it must be"):
        ClientStack(**{name: wrong})
    told = rf"^ClientStack\.for_method\('a\.B/C'\): {name} is .*; it must be"
    with pytest.raises(ConfigError, match=told):
        ClientStack().for_method("a.B/C", **{name: wrong})


def test_an_attempt_above_the_total_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"attempt is 3\.0, above total \(2\.0\)"):
        ClientStack(deadline=DeadlinePolicy(total=2.0, attempt=3.0))


def test_an_unknown_policy_is_told_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match=r"no option 'retries'; there are: .*retry_policy"):
        ClientStack().for_method("a.B/C", retries=3)
    with pytest.raises(ConfigError, match="there is no option 'call'"):
        ClientStack().for_method("a.B/C", call=[])


@pytest.mark.parametrize("wrong", ["", "kv", "127.0.0.1:80", "ftp://x", 5, None, b"http://x", []])
def test_an_address_that_is_no_url_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="it must be a URL"):
        ClientStack().client(KVServiceClient, wrong)


@pytest.mark.parametrize("taken", ["interceptors", "http_client"])
def test_options_that_belong_to_the_chain_are_refused(taken: str) -> None:
    options: dict[str, Any] = {taken: ()}
    with pytest.raises(ConfigError, match=f"does not take {taken}"):
        ClientStack().client(KVServiceClient, "http://x", **options)


# --- A value ---


def test_a_stack_is_a_value() -> None:
    assert ClientStack() == ClientStack()
    assert ClientStack(retry_policy=None) != ClientStack()
    stack = ClientStack()
    changed = stack.for_method("a.B/C", retry_policy=None)
    assert stack.methods == ()
    assert changed.methods == (("a.B/C", {"retry_policy": None}),)
    with pytest.raises(AttributeError):
        stack.wait_for_ready = True  # type: ignore[misc]


def test_bare_turns_off_what_is_not_named() -> None:
    bare = ClientStack.bare()
    assert bare.deadline is None
    assert bare.retry_policy is None
    assert bare.circuit_breaker is None
    assert not bare.wait_for_ready
    named = ClientStack.bare(deadline=DeadlinePolicy(), circuit_breaker=CircuitBreakerPolicy())
    assert named.deadline == DeadlinePolicy()
    assert named.retry_policy is None


def test_adding_appends_inside() -> None:
    one, two, three = (make(name, **WHOLE) for name in ("One", "Two", "Three"))
    stack = ClientStack(call=[one]).adding(call=[two], attempt=[three])
    assert stack.call == (one, two)
    assert stack.attempt == (three,)


def test_each_chain_has_machines_of_its_own() -> None:
    first, second = ClientStack().interceptors(), ClientStack().interceptors()
    assert not {id(link) for link in first} & {id(link) for link in second}


def test_the_order_of_the_chain() -> None:
    own = [make("Call", **METADATA), make("Attempt", **METADATA)]
    chain = ClientStack(call=own[:1], attempt=own[1:]).interceptors()
    kinds: list[object] = [type(link) for link in chain]
    assert kinds.index(CallScope) < kinds.index(own[0].__class__) < kinds.index(Retry)
    assert kinds.index(Retry) < kinds.index(AttemptScope) < kinds.index(own[1].__class__)
    assert isinstance(chain[-1], CancellationRestore)


# --- What it says ---


def test_describe_shows_the_chain_outermost_first() -> None:
    stack = ClientStack(retry_policy=RetryPolicy(max_attempts=3), attempt=[make("A", **METADATA)])
    lines = stack.describe().splitlines()
    assert lines[0] == "ClientStack for all methods, outermost first"
    parts = [line[2:33].rstrip() for line in lines[1:]]
    assert parts == [
        *[f"CALL     {part}" for part in CALL_ORDER],
        *[f"ATTEMPT  {part}" for part in ATTEMPT_ORDER],
    ]
    text = stack.describe()
    assert "max_attempts=3" in text
    assert "wait_for_ready off" in text
    assert "A object" in text


def test_describe_of_a_method_shows_what_holds_for_it() -> None:
    stack = (
        ClientStack(wait_for_ready=True)
        .for_method("kv.v1.KVService/*", retry_policy=None)
        .for_method("kv.v1.KVService/Get", deadline=DeadlinePolicy(total=2.0, attempt=None))
    )
    text = stack.describe("kv.v1.KVService/Get")
    assert text.startswith("ClientStack for kv.v1.KVService/Get, outermost first")
    assert "retry" in text
    assert "off; wait_for_ready on" in text
    assert "total=2.0" in text
    assert "total=30.0" in stack.describe("kv.v1.KVService/Put")
    assert "override kv.v1.KVService/*: retry_policy=None" in stack.describe()
    with pytest.raises(ConfigError):
        stack.describe("Get")


def test_repr_shows_what_differs_from_the_default() -> None:
    assert repr(ClientStack()) == "ClientStack()"
    assert repr(ClientStack(retry_policy=None)) == "ClientStack(retry_policy=None)"
    assert "max_attempts=3" in repr(ClientStack(retry_policy=RetryPolicy(max_attempts=3)))


# --- Links that stand alone ---


def test_a_link_outside_of_a_chain_says_so() -> None:
    ctx: Any = RequestContext(
        method=method(), http_method="POST", request_headers=Headers(), timeout_ms=None
    )
    with pytest.raises(TypeError, match="works inside a chain only"):
        context_of(ctx)
