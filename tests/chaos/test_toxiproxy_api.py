"""The client, against answers that a server could give; the real one is in test_doctor.py."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from connectplugin_chaos.toxiproxy.api import Toxiproxy, ToxiproxyError, ToxiproxyHungError


class Answers(httpx.AsyncBaseTransport):
    """Keeps the requests, and answers as told."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[tuple[str, str, Any]] = []
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        self.requests.append((request.method, request.url.path, body))
        return self._answer(request)


class Silent(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError


def obeying(request: httpx.Request) -> httpx.Response:
    """As toxiproxy does when all is well."""
    body: dict[str, Any] = json.loads(request.content) if request.content else {}
    if request.method == "DELETE":
        return httpx.Response(204)
    return httpx.Response(200, json={**body, "listen": "127.0.0.1:4711"})


def api(transport: httpx.AsyncBaseTransport, limit: float = 2.0) -> Toxiproxy:
    return Toxiproxy("http://127.0.0.1:1", limit=limit, transport=transport)


async def test_a_server_that_hangs_is_told_from_one_that_refuses() -> None:
    async with api(Silent(), limit=0.02) as client:
        with pytest.raises(ToxiproxyHungError, match=r"GET /proxies within 0\.02 s"):
            await client.proxies()
    no = Answers(lambda _: httpx.Response(409, json={"error": "proxy already exists"}))
    async with api(no) as client:
        with pytest.raises(ToxiproxyError, match=r"409: .*already exists") as caught:
            await client.create("p1", "127.0.0.1:2")
    assert not isinstance(caught.value, ToxiproxyHungError)


async def test_a_dropped_attribute_is_an_error() -> None:
    def dropping(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if "attributes" in body:
            body["attributes"] = {"latency": 0}
        return httpx.Response(200, json={**body, "listen": "127.0.0.1:4711"})

    async with api(Answers(dropping)) as client:
        with pytest.raises(ToxiproxyError, match="ignored an attribute"):
            await client.create("p1", "127.0.0.1:2")


async def test_no_json_is_an_error() -> None:
    async with api(Answers(lambda _: httpx.Response(200, text="<html>"))) as client:
        with pytest.raises(ToxiproxyError, match="no JSON"):
            await client.version()


async def test_toxics_come_off_in_the_reverse_order() -> None:
    answers = Answers(obeying)
    async with api(answers) as client:
        proxy = await client.create("p1", "127.0.0.1:2")
        assert proxy.url == "http://127.0.0.1:4711"
        answers.requests.clear()
        async with proxy.blackhole("upstream", "downstream", drop_fin=True):
            added = [body["name"] for _, _, body in answers.requests]
            answers.requests.clear()
        removed = [path.rpartition("/")[2] for _, path, _ in answers.requests]
    assert len(added) == 4
    assert removed == added[::-1]


async def test_freezing_changes_standing_toxics_and_adds_none() -> None:
    answers = Answers(obeying)
    async with api(answers) as client:
        proxy = await client.create("p1", "127.0.0.1:2")
        assert [body["name"] for _, path, body in answers.requests if path.endswith("toxics")] == [
            "freeze_upstream",
            "freeze_downstream",
        ]
        answers.requests.clear()
        async with proxy.frozen("upstream"):
            pass
    assert [(method, body["attributes"]["latency"]) for method, _, body in answers.requests] == [
        ("PATCH", 3_600_000),
        ("PATCH", 0),
    ]
