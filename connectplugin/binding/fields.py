"""The fields of a message, as parameters and results see them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protobuf import (
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescMessage,
    DescOneof,
)

from connectplugin.binding.containers import Many, Table
from connectplugin.binding.kinds import Choice, Kind, Record, kind_of


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message.

    Attributes:
        name: Its Python name, and so the name of the parameter: `from_`.
        proto_name: Its name in the `.proto`: `from`.
        kind: What it holds.
        has_presence: Whether "not set" can be told from the type's zero: `optional` fields,
            messages, members of a oneof.
        oneof: The Python name of the oneof it belongs to.
    """

    name: str
    proto_name: str
    kind: Kind
    has_presence: bool
    oneof: str | None

    @property
    def takes_none(self) -> bool:
        """Whether None has a meaning: not set, or for a repeated field and a map, empty."""
        return self.has_presence or isinstance(self.kind, Many | Table)

    @property
    def text(self) -> str:
        """As a parameter's declaration: `delta: int | None`."""
        return f"{self.name}: {self.kind.text}" + (" | None" if self.has_presence else "")


def fields_of(message: DescMessage) -> dict[str, Field]:
    """The fields of a message by their Python names, in the order of the `.proto`."""
    fields = (_field(desc) for desc in message.fields)
    return {field.name: field for field in fields}


def oneofs_of(message: DescMessage) -> dict[str, list[str]]:
    """The oneofs of a message by their Python names, each with its fields' Python names."""
    return {oneof.local_name: [f.local_name for f in oneof.fields] for oneof in message.oneofs}


def types_of(message: DescMessage) -> Mapping[str, object]:
    """Message and enum classes that a message holds directly, and its own, by their names."""
    found: dict[str, object] = {message.type.__name__: message.type}
    for field in fields_of(message).values():
        for kind in _parts(field.kind):
            if isinstance(kind, Choice | Record):
                found.setdefault(kind.python.__name__, kind.python)
    return found


def _parts(kind: Kind) -> Iterator[Kind]:
    match kind:
        case Many(element):
            yield element
        case Table(key, value):
            yield key
            yield value
        case _:
            yield kind


def _field(desc: DescField) -> Field:
    oneof: DescOneof | None = None
    kind: Kind
    match desc.value:
        case DescFieldValueScalar():
            kind, oneof = kind_of(desc.value.scalar), desc.value.oneof
        case DescFieldValueEnum():
            kind, oneof = kind_of(desc.value.enum), desc.value.oneof
        case DescFieldValueMessage():
            kind, oneof = kind_of(desc.value.message), desc.value.oneof
        case DescFieldValueList():
            kind = Many(kind_of(desc.value.element))
        case DescFieldValueMap():
            kind = Table(kind_of(desc.value.key), kind_of(desc.value.value))
    single = not isinstance(kind, Many | Table)
    return Field(
        name=desc.local_name,
        proto_name=desc.name,
        kind=kind,
        has_presence=single and desc.presence.name != "IMPLICIT",
        oneof=None if oneof is None else oneof.local_name,
    )
