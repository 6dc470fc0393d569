"""The harness against a plugin that is not its own: the example, and every mistake told."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from connectrpc.code import Code
from connectrpc.errors import ConnectError

from connectplugin import Client, ClientConfig, ClientStack, Server
from connectplugin_chaos import cli
from connectplugin_chaos.engine.app_faults import AppFaults
from connectplugin_chaos.engine.target_service import LedgerFile
from connectplugin_chaos.engine.user_target import prepared
from connectplugin_chaos.load.calls import Answer
from connectplugin_chaos.load.schedule import Planned
from connectplugin_chaos.record.files import read_history, read_ledger
from connectplugin_chaos.record.recorder import Recorder, Tries, current
from connectplugin_chaos.scenario.load import load, parse
from connectplugin_chaos.scenario.nodes import Reader, ScenarioError
from connectplugin_chaos.target.messages import reader_of
from kv_plugin import kv_plugin
from server import serve_config
from tests.gen.shapes.v1.shapes_pb import AllRequest, Color, Point

if TYPE_CHECKING:
    from connectplugin_chaos.scenario.model import Scenario

KV = Path(__file__).parents[2] / "examples" / "kv"
TARGET = "server:serve_config"
EXAMPLE = (KV / "chaos.yaml").read_text()


@pytest.mark.usefixtures("toxiproxy")
@pytest.mark.timeout(180)
def test_the_example_runs_as_its_first_lines_say(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": "gen"}
    command = ["run", "--target", TARGET, "chaos.yaml", "--arms", "stack", "--tries", "1"]
    done = subprocess.run(
        [Path(sys.executable).with_name("connectplugin-chaos"), *command, "--out", tmp_path],
        cwd=KV,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    (folder,) = tmp_path.iterdir()
    report = json.loads((folder / "report.json").read_text())
    ((arm,),) = [entry["arms"] for entry in report["scenarios"]]
    # On a busy machine it proves nothing, and says so.
    assert done.returncode == {"pass": 0, "inconclusive": 2}[report["verdict"]], done.stdout
    found = {each["check"]: each["verdict"] for each in arm["invariants"]}
    for check in ("at_most_once", "honest_failure", "no_lost_ack", "liveness", "taxonomy"):
        assert found[check] == "pass", arm
    history = read_history(folder / arm["folder"] / "history.jsonl.gz")
    ledger = read_ledger(folder / arm["folder"] / "ledger.jsonl.gz")
    methods = {"Get", "Put", "Increment", "Load", "Sync"}
    assert {o.method for o in history.operations} >= methods
    assert {e.method for e in ledger.executions} >= methods
    assert {e.server for e in ledger.executions} == {"s1", "s2", "s3"}
    answered = {o.op for o in history.operations if o.code == "ok"}
    assert answered <= {e.op for e in ledger.executions}
    assert any(n.kind == "struck" and n.detail == "html_503" for n in ledger.notices)
    assert not any(o.idempotent for o in history.operations if o.method == "Increment")


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ("method: Put", "method: Putt", r"no method 'Putt'; did you mean 'Put'\?"),
        (
            "method: Put,",
            "name: Get, method: Put,",
            r"two lines of workload.calls are called",
        ),
        ('{key: "{key}", value: "w', '{kye: a, value: "w', r"no field 'kye'; did you mean"),
        ("value: first", "value: 7", r"requests\[0\].value is 7; bytes are written as a text"),
        ("written by {op}", "written by {opp}", r"placeholder '{opp}'; did you mean 'op'"),
        ('{key: "counter-{key}"}', "{delta: much}", r"request is no IncrementRequest: .*delta"),
        ("take: 1", "interval: 5ms", r"interval means nothing for kv.v1.KVService/Watch"),
        ("take: 1", "take: 0", r"take is 0; it must be at least 1"),
        ('request: {prefix: "k"}, ', "", r"Watch has neither of request and requests; .* prefix"),
        ("accept: [not_found]", "accept: [not_fond]", r"did you mean 'not_found'"),
        ("weight: 4}", "wieght: 4}", r"no key 'wieght'; did you mean 'weight'"),
        ("keys: 50", "messages: 5", r"workload.messages is for the harness's own service"),
        ("keys: 50", "mix: {read: 1}", r"workload has calls, each with a `weight:`"),
        ("servers: 3", "servers: 3, workers: 4", r"topology.workers is for the harness's own"),
        ("fault: kill", "fault: slow_service, factor: 2", r"one of the harness's own service"),
        ("- at_most_once: {}", "- effectively_once: {}", r"cannot judge a target: it compares"),
        (
            "- at_most_once: {}",
            "- availability: {success: 1, methods: [put]}",
            r"no 'put'; .*'Put'",
        ),
    ],
)
def test_a_mistake_in_the_calls_is_told_with_its_line(right: str, wrong: str, told: str) -> None:
    assert right in EXAMPLE
    with pytest.raises(ScenarioError, match=rf"t\.yaml:\d+: .*{told}"):
        parse(EXAMPLE.replace(right, wrong, 1), "t.yaml", TARGET)


def test_calls_and_target_want_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "kv.yaml"
    path.write_text(EXAMPLE)
    assert cli.main(["run", str(path)]) == 2
    assert "lacks the key 'claim'" in capsys.readouterr().err
    path.write_text(EXAMPLE.replace("title:", "claim: C\ntier: [full]\ntitle:"))
    assert cli.main(["run", str(path)]) == 2
    assert "workload.calls needs a plugin: --target module:attribute" in capsys.readouterr().err
    assert cli.main(["run", "C1", "--target", TARGET]) == 2
    assert "'C1' is none" in capsys.readouterr().err
    assert cli.main(["run", "--target", TARGET]) == 2
    assert "--target takes files" in capsys.readouterr().err
    own = EXAMPLE.partition("  calls:")[0] + EXAMPLE[EXAMPLE.index("timeline:") :]
    with pytest.raises(ScenarioError, match="with --target the workload needs `calls:`"):
        parse(own, "t.yaml", TARGET)


MODULE = """\
from connectplugin import ServeConfig
from kv_plugin import kv_plugin
from server import MemoryKV

