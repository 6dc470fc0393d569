"""Methods and fields named like Python, or like something of ours: all of them can be called."""

import keyword
from collections.abc import AsyncIterator
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectplugin.binding import PluginDefinitionError, read_schema
from connectplugin.binding.naming import method_name, nearest
from connectplugin.plugin import ConnectPlugin
from connectplugin_interceptors.options import call_options
from tests.gen.pynames.v1.pynames_connect import NameService
from tests.gen.pynames.v1.pynames_pb import None_, Request, Response
from tests.unit.binding.making import interface
from tests.unit.binding.serving import dispensed


class Names(Protocol):
    async def import_(self, from_: str, class_: str = "c", async_: str = "a") -> str: ...
    async def try_(self, self_: str, timeout: str, getHTTPUrl: str) -> str: ...  # noqa: ASYNC109, N803
    async def none(self, str: str, client: str) -> None_: ...  # noqa: A002
    async def close(self, to_json_: str, pb__hidden: str) -> str: ...
    async def get_http_url(self, request: Request) -> Response: ...
    async def desc_(self) -> str: ...
    async def execute_unary_(self) -> str: ...
    async def with_options(self, from_: str) -> str: ...
    async def pb__client(self) -> str: ...
    def yield_(self, text: str) -> AsyncIterator[str]: ...


names = ConnectPlugin("names", Names, service=NameService)


class Told:
    """Answers with what it was told."""

    async def import_(self, from_: str, class_: str = "c", async_: str = "a") -> str:
        return f"import {from_} {class_} {async_}"

    async def try_(self, self_: str, timeout: str, getHTTPUrl: str) -> str:  # noqa: ASYNC109, N803
        return f"try {self_} {timeout} {getHTTPUrl}"

    async def none(self, str: str, client: str) -> None_:  # noqa: A002
        return None_(text=f"none {str} {client}")

    async def close(self, to_json_: str, pb__hidden: str) -> str:
        return f"close {to_json_} {pb__hidden}"

    async def get_http_url(self, request: Request) -> Response:
        return Response(from_=request.getHTTPUrl)

    async def desc_(self) -> str:
        return "desc"

    async def execute_unary_(self) -> str:
        return "execute_unary"

    async def with_options(self, from_: str) -> str:
        return f"with_options {from_}"

    async def pb__client(self) -> str:
        return "client"

    async def yield_(self, text: str) -> AsyncIterator[str]:
        yield text


async def test_all_of_them_can_be_called() -> None:
    async with dispensed(names, Told()) as plugin:
        assert await plugin.import_("f", async_="x") == "import f c x"
        assert await plugin.try_(self_="s", timeout="t", getHTTPUrl="u") == "try s t u"
        assert (await plugin.none("s", client="c")).text == "none s c"
        assert await plugin.close("j", pb__hidden="h") == "close j h"
        assert (await plugin.get_http_url(Request(getHTTPUrl="u"))).from_ == "u"
        assert await plugin.desc_() == "desc"
        assert await plugin.execute_unary_() == "execute_unary"
        assert await plugin.with_options("f") == "with_options f"
        assert await plugin.pb__client() == "client"
        assert [text async for text in plugin.yield_("y")] == ["y"]


async def test_an_rpc_called_close_is_reached_where_a_chain_has_taken_the_name() -> None:
    class Managed(names.client_class):  # type: ignore[name-defined,misc]
        async def close(self) -> None:  # as the client of a chain has it
            raise AssertionError

    async with dispensed(names, Told()) as plugin:
        connected: Any = plugin
        http_client = connected._client._http_client  # noqa: SLF001

        class Managing:
            endpoint = "x"

            def client(self, _: Any, /) -> Any:
                return Managed("http://plugin.test", http_client=http_client)

        assert await names.new_client(Managing()).close("j", "h") == "close j h"


def test_no_name_of_a_service_can_be_one_of_ours() -> None:
    ours = [name for name in dir(type(names.new_client(_Nowhere()))) if name not in dir(object)]
    theirs = set(read_schema(NameService).rpcs)
    assert {name for name in ours if not name.startswith("_")} == theirs
    assert not any(name.startswith("_") for name in theirs)
    assert call_options({}) is not None


class _Nowhere:
    endpoint = "nowhere"

    def client(self, _: Any, /) -> Any:
        return None


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("none_", "none"),
        ("importing", "import_"),
        ("getHTTPUrl", "get_http_url"),
        ("get_httpurl", "get_http_url"),
        ("desc", "desc_"),
        ("execute_unary", "execute_unary_"),
        ("Try", "try_"),
    ],
)
def test_a_method_that_breaks_the_rule_is_told_the_name_expected(written: str, meant: str) -> None:
    wrong = interface(f"async def {written}(self) -> None: ...")
    with pytest.raises(PluginDefinitionError) as caught:
        ConnectPlugin("names", wrong, service=NameService)
    [difference] = caught.value.differences
    assert repr(meant) in difference.remedy


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("from__", "from_"),
        ("klass", "class_"),
        ("get_http_url", "getHTTPUrl"),
        ("getHttpUrl", "getHTTPUrl"),
        ("to_json", "to_json_"),
    ],
)
def test_a_parameter_that_breaks_the_rule_is_told_the_name_expected(
    written: str, meant: str
) -> None:
    wrong = interface(f"async def import_(self, {written}: str) -> None: ...")
    with pytest.raises(PluginDefinitionError) as caught:
        ConnectPlugin("names", wrong, service=NameService)
    [difference] = caught.value.differences
    assert repr(meant) in difference.remedy


@pytest.mark.parametrize(
    ("rpc", "name"),
    [
        ("Get", "get"),
        ("GetHTTPUrl", "get_http_url"),
        ("GetURL", "get_url"),
        ("HTTPGet", "http_get"),
        ("getThing", "get_thing"),
        ("Get_Thing", "get_thing"),
        ("GetV2Thing", "get_v2_thing"),
        ("Get2", "get2"),
        ("Import", "import_"),
        ("import_", "import__"),
        ("None", "none"),
        ("Async", "async_"),
        ("Match", "match"),
        ("Desc", "desc_"),
        ("_Hidden", "pb__hidden"),
        ("PbThing", "pb_pb_thing"),
    ],
)
def test_the_rule_for_methods(rpc: str, name: str) -> None:
    assert method_name(rpc) == name


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True))
def test_the_rule_is_that_of_the_generated_code(rpc: str) -> None:
    generator: Any = pytest.importorskip("protoc_gen_connectrpc")

    class Method:
        name = rpc

    assert method_name(rpc) == generator._method_local_name(Method)  # noqa: SLF001


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True))
def test_a_name_can_always_be_written(rpc: str) -> None:
    name = method_name(rpc)
    assert name.isidentifier()
    assert not keyword.iskeyword(name)
    assert not name.startswith("_")


def test_the_nearest_names_are_few_and_best_first() -> None:
    assert nearest("gte", ["put", "get", "gets", "gate", "get_e"])[0] == "gate"
    assert len(nearest("get", [f"get{n}" for n in range(9)])) == 3
    assert nearest("xyz", ["put", "get"]) == []
