"""Reads what a workspace holds about its own data: versions, intakes, findings, refusals; `NotMade` where there is nothing yet.

Nothing here is calculated beyond picking, joining and counting rows.
"""

import csv
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from ctcml.audit import Entry, entries
from ctcml.chain import read_head
from ctcml.ledger import Ledger
from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import NotMade, Stamp

UNSTATED = "not stated"
LEVELS = ("error", "warning", "note")
LATEST = 500  # lines of the audit log that are shown


def versions(workspace: Workspace) -> pd.DataFrame | NotMade:
    """`version`, `when`, `why`, `commit` and `dvc` (DVC's hash of `data/`), newest first; `when` and `why` as the ledger says."""
    missing = NotMade(what="Data versions", command="ctcml intake")
    git = workspace.root / ".git"
    if not git.is_dir():
        return missing
    found = _versions(workspace.root, _stamp(git / "refs" / "tags", git / "packed-refs"))
    if not found:
        return missing
    about = {one.body["tag"]: one for one in records.data_events(workspace, "data_version")}
    rows = [
        {
            "version": tag,
            "when": about[tag].at if tag in about else "",
            "why": about[tag].why if tag in about else "the ledger does not know it",
            "commit": commit[:12],
            "dvc": md5.removesuffix(".dir"),
        }
        for tag, commit, md5 in reversed(found)
    ]
    return pd.DataFrame(rows)


def _stamp(*paths: Path) -> Stamp:
    return tuple((path.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths if path.exists())


@lru_cache(maxsize=2)  # git is asked once for each state of its tags
def _versions(root: Path, stamp: Stamp) -> tuple[tuple[str, str, str], ...]:
    from ctcml.versioning import versions as listed

    return tuple((one.tag, one.commit, one.data_md5) for one in listed(root))


def intakes(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row an intake, newest first: when, and what it brought."""
    found = records.data_events(workspace, "intake")
    if not found:
        return NotMade(what="Intakes", command="ctcml intake")
    columns = ("samples", "samples_known", "samples_grown", "thumbnails", "patients", "refused", "historic_labels")
    rows = [
        {"when": one.at, **{name: one.body[name] for name in columns}, "sources": _said(one.body["kinds"])}
        for one in found
    ]
    return pd.DataFrame(rows)


def _said(kinds: dict[str, int]) -> str:
    return ", ".join(f"{number} × {kind}" for kind, number in kinds.items())


def withdrawals(workspace: Workspace) -> pd.DataFrame:
    """One row a withdrawal: when, how much was removed, models that learnt from it, data versions that still hold it."""
    rows = [
        {
            "when": one.at,
            "samples": one.body["samples"],
            "cells": one.body["cells"],
            "models": ", ".join(one.body["models"]) or "none",
            "data_versions": ", ".join(one.body["data_versions"]) or "none",
        }
        for one in records.data_events(workspace, "withdrawal")
    ]
    return pd.DataFrame(rows, columns=["when", "samples", "cells", "models", "data_versions"])


def holdings(workspace: Workspace, by: str) -> pd.DataFrame | NotMade:
    """Patients, samples and cells for each `instrument`, `site`, `cancer_type`, or `set` of patients."""
    people, cells = records.clinical(workspace), records.manifest(workspace)
    if isinstance(people, NotMade):
        return people
    if isinstance(cells, NotMade):
        return cells
    table = people[["sample_uid", "patient_uid"]].copy()
    table[by] = people["patient_uid"].map(_sets(workspace)) if by == "set" else people[by]
    table[by] = table[by].fillna("").replace("", UNSTATED)
    table["cells"] = table["sample_uid"].map(cells["sample_uid"].value_counts()).fillna(0).astype(int)
    found = table.groupby(by).agg(
        patients=("patient_uid", "nunique"), samples=("sample_uid", "nunique"), cells=("cells", "sum")
    )
    return found.sort_values("cells", ascending=False).reset_index()


def _sets(workspace: Workspace) -> dict[str, str]:
    return records.object_of(workspace.roles) if workspace.roles.exists() else {}


def findings(workspace: Workspace) -> tuple[int, pd.DataFrame] | NotMade:
    """How many samples the checkup looked at when they were taken in, and what it found, the worst first: `level`, `code`,
    `samples`, `message` (of one of them) and `advice`."""
    stamp = _stamp(workspace.receipts)
    looked_at, found = _findings(workspace, stamp) if stamp else (0, ())
    if not looked_at:
        return NotMade(what="Findings of the checkup", command="ctcml intake")
    return looked_at, pd.DataFrame(found, columns=["level", "code", "samples", "message", "advice"])


@lru_cache(maxsize=2)
def _findings(workspace: Workspace, stamp: Stamp) -> tuple[int, tuple[dict[str, Any], ...]]:
    from ctcml.doctor import ADVICE
    from ctcml.packing import kept_findings

    kept = kept_findings(workspace)
    found = pd.DataFrame(
        [{"sample_uid": sample_uid, **one} for sample_uid, listed in kept.items() for one in listed],
        columns=["sample_uid", "level", "code", "message"],
    )
    rows = [
        {
            "level": level,
            "code": code,
            "samples": members["sample_uid"].nunique(),
            "message": members["message"].iloc[0],
            "advice": ADVICE.get(code, ""),
        }
        for (level, code), members in found.groupby(["level", "code"])
    ]
    return len(kept), tuple(sorted(rows, key=lambda row: (LEVELS.index(row["level"]), -row["samples"])))


def quarantined(workspace: Workspace) -> pd.DataFrame:
    """What intake refused: `at`, `source`, `file`, `reason`. Names of samples and files stand in it in clear."""
    path = workspace.quarantine / "refused.csv"
    if not path.exists():
        return pd.DataFrame(columns=["at", "source", "file", "reason"])
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return pd.DataFrame(list(csv.DictReader(file)), columns=["at", "source", "file", "reason"])


def ledger_head(workspace: Workspace) -> tuple[int, str, int] | NotMade:
    """Length of the ledger, the hash of its last event, and the length at the last anchor."""
    if not workspace.ledger.exists():
        return NotMade(what="Ledger", command="ctcml init")
    head, anchor = Ledger(workspace.ledger).head(), read_head(workspace.ledger_head)
    return head.length, head.hash, anchor.length if anchor else 0


def verified(workspace: Workspace) -> str:
    """Walk the ledger and the audit log against their anchors; one sentence, or `BrokenRecord`."""
    from ctcml.audit import verify_audit
    from ctcml.dataversions import verify_ledger

    head, anchors = verify_ledger(workspace)
    logged = verify_audit(workspace).length if workspace.audit.exists() else 0
    return f"{head.length:,} events hold, compared with {anchors} anchors; {logged:,} lines of the audit log hold."


def audit(workspace: Workspace) -> pd.DataFrame:
    """The latest lines of the audit log, newest first."""
    if not workspace.audit.exists():
        return pd.DataFrame(columns=["at", "who", "role", "action", "what", "about"])
    latest = islice(reversed(_audit(workspace, _stamp(workspace.audit))), LATEST)
    rows = [
        {
            "at": one.at,
            "who": one.who,
            "role": one.role,
            "action": one.action,
            "what": one.what,
            "about": ", ".join(f"{name} {value}" for name, value in one.about.items()),
        }
        for one in latest
    ]
    return pd.DataFrame(rows)


@lru_cache(maxsize=1)
def _audit(workspace: Workspace, stamp: Stamp) -> tuple[Entry, ...]:
    return tuple(entries(workspace))
