"""What two experts are shown of a proposed class, and what follows when they have decided."""

import shutil
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ctcml.assignments import queueing
from ctcml.class_desk import Ballot, ballots_of, vote
from ctcml.images import contact_sheet
from ctcml.ledger import Draft, Event, Ledger
from ctcml.people import people_of, readers_among
from ctcml.records import Purpose
from ctcml.shards import read_overlays
from ctcml.tables import CLUSTERS, DISCOVERY, EMBEDDING, MANIFEST, atomic_path, read_folder, read_table, write_json
from ctcml.truth import ground_truth, training_cells
from ctcml.workspace import Workspace

GALLERY_CELLS = 24


def flagged_clusters(ws: Workspace) -> dict[str, str]:
    """The name of the flagged cluster that a cell lies in, by cell_uid; of cells in flagged clusters alone."""
    if not ws.cell_discovery.exists():
        return {}
    found = read_table(ws.cell_discovery, DISCOVERY, columns=["cell_uid", "cluster_name", "flagged"])
    found = found[found["flagged"]]
    return dict(zip(found["cell_uid"], found["cluster_name"], strict=True))


def write_evidence(ws: Workspace) -> list[dict[str, Any]]:
    """Write `review/proposals.json` and a gallery for each proposal; returns what was written, open proposals first."""
    ballots = ballots_of(Ledger(ws.ledger).events())
    ballots.sort(key=lambda one: one.status != "open")
    scored = _scored(ws) if ballots else pd.DataFrame()
    found = [_evidence(ws, one, scored) for one in ballots]
    write_json(ws.proposals, found)
    return found


def _scored(ws: Workspace) -> pd.DataFrame:
    """What the champion and discovery say of cells: predicted class, cluster and its marker profile, by cell_uid."""
    if not (ws.embeddings.exists() and ws.cell_discovery.exists() and ws.clusters.exists()):
        return pd.DataFrame(columns=["predicted", "cluster_name", "profile"])
    predicted = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "predicted"])
    placed = read_table(ws.cell_discovery, DISCOVERY, columns=["cell_uid", "cluster_name"])
    profiles = read_table(ws.clusters, CLUSTERS, columns=["name", "profile"]).rename(columns={"name": "cluster_name"})
    return (
        predicted.merge(placed, on="cell_uid", how="left")
        .merge(profiles, on="cluster_name", how="left")
        .set_index("cell_uid")
    )


def _evidence(ws: Workspace, ballot: Ballot, scored: pd.DataFrame) -> dict[str, Any]:
    body = ballot.proposed.body
    theirs = scored[scored.index.isin(body["cells"])]
    return {
        "class_id": ballot.class_id,
        "name": body["name"],
        "aliases": body["aliases"],
        "proposed_at": ballot.proposed.at,
        "why": ballot.proposed.why,
        "cells": len(body["cells"]),
        "readers": body["readers"],
        "nearest_class": _most(theirs["predicted"]),
        "marker_profile": _most(theirs["profile"]),
        "cluster": _most(theirs["cluster_name"]),
        "status": ballot.status,
        "votes": [
            {
                "by": one.by,
                "vote": one.body["vote"],
                "at": one.at,
                "definition": one.body["definition"],
                "reason": one.why,
            }
            for one in ballot.votes
        ],
        "gallery": _gallery(ws, ballot),
    }


def _most(values: pd.Series) -> str | None:
    """The commonest value and for how many it holds, as people read it."""
    counted = values.dropna().value_counts()
    return f"{counted.index[0]} ({counted.iloc[0]} of {len(values)} cells)" if len(counted) else None


