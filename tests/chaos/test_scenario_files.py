"""A scenario file says what it means, or is refused with file, line and what was meant."""

from itertools import pairwise
from pathlib import Path

import pytest

from connectplugin_chaos.load.schedule import schedule
from connectplugin_chaos.report.claims import table
from connectplugin_chaos.scenario.load import load_all, parse
from connectplugin_chaos.scenario.nodes import ScenarioError

GOOD = """\
id: T1
title: A test
claim: Something
tier: [full]
topology: {servers: 2}
workload:
  arrivals: {process: poisson, rate: 140/s}
  deadline: 500ms
timeline:
  - {at: 2s, fault: freeze, proxies: [p1], stream: upstream, as: stall}
  - {at: 3s, heal: stall}
phases: {base: [0s, 2s], fault: [2s, 3s], recovery: [3s, 5s]}
short: {warmup: 1s, shift: -1, phases: {base: [0s, 1s], fault: [1s, 2s], recovery: [2s, 3s]}}
expect:
  stack:
    - recovery: {to: 99%, within: 3s}
    - reached: [breaker.opened]
  naive:
    - not: {recovery: {within: end}}
"""


def test_units_are_understood() -> None:
    scenario = parse(GOOD, "t.yaml")
    assert float(scenario.workload.arrivals.rate) == 140
    assert float(scenario.workload.deadline) == 0.5
    recovery, reached = scenario.expect["stack"]
    assert recovery.arguments == {"to": 0.99, "within": 3.0}
    assert reached.arguments == {"all_of": ["breaker.opened"]}
    assert scenario.expect["naive"][0].negated
    assert scenario.topology.capacity == pytest.approx(400)
    assert scenario.timeline[0].name == "stall"
    assert scenario.short is not None
    assert scenario.short.shift == -1


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("title:", "titel:", r"t.yaml:2: .*no key 'titel'; did you mean 'title'\?"),
        ("rate: 140/s", "rat: 140/s", r"t.yaml:7: .*'rat'; did you mean 'rate'\?"),
        ("deadline: 500ms", "deadline: soon", r"t.yaml:8: .*'soon'; it must be a time"),
        ("fault: freeze", "fault: freze", r"t.yaml:10: .*'freze'; did you mean 'freeze'\?"),
        ("[p1]", "[p3]", r"t.yaml:10: .*'p3'; did you mean 'p[12]'\?"),
        ("stream: upstream", "steam: upstream", r"t.yaml:10: .*'steam'; did you mean 'stream'\?"),
        ("heal: stall", "heal: stal", r"t.yaml:11: .*'stal'; did you mean 'stall'\?"),
        ("fault: [2s, 3s]", "fault: [3s, 2s]", r"t.yaml:12: .*begin < end"),
        ("process: poisson", "process: poison", r"t.yaml:7: .*did you mean 'poisson'\?"),
        ("recovery: {to", "recvery: {to", r"t.yaml:16: .*'recvery'; did you mean 'recovery'\?"),
        ("within: 3s", "withn: 3s", r"t.yaml:16: .*'withn'; did you mean 'within'\?"),
        ("within: 3s", "within: soon", r"t.yaml:16: within is 'soon'; it must be a number"),
        ("breaker.opened", "breaker.open", r"t.yaml:17: .*did you mean 'breaker.opened'\?"),
        ("naive:", "naiv:", r"t.yaml:\d+: no arm 'naiv'; did you mean 'naive'\?"),
        ("tier: [full]", "tier: [fall]", r"t.yaml:4: .*did you mean 'full'\?"),
        ("claim: Something\n", "", r"t.yaml:1: a scenario lacks the key 'claim'"),
        ("id: T1", "id: T1\nid: T2", r"t.yaml:2: .*'id' twice"),
        ("servers: 2", "servers: two", r"t.yaml:5: topology.servers is 'two'; .*whole number"),
        ("phases: {base", "phases: {{base", r"t.yaml:\d+: no YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line(right: str, wrong: str, told: str) -> None:
    assert right in GOOD
    with pytest.raises(ScenarioError, match=told):
        parse(GOOD.replace(right, wrong, 1), "t.yaml")


def test_the_same_seed_gives_the_same_operations() -> None:
    scenario = parse(GOOD, "t.yaml")
    first = schedule(7, scenario.workload, scenario.plan)
    assert schedule(7, scenario.workload, scenario.plan) == first
    assert schedule(8, scenario.workload, scenario.plan) != first
    assert len({planned.op for planned in first}) == len(first)
    assert all(a.due < b.due for a, b in pairwise(first))
    assert len(first) == pytest.approx(140 * 6, rel=0.1)


def test_the_scenarios_that_come_along_are_sound(tmp_path: Path) -> None:
    found = load_all()
    assert "C1" in found
    for scenario in found.values():
        assert scenario.claim
        assert scenario.why
        assert any(arm.startswith("stack") for arm in scenario.expect), scenario.id
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    with pytest.raises(ScenarioError, match="'T1' is taken by"):
        load_all(tmp_path)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fault: html_503, p: 130%", r"html_503.p is 1.3; it must be at most 1"),
        (
            "fault: html_503, sede: 3",
            r"the fault 'html_503' has no key 'sede'; did you mean 'seed'",
        ),
        ("fault: app_error, code: unavailabel", r"app_error.code is 'unavailabel'; did you mean"),
        ("fault: pushback", r"pushback takes either delay: 300ms, or forbid: true"),
        ("fault: slow_handshake", r"the fault 'slow_handshake' lacks 'delay'"),
        ("fault: latency, delay: fast", r"latency.delay is 'fast'; it must be a time"),
        ("fault: latency, delay: 10ms, jitter: 20ms", r"latency.jitter is above its delay"),
        ("fault: bandwidth, rate: 0", r"bandwidth.rate is 0; it must be at least 1"),
        ("fault: freeze, stream: upsteam", r"freeze.stream is 'upsteam'; did you mean 'upstream'"),
        ("fault: kill, proxies: [p1]", r"the fault 'kill' has no key 'proxies'"),
        ("fault: hog_cpu, threads: 99", r"hog_cpu.threads is 99; it must be at most 8"),
    ],
)
def test_a_mistake_in_a_fault_is_told_with_its_line(line: str, told: str) -> None:
    right = "fault: freeze, proxies: [p1], stream: upstream, as: stall"
    assert right in GOOD
    with pytest.raises(ScenarioError, match=rf"t.yaml:\d+: {told}"):
        parse(GOOD.replace(right, f"{line}, as: stall", 1), "t.yaml")


def test_no_proxy_is_broken_that_no_call_goes_through() -> None:
    direct = GOOD.replace("servers:", "direct: true, servers:", 1)
    with pytest.raises(
        ScenarioError, match=r"'freeze' is done to proxies, and with `direct: true`"
    ):
        parse(direct, "t.yaml")


def test_each_claim_is_on_the_page_of_claims() -> None:
    page = (Path(__file__).parents[2] / "chaos" / "CLAIMS.md").read_text()
    rows = page.splitlines()
    for scenario in load_all().values():
        there = [row for row in rows if f"| {scenario.id}: " in row]
        told = f"{scenario.id}: connectplugin-chaos list --claims > chaos/CLAIMS.md"
        assert len(there) == 1, told
        assert scenario.claim in there[0], told
    assert page == table(load_all().values()), "connectplugin-chaos list --claims > chaos/CLAIMS.md"
