"""Whether a run says anything: a busy machine makes calls late, and late calls prove nothing."""

from collections.abc import Sequence
from typing import Final

from connectplugin_chaos.check.stats import percentile
from connectplugin_chaos.record.model import Notice

LATE: Final = 0.02
"""Seconds: the 99th percentile of the generator's lateness, and of each event loop's delay."""

STALL: Final = 0.15
"""Seconds: one such delay of any event loop, and no failure is believed."""


def busy(
    lateness: Sequence[float],
    lags: Sequence[tuple[float, float]],
    notices: Sequence[Notice],
    *,
    calm: float = float("inf"),
) -> str:
    """Why the machine was too busy for any verdict; empty if it was not.

    Delays of before the end of the warm-up are of the start, and count for nothing. A server that
    is late although all is calm is on too small a machine. Later what it computes itself is the
    scenario's doing (the burst of a heal, an arm that calls too often); only what it waits for the
    processor counts.

    Args:
        lateness: Seconds by which operations were called late.
        lags: Time and delay of the generator's event loop.
        notices: The servers', of which `lag` and `starved` are looked at; not of those that a fault
            has stopped.
        calm: Until when a server has no reason to be late.
    """
    told = [
        ("operations were called late", percentile(lateness, 0.99)),
        (
            "the generator's event loop was late",
            percentile([lag for at, lag in lags if at >= 0], 0.99),
        ),
    ]
    seen = [n for n in notices if n.kind == ("lag" if n.at < calm else "starved") and n.at >= 0]
    for server in sorted({n.endpoint for n in seen}):
        own = [n.value for n in seen if n.endpoint == server]
        told.append((f"the event loop of {server} was late", percentile(own, 0.99)))
    over = [f"{what} by {seconds * 1000:.0f} ms" for what, seconds in told if seconds > LATE]
    return f"{'; '.join(over)} (99th percentile; {LATE * 1000:.0f} ms are allowed)" if over else ""


def stalled(lags: Sequence[tuple[float, float]], notices: Sequence[Notice]) -> str:
    """Why a failure is not believed; empty if it is."""
    most = max((lag for at, lag in lags if at >= 0), default=0.0)
    where = "the generator"
    for notice in notices:
        if notice.kind == "lag" and notice.at >= 0 and notice.value > most:
            most, where = notice.value, notice.endpoint
    return f"{where} stood still for {most * 1000:.0f} ms" if most > STALL else ""
