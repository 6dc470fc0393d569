"""I12: what a process holds is given back soon after the heal; and memory stays bounded."""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from connectplugin_chaos.check.judgement import Judgement, judge
from connectplugin_chaos.record.model import History, Ledger, Notice

KINDS: Final = ("fds", "tasks", "connections", "rss")
"""What is sampled in the client's process and in each server's; see `record.probes`."""

_MIB: Final = 1 << 20


def resources(
    history: History,
    ledger: Ledger,
    *,
    of: Sequence[str] = KINDS,
    base: str = "base",
    within: float = 5.0,
    tolerance: float = 0.1,
) -> Judgement:
    """Each process holds what it held before the fault, `within` seconds after its end.

    Compared is the median of the samples from then until the last call was due with the most of the
    samples of `base`: the load is the same, so that what differs is what was not given back.

    Args:
        history: The client's side.
        ledger: The servers'.
        of: Of `KINDS`.
        base: The phase before the fault.
        within: Seconds after the heal.
        tolerance: Share that is allowed on top.
    """
    begin, end = history.phases[base]
    since, until = history.healed + within, max((o.due for o in history.operations), default=0.0)
    told: list[str] = []
    told_well: list[str] = []
    for process, kind, samples in _series(history, ledger, of):
        before = [n.value for n in samples if begin <= n.at < end]
        after = [n.value for n in samples if since <= n.at <= until]
        if not before or not after:
            told.append(f"{process} {kind} was not sampled {'after' if before else 'before'}")
            continue
        seen = f"{process} {kind} {_amount(kind, max(before))} -> {_amount(kind, median(after))}"
        (told if median(after) > (1 + tolerance) * max(before) else told_well).append(seen)
    if not told and not told_well:
        told.append("nothing was sampled")
    return judge(
        "resources",
        not told,
        measured="; ".join(told or told_well),
        bar=f"<= +{tolerance * 100:g} %, {within:g} s after the heal",
    )


def memory(
    history: History, ledger: Ledger, *, growth: float = 20.0, base: str = "base"
) -> Judgement:
    """No process grows by more than so many MiB over what it had in `base`, at any time.

    Args:
        history: The client's side.
        ledger: The servers'.
        growth: MiB.
        base: The phase before the fault.
    """
    begin, end = history.phases[base]
    grown: dict[str, float] = {}
    for process, _, samples in _series(history, ledger, ("rss",)):
        before = [n.value for n in samples if begin <= n.at < end]
        later = [n.value for n in samples if n.at >= end]
        if before and later:
            grown[process] = (max(later) - max(before)) / _MIB
    told = ", ".join(f"{process} {more:+.1f} MiB" for process, more in grown.items())
    return judge(
        "memory",
        grown and max(grown.values()) <= growth,
        measured=told or "nothing was sampled",
        bar=f"<= +{growth:g} MiB",
    )


def _series(
    history: History, ledger: Ledger, kinds: Iterable[str]
) -> list[tuple[str, str, list[Notice]]]:
    """The samples of each process and kind."""
    found: dict[tuple[str, str], list[Notice]] = {}
    for notice in (*history.notices, *ledger.notices):
        if notice.kind == "resource":
            found.setdefault((notice.endpoint, notice.detail), []).append(notice)
    processes = sorted({process for process, _ in found})
    return [(p, kind, found.get((p, kind), [])) for p in processes for kind in kinds]


def _amount(kind: str, value: float) -> str:
    return f"{value / _MIB:.1f} MiB" if kind == "rss" else f"{value:g}"
