"""Attempts for each call, in every phase of every arm, as bars beside the line of 1.1."""

from collections.abc import Sequence
from html import escape
from typing import Final

from connectplugin_chaos.report.model import ArmEntry
from connectplugin_chaos.report.style import inks
from connectplugin_chaos.report.svg import WIDTH

BAR: Final = 1.1
_LEFT: Final = 112
_RIGHT: Final = 40
_ROW: Final = 13


def amplification(arms: Sequence[ArmEntry]) -> str:
    """The figure."""
    title = "Attempts for each call"
    rows = [
        (arm["name"], phase, factor)
        for arm in arms
        if arm["metrics"] is not None
        for phase, factor in arm["metrics"]["amplification_by_phase"].items()
    ]
    most = max((factor for *_, factor in rows), default=1.0)
    top = max(1.2, most)
    colours = inks([arm["name"] for arm in arms])
    height = _ROW * len(rows) + 20

    def x(factor: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * factor / top

    bottom = _ROW * len(rows) + 2
    parts = [
        f'<line x1="{x(BAR):.1f}" x2="{x(BAR):.1f}" y1="0" y2="{bottom}" class="level"/>'
        f'<text x="{x(BAR):.1f}" y="{bottom + 12}" text-anchor="middle" class="mark">{BAR}</text>'
    ]
    for number, (name, phase, factor) in enumerate(rows):
        y = _ROW * number
        told = f"{name}, {phase}"
        parts.append(
            f'<text x="{_LEFT - 5}" y="{y + 10}" text-anchor="end">{escape(told)}</text>'
            f'<rect x="{_LEFT}" y="{y + 2}" width="{max(0.5, x(factor) - _LEFT):.1f}" '
            f'height="{_ROW - 3}" style="fill:var(--{colours[name].name})"/>'
            f'<text x="{x(factor) + 4:.1f}" y="{y + 10}" class="halo">{factor:.2f}</text>'
        )
    return (
        f'<figure><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{title}">{"".join(parts)}</svg></figure>'
    )
