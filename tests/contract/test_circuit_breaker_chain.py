"""The breaker in the real chain, over four shapes: what others got wrong must not come back.

The rows of `resilience.md` part 4 that are about breakers; each test names what others did. All
of it holds as well while an `aiobreaker.CircuitBreaker` follows as a mirror.
"""

import asyncio
import gc
import importlib
import time
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin.testing import RecordingListener, VirtualTime
from connectplugin_interceptors import (
    CircuitBreakerPolicy,
    CircuitOpenError,
    ClientStack,
    ConfigError,
    DeadlineExceededError,
    DeadlinePolicy,
    Delivery,
    EndpointPool,
    RetryPolicy,
    delivery,
    with_options,
)
from connectplugin_interceptors.circuit_breaker.aiobreaker import AiobreakerMirror
from connectplugin_interceptors.circuit_breaker.breakers import CircuitStatus
from connectplugin_interceptors.circuit_breaker.interceptor import breakers_of
from connectplugin_interceptors.circuit_breaker.machine import CircuitState
from connectplugin_interceptors.events import CircuitChanged, Event, Rejected
from connectplugin_interceptors.shapes import closing
from kv.v1.kv_connect import KVServiceClient
from tests.contract.peer import Peer, Step, answers, breaks, fails, hangs, pending, refused
from tests.contract.shape import SHAPES, Shape

aiobreaker: Any = importlib.import_module("aiobreaker")

pytestmark = pytest.mark.usefixtures("virtual_time")

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name.lower())
streams = pytest.mark.parametrize(
    "shape", [Shape.SERVER_STREAM, Shape.BIDI_STREAM], ids=["server_stream", "bidi_stream"]
)

STACK = ClientStack(retry_policy=None)
ENDPOINT = "http://peer"
DOWN = fails(Code.UNAVAILABLE)
MISSING = fails(Code.NOT_FOUND)


class Experiment:
    """A client of a peer, its one circuit, its events, and perhaps a mirror."""

    def __init__(self, mirrored: Any) -> None:
        self.listener = RecordingListener()
        self.mirrored = mirrored
        self.client: KVServiceClient
        self.peer: Peer

    @asynccontextmanager
    async def of(
        self, peer: Peer, stack: ClientStack = STACK, *listeners: Any
    ) -> AsyncGenerator["Experiment"]:
        told: list[Any] = [*listeners, self.listener]
        if self.mirrored is not None:
            told.append(AiobreakerMirror(self.mirrored))
        self.peer = peer
        async with peer.client(stack, listeners=told) as client:
            self.client = client
            yield self
        if self.mirrored is not None and self.changes:
            assert self.mirrored.current_state.name.lower() == self.changes[-1].after

    @property
    def changes(self) -> list[CircuitChanged]:
        return self.listener.of(CircuitChanged)

    @property
    def circuit(self) -> CircuitStatus:
        (status,) = breakers_of(self.client).status()
        return status

    def state(self) -> CircuitState:
        return self.circuit.state

    async def failing(self, shape: Shape, times: int, code: Code = Code.UNAVAILABLE) -> None:
        for _ in range(times):
            with pytest.raises(ConnectError) as raised:
                await shape.run(self.client)
            assert raised.value.code is code
            assert not isinstance(raised.value, CircuitOpenError)

    async def opened(self, shape: Shape = Shape.UNARY) -> float:
        """Open the circuit; the seconds until a probe may pass."""
        script, self.peer.script = self.peer.script, [DOWN]
        await self.failing(shape, 5)
        self.peer.script = script
        assert self.state() is CircuitState.OPEN
        return self.circuit.retry_after

    async def refused(self, shape: Shape) -> CircuitOpenError:
        before = len(self.peer.sent)
        with pytest.raises(CircuitOpenError) as raised:
            await shape.run(self.client)
        assert len(self.peer.sent) == before
        return raised.value


@pytest.fixture(params=["alone", "with aiobreaker as mirror"])
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return Experiment(aiobreaker.CircuitBreaker() if "mirror" in request.param else None)


