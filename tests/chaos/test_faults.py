"""What the faults of a server do to calls of each shape, and what executed is taken down."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import Client, ClientConfig, ClientStack, ServeConfig, Server
from connectplugin_chaos._gen.chaos_target.v1 import target_pb as pb
from connectplugin_chaos._gen.chaos_target.v1.target_connect import TargetServiceClient
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.fleet import ServerKind, Target
from connectplugin_chaos.engine.malformed import Malformed
from connectplugin_chaos.engine.plugins import target_plugin
from connectplugin_chaos.engine.pushback import PushBack
from connectplugin_chaos.engine.receipts import Receipts
from connectplugin_chaos.engine.server_verbs import SERVER_VERBS
from connectplugin_chaos.engine.syn_blackhole import syn_blackhole
from connectplugin_chaos.engine.target import server_stack
from connectplugin_chaos.engine.target_service import LedgerFile, TargetImpl, Witness
from connectplugin_chaos.scenario.model import Seconds, Topology
from connectplugin_interceptors.retry.config import RetryPolicy

Call = Callable[[TargetServiceClient], Awaitable[object]]


class Plugin:
    """The harness's server in this process, and what it has taken down."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.ledger = LedgerFile(self.path)
        self.struck: list[str] = []
        self.faults = AppFaults(self.struck.append)

    def server(self) -> Server:
        receipts = Receipts(self.path.parent / "receipts")
        impl = TargetImpl("s1", self.ledger, self.faults, receipts, workers=4, service_time=0.001)
        stack = server_stack(
            "ours", Witness(self.ledger), PushBack(self.faults), workers=4, queue=None
        )
        plugins = [target_plugin.bind_service(impl)]
        return Server(
            ServeConfig(plugins=plugins, addr="127.0.0.1:0", stack=stack),
            middleware=lambda app: Malformed(app, self.faults),
        )

    @property
    def executed(self) -> int:
        return self.path.read_text().count('"begin"') if self.path.exists() else 0


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path)


async def append(client: TargetServiceClient) -> object:
    return await client.append(pb.AppendRequest(op=1, key="k"))


async def watch(client: TargetServiceClient) -> object:
    request = pb.WatchRequest(op=1, count=3, interval_seconds=0.0)
    return [message.number async for message in client.watch(request)]


async def load(client: TargetServiceClient) -> object:
    async def messages() -> AsyncIterator[pb.LoadRequest]:
        for number in range(3):
            yield pb.LoadRequest(op=1, number=number)

    return (await client.load(messages())).count


async def sync(client: TargetServiceClient) -> object:
    async def messages() -> AsyncIterator[pb.SyncRequest]:
        for number in range(3):
            yield pb.SyncRequest(op=1, number=number)

    return [message.number async for message in client.sync(messages())]


STREAMS = (watch, load, sync)


@pytest.mark.parametrize(
    ("fault", "shapes", "code", "executed"),
    [
        ({"fault": "html_503"}, (append, *STREAMS), Code.UNAVAILABLE, 0),
        (
            {"fault": "html_503", "after_execution": True},
            (append, *STREAMS),
            Code.UNAVAILABLE,
            1,
        ),
        ({"fault": "bad_content_type"}, (append, *STREAMS), Code.UNKNOWN, 1),
        ({"fault": "missing_end_stream"}, STREAMS, Code.INTERNAL, 1),
        ({"fault": "cut_json"}, (append, *STREAMS), Code.UNAVAILABLE, 1),
        ({"fault": "garbage"}, (append, *STREAMS), Code.INVALID_ARGUMENT, 1),
        ({"fault": "pushback", "delay": 0.25}, (append, *STREAMS), Code.UNAVAILABLE, 0),
        (
            {"fault": "pushback", "delay": None, "code": "resource_exhausted"},
            (append, *STREAMS),
            Code.RESOURCE_EXHAUSTED,
            0,
        ),
        ({"fault": "app_error", "code": "aborted"}, (append, *STREAMS), Code.ABORTED, 0),
    ],
    ids=[
        "html 503",
        "html 503 after execution",
        "bad content type",
        "missing end of stream",
        "cut JSON",
        "garbage",
        "push-back",
        "push-back that forbids",
        "error",
    ],
)
async def test_each_fault_gives_its_code_and_executes_what_it_says(
    fault: dict[str, object], shapes: tuple[Call, ...], code: Code, executed: int, plugin: Plugin
) -> None:
    async with plugin.server() as server:
        client = ClientStack.bare().client(TargetServiceClient, server.url)
        async with client:
            for call in shapes:
                whole = await call(client)
                before = plugin.executed
                plugin.struck.clear()
                plugin.faults.set("x", fault)
                with pytest.raises(ConnectError) as raised:
                    await call(client)
                plugin.faults.clear("x")
                assert raised.value.code is code, call
                assert plugin.struck == [fault["fault"]]
                assert plugin.executed - before == executed, call
                # The connection is as good as before.
                assert await call(client) == whole


