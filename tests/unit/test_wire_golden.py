"""The bytes on the wire, against a table and an encoder that know nothing of the `.proto` files."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protobuf import (
    DescEnum,
    DescField,
    DescFieldValueEnum,
    DescFieldValueList,
    DescFieldValueMap,
    DescFieldValueMessage,
    DescFieldValueScalar,
    DescFile,
    DescMessage,
    Message,
    ScalarType,
)

from connectplugin._gen.connectplugin.health.v1 import health_connect, health_pb
from connectplugin._gen.connectplugin.v1 import (
    broker_connect,
    broker_pb,
    control_connect,
    control_pb,
    controller_connect,
    controller_pb,
    handshake_connect,
    handshake_pb,
    identity_connect,
    identity_pb,
    lifecycle_connect,
    lifecycle_pb,
    registry_connect,
    registry_pb,
)
from connectplugin._gen.grpc.health.v1 import health_connect as grpc_health_connect
from connectplugin._gen.grpc.health.v1 import health_pb as grpc_health_pb
from connectplugin_interceptors._gen.google.rpc import error_details_pb
from tests.unit.wire_table import ENUMS, MESSAGES, SERVICES

FILES: list[DescFile] = [
    module.desc()
    for module in (
        broker_pb,
        control_pb,
        controller_pb,
        error_details_pb,
        grpc_health_pb,
        handshake_pb,
        health_pb,
        identity_pb,
        lifecycle_pb,
        registry_pb,
    )
]
DESCRIPTORS: dict[str, DescMessage] = {m.type_name: m for file in FILES for m in file.messages}
TYPES: dict[str, type[Message[Any]]] = {name: desc.type for name, desc in DESCRIPTORS.items()}
APPLICATIONS = [
    broker_connect.CapabilityBrokerASGIApplication,
    control_connect.PluginControlASGIApplication,
    controller_connect.PluginControllerASGIApplication,
    grpc_health_connect.HealthASGIApplication,
    handshake_connect.HandshakeServiceASGIApplication,
    health_connect.HealthServiceASGIApplication,
    identity_connect.PluginIdentityASGIApplication,
    lifecycle_connect.PluginLifecycleASGIApplication,
    registry_connect.ServiceRegistryASGIApplication,
]
SCALARS = {
    ScalarType.STRING: "s",
    ScalarType.BYTES: "y",
    ScalarType.BOOL: "b",
    ScalarType.INT32: "i",
    ScalarType.INT64: "l",
    ScalarType.UINT64: "u",
}
NUMBERS = {"i": -7, "l": 1_790_000_000_123, "u": 2**63 + 5, "b": 1}
DURATION_1_5_S = bytes.fromhex("08011080cab5ee01")  # seconds 1, nanos 500 000 000


class Field(NamedTuple):
    number: int
    name: str
    repeated: bool
    type: str


def fields_in_table(message: str) -> Iterator[Field]:
    for entry in filter(None, MESSAGES[message].split(", ")):
        number, name, type_name = entry.split()
        yield Field(int(number), name, type_name.startswith("*"), type_name.lstrip("*"))


def type_letter(value: Any) -> str:
    """A descriptor's type in the notation of the table."""
    match value:
        case ScalarType():
            return SCALARS[value]
        case DescFieldValueScalar(scalar=scalar):
            return SCALARS[scalar]
        case DescFieldValueEnum(enum=named) | DescFieldValueMessage(message=named):
            return str(named.name)
        case DescFieldValueMap(key=ScalarType.STRING, value=ScalarType.STRING):
            return "m"
        case DescFieldValueList(element=element):
            return type_letter(element)
        case DescEnum() | DescMessage():
            return value.name
        case _:
            raise AssertionError(f"the table has no word for {value!r}")


def as_in_table(field: DescField) -> Field:
    repeated = isinstance(field.value, DescFieldValueList)
    return Field(field.number, field.name, repeated, type_letter(field.value))


# A second encoder, after the encoding's specification.


def varint(value: int) -> bytes:
    rest = value % 2**64  # negative numbers are sent as their two's complement in 64 bits
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes([*out, rest])


