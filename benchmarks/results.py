"""What a run has measured, as text, as a Markdown table, and as a picture."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Sample, ratios, wall_ratio

FOLDER: Final = Path(__file__).with_name("results")
FLOOR: Final = "hand-written floor"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Arms that took turns.

    Attributes:
        title: What was measured.
        base: The arm that the others are held against.
        samples: Of each arm.
        note: What a reader should know of it.
    """

    title: str
    base: str
    samples: dict[str, Sample]
    note: str = ""

    def rows(self) -> list[list[str]]:
        """Of each arm its name, and what `heads` names."""
        zero = self.samples[self.base]
        floor = self.samples.get(FLOOR)
        found: list[list[str]] = []
        for name, sample in self.samples.items():
            best, middle = ratios(sample, zero)
            more = sample.best - zero.best
            row = [
                name,
                f"{best:.2f}",
                f"{middle:.2f}",
                f"{wall_ratio(sample, zero):.2f}",
                f"{sample.best * 1e6:.2f}",
                f"{more * 1e6:.2f}",
            ]
            if floor is not None:
                row.append(f"{more / (floor.best - zero.best):.1f}")
            found.append(row)
        return found

    def heads(self) -> list[str]:
        """Of the columns."""
        heads = ["", "ratio", "median", "clock", "us CPU", "us more"]
        return [*heads, "floors"] if FLOOR in self.samples else heads


def text(comparison: Comparison) -> str:
    """A table for a terminal."""
    rows = [comparison.heads(), *comparison.rows()]
    wide = max(len(row[0]) for row in rows) + 2
    lines = ["", comparison.title]
    lines += [f"  {row[0]:{wide}}" + "".join(f"{cell:>9}" for cell in row[1:]) for row in rows]
    return "\n".join([*lines, f"  {comparison.note}"] if comparison.note else lines)


def machine(turns: int) -> str:
    """What it was measured on, and how."""
    return (
        f"CPython {platform.python_version()}, {platform.machine()}, {os.cpu_count()} CPUs, "
        f"{turns} turns for each arm, taken alternately."
    )


EXPLAINED: Final = (
    "`ratio`: CPU time of the best turns against the first line; `median`: the same by rounds;\n"
    "`clock`: by the clock; `us more`: microseconds of CPU above the first line; `floors`:\n"
    "that, in units of the hand-written floor. Microseconds are of this machine and bind nobody."
)


def markdown(comparisons: Sequence[Comparison], *, turns: int) -> str:
    """The tables of a run, for `benchmarks/results/`."""
    parts = ["# What the chain costs", "", f"`make bench`: {machine(turns)}", "", EXPLAINED]
    for comparison in comparisons:
        heads = comparison.heads()
        parts += ["", f"## {comparison.title}", ""]
        parts += [f"| {' | '.join(heads)} |", f"|---{'|---:' * (len(heads) - 1)}|"]
        parts += [f"| {' | '.join(row)} |" for row in comparison.rows()]
        if comparison.note:
            parts += ["", comparison.note]
    parts += ["", "![Microseconds of CPU for each call](cost.png)", ""]
    return "\n".join(parts)


def draw(comparison: Comparison, path: Path) -> bool:
    """Bars of what each arm costs more than the base.

    Args:
        comparison: With a floor.
        path: Of the PNG.

    Returns:
        Whether there is matplotlib to draw with.
    """
    try:
        matplotlib: Any = import_module("matplotlib")
    except ImportError:
        return False
    matplotlib.use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")
    zero = comparison.samples[comparison.base].best
    costs = {
        name: (sample.best - zero) * 1e6
        for name, sample in comparison.samples.items()
        if name != comparison.base
    }
    names = list(costs)
    floor = costs[FLOOR]
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(names) + 1.4), layout="constrained")
    colours = [
        "#8a8a8a" if name == FLOOR else "#0b6aa8" if name.startswith("Client") else "#d08a2e"
        for name in names
    ]
    bars = axes.barh(names, list(costs.values()), color=colours, height=0.62)
    axes.bar_label(bars, [f"{cost:.1f}" for cost in costs.values()], padding=4)
    axes.axvline(2 * floor, color="#8a8a8a", linestyle=":", linewidth=1)
    axes.annotate(
        "twice the floor",
        (2 * floor, 0),
        (3, -14),
        textcoords="offset points",
        fontsize=8,
        color="#555",
    )
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set_xlabel("microseconds of CPU for a unary call that succeeds, above a bare call")
    axes.set_title(comparison.title, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
    return True


def write(comparisons: Sequence[Comparison], *, turns: int, folder: Path = FOLDER) -> list[Path]:
    """Write the tables and the picture.

    Args:
        comparisons: Of which the first is drawn.
        turns: How many each arm had.
        folder: Where to.

    Returns:
        What was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, picture = folder / "cost.md", folder / "cost.png"
    table.write_text(markdown(comparisons, turns=turns))
    return [table, picture] if draw(comparisons[0], picture) else [table]
