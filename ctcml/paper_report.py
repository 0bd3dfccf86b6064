"""The report of the paper's experiment as files: a page that needs no network, tables as CSV, checklists, report.json."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctcml.checklists import as_markdown, drafted
from ctcml.paper_figures import NAMES, Drawn
from ctcml.paper_page import page
from ctcml.tables import atomic_path, write_json

REPORT = "report.json"  # a folder with it is one of our reports
UNSTAGED = "# thumbnails of patients: they may withdraw, and git forgets nothing\n*\n"

Row = dict[str, Any]


def write_report(
    folder: Path,
    results: Mapping[str, Any],
    drawn: Sequence[Drawn],
    facts: Mapping[str, str | None],
    *,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all files of the report beside the figures that are there already; returns what `report.json` holds."""
    simulated, lists = bool(results["simulated"]), drafted(facts)
    for name, rows in _tables(results).items():
        _write_csv(folder / "tables" / f"{name}.csv", rows)
    for one in lists:
        _write(folder / f"checklist-{one.key.replace('_', '-')}.md", as_markdown(one, simulated=simulated))
    _write(folder / "report.html", page(folder / "figures", results, drawn, lists, about))
    _write(folder / ".gitignore", UNSTAGED)
    report = {
        "simulated": simulated,
        **about,
        "judged_on": results["judged_on"],
        "notes": list(results["notes"]),
        "sets": [{"name": one["name"], "left_out": one["left_out"], **one["tables"]} for one in results["sets"]],
        "thresholds": {name: results["thresholds"][name]["thresholds"] for name in NAMES},
        "mistakes": results["mistakes"],
        "survival": results["survival"],
        "figures": [vars(one) for one in drawn],
        "checklists": {one.key: [{**vars(item), "state": item.state} for item in one.items] for one in lists},
    }
    write_json(folder / REPORT, report)  # last: a folder with it is whole
    return report


def _tables(results: Mapping[str, Any]) -> dict[str, list[Row]]:
    """The tables as rows, by the name of their file."""
    return {
        "figures": _figures(results["sets"]),
        "confusion": _confusion(results["sets"]),
        "thresholds": _thresholds(results["thresholds"]),
        "mistakes": _mistakes(results["mistakes"]["by_cancer_type"]),
        "survival": _survival(results["survival"]["reports"]),
    }


def _figures(sets: Sequence[Mapping[str, Any]]) -> list[Row]:
    parts = ("value", "low", "high", "cells", "paper")
    return [
        {"set": one["name"], "figure": row["figure"], "class": row["class_id"]}
        | {f"{kind}_{part}": row[kind][part] for kind in NAMES for part in parts}
        | {f"difference_{part}": row["difference"][part] for part in parts[:3]}
        for one in sets
        for row in one["tables"]["figures"]
    ]


def _confusion(sets: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        {"set": one["name"], "network": kind, "settled": true, "called": called, "cells": cells}
        for one in sets
        for kind, card in one["cards"].items()
        for true, row in zip(card["true_classes"], card["confusion"], strict=True)
        for called, cells in zip(card["predicted_classes"], row, strict=True)
    ]


def _thresholds(thresholds: Mapping[str, Any]) -> list[Row]:
    shares = ("kept", "accuracy", "sensitivity", "specificity", "precision")
    return [
        {"network": kind, "from": row["threshold"], **{name: row[name] for name in ("cells", "missed", "false")}}
        | {name: row[name]["value"] for name in shares}
        for kind in NAMES
        for row in thresholds[kind]["thresholds"]
    ]


def _mistakes(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    kinds, parts = ("wrong", "missed", "false"), ("mistakes", "cells", "low", "high")
    return [
        {"cancer_type": row["cancer_type"], "patients": row["patients"]}
        | {f"{kind}_{part}": row[kind][part] for kind in kinds for part in parts}
        | {"wrong_paper": row["paper"]["wrong"], "cells_paper": row["paper"]["cells"]}
        for row in rows
    ]


def _survival(reports: Sequence[Mapping[str, Any]]) -> list[Row]:
    return [
        {"group": one["group"], "source": one["source"], "arm": arm["name"], "n": arm["n"], "events": arm["events"]}
        | {name: arm[name] for name in ("median", "median_low", "median_high")}
        | {"median_paper": (one["paper_medians"] or (None, None))[at]}
        | {f"cox_{name}": (one["cox"] or {}).get(name) for name in ("hr", "low", "high", "p", "proportional_p")}
        | {"logrank_p": (one["logrank"] or {}).get("p"), "exploratory": one["exploratory"]}
        | {"refusals": "; ".join(one["refusals"])}
        for one in reports
        for at, arm in enumerate(one["arms"])
    ]


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with atomic_path(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["nothing"])
        writer.writeheader()
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
