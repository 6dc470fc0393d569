"""After a server's word that it stops, nothing more is sent over its old connections."""

import asyncio

from pyqwest import Headers, HTTPVersion, Request, Response

from connectplugin_interceptors.renewal import RenewedTransport

GET = Request("GET", "http://a/", Headers(), None)


class Line:
    """A transport that answers what it is told, and notes when it is closed."""

    def __init__(self, nack: str | None = None) -> None:
        self.nack = nack
        self.sent = 0
        self.closed = False

    async def execute(self, request: Request) -> Response:
        del request
        self.sent += 1
        nack = self.nack
        await asyncio.sleep(0)
        headers = Headers([] if nack is None else [("x-connectplugin-nack", nack)])
        return Response(
            status=200 if nack is None else 503, http_version=HTTPVersion.HTTP1, headers=headers
        )

    async def aclose(self) -> None:
        self.closed = True


class Lines:
    """All lines that were made."""

    def __init__(self, *nacks: str | None) -> None:
        self._nacks = list(nacks)
        self.made: list[Line] = []
        self.transport = RenewedTransport(self._make)

    def _make(self) -> Line:
        self.made.append(Line(self._nacks.pop(0) if self._nacks else None))
        return self.made[-1]

    async def send(self, times: int = 1) -> None:
        for _ in range(times):
            await self.transport.execute(GET)

    @property
    def sent(self) -> list[int]:
        return [line.sent for line in self.made]


async def test_a_server_that_serves_keeps_its_connections() -> None:
    lines = Lines()
    await lines.send(5)
    lines.made[0].nack = "overloaded"
    await lines.send(5)
    assert lines.sent == [10]


async def test_a_server_that_drains_is_left_at_once() -> None:
    lines = Lines("draining")
    await lines.send(3)
    assert lines.sent == [1, 2]
    await asyncio.sleep(0)
    assert [line.closed for line in lines.made] == [True, False]
    await lines.transport.aclose()
    assert lines.made[1].closed


async def test_while_the_old_server_is_still_met_nothing_is_made_for_nothing() -> None:
    lines = Lines("draining", "draining")
    await lines.send(10)
    assert lines.sent == [1, 9]


async def test_the_next_drain_is_seen_too() -> None:
    lines = Lines("draining", None)
    await lines.send(3)
    lines.made[1].nack = "draining"
    await lines.send(2)
    assert lines.sent == [1, 3, 1]


async def test_late_answers_of_the_old_connections_change_nothing() -> None:
    lines = Lines("draining")
    await asyncio.gather(*(lines.send() for _ in range(8)))
    assert lines.sent == [8, 0]
