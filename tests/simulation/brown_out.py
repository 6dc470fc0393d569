"""A server with room to spare becomes twenty times slower for five seconds (S2)."""

from collections.abc import Sequence

from connectplugin.transport.in_process import InProcessTransport
from connectplugin_interceptors import BulkheadPolicy, ClientStack, DeadlinePolicy, ServerStack
from connectplugin_interceptors.clock import SystemClock
from kv.v1.kv_connect import KVService, KVServiceASGIApplication
from kv.v1.kv_pb import GetRequest, GetResponse
from tests.contract.peer import Ctx
from tests.simulation.fast_time import simulate
from tests.simulation.seeds import chance
from tests.simulation.server import QueueServer, ServiceTime
from tests.simulation.world import History, Host, World

SINCE, UNTIL = 10.0, 15.0
"""When the server is slow."""

RATE = 85.0
"""Calls per second; the server can do a hundred."""

DEADLINE = DeadlinePolicy(total=10.0, attempt=1.0)


def service(seed: int) -> ServiceTime:
    """By chance, 10 ms in the mean; 200 ms while the server is slow."""
    times = chance(seed, "service")

    def seconds(now: float) -> float:
        return times.expovariate(5.0 if SINCE <= now < UNTIL else 100.0)

    return seconds


def brown_out(
    stack: ClientStack, seed: int, *, seconds: float, drops_expired: bool, clients: int = 1
) -> History:
    """What `clients` see in the first `seconds`."""
    server = QueueServer(service(seed), drops_expired=drops_expired)
    return _run(server, stack, seed, seconds=seconds, clients=clients)


def brown_out_of_a_real_server(stack: ClientStack, seed: int, *, seconds: float) -> History:
    """The same with a real server chain, one slot, and an endless queue before it."""
    server = ServerStack(
        rate_limit=None,
        adaptive_limit=None,
        bulkhead=BulkheadPolicy(max_in_flight=1, max_queue=1_000_000, max_wait=1_000.0),
    )
    app = KVServiceASGIApplication(_Slow(service(seed)), interceptors=server.interceptors())
    return _run(InProcessTransport(app), stack, seed, seconds=seconds)


def _run(host: Host, stack: ClientStack, seed: int, *, seconds: float, clients: int = 1) -> History:
    world = World({"server": host}, stack, seed, clients)
    return simulate(lambda: world.run(rate=RATE, seconds=seconds))


class _Slow(KVService):
    def __init__(self, seconds: ServiceTime) -> None:
        self._seconds = seconds
        self._clock = SystemClock()

    async def get(self, request: GetRequest, ctx: Ctx) -> GetResponse:
        del request, ctx
        await self._clock.sleep(self._seconds(self._clock.now()))
        return GetResponse(value=b"1")


def per_second(history: History, moments: Sequence[float]) -> list[int]:
    """Answers in the second that begins then; for messages."""
    return [history.goodput(at, at + 1.0) for at in moments]
