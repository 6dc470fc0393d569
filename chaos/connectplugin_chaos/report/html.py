"""`report.html`: one file that loads nothing, for any browser and any width."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from connectplugin_chaos.check import stats
from connectplugin_chaos.record.files import read_history
from connectplugin_chaos.record.model import History
from connectplugin_chaos.report.svg import Plot
from connectplugin_chaos.report.text import HEAD, row

_COLOURS: Final = {
    "none": "#7a7a7a",
    "naive": "#c0392b",
    "textbook": "#d68910",
    "goref": "#8e44ad",
    "stack": "#1e8449",
}
_OTHERS: Final = ("#2471a3", "#148f77", "#b9770e", "#6c3483", "#943126")

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1400px;padding:0 16px 48px;
color:#1a1a1a;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.2rem;margin:2rem 0 .25rem;border-top:1px solid #ddd;
padding-top:1rem}
p{margin:.25rem 0;max-width:75ch}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;margin:.5rem 0}
th,td{text-align:left;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #eee;
vertical-align:top}
.v{font-weight:600;white-space:nowrap}.pass{color:#1e8449}.fail{color:#c0392b}
.negative-control-failed{color:#c0392b}.inconclusive{color:#9a6700}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,520px),1fr));gap:16px}
figure{margin:0}figcaption{font-size:.9rem;font-weight:600}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#555}.grid{stroke:#e5e5e5}
.fault{fill:#c0392b;opacity:.1}.line{fill:none;stroke-width:2}
.dots{stroke-width:2.5;stroke-linecap:round;opacity:.5;fill:none}
.level{stroke:#c0392b;stroke-dasharray:4 4}
details{font-size:.9rem;margin:.25rem 0}summary{cursor:pointer}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
.key{display:inline-block;width:.8em;height:.8em;margin-right:.4em}
"""