async def test_no_fault_strikes_a_method_that_it_does_not_name(plugin: Plugin) -> None:
    async with plugin.server() as server:
        client = ClientStack.bare().client(TargetServiceClient, server.url)
        async with client:
            plugin.faults.set("x", {"fault": "html_503", "methods": ["watch"]})
            plugin.faults.set("y", {"fault": "missing_end_stream", "methods": ["append"]})
            await append(client)
            with pytest.raises(ConnectError, match="Unavailable"):
                await watch(client)
    assert plugin.struck == ["html_503"]


def test_the_same_seed_strikes_the_same_calls() -> None:
    def strikes(seed: int) -> list[bool]:
        faults = AppFaults(lambda _: None)
        faults.set("x", {"fault": "html_503", "p": 0.3, "seed": seed})
        return [faults.draw(("html_503",), "Read") is not None for _ in range(200)]

    assert strikes(1) == strikes(1) != strikes(2)
    assert 30 < sum(strikes(1)) < 90


async def test_a_retry_waits_as_long_as_it_was_told(plugin: Plugin) -> None:
    """Not a copy of the retry's own tests: that the fault is one which clients understand."""
    waits: list[float] = []
    stack = ClientStack.bare(retry_policy=RetryPolicy(max_attempts=2, initial_backoff=0.001))

    def listen(event: object) -> None:
        if (delay := getattr(event, "delay", None)) is not None:
            waits.append(delay)
            plugin.faults.clear("x")

    async with plugin.server() as server:
        client = stack.client(TargetServiceClient, server.url, listeners=[listen])
        async with client:
            plugin.faults.set("x", {"fault": "pushback", "delay": 0.03})
            await client.read(pb.ReadRequest(op=1, key="k"))
            plugin.faults.set("x", {"fault": "pushback", "delay": None})
            with pytest.raises(ConnectError, match="do not come back"):
                await client.read(pb.ReadRequest(op=2, key="k"))
    assert waits == [pytest.approx(0.03, abs=0.005)]


async def test_a_handshake_that_hangs_holds_the_client_up(plugin: Plugin) -> None:
    async with plugin.server() as server:
        plugin.faults.set("x", {"fault": "slow_handshake", "delay": 60.0})
        config = ClientConfig(endpoint=server.url, plugins=[target_plugin])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), Client(config):
                pass
        assert set(plugin.struck) == {"slow_handshake"}
        plugin.faults.clear("x")
        async with Client(config) as client:
            assert await client.dispense(target_plugin).read(1, "k") == "k"


async def test_a_full_queue_neither_takes_nor_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    stack = ClientStack.bare()
    async with syn_blackhole(address):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.open_connection(*address.split(":"))
    async with stack.client(TargetServiceClient, f"http://{address}") as client:
        with pytest.raises(ConnectError) as raised:
            await append(client)
    assert isinstance(raised.value.__cause__, ConnectionError)


@pytest.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    target = Target("s1", tmp_path, Topology(service_time=Seconds(0.001)), ServerKind())
    await target.start()
    yield target
    await target.kill()


async def call_once(target: Target) -> object:
    async with ClientStack.bare().client(TargetServiceClient, f"http://{target.address}") as client:
        return await append(client)


async def test_faults_of_the_application_outlive_a_restart(target: Target) -> None:
    async with SERVER_VERBS["html_503"].make(target):
        with pytest.raises(ConnectError, match="Unavailable"):
            await call_once(target)
        async with SERVER_VERBS["kill"].make(target):
            assert target.pid == 0
        with pytest.raises(ConnectError, match="Unavailable"):
            await call_once(target)
    await call_once(target)
    assert {n.detail for n in target.read_ledger(0.0)[1] if n.kind == "struck"} == {"html_503"}


async def test_term_drains_and_comes_back_at_the_heal(target: Target) -> None:
    before = target.address
    async with SERVER_VERBS["term"].make(target):
        with pytest.raises(ConnectError):
            await call_once(target)
    assert target.address == before
    await call_once(target)
    assert not target.tracebacks()


async def test_without_files_a_server_takes_no_connection_and_lives(target: Target) -> None:
    async with SERVER_VERBS["exhaust_fds"].make(target):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await call_once(target)
        assert target.alive
    # asyncio listens again after a second.
    async with asyncio.timeout(5.0):
        await call_once(target)
    assert not target.tracebacks()
    assert any(n.kind == "no_files" for n in target.read_ledger(0.0)[1])


async def test_a_hog_computes_beside_the_event_loop(target: Target) -> None:
    async def processor_time() -> float:
        with open(f"/proc/{target.pid}/stat") as file:  # noqa: ASYNC230, PTH123  # no real file
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = await processor_time()
    async with SERVER_VERBS["hog_cpu"].make(target, threads=2):
        # However slow this machine is: the hogs use up what they get.
        async with asyncio.timeout(20.0):
            while await processor_time() < before + 0.3:
                await call_once(target)
