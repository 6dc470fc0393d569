"""Colours and style sheet: readable on a phone, in the dark, and without telling red from green."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Ink:
    """How a line looks: a colour that the colour-blind can tell apart, and dashes for all.

    Attributes:
        name: Of the style sheet's variable.
        dash: As SVG has it; empty for a whole line.
        width: In pixels.
    """

    name: str
    dash: str = ""
    width: float = 2.0

    @property
    def style(self) -> str:
        """For a line's `style`."""
        dash = f";stroke-dasharray:{self.dash}" if self.dash else ""
        return f"stroke:var(--{self.name});stroke-width:{self.width:g}{dash}"


_ARMS: Final = {
    "none": Ink("grey", "2 3"),
    "naive": Ink("vermilion"),
    "textbook": Ink("orange", "7 3"),
    "goref": Ink("purple", "7 3 2 3"),
    "stack": Ink("blue", width=3.0),
}
_OTHERS: Final = (Ink("green", "7 3"), Ink("sky", "2 3"), Ink("yellow"), Ink("purple"))

GOOD: Final = Ink("blue")
BAD: Final = Ink("vermilion")


def inks(arms: Sequence[str]) -> dict[str, Ink]:
    """The ink of each arm."""
    others = [name for name in arms if name not in _ARMS]
    return {name: _ARMS.get(name) or _OTHERS[others.index(name) % len(_OTHERS)] for name in arms}


_LIGHT: Final = (
    "--ink:#1b1f24;--soft:#57606a;--paper:#fff;--rule:#d8dee4;--band:#8c959f;"
    "--grey:#6e7781;--vermilion:#c8500a;--orange:#b87500;--purple:#a5508f;--blue:#0067a3;"
    "--green:#007a5a;--sky:#2b8ac6;--yellow:#8f7e00"
)
_DARK: Final = (
    "--ink:#e6edf3;--soft:#9da7b3;--paper:#0f1318;--rule:#30363d;--band:#8c959f;"
    "--grey:#a0a8b0;--vermilion:#f0884a;--orange:#e6a93a;--purple:#dd94c8;--blue:#56b4e9;"
    "--green:#2fc79a;--sky:#8fd0f5;--yellow:#e0d04a"
)

DRAWING: Final = """
text{font:11px system-ui,sans-serif;fill:var(--soft)}
.grid{stroke:var(--rule)}
.fault{fill:var(--band);opacity:.18}.mark{fill:var(--soft);font-size:10px}
.line{fill:none;stroke-linejoin:round}.dots{stroke-linecap:round;opacity:.55;fill:none}
.level{stroke:var(--ink);stroke-dasharray:5 3}
.closed{fill:var(--blue);opacity:.25}.half_open{fill:var(--orange)}.open{fill:var(--vermilion)}
.ejected{fill:var(--purple)}.try{fill:var(--sky)}.tried{fill:var(--vermilion)}
.end{stroke:var(--ink);stroke-width:2}
.halo{paint-order:stroke;stroke:var(--paper);stroke-width:4px;stroke-linejoin:round}
"""
"""Of everything that is drawn."""

VARIABLES: Final = f":root{{{_LIGHT}}}"

PAGE: Final = (
    f":root{{color-scheme:light dark;{_LIGHT}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
    f"{DRAWING}"
    """
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1400px;padding:0 16px 48px;
color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
h1{font-size:1.5rem;margin:1rem 0 .25rem}
h2{font-size:1.2rem;margin:2.5rem 0 .25rem;border-top:2px solid var(--rule);padding-top:1rem}
h3{font-size:1rem;margin:1.25rem 0 .25rem}
p{margin:.25rem 0;max-width:80ch}small,.soft{color:var(--soft)}
a{color:var(--blue)}
table{border-collapse:collapse;font-size:.9rem;margin:.5rem 0;width:100%}
th,td{text-align:left;padding:.3rem .75rem .3rem 0;border-bottom:1px solid var(--rule);
vertical-align:top}
th{color:var(--soft);font-weight:600}td.n{font-variant-numeric:tabular-nums;white-space:nowrap}
.v{font-weight:600;white-space:nowrap}.pass{color:var(--green)}
.fail,.negative-control-failed{color:var(--vermilion)}.inconclusive{color:var(--orange)}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));
gap:16px 24px;margin:.75rem 0}
figure{margin:0;min-width:0}figcaption{font-size:.9rem;font-weight:600}
svg{display:block;width:100%;height:auto}
.key{display:flex;flex-wrap:wrap;gap:.1rem 1rem;font-size:.85rem;margin:.5rem 0;padding:0;
list-style:none}
.key svg{display:inline-block;width:28px;height:10px;margin-right:.4em}
details{font-size:.9rem;margin:.25rem 0}summary{cursor:pointer;padding:.15rem 0}
code{font:13px ui-monospace,monospace}
ol.calls{list-style:none;margin:.25rem 0;padding:0}ol.calls li{margin:.5rem 0}
ol.calls svg{max-width:640px}
@media(max-width:640px){
table.wide,table.wide tbody,table.wide tr,table.wide td{display:block;width:100%}
table.wide tr:first-child{display:none}
table.wide tr{border-bottom:1px solid var(--rule);padding:.35rem 0}
table.wide td{border:0;padding:.05rem 0}
table.wide td[data-of]::before{content:attr(data-of) ": ";color:var(--soft)}
}
@media print{details{display:block}}
"""
)
