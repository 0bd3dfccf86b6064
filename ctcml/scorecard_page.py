"""A score card for people: one page that needs no network and no server, its pictures, and the figures as JSON beside it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ctcml.pictures import confusion_plot
from ctcml.scorecard_pictures import reliability_plot, subgroups_plot, thresholds_plot
from ctcml.tables import atomic_path, write_json

PICTURES: Mapping[str, tuple[Callable[..., None], str]] = {  # file, how it is drawn, what it shows
    "confusion": (confusion_plot, "settled labels against what the model called"),
    "subgroups": (subgroups_plot, "the figures of each group of cells"),
    "reliability": (reliability_plot, "what probabilities are worth"),
    "thresholds": (thresholds_plot, "what a threshold costs"),
}
WIDE = "subgroups"  # the one that needs the whole width of the page
GROUPS = {"cancer_type": "Cancer type", "instrument": "Instrument", "cluster": "Look-alikes"}
COLUMNS = {
    "accuracy": "Accuracy",
    "macro_f1": "Mean F1",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
}
RESEARCH = "Research use only: not for diagnosis, nor for decisions on the treatment of a patient."
SIMULATED = "SIMULATED DATA: no figure on this page describes real patients."
READING = (
    "In brackets 95 % intervals from resampled patients, because cells of one patient resemble each other; where fewer than 20 patients have such "
    "cells, they are at least as wide as binomial ones. Look-alikes are cells that were grouped by what can be measured in "
    "the thumbnail alone, without labels and without a model; the group with most training cells is number 01."
)
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; }
.stamp { background: #fff3e6; border-left: 5px solid #d55e00; padding: .5rem .8rem; font-weight: 600; }
.quiet { color: #555; }
table { border-collapse: collapse; margin: .6rem 0 1.2rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .2rem 0; }
th, td { text-align: left; padding: .22rem .9rem .22rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top; white-space: nowrap; }
th { font-weight: 600; } thead th { border-bottom: 1px solid #888; } .wrap td:last-child, .wrap th { white-space: normal; }
.tight { font-size: .88em; } .tight th, .tight td { padding-right: .7rem; } figure { margin: 0 0 1rem; max-width: 42rem; } figure.wide { max-width: none; }
.scroll { overflow-x: auto; } .dim { color: #555; font-size: .9em; } img { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; } figure, table { break-inside: avoid; } }
"""

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # heads, and rows of HTML


def write_page(
    card: dict[str, Any], folder: Path, *, title: str, simulated: bool, about: Mapping[str, Any]
) -> list[Path]:
    """Write `scorecard.json`, `scorecard.html` and the pictures of a `scorecard.full_scorecard`; returns the files.

    `about` tells what was judged, in the order given: version, data version, set, … The same card gives the same bytes.
    """
    drawn = {name: folder / f"{name}.png" for name in PICTURES}
    for name, (draw, told) in PICTURES.items():
        # A confusion of few classes has no room for a long title.
        whole = title if draw is confusion_plot else f"{title}: {told}"
        draw(card, drawn[name], simulated=simulated, title=whole)
    write_json(
        folder / "scorecard.json",
        {"title": title, "simulated": simulated, "about": dict(about), **card},
        allow_nan=False,
    )
    page = folder / "scorecard.html"
    with atomic_path(page) as unfinished:
        unfinished.write_text(_page(card, drawn, title=title, simulated=simulated, about=about), encoding="utf-8")
    return [folder / "scorecard.json", page, *drawn.values()]


def _page(
    card: Mapping[str, Any], drawn: Mapping[str, Path], *, title: str, simulated: bool, about: Mapping[str, Any]
) -> str:
    known = ", ".join(f"{name.replace('_', ' ')}" for name in card["predicted_classes"])
    facts = [[escape(str(name)), escape(str(value))] for name, value in about.items()]
    facts += [
        ["Judged on", f"{card['n']:,} settled cells of {card['patients']:,} patients"],
        ["Classes", escape(known)],
    ]
    picture = {name: _picture(path, PICTURES[name][1], wide=name == WIDE) for name, path in drawn.items()}
    groups = [_groups(card["by"][name], heading, card["worst_cluster"]) for name, heading in GROUPS.items()]
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="stamp">{SIMULATED}</p>' if simulated else "",
        f'<p class="quiet">{RESEARCH}</p>',
        _table(((), facts), kind="wrap"),
        "<h2>In short</h2>",
        _table((("Figure", "Value", "What it means"), _key_figures(card)), kind="wrap"),
        _list(card["notes"]),
        "<h2>Classes</h2>",
        _table((("Class", "Settled cells", "Recall", "Precision"), _classes(card))),
        picture["confusion"],
        "<h2>Where it is weak</h2>",
        f"<p>{_weakest(card)}</p>",
        picture["subgroups"],
        *(_table(one) for one in groups),
        "<h2>What its probabilities are worth</h2>",
        f"<p>{_calibration(card['calibration'])}</p>",
        picture["reliability"],
        "<h2>What a threshold costs</h2>",
        "<p>A decision counts only from this probability on; a CTC below it is lost, as in Supplementary Fig. 1 of Zeune et al. 2020.</p>",
        _table((("From", "Cells decided", "of them right", "CTC sensitivity", "CTC specificity", "CTC precision",
                     "missed, false"), _thresholds(card))),
        picture["thresholds"],
        "<h2>Patient by patient</h2>",
        f"<p>{_counts(card['count_error'])}</p>",
        "<h2>How to read this</h2>",
        f"<p>{READING}</p>",
    ]  # fmt: skip
    body = "\n".join(part for part in parts if part)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _key_figures(card: Mapping[str, Any]) -> list[list[str]]:
    kappa, counts, beside = card["kappa"], card["count_error"], card["kappa"]["model_as_reader"]
    rows = [
        ["CTC sensitivity", _spelt(card["ctc_sensitivity"]), "of the CTCs, called CTC"],
        ["CTC specificity", _spelt(card["ctc_specificity"]), "of all other cells, not called CTC"],
        ["Accuracy", _spelt(card["accuracy"]), "of all cells, called as settled"],
        ["Balanced accuracy", _spelt(card["balanced_accuracy"]), "mean recall of the classes"],
        ["CTCs miscounted", _spelt(counts["share"]), "patient by patient, of the settled CTCs"],
        ["κ of the model", _number(kappa["model"]["kappa"]), "agreement beyond chance with the settled labels"],
    ]
    if kappa["readers"]:
        rows.append(["κ of the readers", _number(kappa["readers"]["kappa"]), "with each other, on these very cells"])
    if beside and beside["n"]:
        told = f"against each reader, where the other reader has {_number(beside['other_reader']['kappa'])}"
        rows.append(["κ of the model as a reader", _number(beside["model"]["kappa"]), told])
    return rows


