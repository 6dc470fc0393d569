"""Which calls go wrong, how often, and in what way."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from connectrpc.code import Code

from connectplugin_interceptors import validation
from connectplugin_interceptors.errors import ConfigError
from connectplugin_interceptors.patterns import check_pattern

FaultError: TypeAlias = Code | Literal["refuse", "disconnect", "drop"]

_WORDS: Final = ("refuse", "disconnect", "drop")


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """One thing that goes wrong; to the layers above it looks as if it had really happened.

    Attributes:
        share: The share of calls that it strikes, from 0 to 1. Default 1.
        methods: `package.Service/Method` or `package.Service/*`, any number; default none, which
            means all.
        latency: Seconds before anything else happens, or a pair: evenly spread between the two.
            Default 0.
        error: How the call ends: a code, as if the server had answered so; `"refuse"`: nothing
            could be sent; `"disconnect"`: the connection broke after the request was sent;
            `"drop"`: nothing comes any more, until the deadline or the caller ends it. Default
            None: the call goes on.
        after_reply: Whether the peer executes the call before it goes wrong, so that only the
            reply is lost. Default False. Not with `"refuse"`.
        truncate_after: Let so many messages of a stream of responses through, and then go wrong:
            with `error`, or else as `"disconnect"`. Strikes no other calls. Default None.

    Raises:
        ConfigError: A field cannot work, or nothing would go wrong.
    """

    share: float = 1.0
    methods: Iterable[str] = ()
    latency: float | tuple[float, float] = 0.0
    error: FaultError | None = None
    after_reply: bool = False
    truncate_after: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        validation.number(self, "share", minimum=0.0, maximum=1.0)
        validation.integer(self, "truncate_after", minimum=0, optional=True)
        validation.instance(self, "after_reply", bool)
        if isinstance(self.methods, str):
            msg = f"Fault.methods is {self.methods!r}; it must be a list of patterns"
            raise ConfigError(msg)
        object.__setattr__(self, "methods", tuple(self.methods))
        for pattern in self.methods:
            check_pattern(pattern, "Fault.methods")
        self._check_latency()
        self._check_error()

    def _check_latency(self) -> None:
        latency: Any = self.latency
        pair = latency if isinstance(latency, tuple) else (latency, latency)  # pyright: ignore[reportUnknownVariableType]
        if (
            len(pair) != 2  # noqa: PLR2004  # a pair  # pyright: ignore[reportUnknownArgumentType]
            or not all(validation.is_number(each) and each >= 0 for each in pair)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            or pair[0] > pair[1]
        ):
            msg = (
                f"Fault.latency is {latency!r}; it must be a finite number of seconds >= 0, or a "
                "pair of such, the lower one first"
            )
            raise ConfigError(msg)

    def _check_error(self) -> None:
        error: Any = self.error
        if error is not None and not isinstance(error, Code) and error not in _WORDS:
            msg = (
                f"Fault.error is {error!r}; it must be a connectrpc.code.Code, 'refuse', "
                "'disconnect', 'drop' or None"
            )
            raise ConfigError(msg)
        if self.after_reply and error in {None, "refuse"}:
            msg = (
                f"Fault.after_reply is True with error={error!r}: there is no reply to lose; give "
                "a code, 'disconnect' or 'drop'"
            )
            raise ConfigError(msg)
        if self.truncate_after is not None and (self.after_reply or error == "refuse"):
            msg = (
                "Fault.truncate_after lets messages through first, so it goes neither with "
                "after_reply nor with error='refuse'"
            )
            raise ConfigError(msg)
        if error is None and self.truncate_after is None and self.latency in {0, (0, 0)}:
            msg = "Fault has no latency, error or truncate_after: nothing would go wrong; give one"
            raise ConfigError(msg)

    @property
    def least_latency(self) -> float:
        """Seconds."""
        return self.latency[0] if isinstance(self.latency, tuple) else self.latency

    @property
    def most_latency(self) -> float:
        """Seconds."""
        return self.latency[1] if isinstance(self.latency, tuple) else self.latency


@dataclass(frozen=True, kw_only=True, slots=True)
class FaultPolicy:
    """Faults, tried one after the other for each attempt.

    Latencies add up; the first fault that ends the call ends it.

    Attributes:
        faults: What goes wrong; any iterable, at least one.
        seed: Makes the choices the same ones each time, as long as calls come in the same order.
            Default None: other ones each time.
        max_active: Calls at a time that something may go wrong with; beyond, they are spared.
            Default None: any number.

    Raises:
        ConfigError: There is no fault, or a field is of the wrong kind.
    """

    faults: Iterable[Fault]
    seed: int | None = None
    max_active: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        given: Any = self.faults
        faults: list[Any] = list(given) if isinstance(given, Iterable) else []  # pyright: ignore[reportUnknownArgumentType]
        if not faults or not all(isinstance(fault, Fault) for fault in faults):
            msg = f"FaultPolicy.faults is {given!r}; it must be a list of Fault(...), not empty"
            raise ConfigError(msg)
        object.__setattr__(self, "faults", tuple(faults))
        validation.integer(self, "seed", optional=True)
        validation.integer(self, "max_active", minimum=1, optional=True)
