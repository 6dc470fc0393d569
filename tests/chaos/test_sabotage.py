"""What our stack's machinery holds up falls without it, and the check that is named says so.

In virtual time, before a peer as small as can be. `make chaos-sabotage` shows the same with real
processes; so does this file, when CHAOS_SABOTAGE is set.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from connectrpc.errors import ConnectError
from pyqwest import Headers, HTTPVersion, Request, Response

from connectplugin import CircuitBreakerPolicy
from connectplugin_chaos import cli
from connectplugin_chaos._gen.chaos_target.v1 import target_pb as pb
from connectplugin_chaos._gen.chaos_target.v1.target_connect import TargetServiceClient
from connectplugin_chaos.arms.arms import make
from connectplugin_chaos.arms.names import SABOTAGES
from connectplugin_chaos.arms.sabotage import SABOTAGE
from connectplugin_chaos.check.judgement import Judgement, Verdict
from connectplugin_chaos.check.mechanisms import ALL_CHECKS
from connectplugin_chaos.record.model import Attempt, Execution, History, Ledger, Operation
from connectplugin_chaos.scenario.load import load_all
from connectplugin_interceptors.circuit_breaker.machine import (
    BreakerMachine,
    CircuitState,
    Permit,
)
from connectplugin_interceptors.outcome import Outcome
from tests.simulation.fast_time import simulate

DEADLINE = 0.5


def now() -> float:
    return asyncio.get_running_loop().time()


@dataclass
class Peer:
    """One worker, first come first served; it does not notice when its caller has gone.

    Attributes:
        takes: Seconds of each execution.
        fails: Of so many requests one is answered with an error, although it was executed.
        arrived: When each request of an operation has come.
        executions: What the ledger would have.
    """

    takes: float = 0.0
    fails: int = 0
    arrived: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    executions: list[Execution] = field(default_factory=list[Execution])
    _worker: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: list[asyncio.Task[Response]] = field(default_factory=list[asyncio.Task[Response]])

    async def execute(self, request: Request) -> Response:
        task = asyncio.create_task(self._serve(request))
        self._tasks.append(task)
        return await asyncio.shield(task)

    async def _serve(self, request: Request) -> Response:
        began = now()
        assert isinstance(request.content, bytes)  # these calls are unary
        method = request.url.rpartition("/")[2].lower()
        kind = pb.AppendRequest if method == "append" else pb.ReadRequest
        op = kind.from_binary(request.content).op
        self.arrived.append((op, began))
        timeout = request.headers.get("connect-timeout-ms")
        until = None if timeout is None else began + int(timeout) / 1000
        async with self._worker:
            if until is not None and now() >= until:
                return answer(504, b'{"code":"deadline_exceeded","message":"expired"}')
            started = now()
            await asyncio.sleep(self.takes)
            self.executions.append(
                Execution(
                    op=op,
                    method=method,
                    key="k",
                    server="s1",
                    started=started,
                    ended=now(),
                    deadline_at=until,
                    effect=method == "append",
                )
            )
        if self.fails and len(self.arrived) % self.fails == 0:
            return answer(503, b'{"code":"unavailable","message":"out of order"}')
        return answer(200, b"")


def answer(status: int, body: bytes) -> Response:
    kind = "application/proto" if status == 200 else "application/json"
    return Response(
        status=status,
        http_version=HTTPVersion.HTTP2,
        headers=Headers([("content-type", kind)]),
        content=body,
    )


def run(arm: str, peer: Peer, method: str, count: int, every: float) -> tuple[History, Ledger]:
    """So many calls through an arm, one each `every` seconds of virtual time."""
    found: list[Operation] = []

    async def one(client: TargetServiceClient, op: int) -> None:
        begun, well = now(), True
        try:
            if method == "append":
                await client.append(pb.AppendRequest(op=op, key="k"), timeout_ms=500)
            else:
                await client.read(pb.ReadRequest(op=op, key="k"), timeout_ms=500)
        except ConnectError:
            well = False
        tries = [at for number, at in peer.arrived if number == op]
        found.append(
            Operation(
                op=op,
                method=method,
                key="k",
                idempotent=method != "append",
                due=begun,
                called=begun,
                ended=now(),
                deadline=DEADLINE,
                outcome="ok" if well else "info",
                attempts=tuple(
                    Attempt(number=n, kind="", endpoint="", started=at, ended=at, code="")
                    for n, at in enumerate(tries, 1)
                ),
            )
        )

    async def main() -> None:
        client = make(arm).stack.client(
            TargetServiceClient,
            "http://peer",
            transport=peer,
            rng=random.Random(7),  # noqa: S311  # jitter
        )
        async with asyncio.TaskGroup() as group:
            for op in range(count):
                group.create_task(one(client, op))
                await asyncio.sleep(every)
        await asyncio.sleep(10.0)  # until the peer has done what it has been asked for
        await client.close()

    simulate(main)
    end = count * every
    history = History(
        scenario="T",
        arm=arm,
        seed=7,
        phases={"all": (0.0, end), "later": (end / 2, end)},
        operations=tuple(sorted(found, key=lambda o: o.op)),
        end=end,
    )
    return history, Ledger(executions=tuple(peer.executions))


def judged(name: str, records: tuple[History, Ledger], **bars: object) -> Judgement:
    return ALL_CHECKS[name](*records, **bars)


@pytest.mark.parametrize(
    ("arm", "verdict"), [("stack", Verdict.PASS), ("stack!idempotency", Verdict.FAIL)]
)
def test_idempotency_keeps_what_was_done_from_being_done_again(arm: str, verdict: Verdict) -> None:
    records = run(arm, Peer(fails=3), "append", 30, 0.05)
    assert {o.outcome for o in records[0].operations} == {"ok", "info"}
    assert judged("at_most_once", records).verdict is verdict


@pytest.mark.parametrize(
    ("arm", "verdict"), [("stack", Verdict.PASS), ("stack!budget", Verdict.FAIL)]
)
def test_the_budget_keeps_retries_to_a_tenth(arm: str, verdict: Verdict) -> None:
    records = run(arm, Peer(fails=4), "read", 1000, 0.02)
    found = judged("amplification", records, phase=["later"], most=1.12)
    assert found.verdict is verdict, found


@pytest.mark.parametrize(
    ("arm", "verdict"), [("stack", Verdict.PASS), ("stack!header", Verdict.FAIL)]
)
def test_the_deadline_on_the_wire_keeps_the_peer_from_dead_work(arm: str, verdict: Verdict) -> None:
    records = run(arm, Peer(takes=0.1), "read", 20, 0.001)
    found = judged("dead_work", records)
    assert found.verdict is verdict, found


@pytest.mark.parametrize("late", [Outcome.FAILURE, Outcome.SUCCESS])
def test_generations_keep_late_answers_from_moving_the_circuit(late: Outcome) -> None:
    def after_a_late_answer() -> CircuitState:
        machine = BreakerMachine(CircuitBreakerPolicy(failure_threshold=1, timeout=1.0))
        straggler, failing = machine.acquire(0.0), machine.acquire(0.0)
        assert isinstance(straggler, Permit)
        assert isinstance(failing, Permit)
        machine.release(failing, Outcome.FAILURE, 0.1)
        assert machine.state is CircuitState.OPEN
        assert isinstance(machine.acquire(2.0), Permit)
        machine.release(straggler, late, 2.1)
        return machine.state

    assert after_a_late_answer() is CircuitState.HALF_OPEN
    with SABOTAGE["generation"].during():
        moved = CircuitState.OPEN if late is Outcome.FAILURE else CircuitState.CLOSED
        assert after_a_late_answer() is moved
    assert after_a_late_answer() is CircuitState.HALF_OPEN


def test_each_sabotage_has_a_scenario_that_says_what_breaks() -> None:
    assert set(SABOTAGE) == set(SABOTAGES)
    page = (Path(__file__).parents[2] / "chaos" / "README.md").read_text()
    for name in SABOTAGES:
        arm = f"stack!{name}"
        scenarios = [s for s in load_all().values() if arm in s.expect]
        assert scenarios, f"no scenario says what breaks under {arm}"
        for scenario in scenarios:
            broken = [e for e in scenario.expect[arm] if e.negated]
            assert broken, f"{scenario.id} says nothing of what breaks under {arm}"
            # What must break without it holds with it: the same checks, the same bars.
            held = [(e.check, e.arguments) for e in scenario.expect["stack"]]
            for each in broken:
                assert (each.check, each.arguments) in held
            row = f"| `{name}` | {scenario.id} | {', '.join(f'`{e.check}`' for e in broken)} |"
            assert row in page, f"chaos/README.md lacks: {row}"


@pytest.mark.skipif("CHAOS_SABOTAGE" not in os.environ, reason="2 min: make chaos-sabotage")
@pytest.mark.timeout(240)
@pytest.mark.usefixtures("toxiproxy")
@pytest.mark.parametrize("name", SABOTAGES)
def test_with_real_processes(name: str, tmp_path: Path) -> None:
    code = cli.main(["run", "--sabotage", name, "--tries", "3", "--out", str(tmp_path)])
    if code == cli.NOT_PROVEN:
        pytest.skip("the machine is too busy")
    assert code == cli.PASSED
