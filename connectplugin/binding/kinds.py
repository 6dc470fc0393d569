"""What a field holds, as a kind: which annotations fit it, and which values it takes.

An annotation of an interface must fit in both directions, as the caller's value travels into the
field on one side and out of it on the other: it must *take* what the author of the annotation would
hand over, and *give* what the field yields.
"""

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from protobuf import DescEnum, DescMessage, Message, ScalarType
from typing_extensions import Buffer

from connectplugin.binding.annotations import (
    Anything,
    Literals,
    Missing,
    Nothing,
    Of,
    OneOf,
    Shape,
    Unknown,
)

_FLOAT32_MAX: Final = 3.4028234663852886e38
_BUFFERS: Final = (bytes, bytearray, memoryview)


class Kind(ABC):
    """The type of a field, or of one element of it."""

    python: type[Any]
    """What the field yields."""

    text: str
    """What an interface should say: `list[str]`."""

    zero: str
    """What a field without presence yields when it is not set, as it is written."""

    def gives(self, shape: Shape) -> bool:
        """Whether what the field yields may be of that type; True if nobody can tell."""
        return self._any(shape, self._gives, self._gives_literal)

    def takes(self, shape: Shape) -> bool:
        """Whether the field takes values of that type; True if nobody can tell."""
        return self._any(shape, self._takes, self._gives_literal)

    def fits(self, shape: Shape) -> bool:
        """Whether an interface may use that annotation for the field."""
        return self.gives(shape) and self.takes(shape)

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value as the field stores it.

        Raises:
            TypeError: It is of another type.
            ValueError: It is out of range.
        """

    def quick_test(self, variable: str) -> str | None:
        """An expression, true for what the field stores as it is; None if there is no such test.

        It names types as `source` does: `_c_str`.
        """
        del variable
        return None

    def _gives(self, shape: Of) -> bool:
        return issubclass(self.python, shape.type)

    @abstractmethod
    def _takes(self, shape: Of) -> bool: ...

    def _gives_literal(self, value: object) -> bool:
        return isinstance(value, self.python)

    @staticmethod
    def _any(shape: Shape, of: Callable[[Of], bool], literal: Callable[[object], bool]) -> bool:
        match shape:
            case Unknown() | Missing() | Anything():
                return True
            case Nothing():
                return False
            case Literals(values):
                return any(literal(value) for value in values)
            case OneOf(members):
                return any(Kind._any(member, of, literal) for member in members)
            case Of():
                return of(shape)


def wrong_type(expected: str, value: object) -> TypeError:
    """`must be str, not int`: the value itself may be a secret."""
    kind = "None" if value is None else type(value).__name__
    return TypeError(f"must be {expected}, not {kind}")


class Text(Kind):
    """`string`."""

    python = str
    text = "str"
    zero = '""'

    def check(self, value: Any) -> str:
        """Accept str; of a subclass, such as a StrEnum, what it holds."""
        if not isinstance(value, str):
            raise wrong_type("str", value)
        return str.__str__(value)

    def quick_test(self, variable: str) -> str:
        """Exactly a str."""
        return f"{variable}.__class__ is _c_str"

    def _gives(self, shape: Of) -> bool:
        return shape.type is str

    def _takes(self, shape: Of) -> bool:
        return issubclass(shape.type, str)


class Bytes(Kind):
    """`bytes`."""

    python = bytes
    text = "bytes"
    zero = 'b""'

    def check(self, value: Any) -> bytes:
        """Accept what has a buffer of bytes: bytearray and memoryview are copied."""
        if not isinstance(value, _BUFFERS):
            raise wrong_type("bytes", value)
        return bytes(cast("Buffer", value))

    def quick_test(self, variable: str) -> str:
        """Exactly bytes."""
        return f"{variable}.__class__ is _c_bytes"

    def _gives(self, shape: Of) -> bool:
        return shape.type in {bytes, Buffer}

    def _takes(self, shape: Of) -> bool:
        return shape.type is Buffer or issubclass(shape.type, _BUFFERS)


class Truth(Kind):
    """`bool`."""

    python = bool
    text = "bool"
    zero = "False"

    def check(self, value: Any) -> bool:
        """Accept True and False."""
        if not isinstance(value, bool):
            raise wrong_type("bool", value)
        return value

    def quick_test(self, variable: str) -> str:
        """True or False."""
        return f"{variable}.__class__ is _c_bool"

    def _takes(self, shape: Of) -> bool:
        return shape.type is bool


class Whole(Kind):
    """One of the ten integer types.

    Attributes:
        low: The smallest value.
        high: The largest.
        name: Its name in a `.proto`, by its width: `int32`.
    """

    python = int
    text = "int"
    zero = "0"

    def __init__(self, name: str, low: int, high: int) -> None:
        self.name, self.low, self.high = name, low, high

    def check(self, value: Any) -> int:
        """Accept integers within the range; a bool is none."""
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise wrong_type("int", value)
        number = operator.index(value)
        if not self.low <= number <= self.high:
            msg = f"must be an {self.name}, {self.low} to {self.high}, not {number}"
            raise ValueError(msg)
        return number

    def quick_test(self, variable: str) -> str:
        """An int within the range."""
        return f"({variable}.__class__ is _c_int and {self.low} <= {variable} <= {self.high})"

    def _takes(self, shape: Of) -> bool:
        return issubclass(shape.type, int) and shape.type is not bool


class Real(Kind):
    """`double`, or `float`.

    Attributes:
        limit: The largest finite value; None for `double`, which takes all that Python has.
    """

    python = float
    text = "float"
    zero = "0.0"

    def __init__(self, limit: float | None) -> None:
        self.limit = limit

    def check(self, value: Any) -> float:
        """Accept float and int, and of a float field no finite number beyond its range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type("float", value)
        try:
            number = float(value)
        except OverflowError:
            msg = "must be a float; this int is too large for one"
            raise ValueError(msg) from None
        infinite = number in {float("inf"), float("-inf")} or number != number  # noqa: PLR0124
        if self.limit is not None and not infinite and abs(number) > self.limit:
            msg = f"must be a float of 32 bits, up to {self.limit}, not {number}"
            raise ValueError(msg)
        return number

    def quick_test(self, variable: str) -> str:
        """A float; for 32 bits, within the range."""
        if self.limit is None:
            return f"{variable}.__class__ is _c_float"
        limit = self.limit
        return f"({variable}.__class__ is _c_float and -{limit} <= {variable} <= {limit})"

    def _takes(self, shape: Of) -> bool:
        return issubclass(shape.type, int | float) and shape.type is not bool


