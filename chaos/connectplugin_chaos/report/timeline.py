"""A call that offends, as a drawing: its attempts, its deadline, and when it was over."""

from html import escape
from typing import Final

from connectplugin_chaos.report.model import AttemptEntry, OffenderEntry
from connectplugin_chaos.report.svg import WIDTH

_ROW: Final = 13
_LEFT: Final = 92
_RIGHT: Final = 8


def drawing(call: OffenderEntry) -> str:
    """The SVG; empty for a call without attempts.

    Args:
        call: One entry of a check's `evidence`.
    """
    attempts = call["attempts"]
    if not attempts:
        return ""
    begin = call["called"]
    ends = [each["ended"] for each in attempts if each["ended"] is not None]
    until = begin + call["deadline"]
    end = max([until, call["ended"] or until, *ends]) + 0.02 * call["deadline"]
    height = _ROW * len(attempts) + 16

    def x(at: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * (at - begin) / (end - begin)

    parts: list[str] = []
    for row, each in enumerate(attempts):
        started, over, code = each["started"], each["ended"], each["code"]
        last = end if over is None else over
        parts.append(
            f'<text x="{_LEFT - 5}" y="{_ROW * row + 10}" text-anchor="end">'
            f"{each['number']} {escape(each['kind'])} {escape(each['endpoint'])}</text>"
            f'<rect x="{x(started):.1f}" y="{_ROW * row + 2}" height="{_ROW - 4}" '
            f'width="{max(1.0, x(last) - x(started)):.1f}" '
            f'class="{"try" if code == "ok" else "tried"}"><title>{escape(code or "never ended")}: '
            f"{started:.3f} s to {'?' if over is None else format(over, '.3f')} s</title></rect>"
        )
    bottom = height - 14
    parts.append(
        f'<line x1="{x(until):.1f}" x2="{x(until):.1f}" y1="0" y2="{bottom}" class="level"/>'
        f'<text x="{x(until):.1f}" y="{height - 3}" text-anchor="end" class="mark">deadline</text>'
    )
    if call["ended"] is not None:
        at = x(call["ended"])
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{bottom}" class="end"/>')
    told = f"attempts of operation {call['op']}"
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{told}">{"".join(parts)}</svg>'
    )


def caption(call: OffenderEntry) -> str:
    """The same in a line of text, as HTML."""
    took = (
        "never ended"
        if call["ended"] is None
        else f"{1000 * (call['ended'] - call['called']):.0f} ms"
    )
    tries = "; ".join(_told(each, call["called"]) for each in call["attempts"])
    return (
        f"<code>op {call['op']} {escape(call['method'])} at {call['called']:.3f} s, {took}: "
        f"{escape(call['code'])}</code>"
        f'<br/><code class="soft">{escape(tries) or "no attempt"}</code>'
    )


def _told(attempt: AttemptEntry, begin: float) -> str:
    end = "?" if attempt["ended"] is None else f"{attempt['ended'] - begin:+.3f}"
    return (
        f"{attempt['number']} {attempt['kind']} {attempt['endpoint']} "
        f"{attempt['started'] - begin:+.3f} s to {end} s {attempt['code']}"
    )