async def settled(shape: Shape, client: KVServiceClient) -> BaseException | None:
    try:
        await shape.run(client)
    except ConnectError as error:
        return error
    return None


# --- Opening -------------------------------------------------------------------------------------


@every_shape
async def test_five_failures_in_a_row_open_it_and_the_refusal_says_when_to_come_back(
    shape: Shape, experiment: Experiment
) -> None:
    async with experiment.of(Peer(DOWN)):
        await experiment.failing(shape, 5)
        error = await experiment.refused(shape)
        assert error.code is Code.UNAVAILABLE
        assert error.retry_after is not None
        assert 1.0 <= error.retry_after <= 1.5
        assert error.reason == "open"
        assert delivery(error) is Delivery.NOT_SENT
        assert error.message == (
            f"{shape.path}: the circuit of {ENDPOINT} is open; try again in {error.retry_after:.3f}"
            " s"
        )
        rejected = experiment.listener.of(Rejected)
        assert [(event.policy, event.reason, event.enforced) for event in rejected] == [
            ("circuit_breaker", "open", True)
        ]


@every_shape
async def test_the_call_that_opens_it_raises_its_own_error(
    shape: Shape, experiment: Experiment
) -> None:
    """aiobreaker and asyncbreaker raise an error of their own in its place."""
    async with experiment.of(Peer(DOWN)):
        await experiment.failing(shape, 5)
        assert experiment.state() is CircuitState.OPEN


@pytest.mark.parametrize(
    "step", [DOWN, refused(), breaks(), fails(Code.INTERNAL), fails(Code.UNKNOWN)]
)
async def test_what_the_peer_or_the_way_to_it_does_wrong_counts(
    step: Step, experiment: Experiment
) -> None:
    async with experiment.of(Peer(step)):
        for _ in range(5):
            await settled(Shape.UNARY, experiment.client)
        assert experiment.state() is CircuitState.OPEN


@every_shape
async def test_business_errors_leave_the_run_and_a_half_open_circuit_as_they_are(
    shape: Shape, experiment: Experiment
) -> None:
    """aiobreaker: a business error resets the counter, and closes a half-open circuit."""
    peer = Peer(*[DOWN] * 4, MISSING, fails(Code.RESOURCE_EXHAUSTED), DOWN, MISSING)
    async with experiment.of(peer):
        await experiment.failing(shape, 4)
        await experiment.failing(shape, 1, Code.NOT_FOUND)
        await experiment.failing(shape, 1, Code.RESOURCE_EXHAUSTED)
        assert experiment.circuit.failures_in_a_row == 4
        await experiment.failing(shape, 1)
        assert experiment.state() is CircuitState.OPEN
        await asyncio.sleep(experiment.circuit.retry_after)
        await experiment.failing(shape, 1, Code.NOT_FOUND)
        assert experiment.state() is CircuitState.HALF_OPEN
        assert experiment.circuit.probes == 0


async def test_half_of_the_calls_failing_opens_it(experiment: Experiment) -> None:
    """Eight of ten breakers let all 200 pass: they count runs only, and there is no run."""
    async with experiment.of(Peer(*[answers(), DOWN] * 100)):
        for _ in range(200):
            await settled(Shape.UNARY, experiment.client)
        assert len(experiment.peer.sent) == 20
        assert experiment.changes[0].reason == "failure_rate"


async def test_three_failures_in_three_thousand_calls_do_not_open_it() -> None:
    """resilience-h8 and redress open: they never forget."""
    machine_only = Experiment(None)
    script = [DOWN if number % 1000 == 500 else answers() for number in range(3000)]
    async with machine_only.of(Peer(*script)):
        for _ in range(3000):
            await settled(Shape.UNARY, machine_only.client)
        assert machine_only.state() is CircuitState.CLOSED
        assert len(machine_only.peer.sent) == 3000


