"""i2y/connecpy#146: a service with a method called like a reserved word gave code that fails.

Methods Import, Try, None, Close and fields from, class, async, self, timeout, getHTTPUrl: declared,
dispensed and called, in process and over a URL, through the whole chain.
"""

from collections.abc import AsyncGenerator

import pytest

from connectplugin import Client, ClientConfig, ServeConfig, Server, create_app, with_options
from connectplugin_interceptors import ClientStack
from tests.gen.pynames.v1.pynames_connect import NameServiceClient
from tests.gen.pynames.v1.pynames_pb import Request, Response
from tests.unit.binding.test_names import Names, Told, names


@pytest.fixture(params=["in process", "URL"])
async def plugin(request: pytest.FixtureRequest) -> AsyncGenerator[Names]:
    config = ServeConfig(plugins=[names.bind(Told())], addr="127.0.0.1:0")
    if request.param == "in process":
        async with Client(ClientConfig(endpoint=create_app(config), plugins=[names])) as client:
            yield client.dispense(names)
        return
    async with (
        Server(config) as server,
        Client(ClientConfig(endpoint=server.url, plugins=[names])) as client,
    ):
        yield client.dispense(names)


async def test_all_of_them_are_called(plugin: Names) -> None:
    assert await plugin.import_("f", async_="x") == "import f c x"
    assert await plugin.try_(self_="s", timeout="t", getHTTPUrl="u") == "try s t u"
    assert (await plugin.none("s", client="c")).text == "none s c"
    assert await plugin.close("j", pb__hidden="h") == "close j h"
    assert (await plugin.get_http_url(Request(getHTTPUrl="u"))).from_ == "u"
    assert await plugin.with_options("f") == "with_options f"
    assert [text async for text in plugin.yield_("y")] == ["y"]


async def test_options_do_not_take_a_name_away(plugin: Names) -> None:
    quick = with_options(plugin, timeout=5.0)
    assert await quick.close("j", pb__hidden="h") == "close j h"
    assert await quick.with_options("f") == "with_options f"


async def test_a_generated_client_can_be_closed_and_its_rpc_close_be_called() -> None:
    config = ServeConfig(plugins=[names.bind(Told())], addr="127.0.0.1:0")
    async with Server(config) as server:
        client = ClientStack().client(NameServiceClient, server.url)
        request = Request(to_json_="j", pb__hidden="h")
        assert await client.close(request) == Response(from_="close j h")
        await client.close()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # the client's own