def _classes(card: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            escape(one["class_id"].replace("_", " ")) + ("" if one["known"] else " (unknown to the model)"),
            f"{one['recall']['cells']:,}",
            _spelt(one["recall"]),
            _spelt(one["precision"]),
        ]
        for one in card["classes"]
    ]


def _groups(groups: Sequence[Mapping[str, Any]], heading: str, worst: Mapping[str, Any] | None) -> Table:
    rows = [
        [
            escape(one["name"]) + (" <b>weakest</b>" if worst and one["name"] == worst["name"] else ""),
            f"{one['cells']:,}",
            f"{one['patients']:,}",
            *(_spelt(one[name]) for name in COLUMNS),
        ]
        for one in groups
    ]
    return (heading, "Cells", "Patients", *COLUMNS.values()), rows


def _weakest(card: Mapping[str, Any]) -> str:
    worst = card["worst_cluster"]
    if not worst:
        return "No group of look-alikes has enough settled cells to be called the weakest."
    return (
        f"The weakest look-alikes are <b>{escape(worst['name'])}</b>: mean F1 {_number(worst['macro_f1'])} on {worst['cells']:,} cells of "
        f"{worst['patients']:,} patients. It is the lowest of {worst['of']} groups, so chance has a part in it."
    )


def _calibration(calibration: Mapping[str, Any]) -> str:
    before, after, chance = (calibration[name] for name in ("ece_before", "ece_after", "expected_by_chance"))
    return (
        f"Expected calibration error: {_number(before)} as the network says it, {_number(after)} at temperature "
        f"{calibration['temperature']:.2f}. A model that is exactly as often right as it says would have {chance['mean']:.3f} on as many "
        f"cells, seldom more than {chance['high']:.3f}."
    )


def _thresholds(card: Mapping[str, Any]) -> list[list[str]]:
    names = ("kept", "accuracy", "sensitivity", "specificity", "precision")
    return [
        [f"{one['threshold']:g}", *(_spelt(one[name]) for name in names), f"{one['missed']:,}, {one['false']:,}"]
        for one in card["thresholds"]
    ]


def _counts(counts: Mapping[str, Any]) -> str:
    exactly = sum(settled == called for settled, called in counts["patients"])
    return (
        f"{counts['called']:,} cells were called CTC and {counts['settled']:,} are settled as such. The count is exact in {exactly:,} of "
        f"{len(counts['patients']):,} patients; it is off by {_number(counts['mean_cells'], digits=2)} cells a patient in the mean, "
        f"in all by {_spelt(counts['share'])} of the settled CTCs."
    )


def _spelt(one: Mapping[str, Any]) -> str:
    """A share as HTML, with its interval where there is one.

    >>> _spelt({"value": 0.912, "low": 0.85, "high": 0.951}), _spelt({"value": None})
    ('91.2% <span class="dim">(85.0 to 95.1)</span>', '<span class="dim">no such cell</span>')
    """
    if one["value"] is None:
        return '<span class="dim">no such cell</span>'
    interval = (
        "" if one["low"] is None else f' <span class="dim">({100 * one["low"]:.1f} to {100 * one["high"]:.1f})</span>'
    )
    return f"{one['value']:.1%}{interval}"


def _number(one: Mapping[str, Any], *, digits: int = 3) -> str:
    """A figure that is no share, as HTML."""
    if one["value"] is None:
        return '<span class="dim">not known</span>'
    interval = (
        "" if one["low"] is None else f' <span class="dim">({one["low"]:.{digits}f} to {one["high"]:.{digits}f})</span>'
    )
    return f"{one['value']:.{digits}f}{interval}"


def _picture(path: Path, told: str, *, wide: bool) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<figure{" class=wide" * wide}><img alt="{escape(told)}" src="data:image/png;base64,{data}"></figure>'


def _table(table: Table, *, kind: str = "tight") -> str:
    """A table whose first column names its rows."""
    heads, rows = table
    named = "".join(f'<th scope="col">{one}</th>' for one in heads)
    head = f"<thead><tr>{named}</tr></thead>" if heads else ""
    body = "".join(f'<tr><th scope="row">{first}</th>{_cells(rest)}</tr>' for first, *rest in rows)
    return f'<div class="scroll"><table class={kind}>{head}<tbody>{body}</tbody></table></div>'


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{one}</td>" for one in texts)


def _list(sentences: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>" if sentences else ""