@every_shape
async def test_a_hung_peer_opens_it_by_the_calls_own_deadline(
    shape: Shape, experiment: Experiment
) -> None:
    """Nine of ten never open: 20 of 20 calls hang."""
    stack = ClientStack(
        retry_policy=None, deadline=DeadlinePolicy(total=1.0, attempt=1.0, stream_total=1.0)
    )
    async with experiment.of(Peer(hangs()), stack):
        for _ in range(5):
            with pytest.raises(DeadlineExceededError):
                await shape.run(experiment.client)
        await experiment.refused(shape)


@every_shape
async def test_a_callers_cancellation_teaches_nothing(shape: Shape, experiment: Experiment) -> None:
    """purgatory opens after five; circuitbreaker takes one for a success."""
    async with experiment.of(Peer(DOWN, DOWN, hangs())):
        await experiment.failing(shape, 2)
        before = experiment.circuit
        for _ in range(5):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await shape.run(experiment.client)
        assert experiment.circuit == before
        assert before.failures_in_a_row == 2


async def test_time_that_ran_out_on_this_side_is_not_the_peers_failure(
    experiment: Experiment,
) -> None:
    """A hung source of tokens must not open the circuit of every endpoint."""

    class HungTokens:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            await asyncio.sleep(3.0)
            return await call_next(request, ctx)

        intercept_client_stream = intercept_unary

        async def intercept_server_stream(
            self, call_next: Any, request: Any, ctx: Any
        ) -> AsyncIterator[Any]:
            async for response in call_next(request, ctx):
                yield response

        intercept_bidi_stream = intercept_server_stream

    stack = ClientStack(
        retry_policy=None, deadline=DeadlinePolicy(total=2.0, attempt=2.0), attempt=[HungTokens()]
    )
    async with experiment.of(Peer(answers()), stack):
        for _ in range(6):
            with pytest.raises(DeadlineExceededError):
                await Shape.UNARY.run(experiment.client)
        assert experiment.circuit.calls == 0


# --- Streams -------------------------------------------------------------------------------------


@streams
async def test_streams_that_fail_midway_count(shape: Shape, experiment: Experiment) -> None:
    """aiobreaker stays closed and counts none of ten: generators are not covered."""
    async with experiment.of(Peer(fails(Code.UNAVAILABLE, after=2))):
        for _ in range(10):
            await settled(shape, experiment.client)
        assert experiment.state() is CircuitState.OPEN
        assert len(experiment.peer.sent) == 5


@streams
async def test_leaving_a_stream_early_is_neutral_and_frees_a_probes_place(
    shape: Shape, experiment: Experiment
) -> None:
    """circuitbreaker takes the exit for a success."""
    async with experiment.of(Peer(hangs(after=1))):
        for _ in range(5):
            async with closing(shape.responses(experiment.client)) as responses:
                await anext(responses)
        assert experiment.circuit.calls == 0
        wait = await experiment.opened()
        await asyncio.sleep(wait)
        experiment.peer.script = [hangs()]
        waiting = asyncio.ensure_future(shape.run(experiment.client))
        await asyncio.sleep(0.1)
        assert experiment.circuit.probes == 1
        waiting.cancel()
        await asyncio.wait([waiting])
        assert experiment.state() is CircuitState.HALF_OPEN
        assert experiment.circuit.probes == 0


@streams
async def test_a_watch_that_probes_closes_the_circuit_with_its_first_message(
    shape: Shape, experiment: Experiment
) -> None:
    async with experiment.of(Peer(hangs(after=1))):
        await asyncio.sleep(await experiment.opened())
        async with closing(shape.responses(experiment.client)) as responses:
            await anext(responses)
            assert experiment.state() is CircuitState.CLOSED
        assert experiment.circuit.calls == 0


# --- Half open -----------------------------------------------------------------------------------


