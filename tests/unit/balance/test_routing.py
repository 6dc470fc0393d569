"""Routing below the client: only the attempt decides where a request goes."""

import asyncio

import pytest
from pyqwest import Headers, Request, Response

from connectplugin_interceptors import EndpointPool, RoutingTransport, TapTransport
from connectplugin_interceptors.balance.endpoint import Endpoint
from connectplugin_interceptors.call import Attempt, AttemptKind
from connectplugin_interceptors.routing import BALANCED_URL
from connectplugin_interceptors.transport import current_attempt

PATH = "/kv.v1.KVService/Get"


class Wire:
    """Takes down where requests go, and whether it was closed."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.closed = False

    async def execute(self, request: Request) -> Response:
        self._log.append(request.url)
        return Response(status=200, headers=Headers(), content=b"")

    async def aclose(self) -> None:
        self.closed = True


class Setting:
    def __init__(self, *urls: str, owned: bool = True) -> None:
        self.pool = EndpointPool(urls)
        self.log: list[str] = []
        self.wires: dict[str, Wire] = {}
        self.routing = RoutingTransport(self.pool, self._make, owned=owned)

    def _make(self, endpoint: Endpoint) -> Wire:
        assert endpoint.key not in self.wires
        self.wires[endpoint.key] = Wire(self.log)
        return self.wires[endpoint.key]

    def attempt(self, number: int) -> Attempt:
        attempt = Attempt(1, AttemptKind.INITIAL)
        attempt.endpoint = self.pool.endpoints[number]
        return attempt

    async def send(self, url: str = BALANCED_URL + PATH, attempt: Attempt | None = None) -> None:
        token = current_attempt.set(attempt)
        try:
            await self.routing.execute(Request("POST", url, Headers(), b"body"))
        finally:
            current_attempt.reset(token)


async def test_a_request_goes_where_its_attempt_goes() -> None:
    setting = Setting("http://a", "http://b/plugins/two/")
    for number in (1, 0, 1):
        await setting.send(attempt=setting.attempt(number))
    await setting.send(f"{BALANCED_URL}{PATH}?message=x&base64=1", setting.attempt(1))
    assert setting.log == [
        f"http://b/plugins/two{PATH}",
        f"http://a{PATH}",
        f"http://b/plugins/two{PATH}",
        f"http://b/plugins/two{PATH}?message=x&base64=1",
    ]


async def test_a_request_of_no_attempt_goes_to_the_first_that_is_there() -> None:
    setting = Setting("http://a", "http://b")
    await setting.send()
    await setting.send("http://elsewhere/x?y=1")
    assert setting.log == [f"http://a{PATH}", "http://a/x?y=1"]
    assert [endpoint.pending for endpoint in setting.pool.endpoints] == [0, 0]


async def test_a_second_request_under_an_attempt_is_somebody_elses() -> None:
    setting = Setting("http://a", "http://b")
    tap = TapTransport(setting.routing)
    attempt = setting.attempt(1)
    token = current_attempt.set(attempt)
    try:
        for _ in range(2):
            await tap.execute(Request("POST", BALANCED_URL + PATH, Headers(), b""))
        assert current_attempt.get() is attempt
    finally:
        current_attempt.reset(token)
    assert setting.log == [f"http://b{PATH}", f"http://a{PATH}"]


async def test_without_endpoints_nothing_is_sent() -> None:
    with pytest.raises(ConnectionError, match="no endpoints"):
        await Setting().send()


@pytest.mark.parametrize("owned", [True, False])
async def test_a_transport_is_closed_when_its_endpoint_is_gone(owned: bool) -> None:
    setting = Setting("http://a", "http://b", owned=owned)
    for number in (0, 1):
        await setting.send(attempt=setting.attempt(number))
    setting.pool.update(["http://b"])
    await asyncio.sleep(0)
    assert setting.wires["http://a"].closed is owned
    assert not setting.wires["http://b"].closed
    await setting.routing.aclose()
    assert setting.wires["http://b"].closed is owned


def test_a_set_may_change_while_no_loop_runs() -> None:
    setting = Setting("http://a")
    asyncio.run(setting.send(attempt=setting.attempt(0)))
    setting.pool.update([])
    assert not setting.wires["http://a"].closed
    asyncio.run(setting.routing.aclose())
    assert setting.wires["http://a"].closed


async def test_a_closed_transport_hears_no_more_of_the_pool() -> None:
    setting = Setting("http://a")
    await setting.send(attempt=setting.attempt(0))
    await setting.routing.aclose()
    setting.pool.update([])
    assert "transports=0" in repr(setting.routing)