def _gallery(ws: Workspace, ballot: Ballot) -> str | None:
    """Draw up to 24 of the cells, spread evenly, once; the path below `review/`."""
    path = ws.review / "gallery" / f"{ballot.class_id}.png"
    if not path.exists():
        manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid"])
        cells = manifest[manifest["cell_uid"].isin(ballot.proposed.body["cells"])].sort_values("cell_uid")
        cells = cells.iloc[np.linspace(0, len(cells) - 1, min(GALLERY_CELLS, len(cells))).astype(int)]
        if cells.empty:
            return None
        sheet = contact_sheet(list(read_overlays(ws.shards, cells).values()), columns=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as unfinished:
            Image.fromarray(sheet).save(unfinished, format="PNG")
    return path.relative_to(ws.review).as_posix()


def decide_class(
    ws: Workspace,
    class_id: str,
    *,
    expert: str,
    accepts: bool,
    definition: str,
    why: str,
    look_alikes: int,
    seed: int,
    now: datetime,
    request: str | None = None,
) -> str:
    """An expert's vote with all that follows from it; returns what came of it, in one line."""
    gallery, drawn = ws.reports / "classes" / f"{class_id}.png", ws.review / "gallery" / f"{class_id}.png"
    if accepts and drawn.exists():
        gallery.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(gallery) as unfinished:
            shutil.copyfile(drawn, unfinished)
    said = vote(
        Ledger(ws.ledger),
        class_id,
        expert=expert,
        accepts=accepts,
        definition=definition,
        why=why,
        now=now,
        gallery=gallery.relative_to(ws.root).as_posix() if gallery.exists() else None,
        request=request,
    )
    asked = ask_again(ws, look_alikes=look_alikes, seed=seed, now=now)
    write_evidence(ws)
    return said + "".join(f"; {cells} cells go to the readers again ({occasion})" for occasion, cells in asked.items())


def ask_again(ws: Workspace, *, look_alikes: int, seed: int, now: datetime) -> dict[str, int]:
    """Queue what a decision puts into doubt, once: settled training cells like an accepted class, cells named by a rejected one.

    Returns the number of cells by occasion. Nothing is overwritten: the readers see the cells as any others.
    """
    ledger = Ledger(ws.ledger)
    events = list(ledger.events())
    done = {event.body["occasion"] for event in events if event.kind == "queued"}
    asked = {}
    for ballot in ballots_of(events):
        occasion = f"{ballot.status}-{ballot.class_id.replace('_', '-')}"
        if ballot.status == "open" or occasion in done:
            continue  # before the look-alikes are sought: each pull comes by here
        doubted, why = _doubted(ws, ballot, events, look_alikes)
        if not doubted:
            continue
        readers = readers_among(people_of(events))
        rng = np.random.default_rng([seed, 11, ballot.proposed.seq])
        drafts: list[Draft] = queueing(
            dict.fromkeys(doubted, (Purpose.TRAINING, why)),
            occasion,
            events=events,
            readers=readers,
            by="the class desk",
            rng=rng,
        )
        ledger.append(drafts, now=now)
        asked[occasion] = len(drafts)
    return asked


def _doubted(ws: Workspace, ballot: Ballot, events: Sequence[Event], look_alikes: int) -> tuple[list[str], str]:
    if ballot.status == "rejected":
        return list(ballot.proposed.body["cells"]), f"named {ballot.class_id}, which was rejected"
    if ballot.status == "accepted" and look_alikes and ws.embeddings.exists():
        manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
        settled = training_cells(ground_truth(events, manifest).cells)
        return most_alike(ws, ballot.proposed.body["cells"], list(settled["cell_uid"]), look_alikes), (
            f"look-alike of {ballot.class_id}, settled before it was a class"
        )
    return [], ""


def most_alike(ws: Workspace, members: Sequence[str], among: Sequence[str], count: int) -> list[str]:
    """The `count` cells that lie nearest to some member, in standardised appearance, in which no class has a say."""
    table = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "appearance"])
    table = table[table["cell_uid"].isin({*members, *among})].sort_values("cell_uid", ignore_index=True)
    theirs = table["cell_uid"].isin(set(members)).to_numpy()
    if not theirs.any() or theirs.all():
        return []
    looks: NDArray[np.float32] = StandardScaler().fit_transform(np.stack(table["appearance"].to_list()))
    distance, _ = NearestNeighbors(n_neighbors=1).fit(looks[theirs]).kneighbors(looks[~theirs])
    nearest = np.argsort(distance[:, 0], kind="stable")[:count]
    return [str(uid) for uid in table["cell_uid"][~theirs].iloc[nearest]]