@every_shape
async def test_of_a_hundred_concurrent_calls_one_probes_and_the_rest_is_refused_at_once(
    shape: Shape, experiment: Experiment, virtual_time: VirtualTime
) -> None:
    """Seven breakers let 100 of 100 through; fluxgate lets them wait and then through."""
    async with experiment.of(Peer(answers(every=0.5))):
        await asyncio.sleep(await experiment.opened())
        before, start = len(experiment.peer.sent), virtual_time.now()
        refused_at: list[float] = []

        async def one() -> BaseException | None:
            error = await settled(shape, experiment.client)
            if isinstance(error, CircuitOpenError):
                refused_at.append(virtual_time.now())
                assert error.retry_after is not None
                assert error.retry_after > 0
            return error

        results = await asyncio.gather(*(one() for _ in range(100)))
        assert results.count(None) == 1
        assert refused_at == [start] * 99
        assert len(experiment.peer.sent) - before == 1
        assert experiment.state() is CircuitState.CLOSED


@every_shape
async def test_a_cancelled_probe_gives_its_place_back_and_decides_nothing(
    shape: Shape, experiment: Experiment
) -> None:
    """purgatory reopens, circuitbreaker closes; five others then let 50 of 50 through."""
    async with experiment.of(Peer(hangs())):
        await asyncio.sleep(await experiment.opened())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await shape.run(experiment.client)
        assert experiment.state() is CircuitState.HALF_OPEN
        before = len(experiment.peer.sent)
        experiment.peer.script = [answers()]
        results = await asyncio.gather(*(settled(shape, experiment.client) for _ in range(50)))
        assert len(experiment.peer.sent) - before == 1
        assert results.count(None) == 1


async def test_an_abandoned_probe_holds_its_place_for_a_lease(experiment: Experiment) -> None:
    """resilience4j #903, #935: half open for ever."""
    stack = ClientStack(retry_policy=None, deadline=None)
    async with experiment.of(Peer(pending()), stack):
        await asyncio.sleep(await experiment.opened())
        lost = asyncio.ensure_future(Shape.UNARY.run(experiment.client))
        await asyncio.sleep(9.9)
        error = await experiment.refused(Shape.UNARY)
        assert error.reason == "half_open"
        assert error.retry_after == pytest.approx(0.1)
        await asyncio.sleep(error.retry_after or 0.0)
        experiment.peer.script = [answers()]
        await Shape.UNARY.run(experiment.client)
        assert experiment.state() is CircuitState.CLOSED
        lost.cancel()
        await asyncio.wait([lost])


async def open_with_stragglers(
    experiment: Experiment, shape: Shape, straggler: Step, count: int = 1
) -> list[asyncio.Task[BaseException | None]]:
    """Calls that were admitted while it was closed, and end when it is open or half open."""
    experiment.peer.script = [*[straggler] * count, DOWN]
    tasks = [asyncio.ensure_future(settled(shape, experiment.client)) for _ in range(count)]
    await asyncio.sleep(0.01)
    assert len(experiment.peer.sent) == count
    await experiment.opened()
    return tasks


@every_shape
async def test_a_late_success_does_not_close_an_open_circuit(
    shape: Shape, experiment: Experiment
) -> None:
    """circuitbreaker closes."""
    late = answers(every=0.5)
    async with experiment.of(Peer(answers())):
        (task,) = await open_with_stragglers(experiment, shape, late)
        assert await task is None
        assert experiment.state() is CircuitState.OPEN


async def test_a_burst_of_alternating_results_makes_one_transition(
    experiment: Experiment,
) -> None:
    """aiobreaker makes twelve of it."""
    peer = Peer(*[answers(every=0.5), fails(Code.UNAVAILABLE, delay=0.5)] * 6)
    stack = ClientStack(
        retry_policy=None,
        circuit_breaker=CircuitBreakerPolicy(failure_threshold=None, minimum_calls=6),
    )
    async with experiment.of(peer, stack):
        await asyncio.gather(*(settled(Shape.UNARY, experiment.client) for _ in range(12)))
        assert len(peer.sent) == 12
        assert [change.after for change in experiment.changes] == ["open"]


