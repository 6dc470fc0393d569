"""What is answered instead, and to which failures."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin_interceptors.errors import ConfigError

FallbackCall: TypeAlias = Callable[[Any, ConnectError], Any]
FallbackOn: TypeAlias = Collection[Code] | Callable[[ConnectError], bool]


@dataclass(frozen=True, kw_only=True, slots=True)
class FallbackPolicy:
    """A value, or another call, in the place of a failure; most often for single methods.

    ```python
    stack = ClientStack().for_method(
        "kv.v1.KVService/Get", fallback=FallbackPolicy(value=GetResponse(value=b""))
    )
    ```
    By default it stands in when the chain refuses a call or gives up on it: not for an answer of
    the application's (not found, ...), nor for the caller's own mistakes; and never for a
    cancellation. A stream of responses falls back only before its first message. The fallback is
    outside of the call's deadline, which may be just what has run out; whoever calls something in
    there sets a time of its own.

    Attributes:
        value: The response; each call gets a copy. For a stream of responses, an iterable of them.
        call: Instead of `value`: an async function of the request and the error, that returns the
            response. For a stream of responses an async generator function of these, or one that
            returns an iterable. A stream of requests is handed over as it is: some of them may
            have been taken from it.
        on: Which failures: codes, or a function of the error that tells; both overrule what was
            said above, but for cancellation. Default None.

    Raises:
        ConfigError: There are both of `value` and `call` or neither, or `on` makes no sense.
    """

    value: Any = None
    call: FallbackCall | None = None
    on: FallbackOn | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if (self.value is None) == (self.call is None):
            which = "neither value nor call" if self.value is None else "both value and call"
            msg = f"FallbackPolicy has {which}; give one: a response, or an async function"
            raise ConfigError(msg)
        if self.call is not None and not callable(self.call):
            msg = (
                f"FallbackPolicy.call is {self.call!r}; it must be an async function of the request"
                " and the error"
            )
            raise ConfigError(msg)
        on: Any = self.on
        if on is None or callable(on):
            return
        codes: list[Any] = list(on) if isinstance(on, Iterable) else []  # pyright: ignore[reportUnknownArgumentType]
        if not codes or not all(isinstance(code, Code) for code in codes):
            msg = (
                f"FallbackPolicy.on is {on!r}; it must be a collection of connectrpc.code.Code, a "
                "function of the error, or None"
            )
            raise ConfigError(msg)
        object.__setattr__(self, "on", frozenset(codes))
