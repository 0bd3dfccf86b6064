"""A trace for people: one page that needs no network and no server, with the picture of each counted cell in it."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from ctcml.trace import Said, Trace, TracedCell

RESEARCH = "Research use only: not for diagnosis, nor for decisions on the treatment of a patient."
SIMULATED = "SIMULATED DATA: this patient does not exist."
AMONG = {"proposed": "events that CellSearch proposed", "all": "all objects"}
SIDES = {"above": "above the cut-off", "below": "below the cut-off", "undecided": "undecided", "none": "no cut-off"}
SEALED = "The labels of this patient's cells are sealed: they are kept for judging models, and nobody may see them."
COLOURS = (
    "Red: CD45, green: cytokeratin, blue: DAPI; each stretched to its own contrast, two screen pixels a camera pixel."
)
STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1b1b; background: #fff; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ccc; }
.stamp { background: #fff3e6; border-left: 5px solid #d55e00; padding: .5rem .8rem; font-weight: 600; }
.quiet { color: #555; } code { font-size: .85em; overflow-wrap: anywhere; }
.figure { font-size: 2.4rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: .6rem 0; } dt { color: #555; } dd { margin: 0; }
.wall { display: flex; flex-wrap: wrap; gap: .5rem; } .wall a { color: inherit; text-decoration: none; text-align: center; font-size: .75rem; }
.frame { display: flex; align-items: center; justify-content: center; background: #000; width: 6.4rem; height: 6.4rem; overflow: hidden; border-radius: 3px; }
img { image-rendering: pixelated; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .4rem .9rem .4rem 0; border-bottom: 1px solid #e4e4e4; vertical-align: top; }
thead th { border-bottom: 1px solid #888; position: sticky; top: 0; background: #fff; } tr:target { background: #eef5fb; }
.whole { white-space: nowrap; }
@media print { body { margin: 0; max-width: none; } tr, .wall a { break-inside: avoid; } thead th { position: static; } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # the page asks nobody for anything


def trace_page(trace: Trace, pictures: Mapping[str, bytes], *, now: datetime) -> str:
    """The page of a trace; `pictures` holds a PNG by cell_uid."""
    shown = {uid: f"data:image/png;base64,{base64.b64encode(png).decode()}" for uid, png in pictures.items()}
    title = f"Trace of a count: {trace.class_name} of sample {trace.sample_uid[:8]}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="stamp">{SIMULATED}</p>' if trace.simulated else "",
        f'<p class="quiet">{RESEARCH}</p>',
        _count(trace),
        f"<h2>The cells</h2><p class='quiet'>Surest first. {COLOURS}</p>" if trace.cells else "",
        _wall(trace, shown),
        f"<h2>Where it comes from</h2>{_list(_origin(trace, now))}",
        f"<h2>What is known of each</h2>{f'<p>{SEALED}</p>' if trace.labels_sealed else ''}{_table(trace, shown)}"
        if trace.cells
        else "<p>No cell was counted, so there is nothing to show.</p>",
    ]
    head = f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{escape(title)}</title>'
    body = "\n".join(part for part in parts if part)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'


def _count(trace: Trace) -> str:
    row = trace.count
    rule = (
        "its most probable class" if trace.threshold == 0 else f"its most probable class at {trace.threshold:g} or more"
    )
    facts = {
        "Sample": f"<code>{escape(trace.sample_uid)}</code>",
        "Patient": f"<code>{escape(trace.patient_uid)}</code> ({escape(str(row['cancer_type']))})",
        "Counted": f"{escape(trace.class_name)}, where it is {rule}, among {row['events']:,} {AMONG[trace.denominator]}",
        "Per 7.5 ml": f"{row['per_7_5_ml']:.4g}, interval {row['low']:.3g} to {row['high']:.3g}",
        "Side": _side(row),
    }
    return f'<p class="figure">{row["count"]:,} {escape(trace.class_name)}</p>{_list(facts)}'


def _side(row: Mapping[str, Any]) -> str:
    if row["cutoff"] is None:
        return SIDES["none"]
    stamp = "; exploratory, not clinically validated" if row["exploratory"] else ""
    return f"{SIDES[row['side']]} ({row['cutoff']:g} per 7.5 ml{stamp}), chance of the other side {_chance(row['flip_risk'])}"


def _chance(share: float) -> str:
    """
    >>> _chance(0.0), _chance(0.123)
    ('under 0.1%', '12.3%')
    """
    return "under 0.1%" if share < 0.001 else f"{share:.1%}"


def _wall(trace: Trace, shown: Mapping[str, str]) -> str:
    tiles = "".join(
        f'<a href="#cell-{number}"><span class="frame">{_image(shown[one.cell_uid], number)}</span>'
        f"{number} · {one.probability:.2f}</a>"
        for number, one in enumerate(trace.cells, start=1)
    )
    return f'<div class="wall">{tiles}</div>' if tiles else ""


def _image(source: str, number: int) -> str:
    return f'<img src="{source}" alt="cell {number}" style="zoom: 2">'


def _table(trace: Trace, shown: Mapping[str, str]) -> str:
    heads = ("", "Cell", "Probability", "Called", "Readers", "Settled", "Cluster", "Place", "Pixels (SHA-256)")
    rows = "".join(_row(trace, one, number, shown) for number, one in enumerate(trace.cells, start=1))
    cells = "".join(f"<th>{head}</th>" for head in heads)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table>"


def _row(trace: Trace, one: TracedCell, number: int, shown: Mapping[str, str]) -> str:
    settled = "sealed" if trace.labels_sealed else "not settled"
    if one.settled:
        settled = f"<b>{escape(one.settled[0])}</b><br><span class='quiet'>{escape(one.settled[1])}</span>"
    place = "–" if one.frame is None else f"frame {one.frame}"
    if one.x_px is not None and one.y_px is not None:
        place += f"<br>x {one.x_px:.0f}, y {one.y_px:.0f}"
    values = (
        f'<span class="frame">{_image(shown[one.cell_uid], number)}</span>',
        f"{number}<br><code>{escape(one.cell_uid)}</code><br><span class='quiet'>object {one.object_index}</span>",
        f"{one.probability:.4f}",
        escape(one.predicted),
        "<br>".join(_said(said) for said in one.readings) or "not read",
        settled,
        f'<span class="whole">{escape(one.cluster_name or "–")}</span>',
        place,
        f"<code>{escape(one.content_sha256)}</code><br><span class='quiet'>in {escape(one.shard)}</span>",
    )
    return f'<tr id="cell-{number}">' + "".join(f"<td>{value}</td>" for value in values) + "</tr>"


def _said(one: Said) -> str:
    duty = "" if one.duty == "reader" else f" ({escape(one.duty)})"
    more = ", ".join(escape(text) for text in (one.confidence, one.reasons) if text)
    return f"{escape(one.reader)}{duty}: <b>{escape(one.label)}</b>{f', {more}' if more else ''}"


def _origin(trace: Trace, now: datetime) -> dict[str, str]:
    shards = {one.shard: one.shard_sha256 for one in trace.cells}
    return {
        "Model": f"version {escape(trace.model.version)}, weights <code>{escape(trace.model.weights_sha256)}</code>",
        "Data version": escape(trace.data_version),
        "Code that traced": f"commit <code>{escape(trace.code_commit)}</code>",
        "Code that counted": f"<code>{escape(trace.count_code)}</code>",
        **{f"Shard {escape(name)}": f"<code>{escape(sha256)}</code>" for name, sha256 in shards.items()},
        "Verified": "the pixels of each cell and the files of pixels, hashed anew; the number of cells, equal to the count",
        "Made": f"{now.astimezone(UTC):%Y-%m-%d %H:%M} UTC; <code>ctcml trace --verify FILE</code> says whether the file is whole",
    }


def _list(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items()) + "</dl>"