def page(report: Mapping[str, Any], folder: Path) -> str:
    """The whole page.

    Args:
        report: What `report.json` holds.
        folder: Where the histories are.
    """
    run = report["run"]
    body = [
        f"<h1>Chaos: {_verdict(report['verdict'])}</h1>",
        f"<p>Run {escape(run['id'])}, commit {escape(run['commit'][:12])}, "
        f"{escape(run['fault_engine'])}, Python {escape(run['python'])}, {run['cpus']} CPUs</p>",
    ]
    for scenario in report["scenarios"]:
        body += _scenario(scenario, folder)
    rows = "".join(
        f"<tr><td>{'ok' if probe['good'] else 'BAD'}</td><td>{escape(probe['name'])}</td>"
        f"<td>{escape(probe['seen'])}</td></tr>"
        for probe in run["doctor"]
    )
    body.append(
        "<h2>The fault engine</h2><details><summary>What the doctor has measured</summary>"
        f'<div class="scroll"><table>{rows}</table></div></details>'
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Chaos {escape(run['id'])}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def _verdict(verdict: str) -> str:
    return f'<span class="v {verdict}">{verdict}</span>'


def colour(arm: str, others: Sequence[str]) -> str:
    """Of an arm in the plots."""
    if arm in _COLOURS:
        return _COLOURS[arm]
    return _OTHERS[others.index(arm) % len(_OTHERS)]


def _scenario(scenario: Mapping[str, Any], folder: Path) -> list[str]:
    names = [arm["name"] for arm in scenario["arms"]]
    others = [name for name in names if name not in _COLOURS]
    colours = {name: colour(name, others) for name in names}
    histories: dict[str, History] = {
        arm["name"]: read_history(folder / arm["folder"] / "history.jsonl.gz")
        for arm in scenario["arms"]
        if arm["metrics"] is not None
    }
    head = "".join(f"<th>{escape(word)}</th>" for word in HEAD)
    rows = ""
    for arm in scenario["arms"]:
        name, verdict, *cells = row(arm)
        rows += (
            f'<tr><td><span class="key" style="background:{colours[name]}"></span>{escape(name)}'
            f"</td><td>{_verdict(verdict)}</td>"
            + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
            + "</tr>"
        )
    told = [
        f"<h2>{escape(scenario['id'])}: {escape(scenario['title'])} "
        f"{_verdict(scenario['verdict'])}</h2>",
        f"<p>{escape(scenario['claim'])}</p>",
        f"<p><small>Seed {scenario['seed']}. {escape('; '.join(scenario['why']))}</small></p>",
        f'<div class="scroll"><table><tr>{head}</tr>{rows}</table></div>',
    ]
    if histories:
        told.append(f'<div class="plots">{"".join(_plots(histories, colours))}</div>')
    return told + [_checks(arm) for arm in scenario["arms"]]


def _plots(histories: Mapping[str, History], colours: Mapping[str, str]) -> list[str]:
    first = next(iter(histories.values()))
    begin = min(o.due for o in first.operations)
    end = max(history.end for history in histories.values())
    deadline = first.operations[0].deadline

    def plot(title: str, top: float, unit: str) -> Plot:
        made = Plot(title, begin=begin, end=end, top=top, unit=unit)
        for fault in first.faults:
            made.band(fault.began, fault.ended or end, fault.name)
        return made

    found: list[str] = []
    share = plot("Success of calls, by the second they were due", 100, " %")
    attempts_in = {name: _per_second(history, begin) for name, history in histories.items()}
    most = max((y for points in attempts_in.values() for _, y in points), default=1.0)
    attempts = plot("Attempts sent each second", round(most * 1.1) or 1, "")
    for name, history in histories.items():
        points = [(at + 0.5, 100 * good) for at, good in stats.windows(history, begin)]
        share.line(points, colours[name], name)
        attempts.line(attempts_in[name], colours[name], name)
    found += [share.text(), attempts.text()]
    for name, history in histories.items():
        took = plot(f"{name}: time that each call took", round(deadline * 1500), " ms")
        good = [o for o in history.operations if o.ended is not None and o.good()]
        bad = [o for o in history.operations if o.ended is not None and not o.good()]
        for operations, ink, label in ((good, "#1e8449", "well"), (bad, "#c0392b", "failed")):
            points = [(o.due, 1000 * ((o.ended or 0) - o.called)) for o in operations]
            took.dots(points, ink, label)
        took.level(deadline * 1000, "deadline")
        found.append(took.text())
        states = _breaker(history, begin, end)
        if states:
            strip = plot(f"{name}: circuit (1 open, 0.5 half open)", 1, "")
            for number, (endpoint, points) in enumerate(sorted(states.items())):
                strip.line(points, _OTHERS[number % len(_OTHERS)], endpoint)
            found.append(strip.text())
    return found


def _per_second(history: History, begin: float) -> list[tuple[float, float]]:
    counts: dict[int, int] = {}
    for operation in history.operations:
        for attempt in operation.attempts:
            second = int(attempt.started - begin)
            counts[second] = counts.get(second, 0) + 1
    last = int(history.end - begin)
    return [(begin + n + 0.5, float(counts.get(n, 0))) for n in range(last)]


def _breaker(history: History, begin: float, end: float) -> dict[str, list[tuple[float, float]]]:
    levels = {"closed": 0.0, "half_open": 0.5, "open": 1.0}
    found: dict[str, list[tuple[float, float]]] = {}
    for notice in history.notices:
        if notice.kind != "circuit":
            continue
        points = found.setdefault(notice.endpoint, [(begin, 0.0)])
        points += [(notice.at, points[-1][1]), (notice.at, levels.get(notice.detail, 1.0))]
    for points in found.values():
        points.append((end, points[-1][1]))
    return found


def _checks(arm: Mapping[str, Any]) -> str:
    rows = ""
    for found in arm["invariants"]:
        evidence = "".join(f"<li>{_evidence(each)}</li>" for each in found["evidence"])
        if evidence:
            summary = f"<summary>{found['offending']} calls</summary>"
            evidence = f"<details>{summary}<ul>{evidence}</ul></details>"
        rows += (
            f"<tr><td>{escape(found['check'])}</td><td>{_verdict(found['verdict'])}</td>"
            f"<td>{escape(found['measured'])}{evidence}</td><td>{escape(found['bar'])}</td></tr>"
        )
    reason = f"<p>{escape(arm['reason'])}</p>" if arm["reason"] else ""
    if not rows and not reason:
        return ""
    opened = "" if arm["verdict"] == "pass" else " open"
    return (
        f"<details{opened}><summary>{escape(arm['name'])}: {_verdict(arm['verdict'])}</summary>"
        f'{reason}<div class="scroll"><table><tr><th>check</th><th>verdict</th><th>measured</th>'
        f"<th>bar</th></tr>{rows}</table></div></details>"
    )


def _evidence(each: Mapping[str, Any]) -> str:
    ended = "never ended" if each["ended"] is None else f"{each['ended']:.3f} s"
    tries = "; ".join(
        f"{number} {kind} {endpoint} {started:.3f}&ndash;"
        f"{'?' if end is None else format(end, '.3f')} {escape(code)}"
        for number, kind, endpoint, started, end, code in each["attempts"]
    )
    return (
        f"<code>op {each['op']} {escape(each['method'])} {each['called']:.3f} s &rarr; {ended} "
        f"{escape(each['code'])}{': ' + tries if tries else ''}</code>"
    )
