"""The flat maps: neighbours stay together, a fitted map is kept with its model, and later cells find their place on it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from factories import a_cell
from sklearn.neighbors import KNeighborsClassifier

from ctcml import stages
from ctcml.clinical import COVARIATE
from ctcml.embed import load_scorer, score
from ctcml.errors import BadInput, BrokenRecord
from ctcml.latentmap import METHODS, Reducer, choose_cells, fit_map, fit_reducer, place, read_chart, write_chart
from ctcml.model import AECNN, save_weights
from ctcml.params import load_params
from ctcml.shards import Packed, pack_shard, read_inputs
from ctcml.tables import CLINICAL, DISCOVERY, EMBEDDING, MANIFEST, MAP, TRUTH, read_table, write_table
from ctcml.workspace import Workspace

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
KIND = np.repeat([0, 1], 60)
SAMPLES = {"s0": "train", "s1": "train", "s2": "sealed"}
PER_SAMPLE = 20

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def two_kinds() -> Floats:
    rng = np.random.default_rng(5)
    return np.vstack([rng.normal(0, 1, (60, 50)), rng.normal(2, 1, (60, 50))]).astype(np.float32)


@pytest.fixture(scope="module")
def reducer(two_kinds: Floats) -> Reducer:
    return fit_reducer(two_kinds, method="tsne", seed=20, weights_sha256="0" * 64)


def two_maps(reducer: Reducer, weights: str) -> list[Reducer]:
    """One of either method without the time that a second fit takes."""
    return [Reducer(**vars(reducer) | {"method": method, "weights_sha256": weights}) for method in METHODS]


def test_two_kinds_stay_apart_and_the_map_is_the_same_twice(two_kinds: Floats, reducer: Reducer) -> None:
    assert reducer.places.shape == (120, 2)
    assert reducer.places.dtype == np.float32
    assert KNeighborsClassifier(5).fit(reducer.places, KIND).score(reducer.places, KIND) >= 0.98
    assert np.array_equal(reducer.places, fit_map(two_kinds, method="tsne", seed=20))


def test_a_handful_of_cells_still_gets_a_map_and_too_few_are_refused() -> None:
    cells = np.random.default_rng(6).normal(size=(6, 50))
    assert np.isfinite(fit_map(cells, method="tsne", seed=1)).all()
    with pytest.raises(BadInput, match="at least 5 cells, found 2"):
        fit_map(cells[:2], method="tsne", seed=1)


def test_a_fitted_cell_lies_exactly_where_it_was_fitted_also_when_it_is_scored_in_another_batch(
    two_kinds: Floats, reducer: Reducer
) -> None:
    rounding = np.random.default_rng(1).normal(0, 1e-6, two_kinds.shape).astype(np.float32)
    assert np.array_equal(place(reducer, two_kinds + rounding), reducer.places)


def test_new_cells_lie_among_their_kind_each_for_itself(reducer: Reducer) -> None:
    rng = np.random.default_rng(7)
    new = np.vstack([rng.normal(0, 1, (40, 50)), rng.normal(2, 1, (40, 50))]).astype(np.float32)
    there = place(reducer, new)
    assert KNeighborsClassifier(5).fit(reducer.places, KIND).score(there, np.repeat([0, 1], 40)) >= 0.95
    assert np.array_equal(place(reducer, new[::-1]), there[::-1])
    assert np.allclose(place(reducer, new[:1]), there[:1])
    assert place(reducer, new[:0]).shape == (0, 2)


def test_latents_of_another_width_have_no_place(reducer: Reducer) -> None:
    with pytest.raises(BadInput, match=r"\(3, 6\), expected \(cells, 50\)"):
        place(reducer, np.zeros((3, 6)))


def test_a_map_is_fitted_on_a_share_of_every_class_however_rare() -> None:
    classes = np.array(["wbc"] * 900 + ["ctc"] * 95 + ["tdev"] * 5)
    chosen = choose_cells(classes.tolist(), most=100, rng=np.random.default_rng(3))
    assert dict(zip(*np.unique(classes[chosen], return_counts=True), strict=True)) == {"ctc": 9, "tdev": 1, "wbc": 90}
    assert (np.diff(chosen) > 0).all()
    assert np.array_equal(chosen, choose_cells(classes.tolist(), most=100, rng=np.random.default_rng(3)))
    assert len(choose_cells(classes.tolist(), most=1000, rng=np.random.default_rng(3))) == 1000


def test_a_chart_comes_back_as_it_was_written_and_twice_as_the_same_bytes(reducer: Reducer, tmp_path: Path) -> None:
    for name in ("once", "twice"):
        write_chart(tmp_path / name, two_maps(reducer, "0" * 64), about={"cells": 120})
    assert sorted(file.name for file in (tmp_path / "once").iterdir()) == ["reducer.json", "tsne.npz", "umap.npz"]
    for file in (tmp_path / "once").iterdir():
        assert file.read_bytes() == (tmp_path / "twice" / file.name).read_bytes()
    for one in read_chart(tmp_path / "once", weights_sha256="0" * 64).values():
        assert np.array_equal(one.places, reducer.places)
        assert np.array_equal(one.latents, reducer.latents)
        assert np.array_equal(one.mean, reducer.mean)
        assert one.seed == 20


def test_a_chart_that_is_missing_changed_or_of_another_model_is_not_used(reducer: Reducer, tmp_path: Path) -> None:
    def complaint(weights: str = "0" * 64) -> str:
        with pytest.raises(BrokenRecord) as caught:
            read_chart(tmp_path / "chart", weights_sha256=weights)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "found no reducer.json" in complaint()
    assert "ctcml loop" in complaint()
    write_chart(tmp_path / "chart", two_maps(reducer, "0" * 64), about={})
    assert "maps of the model with weights 000000000000, expected 111111111111" in complaint("1" * 64)
    whole = (tmp_path / "chart" / "umap.npz").read_bytes()
    (tmp_path / "chart" / "umap.npz").write_bytes(whole + b"more")
    assert "umap.npz: SHA-256" in complaint()
    (tmp_path / "chart" / "umap.npz").unlink()
    assert "umap.npz: not readable" in complaint()
    (tmp_path / "chart" / "reducer.json").write_text("[]")
    assert "reducer.json: not readable" in complaint()


def test_what_is_no_map_is_refused_though_its_hash_was_made_to_fit(reducer: Reducer, tmp_path: Path) -> None:
    write_chart(tmp_path, two_maps(reducer, "0" * 64), about={})
    record = json.loads((tmp_path / "reducer.json").read_text())
    arrays: dict[str, Any] = vars(reducer) | {"method": "umap"}
    for wrong in (
        {"latents": np.array([{}], dtype=object)},
        {"places": reducer.places[1:]},
        {"weights_sha256": "1" * 64},
    ):
        with (tmp_path / "umap.npz").open("wb") as file:
            np.savez(file, **arrays | wrong)
        digest = hashlib.sha256((tmp_path / "umap.npz").read_bytes()).hexdigest()
        record["maps"]["umap"]["sha256"] = digest
        (tmp_path / "reducer.json").write_text(json.dumps(record))
        with pytest.raises(BrokenRecord, match=r"not a map|fitted with another model"):
            read_chart(tmp_path, weights_sha256="0" * 64)


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """Two training samples, half of whose cells are labelled, a sealed one with labels that nobody may show, and a model."""
    ws, rng = Workspace(tmp_path / "lab"), np.random.default_rng(2)
    cells = []
    for sample in SAMPLES:
        packed = [
            Packed(
                cell_uid=f"{sample}-{at}", sample_uid=sample, object_index=at, planes=("CD45", "DAPI", "CK", "FITC"),
                pixels=a_cell(rng), mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK,FITC", restore_low=(),
                restore_high=(),
            )
            for at in range(PER_SAMPLE)
        ]  # fmt: skip
        pack_shard(packed, ws.shards / f"{sample}.parquet")
        cells += [(one.cell_uid, sample, f"p-{sample}", SAMPLES[sample], at) for at, one in enumerate(packed)]
    table = pd.DataFrame(cells, columns=["cell_uid", "sample_uid", "patient_uid", "role", "at"])
    for sample, rows in table.groupby("sample_uid"):
        write_table(rows.reindex(columns=list(MANIFEST)), MANIFEST, ws.manifest / f"{sample}.parquet")
    truth = table[table["at"] < PER_SAMPLE // 2].assign(how="both readers")
    truth["class_id"] = np.where(truth["at"] % 2, "ctc", "wbc")
    truth["purpose"] = np.where(truth["role"] == "train", "training", "evaluation")
    write_table(truth[list(TRUTH)], TRUTH, ws.truth)
    samples = pd.DataFrame({"sample_uid": list(SAMPLES), "sample_kind": ["patient", "benign", "patient"]})
    samples = samples.assign(**{"cancer_type": "breast", "patient_uid": "p", f"{COVARIATE}simulated": "yes"})
    samples = samples.reindex(columns=[*CLINICAL, f"{COVARIATE}simulated"])
    write_table(samples, CLINICAL, ws.clinical, extra_prefix=COVARIATE)
    found = table[table["role"] == "train"].assign(novelty=0.5, flagged=table["at"] > 15)
    write_table(found.reindex(columns=list(DISCOVERY)), DISCOVERY, ws.cell_discovery)
    torch.manual_seed(3)
    for folder in (ws.candidate, ws.champion):
        folder.mkdir(parents=True)
        card = {
            "architecture": "AE-CNN", "classes": ["ctc", "wbc"], "hidden": "linear", "recipe": "asinh",
            "image": PARAMS.image.model_dump(), "weights_sha256": save_weights(AECNN(2), folder / "weights.safetensors"),
        }  # fmt: skip
        (folder / "model.json").write_text(json.dumps(card))
    return ws


def scored_by_the_champion(ws: Workspace) -> None:
    for sample in SAMPLES:
        uids, images = read_inputs(ws.shards, [sample], **PARAMS.image.model_dump())
        scores = score(load_scorer(ws.champion), images)
        rows = {"cell_uid": uids, "sample_uid": sample, "predicted": scores.predicted, "latent": list(scores.latents)}
        write_table(
            pd.DataFrame(rows).reindex(columns=list(EMBEDDING)).astype(object),
            EMBEDDING,
            ws.embeddings / f"{sample}.parquet",
        )


def test_maps_are_fitted_once_on_training_cells_and_every_cell_of_their_model_is_placed_on_them(ws: Workspace) -> None:
    said: list[str] = []
    stages.chart(ws, seed=20, discover=PARAMS.discover, say=said.append)
    assert said == ["flat maps fitted on 20 of 20 training cells"]
    assert len(list((ws.pictures / "chart").iterdir())) == 4
    ws.chart.rename(ws.champion_chart)
    with pytest.raises(
        BrokenRecord, match="maps of the model with weights"
    ):  # of the candidate, which is no champion yet
        stages.map(ws, say=said.append)

    for file in ws.candidate.iterdir():
        file.replace(ws.champion / file.name)
    scored_by_the_champion(ws)
    stages.map(ws, say=said.append)
    table = read_table(ws.map, MAP).set_index("cell_uid")
    assert len(table) == 60
    assert np.isfinite(table.to_numpy()).all()
    weights = json.loads((ws.champion / "model.json").read_text())["weights_sha256"]
    fitted = [f"{sample}-{at}" for sample in ("s0", "s1") for at in range(10)]
    for name, one in read_chart(ws.champion_chart, weights_sha256=weights).items():
        assert {tuple(xy) for xy in table.loc[fitted, [f"{name}_x", f"{name}_y"]].to_numpy()} == set(
            map(tuple, one.places)
        )
        assert np.array_equal(one.places, fit_map(one.latents, method=name, seed=20))
    ways = ("true-class", "predicted-class", "cancer-type", "instrument", "novelty")
    made = {file.name for file in (ws.pictures / "map").iterdir()}
    assert {f"{way}-{name}.{ending}" for way in ways for name in METHODS for ending in ("svg", "png")} <= made
    drawn = (ws.pictures / "map" / "true-class-umap.svg").read_text()
    for words in ("SIMULATED DATA", "ctc (10)", "wbc (10)", "not labelled (40)"):  # no label of the sealed patient
        assert words in drawn
    assert "benign breast (20)" in (ws.pictures / "map" / "cancer-type-tsne.svg").read_text()
    assert "flagged (8)" in (ws.pictures / "map" / "novelty-tsne.svg").read_text()
