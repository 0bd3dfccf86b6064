"""What experts are shown of a proposed class, and what follows from their decision."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories import KEY, NOON, a_historic, a_ledger, a_patient, a_queued, a_sample, named_by_both, people
from PIL import Image

from ctcml.assignments import open_occasions, unanswered
from ctcml.class_evidence import ask_again, decide_class, flagged_clusters, most_alike, write_evidence
from ctcml.ledger import Ledger
from ctcml.settlement import settle_readings
from ctcml.tables import CLUSTERS, DISCOVERY, EMBEDDING, write_table
from ctcml.workspace import Workspace

NAMED = ["c0", "c1", "c2"]
OLD = [f"old{number}" for number in range(9)]


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Three cells that both readers named alike, and nine that were labelled before; the first four look like the three."""
    ws = Workspace(tmp_path / "lab")
    cells = [*NAMED, *OLD]
    a_sample(ws, cells)
    appearance = [[9.0, 9.0 + at / 100] if at < 7 else [float(at), 0.0] for at in range(len(cells))]
    embedding = pd.DataFrame({"cell_uid": cells, "sample_uid": "s1", "predicted": "tdev", "appearance": appearance})
    write_table(embedding.reindex(columns=list(EMBEDDING)).astype(object), EMBEDDING, ws.embeddings / "s1.parquet")
    found = pd.DataFrame(
        {"cell_uid": cells, "cluster": 1, "cluster_name": "amber", "flagged": [True] * 2 + [False] * 10}
    )
    write_table(found.reindex(columns=list(DISCOVERY)).astype(object), DISCOVERY, ws.cell_discovery)
    cluster = pd.DataFrame({"cluster": [1], "name": ["amber"], "profile": ["CD45+ DAPI- CK-"]})
    write_table(cluster.reindex(columns=list(CLUSTERS)).astype(object), CLUSTERS, ws.clusters)
    historic, read = a_historic(*OLD), named_by_both(*NAMED)
    registered = people("reader-a", "reader-b", adjudicators=("reader-c",))
    ledger = a_ledger(ws.ledger, a_patient("p1", "train"), *registered, *historic, *a_queued(*NAMED), *read)
    settle_readings(ledger, rule="adjudicate", check_share=0, new_class_min=3, key=KEY, now=NOON)
    return ws


def decide(ws: Workspace, expert: str, *, accepts: bool, look_alikes: int = 4) -> str:
    more: dict[str, Any] = {
        "definition": "CD45+ alone",
        "why": "seen",
        "look_alikes": look_alikes,
        "seed": 1,
        "now": NOON,
    }
    return decide_class(ws, "cd45ev", expert=expert, accepts=accepts, **more)


def asked_again(ws: Workspace) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for event in Ledger(ws.ledger).events("queued"):
        if event.body["occasion"] != "round-1":
            found.setdefault(event.body["occasion"], set()).add(event.body["cell_uid"])
    return found


def test_the_experts_see_gallery_nearest_class_marker_profile_and_count(ws: Workspace) -> None:
    (one,) = write_evidence(ws)
    assert json.loads(ws.proposals.read_text()) == [one]
    assert (one["class_id"], one["name"], one["cells"], one["status"], one["votes"]) == (
        "cd45ev",
        "CD45EV",
        3,
        "open",
        [],
    )
    assert one["nearest_class"] == "tdev (3 of 3 cells)"
    assert one["marker_profile"] == "CD45+ DAPI- CK- (3 of 3 cells)"
    with Image.open(ws.review / one["gallery"]) as gallery:
        assert gallery.size[0] > 500


def test_two_experts_make_a_class_with_authors_and_a_gallery_that_is_kept(ws: Workspace) -> None:
    write_evidence(ws)
    decide(ws, "reader-a", accepts=True)
    assert asked_again(ws) == {}
    said = decide(ws, "reader-c", accepts=True)
    assert "is a class now" in said
    assert "4 cells go to the readers again" in said
    added = list(Ledger(ws.ledger).events("class_added"))[-1]
    assert added.body["authors"] == ["reader-a", "reader-c"]
    assert (ws.root / added.body["gallery"]).exists()
    assert json.loads(ws.proposals.read_text())[0]["status"] == "accepted"


def test_look_alikes_of_settled_cells_are_read_again_and_keep_their_labels_meanwhile(ws: Workspace) -> None:
    for expert in ("reader-a", "reader-b"):
        decide(ws, expert, accepts=True)
    assert asked_again(ws) == {"accepted-cd45ev": set(OLD[:4])}
    assert "accepted-cd45ev" in open_occasions(Ledger(ws.ledger).events())
    assert len(unanswered(Ledger(ws.ledger).events())) == 8
    assert not [event for event in Ledger(ws.ledger).events("settlement") if event.body["cell_uid"] in OLD]
    assert ask_again(ws, look_alikes=4, seed=1, now=NOON) == {}


def test_cells_named_by_a_rejected_class_are_read_again(ws: Workspace) -> None:
    for expert in ("reader-a", "reader-c"):
        decide(ws, expert, accepts=False)
    assert asked_again(ws) == {"rejected-cd45ev": set(NAMED)}


def test_without_look_alikes_wanted_nobody_is_asked(ws: Workspace) -> None:
    for expert in ("reader-a", "reader-b"):
        decide(ws, expert, accepts=True, look_alikes=0)
    assert asked_again(ws) == {}


def test_the_most_alike_are_found_among_those_given_and_no_member_is_one(ws: Workspace) -> None:
    assert set(most_alike(ws, NAMED, [*OLD, "c0"], 4)) == set(OLD[:4])
    assert most_alike(ws, NAMED, [], 4) == []
    assert most_alike(ws, ["unknown"], OLD, 4) == []


def test_only_cells_of_flagged_clusters_are_in_one(ws: Workspace) -> None:
    assert flagged_clusters(ws) == {"c0": "amber", "c1": "amber"}
    assert flagged_clusters(Workspace(ws.root / "elsewhere")) == {}