@every_shape
async def test_late_failures_do_not_prolong_an_open_circuit(
    shape: Shape, experiment: Experiment, virtual_time: VirtualTime
) -> None:
    """Six breakers extend their window with each."""
    late = fails(Code.UNAVAILABLE, delay=0.5)
    async with experiment.of(Peer(answers())):
        tasks = await open_with_stragglers(experiment, shape, late, count=5)
        until = virtual_time.now() + experiment.circuit.retry_after
        await asyncio.gather(*tasks)
        assert virtual_time.now() + experiment.circuit.retry_after == pytest.approx(until)
        assert len(experiment.changes) == 1


@every_shape
@pytest.mark.parametrize("late_result", ["success", "failure"])
async def test_a_late_result_in_half_open_is_ignored_and_the_probe_decides(
    shape: Shape, late_result: str, experiment: Experiment
) -> None:
    """A late success closes purgatory and four others; a late failure reopens all but fluxgate."""
    late: Step
    probe: Step
    if late_result == "success":
        late, probe, after = answers(every=2.0), fails(Code.UNAVAILABLE, delay=1.0), "open"
    else:
        late, probe, after = (
            fails(Code.UNAVAILABLE, delay=2.0),
            answers(every=1.0),
            "closed",
        )
    async with experiment.of(Peer(answers())):
        (straggler,) = await open_with_stragglers(experiment, shape, late)
        await asyncio.sleep(experiment.circuit.retry_after)
        experiment.peer.script = [probe]
        probing = asyncio.ensure_future(settled(shape, experiment.client))
        await straggler
        assert experiment.state() is CircuitState.HALF_OPEN
        assert experiment.circuit.probes == 1
        await probing
        assert experiment.changes[-1].after == after
        assert len(experiment.changes) == 3


# --- Time ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_a_step_of_the_wall_clock_changes_nothing(
    step: float, experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """purgatory, aioresilience, fluxgate and aiobreaker stay open for an hour, or end at once."""
    async with experiment.of(Peer(answers())):
        wait = await experiment.opened()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + step)
        assert experiment.circuit.retry_after == wait
        await asyncio.sleep(wait / 2)
        assert (await experiment.refused(Shape.UNARY)).retry_after == pytest.approx(wait / 2)
        await asyncio.sleep(wait / 2)
        await Shape.UNARY.run(experiment.client)
        assert experiment.state() is CircuitState.CLOSED


