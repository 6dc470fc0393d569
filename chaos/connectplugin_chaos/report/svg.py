"""Plots as SVG text: drawn here, so that the report needs nothing but a browser."""

from collections.abc import Sequence
from html import escape
from typing import Final

WIDTH: Final = 640
HEIGHT: Final = 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 14, 26

Point = tuple[float, float]


class Plot:
    """One plot with a time axis.

    Args:
        title: Above it.
        begin: Of the time axis, in seconds.
        end: Of the time axis.
        top: Of the other axis, which begins at 0.
        unit: Of the other axis.
    """

    def __init__(self, title: str, *, begin: float, end: float, top: float, unit: str) -> None:
        self._title = title
        self._begin = begin
        self._end = max(end, begin + 0.001)
        self._top = top or 1.0
        self._parts: list[str] = []
        self._unit = unit
        self._axes()

    def _x(self, at: float) -> float:
        inner = WIDTH - _LEFT - _RIGHT
        return _LEFT + inner * (at - self._begin) / (self._end - self._begin)

    def _y(self, value: float) -> float:
        inner = HEIGHT - _TOP - _BOTTOM
        return _TOP + inner * (1 - min(value, self._top) / self._top)

    def _axes(self) -> None:
        for share in (0.0, 0.5, 1.0):
            y = self._y(self._top * share)
            self._parts.append(
                f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" class="grid"/>'
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">'
                f"{self._top * share:g}{escape(self._unit)}</text>"
            )
        step = max(1, round((self._end - self._begin) / 8))
        at = 0
        while at <= self._end:
            self._parts.append(
                f'<text x="{self._x(at):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{at} s</text>'
            )
            at += step

    def band(self, begin: float, end: float, label: str) -> None:
        """Shade a span of time: a fault."""
        x, width = self._x(begin), self._x(end) - self._x(begin)
        self._parts.append(
            f'<rect x="{x:.1f}" y="{_TOP}" width="{max(width, 1):.1f}" '
            f'height="{HEIGHT - _TOP - _BOTTOM}" class="fault">'
            f"<title>{escape(label)}</title></rect>"
        )

    def line(self, points: Sequence[Point], colour: str, label: str) -> None:
        """A line through points."""
        path = " ".join(f"{self._x(x):.1f},{self._y(y):.1f}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" style="stroke:{colour}" class="line">'
            f"<title>{escape(label)}</title></polyline>"
        )

    def dots(self, points: Sequence[Point], colour: str, label: str) -> None:
        """A dot for each point."""
        path = "".join(f"M{self._x(x):.0f},{self._y(y):.0f}h0" for x, y in points)
        self._parts.append(
            f'<path d="{path}" style="stroke:{colour}" class="dots">'
            f"<title>{escape(label)}</title></path>"
        )

    def level(self, value: float, label: str) -> None:
        """A horizontal line: a bar, a deadline."""
        y = self._y(value)
        self._parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" class="level">'
            f"<title>{escape(label)}</title></line>"
        )

    def text(self) -> str:
        """The SVG."""
        return (
            f'<figure><figcaption>{escape(self._title)}</figcaption><svg viewBox="0 0 {WIDTH} '
            f'{HEIGHT}" role="img" aria-label="{escape(self._title)}">{"".join(self._parts)}'
            "</svg></figure>"
        )
