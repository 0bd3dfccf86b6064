"""What probabilities are worth: recovered where the truth is known, left alone where nothing was read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, softmax

from ctcml.calibration import (
    WEIGHTS,
    Calibration,
    as_settled,
    at_own_frequencies,
    calibrate,
    fit_spread,
    fit_temperature,
    given_error,
    reading_error,
    tempered,
)
from ctcml.errors import BadInput
from ctcml.params import load_params
from ctcml.stages import calibrate as calibrate_stage
from ctcml.stages import count as count_stage
from ctcml.tables import CLINICAL, COUNTS, EMBEDDING, MANIFEST, OPINIONS, TRUTH, read_table, write_json, write_table
from ctcml.workspace import Workspace

CLASSES = ["ctc", "wbc", "other"]
NOTHING = pd.DataFrame({"cell_uid": [], "patient_uid": [], "class_id": []}, dtype=str)


def events(probabilities: np.ndarray, samples: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_uid": [f"c{at}" for at in range(len(probabilities))],
            "sample_uid": [f"s{at % samples}" for at in range(len(probabilities))],
            "probabilities": list(probabilities.astype(np.float32)),
        }
    )


def fitted(cells: pd.DataFrame, settled: pd.DataFrame, **changes: Any) -> Calibration:
    numbers = {
        "temperature_sd": 0.3, "spread": 0.7, "spread_sd": 0.5, "frequency_events": 10, "reading_error": 0.005,
        "read_twice": 0,
    }  # fmt: skip
    return calibrate(cells, settled, classes=CLASSES, **numbers | changes)


def some_probabilities(cells: int, rng: np.random.Generator) -> np.ndarray:
    return softmax(rng.normal(0, 3, (cells, 3)), axis=1)


def draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return (probabilities.cumsum(axis=1) < rng.random((len(probabilities), 1))).sum(axis=1)


def test_without_any_settled_cell_the_priors_stand() -> None:
    found = fitted(events(some_probabilities(40, np.random.default_rng(1))), NOTHING)
    assert found.temperature == pytest.approx(1, abs=1e-3)
    assert found.spread == pytest.approx(dict.fromkeys(CLASSES, 0.7), abs=2e-3)
    assert (found.cells, found.patients) == (0, 0)
    assert sum(found.usual.values()) == pytest.approx(1)


def test_before_the_first_embedding_there_is_nothing_to_divide_by() -> None:
    assert fitted(events(np.empty((0, 3))), NOTHING).usual == pytest.approx(dict.fromkeys(CLASSES, 1 / 3))


def test_a_network_that_is_twice_too_sure_is_found_out() -> None:
    rng = np.random.default_rng(2)
    right = some_probabilities(2000, rng)
    labels = draw(right, rng)
    oversure = tempered(right, 0.5)
    assert fit_temperature(oversure, labels, prior_sd=0.3, reading_error=0.0) == pytest.approx(2, rel=0.1)
    assert fit_temperature(right, labels, prior_sd=0.3, reading_error=0.0) == pytest.approx(1, abs=0.06)


def test_a_network_is_never_made_surer_than_it_is() -> None:
    rng = np.random.default_rng(3)
    timid = tempered(some_probabilities(300, rng), 2.0)
    assert fit_temperature(timid, timid.argmax(axis=1), prior_sd=0.3, reading_error=0.0) == pytest.approx(1, abs=1e-3)


def test_the_common_error_of_patients_is_recovered_and_none_is_not_invented() -> None:
    rng = np.random.default_rng(4)
    patient = np.repeat(np.arange(80), 25)
    logits = rng.normal(-1, 2, len(patient))
    for spread in (0.1, 1.2):
        settled = rng.random(len(patient)) < expit(logits + spread * rng.normal(size=80)[patient])
        found = fit_spread(
            expit(logits), settled, patient, usual=0.3, prior=0.7, prior_sd=0.8, reading_error=0.0
        )  # fmt: skip
        assert found == pytest.approx(spread, abs=0.3)


def test_one_wrong_settlement_of_a_plain_cell_does_not_make_the_network_doubtful() -> None:
    sure = np.tile([[0.9999, 0.00005, 0.00005]], (60, 1))
    labels = np.array([1] + [0] * 59)
    believed = fit_temperature(sure, labels, prior_sd=0.3, reading_error=0.01)
    taken_at_its_word = fit_temperature(sure, labels, prior_sd=0.3, reading_error=0.0)
    assert believed < taken_at_its_word


def test_the_mean_over_the_errors_is_the_chance_itself() -> None:
    chances = np.array([0.02, 0.3, 0.5, 0.9])
    for spread in (0.0, 0.7, 1.2):
        assert WEIGHTS @ given_error(chances, spread) == pytest.approx(chances, abs=0.02)


def test_a_doubtful_event_means_less_in_a_patient_who_has_no_other_such_cell() -> None:
    usual = np.array([0.1, 0.7, 0.2])
    doubtful = [0.5, 0.4, 0.1]
    among_ctc = np.array([doubtful] + [[0.98, 0.01, 0.01]] * 30)
    among_wbc = np.array([doubtful] + [[0.001, 0.989, 0.01]] * 30)
    assert at_own_frequencies(among_ctc, usual, 10)[0, 0] > 0.7
    assert at_own_frequencies(among_wbc, usual, 10)[0, 0] < 0.3
    assert at_own_frequencies(among_wbc, usual, 1e12)[0] == pytest.approx(doubtful)
    assert at_own_frequencies(np.empty((0, 3)), usual, 10).shape == (0, 3)


def test_own_frequencies_make_doubtful_cells_right_more_often() -> None:
    """Patients with few and with many of a class: the likelihood of the truth rises without any label."""
    rng = np.random.default_rng(5)
    usual, before, after = np.array([0.5, 0.5]), 0.0, 0.0
    for share in np.tile([0.05, 0.95], 20):
        true = (rng.random(50) >= share).astype(int)
        score = rng.normal(np.where(true == 0, 1.0, -1.0), 1)
        said = np.column_stack([expit(2 * score), expit(-2 * score)])
        each = np.arange(50)
        before += np.log(said[each, true]).sum()
        after += np.log(at_own_frequencies(said, usual, 10)[each, true]).sum()
    assert after > before + 100


def test_readings_lose_as_many_cells_of_a_class_as_they_gain() -> None:
    for usual in (0.0, 0.02, 0.5, 0.9):
        lost = usual * (1 - as_settled(np.ones(1), usual, 0.01)[0])
        gained = (1 - usual) * as_settled(np.zeros(1), usual, 0.01)[0]
        assert lost == pytest.approx(gained, abs=1e-12)


def test_readers_who_differ_more_err_more_and_few_readings_say_little() -> None:
    prior = {"prior": 0.1, "prior_cells": 50}
    assert reading_error(0.2, 0, **prior) == reading_error(None, 0, **prior)
    assert reading_error(0.3, 5, **prior) < reading_error(0.3, 500, **prior) < 0.3**2 / 2


def test_a_class_that_the_network_lacks_counts_as_none_of_its_classes() -> None:
    rng = np.random.default_rng(6)
    cells = events(some_probabilities(60, rng))
    settled = pd.DataFrame({"cell_uid": cells["cell_uid"], "patient_uid": cells["sample_uid"], "class_id": "cd45ev"})
    found = fitted(cells, settled)
    assert found.temperature == pytest.approx(1, abs=1e-3)
    assert (found.cells, found.patients) == (60, 4)
    assert found.to_dict()["spread"].keys() == set(CLASSES)


def test_a_settled_cell_without_probabilities_is_named() -> None:
    cells = events(np.full((3, 3), 1 / 3))
    with pytest.raises(BadInput, match="cell c9: is settled but has no probabilities"):
        fitted(cells, pd.DataFrame({"cell_uid": ["c9"], "patient_uid": ["p"], "class_id": ["ctc"]}))
    with pytest.raises(BadInput, match=r"\[3\] probabilities a cell, expected 2"):
        calibrate(
            cells, NOTHING, classes=["ctc", "wbc"], temperature_sd=0.3, spread=0.7, spread_sd=0.5,
            frequency_events=10, reading_error=0.0, read_twice=0,
        )  # fmt: skip


def a_counted_laboratory(ws: Workspace) -> None:
    """A SIMULATED laboratory of two steering and two sealed samples: embeddings, labels, agreement, a champion's card."""
    rng = np.random.default_rng(7)
    truth, samples = [], []
    for number, role in enumerate(["steering", "steering", "sealed", "sealed"]):
        sample, patient = f"s{number}", f"p{number}"
        said = some_probabilities(12, rng)
        uids = [f"{sample}-{at}" for at in range(12)]
        predicted = [CLASSES[at] for at in said.argmax(axis=1)]
        embedding = pd.DataFrame({"cell_uid": uids, "sample_uid": sample, "predicted": predicted})
        embedding["probabilities"] = list(said.astype(np.float32))
        unused = [name for name in EMBEDDING if name not in embedding]
        embedding = embedding.join(pd.DataFrame(None, index=embedding.index, columns=unused, dtype=object))
        write_table(embedding, EMBEDDING, ws.embeddings / f"{sample}.parquet")
        manifest = embedding[["cell_uid", "sample_uid"]].assign(patient_uid=patient, proposed=True)
        write_table(manifest.reindex(columns=list(MANIFEST)), MANIFEST, ws.manifest / f"{sample}.parquet")
        truth += [
            (uid, sample, patient, CLASSES[at], role, "evaluation", "both readers")
            for uid, at in zip(uids, draw(said, rng), strict=True)
        ]
        samples.append({"sample_uid": sample, "patient_uid": patient, "cancer_type": "breast", "blood_volume_ml": 7.5})
    write_table(pd.DataFrame(truth, columns=list(TRUTH)), TRUTH, ws.truth)
    write_table(pd.DataFrame(samples).reindex(columns=list(CLINICAL)), CLINICAL, ws.clinical)
    said = [
        (f"e{cell}", reader, "wbc" if cell < 12 and reader == "b" else "ctc") for cell in range(48) for reader in "ab"
    ]
    opinions = pd.DataFrame(said, columns=["cell_uid", "reader", "label"]).assign(
        patient_uid="p", purpose="evaluation", occasion="round-1", duty="reader", confidence="", reasons="", at="",
        repeat=False, lead_time_s=np.float32(1),
    )  # fmt: skip
    write_table(opinions[list(OPINIONS)], OPINIONS, ws.opinions)
    write_json(ws.champion / "model.json", {"classes": CLASSES})


def test_the_stages_calibrate_on_steering_patients_alone_and_count_with_it(tmp_path: Path) -> None:
    ws, params = Workspace(tmp_path / "lab"), load_params(Path(__file__).parents[1] / "params.yaml")
    a_counted_laboratory(ws)
    told: list[str] = []
    calibrate_stage(ws, counts=params.counts, say=told.append)
    found = json.loads(ws.calibration.read_text())
    assert (found["cells"], found["patients"], found["read_twice"]) == (24, 2, 48)
    assert found["reading_error"] == pytest.approx(((50 * 0.1 + 48 * 0.25) / 98) ** 2 / 2)
    assert "24 settled cells of 2 steering patients" in told[0]
    count_stage(ws, counts=params.counts, survival=params.survival, say=told.append)
    counts = read_table(ws.counts, COUNTS)
    assert counts.loc[counts["threshold"] == 0, "count"].sum() == 2 * 4 * 12  # both denominators
    assert (counts["tube_low"] <= counts["per_7_5_ml"]).all()
    assert counts.loc[counts["class_id"] == "ctc", "tube_flip_risk"].between(0, 1).all()