async def test_the_time_zone_changes_nothing(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiobreaker: a TypeError in Tokyo, and 8:00:59 instead of 60 s in Los Angeles."""
    told = set[float | None]()
    try:
        for zone in ("Asia/Tokyo", "America/Los_Angeles", "UTC"):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            async with experiment.of(Peer(answers())):
                await experiment.opened()
                told.add((await experiment.refused(Shape.UNARY)).retry_after)
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert len({round(seconds or 0.0, 6) for seconds in told}) == 1


# --- Listeners, memory, shared state -------------------------------------------------------------


async def test_each_transition_is_told_once_though_many_fail_together(
    experiment: Experiment,
) -> None:
    """aiobreaker, 20 concurrent failures: from open to open 17 times."""
    async with experiment.of(Peer(fails(Code.UNAVAILABLE, delay=0.1))):
        await asyncio.gather(*(settled(Shape.UNARY, experiment.client) for _ in range(20)))
        assert experiment.changes == [
            CircuitChanged(
                "KVService", "kv.v1.KVService/*", ENDPOINT, "closed", "open", "failure_threshold"
            )
        ]


async def test_a_listener_that_raises_breaks_no_call(experiment: Experiment) -> None:
    """aiobreaker: a raising listener replaces a successful result."""

    def guest(event: Event) -> None:
        msg = f"the guest fails on {type(event).__name__}"
        raise RuntimeError(msg)

    async with experiment.of(Peer(answers()), STACK, guest):
        await asyncio.sleep(await experiment.opened())
        assert await Shape.UNARY.run(experiment.client) == [b"0"]
        assert [change.after for change in experiment.changes] == ["open", "half_open", "closed"]


async def test_five_thousand_refusals_leave_memory_flat(experiment: Experiment) -> None:
    """purgatory raises one exception again and again: 30,000 traceback entries, 56 MiB."""
    stack = ClientStack(retry_policy=None, circuit_breaker=CircuitBreakerPolicy(max_hint=1e6))
    async with experiment.of(Peer(answers()), stack):
        await experiment.opened()
        seen: list[int] = []

        async def refuse(times: int) -> None:
            for _ in range(times - 1):
                await settled(Shape.UNARY, experiment.client)
            depth, traceback = 0, (await experiment.refused(Shape.UNARY)).__traceback__
            while traceback is not None:
                depth, traceback = depth + 1, traceback.tb_next
            seen.append(depth)

        experiment.listener.events.clear()
        await refuse(100)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await refuse(5000)
            experiment.listener.events.clear()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert grown < 64 * 1024
        assert seen[0] == seen[1]


async def test_one_callers_options_are_not_anothers(experiment: Experiment) -> None:
    """purgatory: a caller's `exclude` leaks to others."""
    async with experiment.of(Peer(DOWN)):
        without = with_options(experiment.client, circuit_breaker=None)
        await experiment.opened()
        await experiment.failing(Shape.UNARY, 0)
        for shape in SHAPES:
            with pytest.raises(ConnectError) as raised:
                await shape.run(without)
            assert not isinstance(raised.value, CircuitOpenError)
            await experiment.refused(shape)


async def test_calls_run_side_by_side(experiment: Experiment, virtual_time: VirtualTime) -> None:
    """pybreaker locks over the call: ten calls of 50 ms take 0.51 s."""
    async with experiment.of(Peer(answers(every=0.05))):
        start = virtual_time.now()
        await asyncio.gather(*(Shape.UNARY.run(experiment.client) for _ in range(10)))
        assert virtual_time.now() - start == pytest.approx(0.05)


def test_an_interceptor_that_misses_a_shape_is_refused_when_the_chain_is_built() -> None:
    """`pybreaker.call(async)` never counts; aioresilience guesses the kind by `id()`."""

    class Half:
        async def intercept_unary(self, call_next: Any, request: Any, ctx: Any) -> Any:
            return await call_next(request, ctx)

    with pytest.raises(ConfigError, match="unguarded"):
        ClientStack(attempt=[Half()])


# --- The chain around it -------------------------------------------------------------------------


async def test_each_attempt_counts_and_a_refused_one_says_less_than_the_error_before(
    experiment: Experiment,
) -> None:
    peer = Peer(DOWN)
    async with experiment.of(peer, ClientStack(retry_policy=RetryPolicy(budget=None))):
        for _ in range(3):
            error = await settled(Shape.UNARY, experiment.client)
            assert isinstance(error, ConnectError)
            assert not isinstance(error, CircuitOpenError)
            assert delivery(error) is Delivery.MAYBE
        assert len(peer.sent) == 5
        await experiment.refused(Shape.UNARY)


@every_shape
async def test_a_call_that_waits_for_ready_waits_for_its_circuit(
    shape: Shape, experiment: Experiment, virtual_time: VirtualTime
) -> None:
    stack = ClientStack(retry_policy=None, wait_for_ready=True)
    async with experiment.of(Peer(answers()), stack):
        wait = await experiment.opened()
        start = virtual_time.now()
        await shape.run(experiment.client, timeout_ms=5000)
        assert wait <= virtual_time.now() - start <= wait + 0.25
        assert experiment.state() is CircuitState.CLOSED
        breakers_of(experiment.client).isolate()
        start = virtual_time.now()
        with pytest.raises(DeadlineExceededError) as raised:
            await shape.run(experiment.client, timeout_ms=2000)
        assert not raised.value.sent
        assert virtual_time.now() - start == pytest.approx(2.0, abs=0.01)
        breakers_of(experiment.client).reset()


async def test_a_servers_hint_raises_the_time_open(experiment: Experiment) -> None:
    peer = Peer(answers())
    stack = ClientStack(
        retry_policy=None, circuit_breaker=CircuitBreakerPolicy(failure_threshold=1)
    )
    async with experiment.of(peer, stack):
        for header, seconds in (("retry-after", "40"), ("grpc-retry-pushback-ms", "40000")):
            peer.script = [fails(Code.UNAVAILABLE, headers=[(header, seconds)])]
            await experiment.failing(Shape.UNARY, 1)
            assert experiment.circuit.retry_after == pytest.approx(40.0)
            breakers_of(experiment.client).reset()


async def test_methods_share_a_circuit_unless_it_is_asked_for(experiment: Experiment) -> None:
    async with experiment.of(Peer(DOWN)):
        await experiment.failing(Shape.UNARY, 5)
        await experiment.refused(Shape.SERVER_STREAM)
    apart = ClientStack(retry_policy=None, circuit_breaker=CircuitBreakerPolicy(scope="method"))
    listener = RecordingListener()
    peer = Peer(DOWN)
    async with peer.client(apart, listeners=[listener]) as client:
        for _ in range(5):
            await settled(Shape.UNARY, client)
        assert isinstance(await settled(Shape.UNARY, client), CircuitOpenError)
        assert not isinstance(await settled(Shape.SERVER_STREAM, client), CircuitOpenError)
        assert [status.method for status in breakers_of(client).status()] == [
            "kv.v1.KVService/Get",
            "kv.v1.KVService/Watch",
        ]
        assert listener.of(CircuitChanged)[0].method == "kv.v1.KVService/Get"
        assert f"{ENDPOINT} kv.v1.KVService/Get open until" in repr(breakers_of(client))


async def test_a_method_may_have_another_policy_or_none(experiment: Experiment) -> None:
    stack = STACK.for_method("kv.v1.KVService/Get", circuit_breaker=None).for_method(
        "kv.v1.KVService/Watch", circuit_breaker=CircuitBreakerPolicy(failure_threshold=1)
    )
    async with experiment.of(Peer(DOWN), stack):
        await experiment.failing(Shape.UNARY, 10)
        await experiment.failing(Shape.SERVER_STREAM, 1)
        await experiment.refused(Shape.SERVER_STREAM)
        await experiment.failing(Shape.CLIENT_STREAM, 5)
        await experiment.refused(Shape.CLIENT_STREAM)
        breakers_of(experiment.client).reset()
        await experiment.failing(Shape.CLIENT_STREAM, 5)  # so that the mirror's last word is one


@every_shape
async def test_a_dry_run_tells_and_lets_everything_through(shape: Shape) -> None:
    experiment = Experiment(None)
    stack = ClientStack(retry_policy=None, circuit_breaker=CircuitBreakerPolicy(dry_run=True))
    peer = Peer(DOWN)
    async with experiment.of(peer, stack):
        await experiment.failing(shape, 8)
        assert len(peer.sent) == 8
        rejected = experiment.listener.of(Rejected)
        assert [(event.reason, event.enforced) for event in rejected] == [("open", False)] * 3
        assert [change.after for change in experiment.changes] == ["open"]
        assert experiment.circuit.dry_run


@every_shape
async def test_people_can_isolate_an_endpoint_and_let_it_back(
    shape: Shape, experiment: Experiment
) -> None:
    async with experiment.of(Peer(answers())):
        breakers = breakers_of(experiment.client)
        breakers.isolate(ENDPOINT)  # nothing was ever sent to it
        error = await experiment.refused(shape)
        assert error.retry_after is None
        assert "until it is reset" in error.message
        await asyncio.sleep(1000.0)
        breakers.probe_now(ENDPOINT)
        await experiment.refused(shape)
        breakers.reset(ENDPOINT)
        await shape.run(experiment.client)
        assert experiment.state() is CircuitState.CLOSED


async def test_a_word_from_health_checks_lets_a_probe_through_early(
    experiment: Experiment,
) -> None:
    async with experiment.of(Peer(answers(every=0.1))):
        await experiment.opened()
        breakers_of(experiment.client).probe_now("another")
        await experiment.refused(Shape.UNARY)
        breakers_of(experiment.client).probe_now(ENDPOINT)
        results = await asyncio.gather(
            *(settled(Shape.UNARY, experiment.client) for _ in range(10))
        )
        assert results.count(None) == 1
        assert experiment.state() is CircuitState.CLOSED
        assert [change.reason for change in experiment.changes] == [
            "failure_threshold",
            "health",
            "probes_succeeded",
        ]


async def test_opened_by_hand_it_comes_back_by_itself(experiment: Experiment) -> None:
    async with experiment.of(Peer(answers())):
        await Shape.UNARY.run(experiment.client)
        breakers_of(experiment.client).force_open()
        error = await experiment.refused(Shape.UNARY)
        assert error.retry_after is not None
        await asyncio.sleep(error.retry_after)
        await Shape.UNARY.run(experiment.client)
        assert experiment.state() is CircuitState.CLOSED


async def test_looking_changes_nothing(experiment: Experiment, virtual_time: VirtualTime) -> None:
    policy = CircuitBreakerPolicy()
    async with experiment.of(Peer(answers())):
        breakers = breakers_of(experiment.client)

        def peek(endpoint: str = ENDPOINT) -> float:
            return breakers.peek(
                policy, endpoint, policy.part(Shape.UNARY.path), virtual_time.now()
            )

        assert peek() == 0
        assert not breakers.status()
        wait = await experiment.opened()
        assert peek() == pytest.approx(wait)
        assert peek("another") == 0
        await asyncio.sleep(wait)
        assert [peek(), peek()] == [0, 0]
        assert experiment.state() is CircuitState.OPEN
        breakers.isolate("another")
        assert peek("another") == float("inf")
        breakers.forget(ENDPOINT)
        assert not breakers.status()
        assert breakers.peek(None, "another", Shape.UNARY.path, 0.0) == 0


async def test_its_name_says_how_it_stands() -> None:
    experiment = Experiment(None)
    async with experiment.of(Peer(pending())):
        await asyncio.sleep(await experiment.opened())
        probing = asyncio.ensure_future(settled(Shape.UNARY, experiment.client))
        await asyncio.sleep(0.1)
        assert repr(breakers_of(experiment.client)) == (
            f"<Breakers [<CircuitBreaker {ENDPOINT} kv.v1.KVService/* half-open 1/1 probes>]>"
        )
        probing.cancel()
        await asyncio.wait([probing])
    with pytest.raises(TypeError, match="breakers_of takes a client"):
        breakers_of(object())


async def test_without_a_breaker_a_stream_has_no_link_of_it_in_its_way() -> None:
    peer = Peer(answers(3))
    async with peer.client(ClientStack.bare()) as client:
        assert await Shape.SERVER_STREAM.run(client) == [b"0", b"1", b"2"]
        assert not breakers_of(client).status()


async def test_the_circuit_of_an_endpoint_that_is_gone_is_dropped() -> None:
    """Else a set of endpoints that changes every minute would grow it for ever."""
    pool = EndpointPool(["http://a"])
    peer = Peer(DOWN)
    client = STACK.client(KVServiceClient, pool, transport=peer.transport)
    async with client:
        await settled(Shape.UNARY, client)
        assert [status.endpoint for status in breakers_of(client).status()] == ["http://a"]
        pool.update(["http://b"])
        await settled(Shape.UNARY, client)
        assert [status.endpoint for status in breakers_of(client).status()] == ["http://b"]
    del client
    gc.collect()
    pool.update(["http://c"])


@every_shape
async def test_a_storm_of_cancellations_leaves_no_place_taken(
    shape: Shape, experiment: Experiment
) -> None:
    """grpc-java #13034: a cancel that raced the start of a call left it registered for ever."""
    rng = Random(3)  # noqa: S311  # chance, not a secret
    async with experiment.of(Peer(hangs())):
        await asyncio.sleep(await experiment.opened())
        for _ in range(100):
            task = asyncio.ensure_future(shape.run(experiment.client))
            for _ in range(rng.randrange(9)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert experiment.circuit.probes == 0
            assert experiment.circuit.retry_after == 0
        assert len(experiment.peer.sent) > 50