def delimited(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def encode_sample(message: str) -> bytes:
    """What a message must look like with every field set to its sample."""
    return b"".join(encode_field(message, field) for field in fields_in_table(message))


def encode_field(message: str, field: Field) -> bytes:
    text = f"{field.name}é".encode()
    match field.type:
        case "m":
            return delimited(field.number, delimited(1, b"key") + delimited(2, text))
        case "s" | "y":
            return delimited(field.number, text)
        case "i" | "l" | "u" if field.repeated:
            return delimited(field.number, varint(NUMBERS[field.type]) * 2)
        case "i" | "l" | "u" | "b":
            return varint(field.number << 3) + varint(NUMBERS[field.type])
        case "HealthState" | "ServiceState" | "ServingStatus":
            return varint(field.number << 3) + b"\x02"
        case "Duration":
            return delimited(field.number, DURATION_1_5_S)
        case nested:
            return delimited(field.number, encode_sample(f"{message.rpartition('.')[0]}.{nested}"))


# Tests


def test_table_and_generated_code_have_the_same_messages() -> None:
    assert DESCRIPTORS.keys() == MESSAGES.keys()


@pytest.mark.parametrize("message", MESSAGES)
def test_fields_have_the_numbers_names_and_types_of_the_table(message: str) -> None:
    fields = [as_in_table(field) for field in DESCRIPTORS[message].fields]
    assert fields == list(fields_in_table(message))


@pytest.mark.parametrize("message", MESSAGES)
def test_message_with_every_field_set_encodes_to_the_golden_bytes(message: str) -> None:
    golden = encode_sample(message)
    decoded = TYPES[message].from_binary(golden)
    for field in fields_in_table(message):
        assert getattr(decoded, field.name), f"{field.name} was not read"
    assert decoded.to_binary() == golden


def test_handshake_request_has_the_bytes_that_connect_plugin_go_sends() -> None:
    request = handshake_pb.HandshakeRequest(
        core_protocol_version=1,
        app_protocol_version=1,
        magic_cookie_key="CONNECT_PLUGIN",
        magic_cookie_value="d3f40b3c2e1a5f8b9c4d7e6a1b2c3d4e",
        requested_plugins=["kv"],
        self_id="cache",
        self_version="1.0.0",
    )
    assert request.to_binary().hex() == (
        "080110011a0e434f4e4e4543545f504c5547494e222064336634306233633265316135663862"
        "396334643765366131623263336434652a026b76520563616368655a05312e302e30"
    )


@pytest.mark.parametrize("message", MESSAGES)
def test_peer_that_knows_only_the_numbers_below_100_loses_nothing_else(message: str) -> None:
    """An unknown number is skipped, which is what makes our extensions safe to send."""
    sample = encode_sample(message)
    unknown = delimited(4242, b"from a later version")
    read = TYPES[message].from_binary(unknown + sample + unknown)
    for field in fields_in_table(message):
        expected = getattr(TYPES[message].from_binary(sample), field.name)
        assert getattr(read, field.name) == expected


def test_enums_have_the_names_and_numbers_of_the_table() -> None:
    top_level = [enum for file in FILES for enum in file.enums]
    nested = [enum for desc in DESCRIPTORS.values() for enum in desc.nested_enums]
    found = {e.type_name: {v.name: v.number for v in e.values} for e in top_level + nested}
    assert found == ENUMS


def test_services_have_the_methods_messages_and_shapes_of_the_table() -> None:
    found = {
        service.type_name: {
            method.name: (
                method.input.name,
                method.output.name + ("+" if method.method_kind == "server_streaming" else ""),
            )
            for method in service.methods
        }
        for file in FILES
        for service in file.services
    }
    assert found == SERVICES


def test_services_are_served_under_their_full_names() -> None:
    nobody: Any = object()  # an application is only asked its path here
    paths = {application(nobody).path for application in APPLICATIONS}
    assert paths == {f"/{service}" for service in SERVICES}


def test_only_calls_that_make_something_new_may_not_be_repeated() -> None:
    unknown = {
        f"{service.name}/{method.name}"
        for file in FILES
        for service in file.services
        for method in service.methods
        if method.idempotency == 0  # IDEMPOTENCY_UNKNOWN
    }
    assert unknown == {"ServiceRegistry/RegisterService", "CapabilityBroker/RequestCapability"}


def test_json_names_are_camel_case() -> None:
    response = handshake_pb.HandshakeResponse(token_expires_at=1_790_000_000_123, lease_seconds=30)
    assert json.loads(response.to_json()) == {
        "tokenExpiresAt": "1790000000123",  # 64 bits are strings in protobuf's JSON
        "leaseSeconds": 30,
    }


# Whatever the values, nothing is lost on the way.

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "s": TEXTS,
    "y": st.binary(max_size=40),
    "b": st.booleans(),
    "i": st.integers(-(2**31), 2**31 - 1),
    "l": st.integers(-(2**63), 2**63 - 1),
    "u": st.integers(0, 2**64 - 1),
    "m": st.dictionaries(TEXTS, TEXTS, max_size=3),
}


def messages(desc: DescMessage) -> st.SearchStrategy[Message[Any]]:
    return st.fixed_dictionaries(
        {}, optional={field.name: values(field.value) for field in desc.fields}
    ).map(lambda chosen: desc.type(**chosen))


def values(value: Any) -> st.SearchStrategy[Any]:
    match value:
        case DescFieldValueList(element=element):
            return st.lists(values(element), max_size=3)
        case DescFieldValueEnum(enum=desc):
            return st.sampled_from([desc.type(choice.number) for choice in desc.values])
        case DescMessage(type_name="google.protobuf.Duration"):
            return st.builds(value.type, seconds=st.integers(0, 10**6), nanos=st.just(500_000_000))
        case DescMessage():
            return messages(value)
        case DescFieldValueMessage(message=desc):
            return values(desc)
        case _:
            return VALUES[type_letter(value)]


@given(st.sampled_from(sorted(DESCRIPTORS)).flatmap(lambda name: messages(DESCRIPTORS[name])))
def test_messages_survive_both_codecs(message: Message[Any]) -> None:
    assert type(message).from_binary(message.to_binary()) == message
    assert type(message).from_json(message.to_json()) == message
