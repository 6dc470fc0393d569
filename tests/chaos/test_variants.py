"""Variants: policies of an arm, as a scenario gives them; and words of workloads beside them."""

import asyncio
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import AdaptiveLimitPolicy, BulkheadPolicy, PluginUnavailableError
from connectplugin_chaos.arms.arms import make
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.pushback import PushBack
from connectplugin_chaos.engine.target import server_stack
from connectplugin_chaos.engine.target_service import LedgerFile, Witness
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.openloop import OpenLoop
from connectplugin_chaos.load.schedule import Planned, schedule
from connectplugin_chaos.record.recorder import Recorder
from connectplugin_chaos.scenario.load import parse
from connectplugin_chaos.scenario.model import Scenario
from connectplugin_chaos.scenario.nodes import ScenarioError
from connectplugin_chaos.scenario.policies import key_of, server_policies

TEXT = """\
id: T1
title: A test
claim: Something
tier: [full]
topology: {servers: 2}
workload:
  arrivals: {process: constant, rate: 100/s, jitter: 30ms}
  mix: {read: 0.5, watch: 0.5}
  keys: 5
  cancel: {share: 50%, within: 200ms}
  slow_readers: {share: 50%, pause: 1s, since: 2s}
variants:
  tuned:
    client: {hedge: {delay: 20ms}, circuit_breaker: null, concurrency: {adaptive: {max_limit: 9}}}
    methods: {read: {fallback: {value: stale}}}
    server: {rate_limit: {per_second: 50, burst: 10}, bulkhead: null}
phases: {base: [0s, 4s]}
expect:
  stack+tuned:
    - deadline: {}
  naive+tuned:
    - deadline: {}
"""


def scenario(**changes: str) -> Scenario:
    text = TEXT
    for right, wrong in changes.items():
        text = text.replace(right, wrong)
    return parse(text, "t.yaml")


def test_an_arm_has_what_its_variant_says_and_all_else_as_its_base() -> None:
    variants = scenario().variants
    ours, tuned = make("stack"), make("stack+tuned", variants)
    assert tuned.stack.hedge is not None
    assert tuned.stack.hedge.delay == pytest.approx(0.02)
    assert tuned.stack.circuit_breaker is None
    assert isinstance(tuned.stack.concurrency, AdaptiveLimitPolicy)
    assert tuned.stack.concurrency.max_limit == 9
    assert tuned.stack.retry_policy == ours.stack.retry_policy
    ((pattern, policies),) = tuned.stack.methods
    assert pattern == "chaos_target.v1.TargetService/Read"
    assert policies["fallback"].value.value == "stale"
    naive = make("naive+tuned", variants)
    assert naive.loop == make("naive").loop
    assert naive.servers.stack == "none"
    assert make("stack+hedge", variants).stack.hedge is not None


def test_the_servers_of_an_arm_have_its_policies_instead_of_their_own(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "ledger")
    witness, push_back = Witness(ledger), PushBack(AppFaults(lambda _: None))

    def stack(kind: str, policies: dict[str, Any]) -> Any:
        return server_stack(kind, witness, push_back, workers=4, queue=12, policies=policies)

    given = dict(scenario().variants["tuned"].server)
    ours = stack("ours", given)
    assert ours.rate_limit.per_second == 50
    assert ours.bulkhead is None
    assert stack("none", given).rate_limit.per_second == 50
    assert stack("none", {}).adaptive_limit is None
    assert stack("ours", {}).bulkhead == BulkheadPolicy(max_in_flight=4, max_queue=12, max_wait=1.0)
    assert stack("ours-shed", {}).bulkhead is None
    (fault,) = server_policies({"fault": {"faults": [{"share": 0.5, "error": "internal"}]}})[
        "fault"
    ].faults
    assert fault.error is Code.INTERNAL


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("client: {hedge", "cleint: {hedge", r"t.yaml:14: variants.tuned has no key 'cleint'"),
        ("{hedge:", "{hegde:", r"t.yaml:14: client has no key 'hegde'; did you mean 'hedge'\?"),
        ("delay: 20ms", "dealy: 20ms", r"t.yaml:14: hedge has no key 'dealy'; did you mean"),
        ("delay: 20ms", "delay: soon", r"t.yaml:14: hedge: HedgePolicy.delay is 'soon'"),
        ("circuit_breaker: null", "circuit_breaker: off", r"t.yaml:14: .*a mapping of its fields"),
        ("methods: {read", "methods: {raed", r"t.yaml:15: .*'raed'; did you mean 'read'\?"),
        ("per_second: 50", "per_second: -1", r"t.yaml:16: rate_limit: .*per_second is -1"),
        ("  tuned:", "  hedge:", r"t.yaml:13: the name 'hedge' is taken"),
        ("stack+tuned:", "stack+tunde:", r"no addition 'tunde'; did you mean 'tuned'\?"),
        ("naive+tuned:", "naive+hedge:", r"no addition 'hedge'; there are: tuned"),
        ("share: 50%, within", "shar: 50%, within", r"t.yaml:10: .*did you mean 'share'\?"),
        ("read: 0.5, watch", "peek: 0.5, watch", r"'peek', which wants `through: plugin`"),
    ],
)
def test_a_mistake_is_told_with_its_line(right: str, wrong: str, told: str) -> None:
    assert right in TEXT
    with pytest.raises(ScenarioError, match=told):
        parse(TEXT.replace(right, wrong, 1), "t.yaml")


