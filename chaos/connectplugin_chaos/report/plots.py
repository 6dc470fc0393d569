"""The plots of a scenario: its arms in one plot where that can be read, else side by side."""

import math
from collections.abc import Iterator, Mapping

from connectplugin_chaos.check import stats
from connectplugin_chaos.record.model import History
from connectplugin_chaos.report import series
from connectplugin_chaos.report.style import BAD, GOOD, Ink
from connectplugin_chaos.report.svg import HEIGHT, Plot, Scale, round_up, rows_height


class Drawing:
    """Draws over the same time, with the same faults.

    Args:
        histories: By arm; the faults are the first one's, since all have the same.
        inks: Of the arms.
    """

    def __init__(self, histories: Mapping[str, History], inks: Mapping[str, Ink]) -> None:
        self._histories = histories
        self._inks = inks
        self._first = next(iter(histories.values()))
        self.begin = min((o.due for o in self._first.operations), default=0.0)
        self.end = max(series.last_due(history) for history in histories.values())
        self.deadline = max((o.deadline for o in self._first.operations), default=1.0)

    def plot(self, title: str, scale: Scale | None, rows: int = 0) -> Plot:
        """An empty plot, with the faults in it."""
        height = rows_height(rows) if rows else HEIGHT
        made = Plot(title, begin=self.begin, end=self.end, scale=scale, height=height)
        for fault in self._first.faults:
            made.band(fault.began, self.end if fault.ended is None else fault.ended, fault.name)
        names = ", ".join(dict.fromkeys(fault.name for fault in self._first.faults))
        if names:
            made.mark(min(fault.began for fault in self._first.faults), names)
        return made

    def together(self) -> list[Plot]:
        """Success, goodput and attempts of all arms."""
        share = self.plot("Success of the calls of each second", Scale(high=100, unit=" %"))
        goodput = {
            name: series.per_second(h, self.begin, series.answered)
            for name, h in self._histories.items()
        }
        sent = {
            name: series.per_second(h, self.begin, series.sent)
            for name, h in self._histories.items()
        }
        well = self.plot("Answered in time, each second", _scale(goodput))
        attempts = self.plot("Attempts sent, each second", _scale(sent))
        for name, history in self._histories.items():
            share.line(series.success(history, self.begin), self._inks[name], name)
            well.line(goodput[name], self._inks[name], name)
            attempts.line(sent[name], self._inks[name], name)
        return [share, well, attempts]

    def latency(self) -> Iterator[Plot]:
        """How long each call took, an arm a plot, all with the same scale."""
        took = [d for h in self._histories.values() for d in stats.durations(h.operations)]
        scale = Scale(
            low=_power_below(1000 * stats.percentile(took, 0.01)),
            high=1000 * max(1.5 * self.deadline, *took, 0.0),
            unit=" ms",
            log=True,
        )
        for name, history in self._histories.items():
            made = self.plot(f"{name}: time of each call", scale)
            ended = [(o, o.ended) for o in history.operations if o.ended is not None]
            for good, ink, label in ((True, GOOD, "came back well"), (False, BAD, "failed")):
                points = [(o.due, 1000 * (e - o.called)) for o, e in ended if o.good() is good]
                made.dots(points, ink, label)
            for part, dash in ((0.5, "1 3"), (0.99, "")):
                line = series.percentiles(history, self.begin, part)
                made.line(line, Ink("ink", dash, 1.2), f"p{part * 100:g} of each second")
            made.level(1000 * self.deadline, "deadline")
            yield made

    def circuits(self) -> Iterator[Plot]:
        """The states of the circuits, an arm a plot; nothing where none ever opened."""
        for name, history in self._histories.items():
            states = series.circuits(history, self.begin, self.end)
            if states:
                made = self.plot(f"{name}: circuits", None, rows=len(states))
                for number, (endpoint, spans) in enumerate(states.items()):
                    made.row(number, endpoint, spans)
                yield made


def _scale(lines: Mapping[str, series.Points]) -> Scale:
    return Scale(high=round_up(max((y for line in lines.values() for _, y in line), default=1)))


def _power_below(milliseconds: float) -> float:
    return 10.0 ** math.floor(math.log10(max(1.0, milliseconds)))
