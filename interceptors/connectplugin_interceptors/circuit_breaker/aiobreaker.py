"""For users of aiobreaker: their `CircuitBreaker` follows ours, so its listeners and storage go on.

A mirror only, since aiobreaker cannot be the breaker: it applies an outcome to whatever state it
then is in, so late and cancelled results move it; in half open it lets everybody through; and it
tells time by the wall clock, in two time zones. So our machine decides, and tells it afterwards.

aiobreaker is not imported here: what is called is spelled out below, and nothing else is.
"""

import warnings
from typing import Final, Protocol, runtime_checkable

from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.events import CircuitChanged, Event


@runtime_checkable
class Mirrored(Protocol):
    """What is used of an `aiobreaker.CircuitBreaker`.

    Not `call`, `call_async` or the decorator; and none of `opens_at`, `time_until_open` and
    `reopen_time`, which mix naive UTC with local time: ask `CircuitOpenError.retry_after` instead.
    """

    def open(self) -> None:
        """Be open."""
        ...

    def half_open(self) -> None:
        """Be half open."""
        ...

    def close(self) -> None:
        """Be closed."""
        ...

    @property
    def excluded_exceptions(self) -> tuple[object, ...]:
        """Errors that it would not count."""
        ...


_STORAGE: Final = "_state_storage"


class AiobreakerMirror:
    """A listener that moves an `aiobreaker.CircuitBreaker` as a circuit of ours has moved.

    ```python
    breaker = aiobreaker.CircuitBreaker(listeners=[MyListener()])
    client = stack.client(KVServiceClient, url, listeners=[AiobreakerMirror(breaker)])
    ```
    Its own `fail_max` and `timeout_duration` mean nothing then; `CircuitBreakerPolicy` decides.
    Isolation by hand is mirrored as open. What it or its listeners raise is counted, and goes no
    further.

    Args:
        breaker: Which nothing else calls through.
        endpoint: The endpoint to follow, as in `CircuitChanged`; by default all, which makes sense
            for a client of one.
        method: What of an endpoint to follow, as in `CircuitChanged`: `package.Service/*`, say.

    Attributes:
        failures: How often it has raised.

    Raises:
        ConfigError: It is no aiobreaker breaker, has `exclude`, or keeps its state in Redis.
    """

    def __init__(
        self, breaker: Mirrored, *, endpoint: str | None = None, method: str | None = None
    ) -> None:
        if not isinstance(breaker, Mirrored):
            msg = f"AiobreakerMirror takes an aiobreaker.CircuitBreaker, got {breaker!r}"
            raise ConfigError(msg)
        if breaker.excluded_exceptions:
            msg = (
                "AiobreakerMirror got a breaker with exclude=..., which would have no effect: what "
                "counts is decided from code, cause and delivery; make it without exclude"
            )
            raise ConfigError(msg)
        storage: object = getattr(breaker, _STORAGE, None)
        if any(base.__name__ == "CircuitRedisStorage" for base in type(storage).__mro__):
            msg = (
                "AiobreakerMirror got a breaker with CircuitRedisStorage, whose every access blocks"
                " the event loop; make it with its memory storage"
            )
            raise ConfigError(msg)
        self._breaker = breaker
        self._endpoint = endpoint
        self._method = method
        self.failures = 0

    def __call__(self, event: Event) -> None:
        """Follow a transition."""
        if not isinstance(event, CircuitChanged):
            return
        if self._endpoint is not None and event.endpoint != self._endpoint:
            return
        if self._method is not None and event.method != self._method:
            return
        if event.before in _OPEN and event.after in _OPEN:
            return
        breaker = self._breaker
        moves = {"closed": breaker.close, "half_open": breaker.half_open}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", r".*utcnow\(\)", DeprecationWarning, r"aiobreaker\."
                )
                moves.get(event.after, breaker.open)()
        except Exception:  # noqa: BLE001  # its listeners run in there, and may raise anything
            self.failures += 1

    def __repr__(self) -> str:
        where = self._endpoint or "all endpoints"
        return f"<AiobreakerMirror of {where}, {self.failures} failures>"


_OPEN: Final = frozenset({"open", "isolated"})
