"""Discovery in a workspace: what is new is flagged and shown, a shifted instrument is named, held-out patients stay closed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import a_cell

from ctcml.appearance import NAMES
from ctcml.clinical import COVARIATE
from ctcml.discovery import RUN_DATE, cleared, discover, in_words
from ctcml.errors import BrokenRecord
from ctcml.shards import Packed, pack_shard
from ctcml.shift import Shift
from ctcml.tables import CLINICAL, CLUSTERS, DISCOVERY, EMBEDDING, MANIFEST, TRUTH, read_table, write_table
from ctcml.workspace import Workspace

CLASSES = ["ctc", "wbc", "other"]
PER_SAMPLE, SAMPLES, NEW = 60, 24, 12
CHOICE = {"score": "autoencoder.density", "threshold": 0.8, "representation": "appearance", "ratio": 3.0, "cases": 5}


def a_workspace(root: Path, *, moved: float = 0.0) -> Workspace:
    """Twenty-four samples of two instruments: three labelled kinds, and a fifth of each sample of a kind without labels.

    The last sample is a sealed patient's. Appearance on the second instrument, which has no label, is `moved`.
    """
    ws, rng = Workspace(root / "lab"), np.random.default_rng(6)
    centres = rng.normal(0, 2.5, (4, len(NAMES)))
    tables: dict[str, list[dict[str, Any]]] = {"manifest": [], "truth": [], "clinical": [], "embedding": []}
    for number in range(SAMPLES):
        sample, patient, second = f"s{number:02d}", f"p{number:02d}", number >= SAMPLES // 2
        packed = []
        for at in range(PER_SAMPLE):
            kind = 3 if at < NEW else at % 3
            cell = {"cell_uid": f"{sample}-{at}", "sample_uid": sample, "patient_uid": patient}
            looks = centres[kind] + rng.normal(0, 1, len(NAMES)) + moved * second
            chances = np.full(3, 0.1)
            chances[kind % 3] = 0.8
            scored = {"predicted": CLASSES[kind % 3], "probabilities": chances, "latent": looks[:20], "energy": -1.0, "appearance": looks, "reconstruction_error": [0.1] * 3}  # fmt: skip
            tables["embedding"].append(cell | scored)
            place = {"frame": at, "x_px": rng.uniform(0, 1384), "y_px": rng.uniform(0, 1036)}
            tables["manifest"].append(dict.fromkeys(MANIFEST) | cell | place | {"object_index": at, "height": 30, "width": 26, "has_mask": False, "oversize": False, "content_sha256": "", "shard_sha256": sample})  # fmt: skip
            if kind < 3 and at % 2 and (not second or not moved):
                tables["truth"].append(cell | {"class_id": CLASSES[kind], "role": "train", "purpose": "training", "how": "both readers"})  # fmt: skip
            packed.append(
                Packed(
                    cell_uid=cell["cell_uid"], sample_uid=sample, object_index=at, planes=("CD45", "DAPI", "CK", "FITC"),
                    pixels=a_cell(rng), mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK,FITC", restore_low=(), restore_high=(),
                )
            )  # fmt: skip
        pack_shard(packed, ws.shards / f"{sample}.parquet")
        tables["clinical"].append({"sample_uid": sample, "patient_uid": patient, "sample_kind": "patient", "cancer_type": "breast", "blood_volume_ml": 7.5, "instrument": f"CellTracks {1 + second}", RUN_DATE: f"2026-01-{number + 1:02d}"})  # fmt: skip
    write_table(pd.DataFrame(tables["manifest"]), MANIFEST, ws.manifest / "all.parquet")
    write_table(pd.DataFrame(tables["truth"]), TRUTH, ws.truth)
    write_table(pd.DataFrame(tables["embedding"])[list(EMBEDDING)], EMBEDDING, ws.embeddings / "all.parquet")
    clinical = pd.DataFrame(tables["clinical"]).reindex(columns=[*CLINICAL, RUN_DATE])
    write_table(clinical, CLINICAL, ws.clinical, extra_prefix=COVARIATE)
    sets = ["train"] * (SAMPLES - 1) + ["sealed"]
    ws.roles.write_text(json.dumps({f"p{number:02d}": role for number, role in enumerate(sets)}))
    ws.calibration.write_text(json.dumps({"temperature": 2.0}))
    ws.champion.mkdir(parents=True)
    (ws.champion / "replay.json").write_text(json.dumps({"choice": CHOICE}))
    return ws


def discovered(ws: Workspace, said: list[str] | None = None) -> dict[str, Any]:
    report = discover(
        ws, ws.pictures / "clusters", clusters=30, min_cells=8, method="kmeans", exemplars=4, draws=2, seed=20, simulated=True,
        say=(said if said is not None else []).append,
    )  # fmt: skip
    read_back: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    return read_back


def test_the_kind_without_labels_is_flagged_by_name_and_shown(tmp_path: Path) -> None:
    ws, said = a_workspace(tmp_path), list[str]()
    report = discovered(ws, said)
    cells = read_table(ws.cell_discovery, DISCOVERY)
    new = cells["cell_uid"].str.split("-").str[1].astype(int) < NEW
    flagged = cells["flagged"]
    assert flagged[new].mean() > 0.9
    assert new[flagged].mean() > 0.9
    found = read_table(ws.clusters, CLUSTERS)
    (one,) = found[found["flagged"]].itertuples()
    assert (one.verdict, one.samples) == ("new kind of object", SAMPLES - 1)
    assert set(cells.loc[cells["cluster"] == one.cluster, "cluster_name"]) == {one.name}
    assert one.largest_date_share < 0.1  # run dates come from the clinical table
    assert one.largest_region_share < 0.3
    assert [path.name for path in ws.pictures.glob("clusters/*")] == [f"cluster-{one.cluster}.png"]
    # Probabilities of .8 and .1 at temperature 2: the square roots over their sum.
    assert cells["uncertainty"].to_numpy() == pytest.approx(
        1 - (0.8**0.5 - 0.1**0.5) / (0.8**0.5 + 2 * 0.1**0.5), abs=1e-5
    )
    assert report["choice"] == CHOICE
    assert not any(told["shifted"] for told in report["instruments"].values())
    assert report["cells_above_threshold"] >= int(flagged.sum()) * 0.9
    assert "1 unlike anything labelled" in said[-1]


def test_held_out_patients_are_not_looked_at(tmp_path: Path) -> None:
    ws = a_workspace(tmp_path)
    discovered(ws)
    assert not any(uid.startswith(f"s{SAMPLES - 1}") for uid in read_table(ws.cell_discovery, DISCOVERY)["cell_uid"])


def test_labelled_cells_have_no_novelty_and_are_never_flagged(tmp_path: Path) -> None:
    ws = a_workspace(tmp_path)
    discovered(ws)
    cells = read_table(ws.cell_discovery, DISCOVERY)
    assert cells.loc[cells["in_reference"], "novelty"].isna().all()
    assert cells.loc[~cells["in_reference"], "novelty"].between(0, 1).all()
    assert not cells.loc[cells["in_reference"], "flagged"].any()


def test_a_shifted_instrument_is_named_and_none_of_its_cells_called_new(tmp_path: Path) -> None:
    ws, said = a_workspace(tmp_path, moved=1.5), list[str]()
    told = discovered(ws, said)["instruments"]
    assert told["CellTracks 2"]["shifted"]
    assert not told["CellTracks 2"]["own_reference"]
    assert not told["CellTracks 1"]["shifted"]
    cells = read_table(ws.cell_discovery, DISCOVERY)
    second = cells["cell_uid"].str[1:3].astype(int) >= SAMPLES // 2
    assert cells.loc[second, "shifted"].all()
    assert not cells.loc[second, "flagged"].any()
    assert cells.loc[~second, "flagged"].any()  # the first instrument still finds its own
    assert said[0].startswith("CellTracks 2: shifted against the labelled cells of other instruments")


def test_clusters_keep_their_names_in_the_next_round(tmp_path: Path) -> None:
    ws = a_workspace(tmp_path)
    discovered(ws)
    first = read_table(ws.clusters, CLUSTERS)
    ws.start.mkdir(parents=True)
    renamed = read_table(ws.cell_discovery, DISCOVERY)
    renamed["cluster_name"] = "former-" + renamed["cluster_name"]
    write_table(renamed, DISCOVERY, ws.start_clusters)
    discovered(ws)
    assert read_table(ws.clusters, CLUSTERS)["name"].tolist() == [f"former-{name}" for name in first["name"]]


def test_a_model_without_its_replay_is_one_clear_line(tmp_path: Path) -> None:
    ws = a_workspace(tmp_path)
    (ws.champion / "replay.json").unlink()
    with pytest.raises(BrokenRecord, match="nothing says which novelty score to use"):
        discovered(ws)


@pytest.mark.parametrize(
    ("effect", "expected", "own", "clear", "word"),
    [
        (0.1, 0.3, True, True, "comparable with its own"),
        (0.9, 0.3, True, False, "shifted against its own"),
        (0.1, 0.3, False, True, "comparable with the labelled cells of other"),
        (0.6, 0.9, False, False, "too few samples to rule out"),  # a blind test clears nobody
        (0.6, 0.9, True, True, "comparable with its own"),
    ],
)
def test_an_instrument_is_cleared_only_by_a_test_that_could_have_seen_a_shift(
    effect: float, expected: float, own: bool, clear: bool, word: str
) -> None:
    shift = Shift(
        effect=effect, expected=expected, moved={"ctc": effect}, strongest="ck_peak", judged=True, shifted=effect > max(expected, 0.5)
    )  # fmt: skip
    assert cleared(shift, own_reference=own) == clear
    assert word in in_words(shift, own)
