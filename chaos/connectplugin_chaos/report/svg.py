"""Plots as SVG text: drawn here, so that the report needs nothing but a browser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from connectplugin_chaos.report.style import Ink

WIDTH: Final = 420
"""In units of the drawing; no more than a phone is wide, so that letters stay readable there."""

HEIGHT: Final = 168
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 18, 24

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The axis of values.

    Attributes:
        low: At the bottom.
        high: At the top; what is beyond is drawn there.
        unit: Behind each number.
        log: Whether equal steps are equal factors.
    """

    low: float = 0.0
    high: float
    unit: str = ""
    log: bool = False

    def share(self, value: float) -> float:
        """How far up a value is, from 0 to 1."""
        inside = min(max(value, self.low), self.high)
        if self.log:
            return math.log(inside / self.low) / math.log(self.high / self.low)
        return (inside - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Where a line is drawn across."""
        if not self.log:
            return [self.low + (self.high - self.low) * n / 4 for n in range(5)]
        powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        return [10.0**power for power in powers]


def round_up(value: float) -> float:
    """The next number that is 4, 8, 20, 40, 80, ... so that a quarter of it is round too."""
    power = 10.0 ** math.floor(math.log10(max(value, 0.001)))
    return next(step * power for step in (1, 2, 4, 8, 20) if step * power >= value)


class Plot:
    """One plot with a time axis.

    Args:
        title: Above it.
        begin: Of the time axis, in seconds.
        end: Of the time axis.
        scale: Of the other axis; None if there is none, and rows are drawn instead.
        height: In units of the drawing.
    """

    def __init__(
        self,
        title: str,
        *,
        begin: float,
        end: float,
        scale: Scale | None,
        height: float = HEIGHT,
    ) -> None:
        self.title = title
        self._begin = begin
        self._end = max(end, begin + 0.001)
        self._scale = scale
        self._height = height
        self._parts: list[str] = []
        self._axes()

    def x(self, at: float) -> float:
        """Where a time is; what is outside is drawn at the edge."""
        inside = min(max(at, self._begin), self._end)
        inner = WIDTH - LEFT - RIGHT
        return LEFT + inner * (inside - self._begin) / (self._end - self._begin)

    def y(self, value: float) -> float:
        """Where a value is."""
        inner = self._height - TOP - BOTTOM
        return TOP + inner * (1 - (0.0 if self._scale is None else self._scale.share(value)))

    def _axes(self) -> None:
        for value in [] if self._scale is None else self._scale.ticks():
            y = self.y(value)
            self._parts.append(
                f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="grid"/>'
                f'<text x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">'
                f"{escape(_named(value, self._scale))}</text>"
            )
        step = _step(self._end - self._begin)
        at = math.ceil(self._begin / step) * step
        while at <= self._end:
            self._parts.append(
                f'<text x="{self.x(at):.1f}" y="{self._height - 7:g}" text-anchor="middle">'
                f"{at:g} s</text>"
            )
            at += step

    def band(self, begin: float, end: float, label: str) -> None:
        """Shade a span of time: a fault."""
        x, width = self.x(begin), self.x(end) - self.x(begin)
        self._parts.append(
            f'<rect x="{x:.1f}" y="{TOP}" width="{max(width, 1):.1f}" '
            f'height="{self._height - TOP - BOTTOM:g}" class="fault">'
            f"<title>{escape(label)}: {begin:.2f} s to {end:.2f} s</title></rect>"
        )

    def mark(self, at: float, text: str) -> None:
        """A word above the plot."""
        x = min(self.x(at), WIDTH - RIGHT - 5.5 * len(text))
        self._parts.append(f'<text x="{x:.1f}" y="{TOP - 6}" class="mark">{escape(text)}</text>')

    def line(self, points: Sequence[Point], ink: Ink, label: str) -> None:
        """A line through points."""
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" style="{ink.style}" class="line">'
            f"<title>{escape(label)}</title></polyline>"
        )

    def dots(self, points: Sequence[Point], ink: Ink, label: str) -> None:
        """A dot for each point; those in the same place are one."""
        places = dict.fromkeys((round(self.x(x)), round(self.y(y))) for x, y in points)
        path = "".join(f"M{x},{y}h0" for x, y in places)
        self._parts.append(
            f'<path d="{path}" style="stroke:var(--{ink.name});stroke-width:2.5" class="dots">'
            f"<title>{escape(label)}</title></path>"
        )

    def level(self, value: float, label: str) -> None:
        """A horizontal line: a bar, a deadline."""
        y = self.y(value)
        self._parts.append(
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" class="level"/>'
            f'<text x="{WIDTH - RIGHT}" y="{y - 4:.1f}" text-anchor="end" class="mark">'
            f"{escape(label)}</text>"
        )

    def row(self, number: int, label: str, spans: Sequence[tuple[float, float, str]]) -> None:
        """A strip: spans of time, each of a kind that the style sheet knows.

        Args:
            number: From above, from 0.
            label: To the left.
            spans: Begin, end, kind.
        """
        y = TOP + ROW * number
        self._parts.append(
            f'<text x="{LEFT - 5}" y="{y + 11:g}" text-anchor="end">{escape(label)}</text>'
        )
        for begin, end, kind in spans:
            x, width = self.x(begin), self.x(end) - self.x(begin)
            self._parts.append(
                f'<rect x="{x:.1f}" y="{y + 2:g}" width="{max(width, 0.8):.1f}" height="{ROW - 4}"'
                f' class="{kind}"><title>{escape(label)} {kind.replace("_", " ")}: {begin:.2f} s to'
                f" {end:.2f} s</title></rect>"
            )

    def inside(self) -> str:
        """The drawing without its frame."""
        return "".join(self._parts)

    def text(self) -> str:
        """The SVG in an HTML figure."""
        return (
            f'<figure><figcaption>{escape(self.title)}</figcaption><svg viewBox="0 0 {WIDTH} '
            f'{self._height:g}" role="img" aria-label="{escape(self.title)}">{self.inside()}'
            "</svg></figure>"
        )


ROW: Final = 16
"""Height of a strip."""


def rows_height(count: int) -> float:
    """The height of a plot of so many strips."""
    return TOP + BOTTOM + ROW * count


def _named(value: float, scale: Scale | None) -> str:
    unit = "" if scale is None else scale.unit
    if unit == " ms" and value >= 1000:  # noqa: PLR2004  # a second
        return f"{value / 1000:g} s"
    return f"{value:g}{unit}"


def _step(span: float) -> float:
    return next((step for step in (0.5, 1, 2, 5, 10, 20, 60) if span / step <= 8), 300.0)  # noqa: PLR2004  # more get in each other's way