class Choice(Kind):
    """An enum."""

    def __init__(self, desc: DescEnum) -> None:
        self.python = desc.type
        self.text = desc.type.__qualname__
        self.zero = f"{self.text}.{desc.values[0].local_name}"
        self._open = desc.open
        self._numbers = frozenset(value.number for value in desc.values)

    def check(self, value: Any) -> int:
        """Accept a member, or a number: an open enum takes those without a name too."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(self.text, value)
        number = int(value)
        if not (number in self._numbers or (self._open and -(2**31) <= number < 2**31)):
            msg = f"must be a {self.text}, which has no member {number}"
            raise ValueError(msg)
        return value

    def _takes(self, shape: Of) -> bool:
        return issubclass(shape.type, int) and shape.type is not bool


class Record(Kind):
    """A message."""

    def __init__(self, desc: DescMessage) -> None:
        self.python = desc.type
        self.text = desc.type.__qualname__
        self.zero = f"{self.text}()"

    def check(self, value: Any) -> Any:
        """Accept messages of exactly that type; what they hold is checked when they are encoded."""
        if not isinstance(value, self.python):
            raise wrong_type(self.text, value)
        return value

    def _gives(self, shape: Of) -> bool:
        # With protobuf-py's extension every message also passes for an Iterable.
        return shape.type is self.python or shape.type is Message

    def _takes(self, shape: Of) -> bool:
        return shape.type is self.python or shape.type is Message


_INTEGERS: Final = {
    "int32": (ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32),
    "uint32": (ScalarType.UINT32, ScalarType.FIXED32),
    "int64": (ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64),
    "uint64": (ScalarType.UINT64, ScalarType.FIXED64),
}

_BOUNDS: Final = {
    "int32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
}

_SCALARS: Final[Mapping[ScalarType, Kind]] = {
    ScalarType.STRING: Text(),
    ScalarType.BYTES: Bytes(),
    ScalarType.BOOL: Truth(),
    ScalarType.DOUBLE: Real(None),
    ScalarType.FLOAT: Real(_FLOAT32_MAX),
    **{
        scalar: Whole(name, *_BOUNDS[name])
        for name, scalars in _INTEGERS.items()
        for scalar in scalars
    },
}


def kind_of(element: ScalarType | DescEnum | DescMessage) -> Kind:
    """The kind of a single value."""
    match element:
        case ScalarType():
            return _SCALARS[element]
        case DescEnum():
            return Choice(element)
        case DescMessage():
            return Record(element)
