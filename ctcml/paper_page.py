"""The page of the paper's experiment: our figures, those that the paper states beside them, pictures, checklists; one file, offline."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ctcml.checklists import Checklist, counted, left_open
from ctcml.paper_figures import Drawn
from ctcml.pictures import p_words
from ctcml.published import MISTAKES, REFERENCE, SURVIVAL_PATIENTS
from ctcml.scorecard_page import RESEARCH, SIMULATED, STYLE

TITLE = "The paper's experiment on this laboratory's data"
SEALED = (
    "Sealed patients' labels were not opened: that set stays the gate's. The networks of this report are candidates for nothing; "
    "a model becomes champion through the gate alone."
)
READING = (
    "In brackets 95 % intervals from resampled patients, because cells of one patient resemble each other. A difference is AE-CNN less standard "
    "CNN on the same cells, in points, by the same draws; where its interval holds 0, none is shown. Where fewer than 10 patients have such cells "
    "a difference has no interval. About one interval in twenty excludes 0 by chance alone. The columns “paper” hold what Zeune et al. 2020 "
    "state in words, for real cells of other patients and instruments: they are there for orientation, and no figure has to equal them."
)
OWN_STYLE = """
body { max-width: 84rem; } p, ul { max-width: 62rem; } h3 { margin: 1.6rem 0 .4rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(25rem, 1fr)); gap: 1rem 1.6rem; align-items: start; }
.figures figure { max-width: none; margin: 0; } .figures figure.wide { grid-column: 1 / -1; max-width: 56rem; }
figcaption { font-size: .88em; color: #333; margin-top: .2rem; max-width: 56rem; }
.missing { background: #f3f3f3; border-left: 5px solid #888; padding: .5rem .8rem; grid-column: 1 / -1; }
.checklist td, .checklist th { white-space: normal; } .checklist th { min-width: 2.4rem; } .checklist td:nth-child(2) { min-width: 12rem; }
.checklist td:nth-child(3) { min-width: 6rem; } .unknown { background: #fff3e6; color: #8a3b00; font-weight: 600; }
details { margin: .6rem 0 1.4rem; } summary { cursor: pointer; font-weight: 600; } nav a { margin-right: 1rem; } .shown { font-weight: 700; }
.wraps { display: inline-block; white-space: normal; max-width: 22rem; }
tr.first th, tr.first td { border-top: 1px solid #aaa; }
@media print { details > * { display: block; } }
"""
ONE_SEED = (
    "Each network was trained once: a difference that is shown is one of these two networks. Another training of the same network moves its "
    "accuracy by half a point to a point (measured on simulated cells), which no interval here holds; <code>--seeds 5</code> compares the kinds of network."
)
NETWORKS = {"standard": "Standard CNN", "autoencoder": "AE-CNN"}
HEADINGS = {
    "2": "Fig. 2: latent spaces of two classes",
    "3": "Fig. 3: a class that the network never learnt",
    "4": "Fig. 4: results with all classes",
    "S1": "Supplementary Fig. 1: mistakes",
    "5": "Fig. 5: CTCs by cancer type",
}
SURVIVAL = "Fig. 6: survival by counts"
NONE = "–"
Rows = list[list[str]]


def page(
    figures: Path,
    results: Mapping[str, Any],
    drawn: Sequence[Drawn],
    lists: Sequence[Checklist],
    about: Mapping[str, Any],
) -> str:
    """The whole page as HTML; pictures are read from the folder `figures` and lie within it."""
    of_number = {number: [one for one in drawn if one.number == number] for number in (*HEADINGS, "6")}
    parts = [
        f"<h1>{TITLE}</h1>",
        f'<p class="stamp">{SIMULATED}</p>' if results["simulated"] else "",
        f'<p class="quiet">{RESEARCH} After {escape(REFERENCE)}.</p>',
        '<nav><a href="#tables">Tables</a><a href="#figures">Figures</a><a href="#survival">Survival</a>'
        '<a href="#checklists">Checklists</a></nav>',
        _table((), _about(results, about), kind="wrap"),
        "<h2>In short</h2>",
        _list(results["in_short"]),
        f"<p>{SEALED}</p>",
        _list(results["notes"]),
        '<h2 id="tables">Standard CNN beside AE-CNN</h2>',
        f"<p>{READING}</p>",
        f"<p>{ONE_SEED}</p>" if results["seeds"] == 1 else "",
        *(_set(one) for one in results["sets"]),
        "<h3>What a probability threshold costs, with all classes</h3>",
        _thresholds(results["thresholds"]),
        "<h3>Mistakes of the AE-CNN by cancer type</h3>",
        _mistakes(results["mistakes"]["by_cancer_type"]),
        '<h2 id="figures">Figures</h2>',
        *(f"<h3>{heading}</h3>{_figures(figures, of_number[number])}" for number, heading in HEADINGS.items()),
        f'<h2 id="survival">{SURVIVAL}</h2>',
        _survival(results["survival"]),
        _figures(figures, of_number["6"]),
        '<h2 id="checklists">Reporting checklists, drafted</h2>',
        "<p>What the project knows is filled in; the rest is marked <span class=unknown>UNKNOWN</span> and belongs to the authors. Titles are "
        "short ones of our own; the wording of each item is in its reference. The same lists lie beside this page as Markdown.</p>",
        *(_checklist(one) for one in lists),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{TITLE}</title>\n'
        f"<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _about(results: Mapping[str, Any], about: Mapping[str, Any]) -> Rows:
    parameters, machine = about["parameters"], about["machine"]
    numbers = parameters["numbers"]
    pairs = zip(numbers["betas"], numbers["epochs"], strict=True)
    epochs = ", ".join(f"{n} at β = {beta:g}" for beta, n in pairs)
    sets = [f"{one['name']} ({one['tables']['cells']:,} judged cells)" for one in results["sets"]]
    seeds = ", ".join(f"{parameters['seed'] + at}" for at in range(parameters["seeds"]))
    rows = {
        "Made": f"{about['made']}; this run {about['durations_s']['whole'] / 60:.1f} min on {machine['threads']} "
        f"thread(s) of {machine['device']}, training of the networks {about['durations_s']['networks'] / 60:.1f} min",
        "Data version": about["data_version"] or "none: data/ is in no version",
        "Code": f"commit {about['code_commit'] or 'unknown'}; {about['software']}",
        "Profile": f"{parameters['profile']}; epochs {epochs}; recipe {parameters['image']['recipe']}; seeds {seeds}",
        "Judged on": results["judged_on"],
        "Class sets": "; ".join(sets),
    }
    return [[escape(name), escape(value)] for name, value in rows.items()]


def _set(one: Mapping[str, Any]) -> str:
    tables = one["tables"]
    whole = [row for row in tables["figures"] if not row["class_id"]]
    paper = any(row[kind]["paper"] is not None for row in whole for kind in NETWORKS)
    beside = ["paper"] if paper else []
    heads = ["Figure", "Standard CNN", *beside, "AE-CNN", *beside, "Difference, points"]
    rows = [[row["title"], *_both(row, paper=paper), _apart(row["difference"])] for row in whole]
    told = f"{tables['cells']:,} settled cells of {tables['patients']:,} patients."
    told += f" Left out: {', '.join(one['left_out'])}." if one["left_out"] else ""
    if tables["seeds"] > 1:
        told += f" Means over {tables['seeds']} seeds; the last column adds the paired t-interval over them."
    return f"<h3>{escape(one['name'])}</h3><p class=quiet>{escape(told)}</p>{_table(heads, rows)}{_classes(tables)}"


def _both(row: Mapping[str, Any], *, paper: bool) -> list[str]:
    cells = []
    for kind in NETWORKS:
        theirs = row[kind]["paper"]
        cells += [_spelt(row[kind]), *([NONE if theirs is None else f"{theirs:.1%}"] if paper else [])]
    return cells


def _classes(tables: Mapping[str, Any]) -> str:
    """Three lines a class: both networks and their difference."""
    lines = []
    for class_id in tables["classes"]:
        mine = [row for row in tables["figures"] if row["class_id"] == class_id]
        name = escape(f"{class_id.replace('_', ' ')} ({tables['cells_per_class'][class_id]:,} cells)")
        of_class = [
            *([NETWORKS[kind], *(_spelt(row[kind]) for row in mine)] for kind in NETWORKS),
            ["difference, points", *(_apart(row["difference"]) for row in mine)],
        ]
        for at, cells in enumerate(of_class):
            first = f"<th scope=rowgroup rowspan={len(of_class)}>{name}</th>" if at == 0 else ""
            body = "".join(f"<td>{cell}</td>" for cell in cells)
            lines.append(f"<tr{' class=first' if at == 0 else ''}>{first}{body}</tr>")
    heads = "".join(f"<th>{one}</th>" for one in ("Class", "", "Sensitivity", "Positive predictive value", "F1"))
    table = f"<table class=tight><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _thresholds(thresholds: Mapping[str, Any]) -> str:
    rows = []
    for kind, name in NETWORKS.items():
        for one in thresholds[kind]["thresholds"]:
            theirs = MISTAKES if kind == "autoencoder" else {}
            shares = [_spelt(one[figure]) for figure in ("kept", "sensitivity", "specificity", "precision")]
            wrong = [
                cell
                for what in ("missed", "false")
                for cell in (f"{one[what]:,}", f"{theirs.get(what, {}).get(one['threshold'], NONE)}")
            ]
            rows.append([f"{name}, from {one['threshold']:g}", *shares, *wrong])
    heads = ["Decisions", "Cells decided", "CTC sensitivity", "CTC specificity", "CTC precision"]
    return _table([*heads, "missed CTCs", "paper", "false CTCs", "paper"], rows)


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> str:
    listed = []
    for one in rows:
        theirs = one["paper"]
        beside = NONE if theirs["wrong"] is None else f"{theirs['wrong']:.0%} of {theirs['cells']:,}"
        told = [_of(one[kind]) for kind in ("wrong", "missed", "false")]
        listed.append([escape(one["cancer_type"]), f"{one['patients']:,}", told[0], beside, *told[1:]])
    heads = ["Cancer type", "Patients", "Cells called wrongly", "paper", "CTCs missed", "other cells called CTC"]
    return _table(heads, listed)


def _of(one: Mapping[str, Any]) -> str:
    if not one["cells"]:
        return '<span class="dim">no such cell</span>'
    return f"{one['mistakes']:,} of {one['cells']:,}: {_spelt({**one, 'value': one['mistakes'] / one['cells']})}"


def _survival(survival: Mapping[str, Any]) -> str:
    if not survival["reports"]:
        return ""  # the picture that is missing says why
    counts = (
        "Counts are of events that CellSearch itself presented, at the cut-off that was set before for each cancer type."
        if survival["denominator"] == "proposed"
        else "<b>Exploratory:</b> the exports do not say which events CellSearch presented, so counts are of all events, for which no "
        "cut-off was validated."
    )
    intro = (
        f"<p>First samples of {survival['patients']:,} patients with follow-up. {counts} Of these patients {survival['trained_on']:,} are among "
        "those whose labelled cells trained the networks, so their counts by network may be better than those of new patients. The paper "
        f"has {SURVIVAL_PATIENTS} patients with breast cancer, of another trial.</p>"
    )
    heads = [
        "Count",
        "Patients, events",
        "Median, months: below / at or above",
        "paper",
        "Hazard ratio",
        "Proportional?",
        "Log-rank",
    ]
    return intro + _table(heads, [_analysis(one) for one in survival["reports"]]) + _agreement(survival["agreement"])


def _analysis(one: Mapping[str, Any]) -> list[str]:
    begin = [escape(one["label"]), f"{one['n']:,}, {one['events']:,}"]
    if one["refusals"]:
        told = f'<span class="dim wraps">{escape("; ".join(one["refusals"]))}</span>'
        return [*begin, told, NONE, NONE, NONE, NONE]
    medians = ["not reached" if arm["median"] is None else f"{arm['median']:.1f}" for arm in one["arms"]]
    theirs = " / ".join(f"{value:g}" for value in one["paper_medians"]) if one["paper_medians"] else NONE
    cox, hazard = one["cox"], [NONE, NONE]
    if cox:
        limits = f'<span class="dim">({cox["low"]:.2f} to {cox["high"]:.2f})</span>'
        hazard = [f"{cox['hr']:.2f} {limits}", p_words(cox["proportional_p"])]
    return [*begin, " / ".join(medians), theirs, *hazard, p_words(one["logrank"]["p"]) if one["logrank"] else NONE]


def _agreement(rows: Sequence[Mapping[str, Any]]) -> str:
    listed = [
        [
            NETWORKS[one["network"]],
            f"{one['events']:,}" if one["events"] else "the operator's calls are not in the export",
            *(_share(where[name]) for name in ("events_agreed", "manual_ctc_agreed") for where in (one, one["paper"])),
            f"{one['changed_side']:,} of {one['patients']:,}",
            one["paper"]["changed_side"] or NONE,
        ]
        for one in rows
    ]
    heads = ["Beside the operator", "Events", "same call", "paper", "of the operator's CTCs", "paper"]
    return _table([*heads, "patients on another side of the cut-off", "paper"], listed)


def _figures(folder: Path, drawn: Sequence[Drawn]) -> str:
    return f'<div class="figures">{"".join(_figure(folder, one) for one in drawn)}</div>'


def _figure(folder: Path, one: Drawn) -> str:
    if one.missing:
        return f'<p class="missing"><b>{escape(one.title)}</b>: not drawn, because {escape(one.missing)}.</p>'
    data = base64.b64encode((folder / f"{one.stem}.png").read_bytes()).decode()
    picture = f'<img alt="{escape(one.title)}" src="data:image/png;base64,{data}">'
    return f"<figure{' class=wide' * one.wide}>{picture}<figcaption>{escape(one.caption)}</figcaption></figure>"


def _checklist(one: Checklist) -> str:
    rows = []
    for item in one.items:
        kind = ' class="unknown"' if item.state == "UNKNOWN" else ""
        still_open = f' <span class="unknown">{escape(left_open(item))}</span>' if item.ask else ""
        cells = f"<td>{escape(item.title)}</td><td{kind}>{item.state}</td><td>{escape(item.text)}{still_open}</td>"
        rows.append(f"<tr><th scope=row>{escape(item.number)}</th>{cells}</tr>")
    heads = "".join(f"<th>{name}</th>" for name in ("Item", "Title", "State", "Text"))
    table = f'<table class="checklist"><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return (
        f"<h3>{escape(one.name)}: {escape(one.about)}</h3><p class=quiet>{escape(one.reference)}. {counted(one)}</p>"
        f"<details><summary>All items</summary>{table}</details>"
    )


def _spelt(one: Mapping[str, Any]) -> str:
    """
    >>> _spelt({"value": 0.912, "low": 0.85, "high": 0.951}), _spelt({"value": None})
    ('91.2% <span class="dim">(85.0 to 95.1)</span>', '<span class="dim">no such cell</span>')
    """
    if one["value"] is None:
        return '<span class="dim">no such cell</span>'
    if one["low"] is None:
        return f"{one['value']:.1%}"
    return f'{one["value"]:.1%} <span class="dim">({100 * one["low"]:.1f} to {100 * one["high"]:.1f})</span>'


def _apart(one: Mapping[str, Any]) -> str:
    """A difference in points, with what its interval says.

    >>> _apart({"value": 0.01, "low": -0.01, "high": 0.03})
    '+1.0 <span class="dim">(-1.0 to +3.0)</span> none shown'
    """
    if one["value"] is None:
        return NONE
    told = _points(one["value"])
    if one["low"] is not None:
        shown = "higher" if one["low"] > 0 else "lower" if one["high"] < 0 else ""
        verdict = f'<span class="shown">{shown}</span>' if shown else "none shown"
        told += f' <span class="dim">({_points(one["low"])} to {_points(one["high"])})</span> {verdict}'
    over = one.get("over_seeds")
    if over and over["low"] is not None:
        told += f' <span class="dim">over seeds ({_points(over["low"])} to {_points(over["high"])})</span>'
    return told


def _points(share: float) -> str:
    """
    >>> _points(0.012), _points(-0.0001)
    ('+1.2', '0.0')
    """
    told = f"{100 * share:+.1f}"
    return "0.0" if float(told) == 0 else told


def _share(value: float | None) -> str:
    return NONE if value is None else f"{value:.1%}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "tight") -> str:
    """A table of HTML whose first column names its rows."""
    head = f"<thead><tr>{''.join(f'<th scope=col>{one}</th>' for one in heads)}</tr></thead>" if heads else ""
    body = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td>{one}</td>' for one in rest)}</tr>" for first, *rest in rows
    )
    return f'<div class="scroll"><table class={kind}>{head}<tbody>{body}</tbody></table></div>'


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>" if sentences else ""
