"""Writes the functions that turn Python values into messages and back.

They are compiled once, when a plugin is declared or bound, with the signature of the interface, so
that a call costs no binding of arguments and `inspect.signature` and tracebacks show what is there.

Names in the text: what the interface calls its parameters stays; everything else, builtins
included, begins with `_c_`, which no field can.
"""

import linecache
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from protobuf import Oneof

from connectplugin.binding.fields import Field
from connectplugin.binding.kinds import Kind, Record
from connectplugin.binding.model import AsField, AsMessage, Dropped, Value


class Source:
    """A function in the making: its lines, and the objects that they name."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: dict[str, Any] = {
            f"_c_{builtin.__name__}": builtin for builtin in (str, bytes, bool, int, float)
        }

    def add(self, *lines: str, indent: int = 1) -> None:
        """Append lines."""
        self.lines.extend("    " * indent + line for line in lines)

    def name(self, purpose: str, value: object) -> str:
        """The name under which the function's text reaches an object."""
        name = f"_c_{purpose}"
        while name in self.names and self.names[name] is not value:
            name += "_"
        self.names[name] = value
        return name

    def compile(self, name: str, label: str) -> Callable[..., Any]:
        """Make the function called `name`; `label` is shown in tracebacks."""
        text = "\n".join(self.lines) + "\n"
        filename = f"<connectplugin {label}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        # The text is made of names of fields and parameters, which are identifiers, and of ours.
        exec(compile(text, filename, "exec"), self.names)  # noqa: S102
        function: Callable[..., Any] = self.names[name]
        return function

    def check(self, variable: str, kind: Kind, label: str, *, none: bool) -> None:
        """Replace a variable by what the field stores, or raise an error that begins with label."""
        test = kind.quick_test(variable)
        if isinstance(kind, Record):
            test = f"{variable}.__class__ is {self.name(f'type_{variable}', kind.python)}"
        conditions = [f"{variable} is not None"] if none else []
        conditions += [f"not {test}"] if test else []
        call = f"{variable} = {self.name(f'check_{variable}', checker(kind, label))}({variable})"
        self.add(f"if {' and '.join(conditions)}: {call}" if conditions else call)

    def build(
        self, message: type[Any], values: Sequence[tuple[Field, str]], label: str, target: str
    ) -> None:
        """Assign a new message to `target`, made of checked variables."""
        arguments: list[str] = []
        groups: dict[str, list[tuple[Field, str]]] = {}
        for field, variable in values:
            if field.oneof is None:
                arguments.append(f"{field.name}={variable}")
            else:
                groups.setdefault(field.oneof, []).append((field, variable))
        for group, members in groups.items():
            arguments.append(f"{group}={self._oneof(group, members, label)}")
        self.add(f"{target} = {self.name('message', message)}({', '.join(arguments)})")

    def _oneof(self, group: str, members: list[tuple[Field, str]], label: str) -> str:
        chosen = f"_c_chosen_{group}"
        oneof = self.name("Oneof", Oneof)
        self.add(f"{chosen} = None")
        for field, variable in members:
            self.add(f"if {variable} is not None:")
            if field is not members[0][0]:
                two = self.name(
                    f"two_{group}", _two_of_one(group, [f.name for f, _ in members], label)
                )
                self.add(
                    f"if {chosen} is not None: {two}({chosen}.field, {field.name!r})", indent=2
                )
            self.add(f"{chosen} = {oneof}({field.proto_name!r}, {variable})", indent=2)
        return chosen

    def oneofs(self, fields: Iterable[Field], message: str) -> None:
        """Read the oneofs that `field` expressions of the message need into variables."""
        for group in dict.fromkeys(f.oneof for f in fields if f.oneof is not None):
            self.add(f"_c_set_{group} = {message}.{group}")

    def field(self, field: Field, message: str, unset: str | None) -> str:
        """An expression for a field of a message.

        Args:
            field: Which one; if it belongs to a oneof, after `oneofs`.
            message: The variable that holds the message.
            unset: An expression for what is read when it is not set; None for the type's zero.
        """
        if field.oneof is not None:
            chosen = f"_c_set_{field.oneof}"
            test = f"{chosen} is not None and {chosen}.field == {field.proto_name!r}"
            return f"({chosen}.value if {test} else {unset})"
        attribute = f"{message}.{field.name}"
        if not field.has_presence:
            return attribute
        if isinstance(field.kind, Record):
            if unset == "None":
                return attribute
            otherwise = unset or f"{self.name(f'type_{field.name}', field.kind.python)}()"
            return f"({attribute} if {attribute} is not None else {otherwise})"
        if unset is None:
            return attribute
        return f"({attribute} if {message}.has_field({field.proto_name!r}) else {unset})"


def reader(value: Value, label: str) -> Callable[[Any], Any] | None:
    """A function from a message to what stands for it; None if that is the message itself."""
    match value:
        case AsMessage():
            return None
        case Dropped():
            return _none
        case AsField(field, none):
            source = Source()
            source.add("def _c_read(_c_message):", indent=0)
            source.oneofs([field], "_c_message")
            unset = "None" if none else None
            source.add(f"return {source.field(field, '_c_message', unset)}")
            return source.compile("_c_read", label)


def writer(value: Value, message: type[Any], label: str) -> Callable[[Any], Any]:
    """A function from what stands for a message to that message.

    It raises TypeError or ValueError, beginning with `label`.
    """
    source = Source()
    source.add("def _c_write(_c_value):", indent=0)
    match value:
        case Dropped():
            source.add(f"return {source.name('message', message)}()")
        case AsMessage():
            exactly = source.name("type", message)
            wrong = source.name("wrong", _wrong_message(message, label))
            source.add(f"if _c_value.__class__ is not {exactly}: {wrong}(_c_value)")
            source.add("return _c_value")
        case AsField(field, none):
            source.check("_c_value", field.kind, label, none=none and field.takes_none)
            source.build(message, [(field, "_c_value")], label, "_c_result")
            source.add("return _c_result")
    return source.compile("_c_write", label)


def checker(kind: Kind, label: str) -> Callable[[Any], Any]:
    """`kind.check`, with errors that begin with `label`."""

    def check(value: Any) -> Any:
        try:
            return kind.check(value)
        except (TypeError, ValueError) as error:
            msg = f"{label} {error}"
            raise (TypeError if isinstance(error, TypeError) else ValueError)(msg) from None

    return check


def _none(_: object) -> None:
    return None


def _wrong_message(message: type[Any], label: str) -> Callable[[object], NoReturn]:
    def wrong(value: object) -> NoReturn:
        kind = "None" if value is None else type(value).__qualname__
        msg = f"{label} must be {message.__qualname__}, not {kind}"
        raise TypeError(msg)

    return wrong


def _two_of_one(group: str, members: list[str], label: str) -> Callable[[str, str], NoReturn]:
    def two(first: str, second: str) -> NoReturn:
        msg = (
            f"{label} got both {first} and {second}; of {', '.join(members)} at most one may be "
            f"set (the oneof {group})"
        )
        raise ValueError(msg)

    return two
