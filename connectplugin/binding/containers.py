"""The kinds of repeated fields and maps."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from protobuf import Message

from connectplugin.binding.annotations import Of, Shape
from connectplugin.binding.kinds import Kind, wrong_type

_NO_LISTS: Final = (str, bytes, bytearray, memoryview, Mapping, Message)
"""What can be iterated and still is no list of anything: most often a mistake."""


class Many(Kind):
    """A repeated field."""

    __match_args__ = ("element",)

    def __init__(self, element: Kind) -> None:
        self.element = element
        self.python = list
        self.text = f"list[{element.text}]"
        self.zero = "[]"

    def check(self, value: Any) -> list[Any]:
        """Accept any iterable that is not itself text or a mapping; always a new list."""
        given: object = value
        if isinstance(given, _NO_LISTS) or not isinstance(given, Iterable):
            raise wrong_type(f"an iterable of {self.element.text}", value)
        elements = list(value)
        check = self.element.check
        try:
            return [check(element) for element in elements]
        except (TypeError, ValueError):
            for index, element in enumerate(elements):
                _check_part(check, f"element {index}", element)
            raise

    def _gives(self, shape: Of) -> bool:
        if not issubclass(list, shape.type):
            return False
        return all(self.element.gives(argument) for argument in shape.arguments)

    def _takes(self, shape: Of) -> bool:
        kind: type = shape.type
        if not issubclass(kind, Iterable) or issubclass(kind, _NO_LISTS):
            return False
        return all(self.element.takes(argument) for argument in shape.arguments)


class Table(Kind):
    """A map."""

    __match_args__ = ("key", "value")

    def __init__(self, key: Kind, value: Kind) -> None:
        self.key, self.value = key, value
        self.python = dict
        self.text = f"dict[{key.text}, {value.text}]"
        self.zero = "{}"

    def check(self, value: Any) -> dict[Any, Any]:
        """Accept any mapping; always a new dict."""
        given: object = value
        if not isinstance(given, Mapping):
            raise wrong_type(f"a mapping of {self.key.text} to {self.value.text}", value)
        return {
            _check_part(self.key.check, "a key", key): _check_part(
                self.value.check, "a value", element
            )
            for key, element in value.items()
        }

    def _gives(self, shape: Of) -> bool:
        if not (issubclass(dict, shape.type) and issubclass(shape.type, Mapping)):
            return False
        return self._fit(shape, self.key.gives, self.value.gives)

    def _takes(self, shape: Of) -> bool:
        return issubclass(shape.type, Mapping) and self._fit(
            shape, self.key.takes, self.value.takes
        )

    @staticmethod
    def _fit(shape: Of, key: Callable[[Shape], bool], value: Callable[[Shape], bool]) -> bool:
        match shape.arguments:
            case (first, second):
                return key(first) and value(second)
            case _:
                return True


def _check_part(check: Callable[[Any], Any], place: str, value: object) -> Any:
    try:
        return check(value)
    except (TypeError, ValueError) as error:
        msg = f"{error} ({place})"
        raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from None
