"""Each bar holds at its value and not beyond; each check counts what it is about and no more."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from connectplugin_chaos.check.judgement import Judgement, Verdict, judge
from connectplugin_chaos.check.mechanisms import ALL_CHECKS, MECHANISMS
from connectplugin_chaos.record.model import Attempt, History, Ledger, Notice, Operation
from tests.chaos.clean import HEDGED, attempt, change, clean, executed, held, operation
from tests.chaos.test_stats import load, read

NOTHING = Ledger(executions=())


def plain() -> tuple[History, Ledger]:
    """The clean history without those that other checks are about; one read is hedged."""
    history, ledger = clean()
    operations = tuple(o if o.op == HEDGED else operation(o.op, o.due) for o in history.operations)
    return replace(history, operations=operations), ledger


def judged(name: str, records: tuple[History, Ledger] | None = None, **bars: Any) -> Judgement:
    return ALL_CHECKS[name](*(records or plain()), **bars)


def holds(name: str, records: tuple[History, Ledger] | None = None, **bars: Any) -> bool:
    found = judged(name, records, **bars)
    assert found.check == name
    assert (found.verdict is Verdict.PASS) or found.verdict is Verdict.FAIL
    if found.verdict is Verdict.PASS:
        assert found.evidence == ()
        assert found.offending == 0
    return found.verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("name", "least", "too_little"),
    [
        ("steady_state", {"p99": 0.051}, {"p99": 0.049}),
        ("amplification", {"phase": ["recovery"], "most": 1.025}, {"most": 0.82}),
        ("amplification", {"phase": ["fault"], "most": 0.1}, {"phase": ["fault"], "most": 0.09}),
        (
            "availability",
            {"phase": ["fault"], "success": 0.1},
            {"phase": ["fault"], "success": 0.11},
        ),
        (
            "availability",
            {"phase": ["base"], "success": 1.0, "p99": 0.051},
            {"phase": ["base"], "success": 1.0, "p99": 0.049},
        ),
        (
            "availability",
            {"phase": ["fault", "recovery"], "success": 1.0, "after": 2.0},
            {"phase": ["fault", "recovery"], "success": 1.0, "after": 1.9},
        ),
        (
            "goodput",
            {"phase": ["base", "recovery"], "capacity": 10.0, "least": 1.0},
            {"phase": ["base", "recovery"], "capacity": 10.0, "least": 1.01},
        ),
        ("goodput", {"capacity": 1.0}, {"capacity": 1.2}),
        ("goodput", {"capacity": 1.11}, {"capacity": 1.12}),
        ("breaker", {"opens_within": 0.21}, {"opens_within": 0.19}),
        ("breaker", {"closes_within": 0.21}, {"closes_within": 0.19}),
        ("breaker", {"transitions": 2}, {"transitions": 1}),
        (
            "load_share",
            {"endpoint": "p1", "phase": ["recovery"], "most": 0.36, "after": 1.0},
            {"endpoint": "p1", "phase": ["recovery"], "most": 0.35, "after": 1.0},
        ),
        ("quick_refusals", {"p99": 0.0011}, {"p99": 0.0009}),
        (
            "isolation",
            {"methods": ["watch"], "phase": ["recovery"], "ratio": 1.01},
            {"methods": ["watch"], "phase": ["recovery"], "ratio": 0.99},
        ),
        (
            "isolation",
            {"phase": ["recovery"], "ratio": 0.9, "slack": 0.0051},
            {"phase": ["recovery"], "ratio": 0.9, "slack": 0.0049},
        ),
        (
            "isolation",
            {"phase": ["fault"], "success": 0.1},
            {"phase": ["fault"], "success": 0.101},
        ),
        ("hedging", {"extra": 0.01}, {"extra": 0.009}),
        ("hedging", {"within": 0.006}, {"within": 0.004}),
    ],
)
def test_a_bar_holds_at_its_value_and_not_beyond(
    name: str, least: dict[str, Any], too_little: dict[str, Any]
) -> None:
    assert holds(name, **least), judged(name, **least)
    assert not holds(name, **too_little), judged(name, **too_little)


def late_by(seconds: float, count: int = 100) -> tuple[History, Ledger]:
    """Reads of which one ends so long after its deadline."""
    history = load(count / 10)
    return change(history, 50, ended=history.operations[50].called + 0.5 + seconds), NOTHING


def test_deadlines_are_kept_by_all_and_by_all_but_a_thousandth() -> None:
    assert holds("deadline", late_by(0.049))
    assert not holds("deadline", late_by(0.051))
    assert judged("deadline", late_by(0.051)).evidence == (50,)
    assert holds("deadline", late_by(0.149, 2000))
    assert not holds("deadline", late_by(0.151, 2000))
    assert holds("deadline", late_by(0.19, 2000), epsilon_max=0.2)
    assert not holds("deadline", late_by(0.04), epsilon_p999=0.03)
    assert holds("deadline", (replace(load(1.0), operations=()), NOTHING))


def dead(count: int, of: int = 100) -> tuple[History, Ledger]:
    history = load(of / 10)
    runs = [executed(o, late=0.6 if o.op < count else 0.1) for o in history.operations]
    return history, Ledger(executions=tuple(runs))


def test_a_twentieth_of_the_work_may_be_dead() -> None:
    assert holds("dead_work", dead(5))
    assert not holds("dead_work", dead(6))
    assert holds("dead_work", dead(10), most=0.1)
    assert holds("dead_work", (load(1.0), NOTHING))
    assert judged("dead_work", dead(6)).evidence == (0, 1, 2, 3, 4, 5)


def test_three_seconds_may_pass_until_all_is_well_again() -> None:
    assert holds("recovery", (load(20.0, (2.0, 7.0)), NOTHING))
    assert not holds("recovery", (load(20.0, (2.0, 7.05)), NOTHING))
    never = load(20.0, (2.0, 20.0)), NOTHING
    assert not holds("recovery", never, within=float("inf"))
    assert "never" in judged("recovery", never).measured
    tenth = load(20.0, *((4.0 + n, 4.05 + n) for n in range(16)))
    assert holds("recovery", (tenth, NOTHING), to=0.9)
    assert not holds("recovery", (tenth, NOTHING))
    assert judged("recovery", (tenth, NOTHING)).offending == 16


def test_the_steady_state_is_that_before_the_first_fault() -> None:
    # A call that was under way when the fault began says nothing; one before it does.
    assert holds("steady_state", (load(6.0, (1.5, 2.0)), NOTHING))
    assert not holds("steady_state", (load(6.0, (1.4, 1.45)), NOTHING))
    assert not holds("steady_state", (replace(load(6.0), operations=()), NOTHING))
    without = replace(load(6.0, (1.5, 2.0)), faults=())
    assert not holds("steady_state", (without, NOTHING))
    assert holds("steady_state", (without, NOTHING), success=0.75)
    assert not holds("steady_state", (without, NOTHING), success=0.76)
    assert holds("steady_state", (without, NOTHING), phase="recovery")


def test_calls_of_other_methods_are_not_asked_for_their_availability() -> None:
    history, ledger = plain()
    broken = change(history, 86, outcome="info", code="unavailable")  # 86 is a write
    assert holds("availability", (broken, ledger), success=1.0, phase=["recovery"], methods=["pay"])
    bad = judged(
        "availability", (broken, ledger), success=1.0, phase=["recovery"], methods=["write"]
    )
    assert (bad.verdict, bad.evidence) == (Verdict.FAIL, (86,))
    assert not holds("availability", success=0.0, methods=["load"])  # there was none
    warm = replace(history, operations=(replace(history.operations[0], due=-1.0),))
    phases = {"all": (-2.0, 10.0)}
    assert not holds("availability", (replace(warm, phases=phases), ledger), success=0.0)


def test_a_stream_that_was_cut_may_say_so() -> None:
    history, ledger = plain()
    cut = change(history, 89, outcome="info", code="unavailable", received=(0, 1))  # a watch
    assert holds("streams", (cut, ledger))
    nothing = change(history, 89, outcome="info", code="unavailable", received=())
    assert holds("streams", (nothing, ledger))
    late = change(history, 89, received=(1, 2))
    assert judged("streams", (late, ledger)).evidence == (89,)


def circuit(*moves: tuple[float, str], endpoint: str = "p9") -> tuple[History, Ledger]:
    history, ledger = plain()
    told = [Notice(at=a, kind="circuit", endpoint=endpoint, detail=d) for a, d in moves]
    others = [n for n in history.notices if n.kind != "circuit"]
    return replace(history, notices=(*told, *others)), ledger


def test_a_breaker_opens_and_closes_in_time_by_default() -> None:
    assert holds("breaker", circuit((5.0, "open"), (6.1, "closed")))
    assert not holds("breaker", circuit((5.01, "open"), (6.1, "closed")))
    assert holds("breaker", circuit((4.5, "open"), (12.0, "closed")))
    assert not holds("breaker", circuit((4.5, "open"), (12.1, "closed")))
    assert not holds("breaker", circuit((4.5, "open"), (6.5, "half_open")))
    # Two for the fault, one for each second of it, and one more.
    five = [(4.1 + n / 10, "open") for n in range(5)]
    assert holds("breaker", circuit(*five, (6.1, "closed")))
    assert not holds("breaker", circuit(*five, (4.9, "open"), (6.1, "closed")))
    stuck = judged("breaker", circuit((4.2, "open")), closes_within=1.0)
    assert stuck.evidence == ()
    assert "in the end open" in stuck.measured
    # Another endpoint's openings are its own.
    history, ledger = circuit(*five, (6.1, "closed"))
    other, _ = circuit(*five, (6.1, "closed"), endpoint="p8")
    both = replace(history, notices=(*history.notices, *other.notices))
    assert holds("breaker", (both, ledger))


def test_a_breaker_that_is_stuck_names_the_calls_that_pay_for_it() -> None:
    history, ledger = circuit((4.2, "open"))
    history = change(history, 80, outcome="fail", code="unavailable")
    found = judged("breaker", (history, ledger), closes_within=1.0)
    assert found.evidence == (80,)


def attempts_at(*times: float, endpoint: str = "p9") -> tuple[History, Ledger]:
    """In the clean history a circuit of p9 is open from 4.2 to 5.5 and from 5.55 to 6.1."""
    history, ledger = plain()
    for op, at in enumerate(times):
        history = change(history, op, attempts=(attempt(at, endpoint=endpoint),))
    return history, ledger


def test_an_open_circuit_lets_a_probe_pass_for_each_time_it_opens() -> None:
    assert holds("open_means_quiet", attempts_at(4.5, 5.0))
    found = judged("open_means_quiet", attempts_at(4.5, 5.0, 5.8))
    assert (found.verdict, found.evidence) == (Verdict.FAIL, (0, 1, 2))
    assert holds("open_means_quiet", attempts_at(4.5, 5.0, 5.8, 5.9), probes=2)
    assert not holds("open_means_quiet", attempts_at(4.5, 5.0, 5.8, 5.9, 6.0), probes=2)
    # What was under way, what the half-open circuit lets pass, and others.
    assert holds("open_means_quiet", attempts_at(4.22, 4.24, 4.2, 5.52, 5.5, 6.2))
    assert holds("open_means_quiet", attempts_at(4.5, 5.0, 5.8, endpoint="p1"))
    assert not holds("open_means_quiet", attempts_at(4.5, 5.0, 5.8, endpoint=""))
    assert not holds("open_means_quiet", attempts_at(4.22, 4.23, 4.24), tolerance=0.01)


def test_a_circuit_that_never_closes_is_open_until_the_end() -> None:
    history, ledger = circuit((4.2, "open"))
    for op, at in ((0, 8.0), (1, 9.0)):
        history = change(history, op, attempts=(attempt(at, endpoint="p9"),))
    assert not holds("open_means_quiet", (history, ledger))


def test_the_load_of_an_endpoint_is_that_of_the_phases_but_for_their_beginning() -> None:
    history = replace(load(8.0), faults=())
    for o in history.operations:
        where = "p1" if 2.0 <= o.due < 3.0 else "p2"
        history = change(history, o.op, attempts=(attempt(o.due, endpoint=where),))
    assert holds("load_share", (history, NOTHING), endpoint="p1", most=0.0)
    assert not holds("load_share", (history, NOTHING), endpoint="p1", most=0.49, after=0.0)
    assert holds("load_share", (history, NOTHING), endpoint="p1", most=0.5, after=0.0)
    nobody = replace(history, operations=())
    assert not holds("load_share", (nobody, NOTHING), endpoint="p1", most=0.99)


@pytest.mark.parametrize(
    "error", ["CircuitOpenError", "OverloadedError", "NoEndpointError", "RateLimitedError"]
)
def test_what_was_refused_here_was_so_at_once(error: str) -> None:
    def refused(after: float, tries: Sequence[Attempt] = ()) -> tuple[History, Ledger]:
        history = load(1.0)
        called = history.operations[3].called
        return (
            change(
                history, 3, ended=called + after, outcome="fail", error=error, attempts=tuple(tries)
            ),
            NOTHING,
        )

    assert holds("quick_refusals", refused(0.0199))
    found = judged("quick_refusals", refused(0.0201))
    assert (found.verdict, found.evidence) == (Verdict.FAIL, (3,))
    assert holds("quick_refusals", refused(0.3, [attempt(0.3)]))  # it was tried before
    assert holds("quick_refusals", (load(1.0), NOTHING))


def test_isolation_looks_at_the_others_only() -> None:
    history, ledger = plain()
    broken = change(history, 86, outcome="info", code="unavailable")  # a write, at p3
    ask: dict[str, Any] = {"phase": ["recovery"]}
    assert holds("isolation", (broken, ledger), methods=["pay", "watch"], **ask)
    assert not holds("isolation", (broken, ledger), methods=["write"], **ask)
    assert holds("isolation", (broken, ledger), endpoints=["p1", "p2"], **ask)
    assert not holds("isolation", (broken, ledger), endpoints=["p3"], **ask)
    assert judged("isolation", (broken, ledger), **ask).evidence == (86,)
    slow = change(history, 86, ended=history.operations[86].called + 0.07)
    assert judged("isolation", (slow, ledger), **ask).evidence == (86,)
    assert holds("isolation", (slow, ledger), ratio=1.41, **ask)
    without = replace(history, operations=history.operations[41:])
    assert not holds("isolation", (without, ledger), **ask)
    unheard = change(history, 86, ended=None, outcome="info")
    assert judged("isolation", (unheard, ledger), **ask).evidence == (86,)


def test_bystanders_may_take_a_fifth_longer_while_the_fault_lasts() -> None:
    def slower(seconds: float) -> tuple[History, Ledger]:
        history = load(6.0)
        for o in history.operations:
            if 2.0 <= o.due < 4.0:
                history = change(history, o.op, ended=o.due + seconds)
        return history, NOTHING

    assert holds("isolation", slower(0.0599))
    assert not holds("isolation", slower(0.0601))


def held_by(process: str, **changed: float) -> tuple[History, Ledger]:
    history, ledger = plain()
    notices = [n for n in history.notices if n.kind != "resource"]
    return replace(history, notices=(*notices, *held(process, **changed))), replace(
        ledger, notices=()
    )


def test_a_tenth_more_than_before_may_be_held() -> None:
    assert holds("resources", held_by("client", fds=44), within=1.0)
    assert not holds("resources", held_by("client", fds=44.5), within=1.0)
    assert holds("resources", held_by("client", fds=60), within=1.0, tolerance=0.5)
    assert holds("resources", held_by("client", fds=60), within=1.0, of=["tasks", "rss"])
    found = judged("resources", held_by("s2", fds=50), within=1.0)
    assert found.measured == "s2 fds 40 -> 50"
    assert "client rss 100.0 MiB -> 130.0 MiB" in (
        judged("resources", held_by("client", rss=130.0 * (1 << 20)), within=1.0).measured
    )


def test_resources_are_looked_at_from_five_seconds_after_the_heal() -> None:
    history, ledger = held_by("client", fds=60)
    assert not holds("resources", (history, ledger))  # nothing is left to look at after 11 s
    longer = replace(history, faults=(replace(history.faults[0], ended=2.0),))
    assert not holds("resources", (longer, ledger))
    early = replace(longer, notices=tuple(n for n in longer.notices if n.at < 7.0))
    assert "was not sampled after" in judged("resources", (early, ledger)).measured
    assert holds("resources", (early, ledger), within=4.0)


def test_memory_is_looked_at_all_the_time_after_the_base() -> None:
    mib = float(1 << 20)
    assert holds("memory", held_by("client", rss=120.0 * mib))
    assert not holds("memory", held_by("client", rss=120.5 * mib))
    assert holds("memory", held_by("client", rss=110.0 * mib), growth=10.0)
    assert not holds("memory", held_by("client", rss=110.0 * mib), growth=9.0)
    assert judged("memory", held_by("s1", rss=150.0 * mib)).measured == "s1 +50.0 MiB"


def test_hedges_that_are_undecided_are_nobodys_losers() -> None:
    history, ledger = plain()
    hung = change(history, HEDGED, ended=None, outcome="info", code="")
    assert holds("hedging", (hung, ledger))
    assert holds("hedging", (replace(history, operations=()), ledger))
    five = [o.op for o in history.operations if o.method == "read" and o.due < 4.0][:5]
    lost = replace(attempt(0.0), kind="hedge", ended=0.0)
    for op in five:
        if op != HEDGED:
            history = change(history, op, attempts=(attempt(0.0), lost))
    share = sum(a.kind == "hedge" for o in history.operations for a in o.attempts)
    assert share == 6
    assert not holds("hedging", (history, ledger))
    assert holds("hedging", (change(history, five[0], attempts=()), ledger))


def noticed(kind: str, detail: str = "") -> tuple[History, Ledger]:
    return replace(load(1.0), notices=(Notice(at=0.5, kind=kind, detail=detail),)), NOTHING


def at_the_server(kind: str, detail: str = "") -> tuple[History, Ledger]:
    return load(1.0), Ledger(executions=(), notices=(Notice(at=0.5, kind=kind, detail=detail),))


def tried(kind: str, **fields: Any) -> tuple[History, Ledger]:
    made = replace(attempt(0.0), kind=kind)
    return change(load(1.0), 0, attempts=(made,), **fields), NOTHING


SIGNS: dict[str, tuple[History, Ledger]] = {
    "retry.retried": tried("retry"),
    "retry.transparent": tried("transparent"),
    "retry.budget_empty": noticed("retry_stopped", "budget"),
    "hedge.started": tried("hedge", outcome="info"),
    "breaker.opened": noticed("circuit", "open"),
    "breaker.closed": noticed("circuit", "closed"),
    "breaker.rejected": noticed("rejected", "circuit_breaker"),
    "balance.ejected": noticed("endpoint", "ejected"),
    "deadline.expired": (change(load(1.0), 0, code="deadline_exceeded"), NOTHING),
    "server.expired_dropped": at_the_server("refused", "expired"),
    "server.shed": at_the_server("refused", "overloaded"),
    "server.draining": at_the_server("refused", "draining"),
    "server.rate_limited": at_the_server("refused", "rate_limited"),
    "throttle.rejected": noticed("rejected", "throttle"),
    "concurrency.rejected": noticed("rejected", "concurrency"),
    "rate_limit.rejected": noticed("rejected", "rate_limit"),
    "rate_limit.waited": noticed("waited", "rate_limit"),
    "ready.waited": noticed("waited", "ready"),
    "hedge.suppressed": noticed("hedge_suppressed"),
    "fallback.used": noticed("fallback"),
    "fault.injected": noticed("fault_injected"),
    "app.struck": at_the_server("struck"),
    "server.no_files": at_the_server("no_files"),
}


def test_every_mechanism_has_a_sign() -> None:
    assert set(SIGNS) | {"hedge.won"} == set(MECHANISMS)


@pytest.mark.parametrize("name", SIGNS)
def test_a_mechanism_is_seen_by_its_own_sign_alone(name: str) -> None:
    reached = {other for other in SIGNS if holds("reached", SIGNS[name], all_of=[other])}
    assert reached == {name}
    assert not holds("reached", SIGNS[name], all_of=[name, "hedge.won"])


def test_a_hedge_has_won_if_its_answer_was_taken() -> None:
    assert holds("reached", tried("hedge"), all_of=["hedge.won"])
    assert not holds("reached", tried("hedge", outcome="info"), all_of=["hedge.won"])
    lost = (replace(attempt(0.0), kind="hedge", code="canceled"),)
    history = change(load(1.0), 0, attempts=lost)
    assert not holds("reached", (history, NOTHING), all_of=["hedge.won"])


def test_a_balancer_that_refuses_counts_as_the_circuits_that_it_sees() -> None:
    assert holds("reached", noticed("rejected", "load_balancing"), all_of=["breaker.rejected"])


def test_evidence_is_twenty_operations_and_a_count() -> None:
    found = judge("x", good=False, measured="", bar="", offending=tuple(range(30)))
    assert found.evidence == tuple(range(20))
    assert found.offending == 30
    fine = judge("x", good=True, measured="", bar="", offending=tuple(range(30)))
    assert (fine.evidence, fine.offending) == ((), 0)


def test_what_was_told_to_be_not_sent_may_have_been_run_by_nobody() -> None:
    history, ledger = plain()
    assert judged("honest_failure").measured == "0 of 18 'not sent' were executed"
    assert judged("at_most_once").measured.startswith("0 of 20 non-idempotent")
    # What nobody knows of may have been executed.
    failed: Operation = next(o for o in history.operations if o.outcome == "fail")
    unsure = change(history, failed.op, outcome="info")
    runs = Ledger(executions=(*ledger.executions, executed(failed)), final=ledger.final)
    assert holds("honest_failure", (unsure, runs))
    assert read(1, 1.0).good()