def test_who_cancels_and_who_reads_slowly_comes_from_the_seed_and_changes_nothing_else() -> None:
    workload, plan = scenario().workload, scenario().plan
    planned = schedule(7, workload, plan)
    assert schedule(7, workload, plan) == planned
    patient = parse(TEXT.replace("  cancel: {share: 50%, within: 200ms}\n", ""), "t.yaml")
    calm = schedule(7, patient.workload, plan)
    assert [(p.due, p.method) for p in calm] == [(p.due, p.method) for p in planned]
    assert not any(p.patience for p in calm)
    given_up = [p for p in planned if p.patience is not None]
    assert len(given_up) == pytest.approx(len(planned) / 2, rel=0.2)
    assert all(0 <= p.patience <= 0.2 for p in given_up if p.patience is not None)
    slow = [p for p in planned if p.pause]
    assert {p.method for p in slow} == {"watch"}
    assert min(p.due for p in slow) >= 2
    assert set(Counter(p.key for p in planned)) == {f"k{n}" for n in range(1, 6)}
    dues = [p.due for p in planned]
    assert dues == sorted(dues)
    gaps = {round(b - a, 6) for a, b in pairwise(dues)}
    assert len(gaps) > 10


def test_a_rate_of_nothing_is_a_pause() -> None:
    idle = TEXT.replace("jitter: 30ms", "steps: [{at: 1s, rate: 0}, {at: 3s, rate: 100/s}]")
    parsed = parse(idle, "t.yaml")
    dues = [p.due for p in schedule(7, parsed.workload, parsed.plan)]
    assert not [due for due in dues if 1.02 < due < 3]
    assert len([due for due in dues if due >= 3]) == pytest.approx(100, abs=2)


async def test_a_cancelled_call_is_told_as_one_and_a_plugin_that_is_not_there_as_not_executed() -> (
    None
):
    recorder = Recorder(0.0, {})
    now = recorder.now()

    async def call(planned: Planned, answer: Answer) -> None:
        match planned.op:
            case 1:
                await asyncio.Event().wait()
            case 2:
                raise PluginUnavailableError
            case 3:
                raise ConnectError(Code.INTERNAL, "no")
            case _:
                answer.reply = "well"

    planned = [
        Planned(op=n, due=now, method="read", key="k", patience=0.01 if n == 1 else None)
        for n in range(1, 5)
    ]
    loop = OpenLoop(planned, call, recorder, lambda _: 0.5)
    await loop.run()
    told = [(o.outcome, o.code, o.cancelled is not None) for o in loop.operations]
    assert told == [
        ("info", "canceled", True),
        ("fail", "unavailable", False),
        ("info", "internal", False),
        ("ok", "ok", False),
    ]


def test_consistent_hashing_goes_by_the_key_of_a_request() -> None:
    class Request:
        key = "k7"

    assert key_of(Request(), None) == "k7"
    assert key_of(None, None) == ""
