"""Which classes may be named as `service`."""

from typing import Any, Protocol

import pytest
from connectrpc.method import IdempotencyLevel, StreamType

from connectplugin.binding import PluginDefinitionError, read_schema
from kv.v1.kv_connect import (
    KVService,
    KVServiceASGIApplication,
    KVServiceClient,
    KVServiceSync,
)
from tests.gen.pynames.v1.clash_connect import ClashService


def test_everything_generated_beside_the_service_is_found() -> None:
    schema = read_schema(KVService)
    assert schema.service is KVService
    assert schema.client is KVServiceClient
    assert schema.application is KVServiceASGIApplication
    assert schema.name == "kv.v1.KVService"
    assert list(schema.rpcs)[:3] == ["get", "scan", "put"]
    assert schema.rpcs["get"].info.idempotency_level is IdempotencyLevel.NO_SIDE_EFFECTS
    assert schema.rpcs["put"].info.idempotency_level is IdempotencyLevel.IDEMPOTENT
    assert schema.rpcs["increment"].info.idempotency_level is IdempotencyLevel.UNKNOWN
    shapes = [schema.rpcs[name].info.stream_type for name in ("get", "watch", "load", "sync")]
    assert shapes == [
        StreamType.UNARY,
        StreamType.SERVER_STREAM,
        StreamType.CLIENT_STREAM,
        StreamType.BIDI_STREAM,
    ]


class NotGenerated(Protocol):
    async def get(self) -> None: ...


@pytest.mark.parametrize(
    ("service", "said"),
    [
        ("kv", "service='kv' is no class; name the generated one"),
        (NotGenerated, "service=NotGenerated has no desc(), so it was not generated for protobuf"),
        (KVServiceClient, "service=KVServiceClient is the generated Client"),
        (KVServiceASGIApplication, "is the generated ASGIApplication"),
        (KVServiceSync, "it is the synchronous form; name KVService"),
        (ClashService, "the methods GetURL and GetUrl are both called get_url in Python"),
    ],
)
def test_what_is_no_service(service: Any, said: str) -> None:
    with pytest.raises(PluginDefinitionError) as caught:
        read_schema(service)
    assert said in str(caught.value)
    assert caught.value.differences == ()


def test_a_service_whose_client_is_not_there() -> None:
    class Orphan(KVService): ...

    with pytest.raises(PluginDefinitionError, match="has no OrphanClient"):
        read_schema(Orphan)


def test_a_class_whose_desc_is_something_else() -> None:
    class Other:
        @classmethod
        def desc(cls) -> int:
            return 3

    with pytest.raises(PluginDefinitionError, match=r"desc\(\) gives int, not DescService"):
        read_schema(Other)


def test_a_service_generated_by_another_version() -> None:
    class Renamed:
        desc = KVService.desc

    with pytest.raises(PluginDefinitionError, match="has no"):
        read_schema(Renamed)