good = ServeConfig(plugins=[kv_plugin.bind(MemoryKV())])
number = 3

def broken():
    raise RuntimeError("no database")

def wanting(path):
    return good

def nothing():
    pass
"""


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("chaosmine", r"it must be module:attribute, such as server:serve_config"),
        (
            "chaosmime:good",
            r"'chaosmime', which is neither in .*; did you mean 'chaosmine'",
        ),
        ("chaosmine:god", r"chaosmine has no 'god'; did you mean 'good'"),
        ("chaosmine:number", r"which is of type int; it must be a ServeConfig, or a function"),
        ("chaosmine:nothing", r"which returned None; it must be a ServeConfig"),
        ("chaosmine:broken", r"calling it without arguments failed: RuntimeError\('no database'\)"),
        ("chaosmine:wanting", r"failed: TypeError\(.*'path'"),
        ("chaosbad:x", r"whose import failed: ZeroDivisionError.*chaosbad.py:1"),
        (
            "chaosneedy:x",
            r"chaosneedy, whose import failed: No module named 'nowhere_to'",
        ),
    ],
)
def test_what_is_no_target_is_told(
    target: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chaosmine.py").write_text(MODULE)
    (tmp_path / "chaosbad.py").write_text("1 / 0\n")
    (tmp_path / "chaosneedy.py").write_text("import nowhere_to\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "chaosmine", raising=False)
    with pytest.raises(ScenarioError, match=told):
        load(KV / "chaos.yaml", target)
    if target.startswith("chaosmine:"):
        assert load(KV / "chaos.yaml", "chaosmine:good").custom is not None


def test_a_module_that_serves_when_it_is_imported_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "chaosserves.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("connectplugin_chaos.target.locate.IMPORT_WITHIN", 0.1)
    with pytest.raises(ScenarioError, match=r"took more than 0.1 s: does it serve\?"):
        load(KV / "chaos.yaml", "chaosserves:x")


MESSAGE = """
text: "a {{literal}} for {op} of {key}"
data: "{key}"
flag: true
small: -3
large: "{op}"
real: 1.5
color: COLOR_RED
point: {x: 1, y: -2}
words: [a, "{op}"]
points: [{x: 5}, {}]
counts: {one: 1}
maybeNumber: 4
by_name: b
colors: [COLOR_BLUE]
places: {7: {y: 1}}
"""


def made(text: str) -> Callable[[int, str], AllRequest]:
    reader = Reader("t.yaml")
    build: Callable[[int, str], AllRequest] = reader_of(
        reader, reader.compose(text), AllRequest, "request"
    )
    return build


def test_a_mapping_becomes_a_message_anew_for_each_operation() -> None:
    build = made(MESSAGE)
    assert build(17, "k3") == AllRequest(
        text="a {literal} for 17 of k3",
        data=b"k3",
        flag=True,
        small=-3,
        large=17,
        real=1.5,
        color=Color.RED,
        point=Point(x=1, y=-2),
        words=["a", "17"],
        points=[Point(x=5), Point()],
        counts={"one": 1},
        maybe_number=4,
        target=build(1, "").target,
        colors=[Color.BLUE],
        places={7: Point(y=1)},
    )
    assert build(18, "k4").large == 18
    constant = made("data: !!binary aGk=\ntext: 2024-01-01\n")
    assert constant(1, "") is constant(2, "")
    assert constant(1, "").data == b"hi"
    assert constant(1, "").text == "2024-01-01"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n", "request: shapes.v1.AllRequest has no field 'a'"),
        ("flag: true\npoint: 3\n", "t.yaml:2: request.point must be a mapping of the fields of"),
        ("points: {x: 1}\n", "request.points must be a list"),
        ("points: [{x: 1, z: 2}]\n", "request.points: shapes.v1.Point has no field 'z'"),
        ("counts: [1]\n", "request.counts must be a mapping"),
        ("text: !!binary aGk=\n", "request.text is binary, but its field holds no bytes"),
        ("maybe_text: a\nmaybeText: b\n", "request has the field 'maybe_text' twice"),
        ("small: 3000000000\n", "request is no AllRequest: .*small"),
        ("color: COLOR_GREEN\n", "request is no AllRequest: .*"),
    ],
)
def test_what_is_no_message_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=rf"t.yaml:\d+: {told.removeprefix('t.yaml:2: ')}"):
        made(text)


def test_policies_can_be_of_one_method() -> None:
    variant = "variants: {once: {methods: {Put: {retry_policy: null}}}}\narms: [stack+once]\n"
    text = EXAMPLE.replace("arms: [none, stack]\n", variant)
    (found,) = parse(text, "t.yaml", TARGET).variants["once"].methods
    assert found == ("kv.v1.KVService/Put", {"retry_policy": None})
    with pytest.raises(ScenarioError, match="no key 'Putt'; did you mean 'Put'"):
        parse(text.replace("methods: {Put", "methods: {Putt"), "t.yaml", TARGET)


class Bench:
    """The example's plugin as the harness prepares it, in this process."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.path = folder / "s1.ledger"
        self.faults = AppFaults(lambda verb: None)
        told: dict[str, Any] = {
            "name": "s1",
            "port": 0,
            "stack": "ours",
            "policies": {},
            "grace": 3.0,
        }
        self.config = prepared(
            serve_config(), {**told, **config}, LedgerFile(self.path), self.faults
        )

    def lines(self, kind: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [line for line in found if line["t"] == kind]


async def test_every_shape_is_called_and_taken_down(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    scenario: Scenario = parse(EXAMPLE, "t.yaml", TARGET)
    custom = scenario.custom
    assert custom is not None
    recorder = Recorder(0.0, {})
    async with Server(bench.config) as server:
        config = ClientConfig(
            endpoint=server.url,
            versioned_plugins=custom.plugins,
            stack=ClientStack.bare(attempt=[recorder]),
        )
        async with Client(config) as client:
            perform = await custom.bind(client, scenario.workload.deadline_of)
            answers: dict[str, Answer] = {}
            for op, kind in enumerate(("Get", "Put", "Increment", "Load", "Watch", "Sync"), 1):
                answers[kind] = Answer()
                current.set(Tries(op))
                planned = Planned(op=op, due=0.0, method=kind, key="k1")
                await perform(planned, answers[kind])
            current.set(None)
            # A call without an operation is somebody else's.
            await client.dispense(kv_plugin).get("k1")
    assert answers["Get"].reply == "not_found"
    assert answers["Increment"].reply == "IncrementResponse(value=1)"
    assert answers["Load"].reply == "LoadResponse(count=2)"
    assert answers["Watch"].received == [0]
    assert answers["Sync"].received == [0, 1]
    assert [(line["op"], line["m"]) for line in bench.lines("begin")] == [
        (1, "Get"), (2, "Put"), (3, "Increment"), (4, "Load"), (5, "Watch"), (6, "Sync"),
    ]  # fmt: skip
    assert all(line["d"] is not None for line in bench.lines("begin"))
    effects = {line["run"]: line["e"] for line in bench.lines("end")}
    runs = {line["op"]: line["run"] for line in bench.lines("begin")}
    assert not effects[runs[1]]  # it failed
    assert effects[runs[3]]
    # Who leaves a stream early cancels it.
    assert [line["run"] for line in bench.lines("cut")] == [runs[5]]


async def test_faults_of_the_application_strike_before_the_handler(tmp_path: Path) -> None:
    bench = Bench(tmp_path, stack="none")
    assert bench.config.stack.bulkhead is None
    assert bench.config.stack.deadline is None
    bench.faults.set("x", {"fault": "app_error", "code": "aborted", "methods": ["put"]})
    async with Server(bench.config) as server:
        config = ClientConfig(endpoint=server.url, plugins=[kv_plugin], stack=ClientStack.bare())
        async with Client(config) as client:
            kv = client.dispense(kv_plugin)
            with pytest.raises(ConnectError, match="the chaos harness said so") as raised:
                await kv.put("a", b"1")
            assert raised.value.code is Code.ABORTED
            await kv.increment("a")
            assert await kv.get("a") == b"1"
