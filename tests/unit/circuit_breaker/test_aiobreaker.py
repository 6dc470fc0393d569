"""The mirror: what it refuses, what it never touches, and that a guest breaks nothing."""

import importlib
import warnings
from typing import Any

import pytest

from connectplugin_interceptors import ConfigError
from connectplugin_interceptors.circuit_breaker.aiobreaker import AiobreakerMirror
from connectplugin_interceptors.events import CircuitChanged, Event

aiobreaker: Any = importlib.import_module("aiobreaker")


def changed(before: str, after: str, endpoint: str = "a", method: str = "") -> CircuitChanged:
    return CircuitChanged("client", method, endpoint, before, after, "timeout")


OPENED = changed("closed", "open")
PROBING = changed("open", "half_open")
CLOSED = changed("half_open", "closed")


class Listener(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]  # it ships no types
    def __init__(self) -> None:
        self.moves: list[str] = []

    def state_change(self, breaker: Any, old: Any, new: Any) -> None:
        del breaker, old
        self.moves.append(new.state.name)


def test_users_listeners_and_storage_go_on() -> None:
    listener = Listener()
    breaker = aiobreaker.CircuitBreaker(listeners=[listener])
    mirror = AiobreakerMirror(breaker)
    for event in (OPENED, PROBING, CLOSED):
        mirror(event)
    assert listener.moves == ["OPEN", "HALF_OPEN", "CLOSED"]
    assert breaker.current_state.name == "CLOSED"
    assert mirror.failures == 0


def test_isolation_is_mirrored_as_open_and_told_once() -> None:
    listener = Listener()
    mirror = AiobreakerMirror(aiobreaker.CircuitBreaker(listeners=[listener]))
    for event in (OPENED, changed("open", "isolated"), changed("isolated", "closed")):
        mirror(event)
    assert listener.moves == ["OPEN", "CLOSED"]


def test_it_follows_only_the_circuit_that_it_was_given() -> None:
    listener = Listener()
    breaker = aiobreaker.CircuitBreaker(listeners=[listener])
    mirror = AiobreakerMirror(breaker, endpoint="a", method="s/M")
    mirror(changed("closed", "open", "b", "s/M"))
    mirror(changed("closed", "open", "a", "s/Other"))
    mirror(Event("client", "s/M"))
    assert not listener.moves
    mirror(changed("closed", "open", "a", "s/M"))
    assert listener.moves == ["OPEN"]


def test_what_its_listeners_raise_is_counted_and_goes_no_further() -> None:
    class Guest(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]  # it ships no types
        def state_change(self, *_: Any) -> None:
            raise RuntimeError

    mirror = AiobreakerMirror(aiobreaker.CircuitBreaker(listeners=[Guest()]))
    for event in (OPENED, PROBING, CLOSED):
        mirror(event)
    assert mirror.failures == 3
    assert "3 failures" in repr(mirror)


def test_only_its_own_deprecation_warning_is_silenced() -> None:
    class Deprecated(aiobreaker.CircuitBreakerListener):  # type: ignore[misc]  # it ships no types
        def state_change(self, *_: Any) -> None:
            warnings.warn("utcnow() of the user's own", DeprecationWarning, stacklevel=1)

    quiet = AiobreakerMirror(aiobreaker.CircuitBreaker())
    quiet(OPENED)
    assert quiet.failures == 0
    mirror = AiobreakerMirror(aiobreaker.CircuitBreaker(listeners=[Deprecated()]))
    with pytest.warns(DeprecationWarning, match="the user's own"):
        mirror(OPENED)


def test_no_attribute_of_its_confused_clock_is_ever_read() -> None:
    read: list[str] = []

    class Watched(aiobreaker.CircuitBreaker):  # type: ignore[misc]  # it ships no types
        def __getattribute__(self, name: str) -> Any:
            read.append(name)
            return object.__getattribute__(self, name)

    mirror = AiobreakerMirror(Watched())
    for event in (OPENED, PROBING, CLOSED):
        mirror(event)
    forbidden = {"opens_at", "time_until_open", "call", "call_async", "sleep_until_open"}
    assert not forbidden & set(read)


class CircuitRedisStorage(aiobreaker.storage.memory.CircuitMemoryStorage):  # type: ignore[misc]
    """By name what aiobreaker calls the one in Redis."""


@pytest.mark.parametrize(
    ("breaker", "told"),
    [
        (aiobreaker.CircuitBreaker(exclude=[KeyError]), "exclude"),
        (
            aiobreaker.CircuitBreaker(
                state_storage=CircuitRedisStorage(aiobreaker.CircuitBreakerState.CLOSED)
            ),
            "CircuitRedisStorage",
        ),
        (object(), "takes an aiobreaker.CircuitBreaker"),
    ],
    ids=["exclude", "redis", "something else"],
)
def test_what_cannot_work_is_refused(breaker: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        AiobreakerMirror(breaker)
