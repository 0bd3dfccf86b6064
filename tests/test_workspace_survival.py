"""What the stage `survive` makes of a workspace."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml import stages
from ctcml.params import Params, load_params
from ctcml.recounting import counted
from ctcml.tables import CLINICAL, COUNTS, EMBEDDING, MANIFEST, OPINIONS, write_json, write_table
from ctcml.workspace import Workspace

CLASSES = ["ctc", "wbc"]
CELLS, PATIENTS = 14, 48


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[1] / "params.yaml")


def write_sample(ws: Workspace, sample: str, patient: str, ctcs: int, rng: np.random.Generator) -> list[str]:
    """Cells of a sample of which the model calls so many CTCs, some of them not surely."""
    p = np.where(np.arange(CELLS) < ctcs, rng.uniform(0.55, 0.99, CELLS), rng.uniform(0.01, 0.3, CELLS)).astype(
        np.float32
    )
    uids = [f"{sample}-{at}" for at in range(CELLS)]
    table = pd.DataFrame({name: pd.Series([None] * CELLS, dtype=object) for name in EMBEDDING}).assign(
        cell_uid=uids,
        sample_uid=sample,
        predicted=np.where(p > 0.5, *CLASSES),
        probabilities=list(np.stack([p, 1 - p], axis=1)),
    )
    write_table(table, EMBEDDING, ws.embeddings / f"{sample}.parquet")
    manifest = pd.DataFrame({"cell_uid": uids, "sample_uid": sample, "patient_uid": patient, "proposed": True})
    write_table(manifest.reindex(columns=list(MANIFEST)), MANIFEST, ws.manifest / f"{sample}.parquet")
    return uids


def build(ws: Workspace, params: Params) -> Workspace:
    """SIMULATED: patients with breast and lung cancer, those with breast cancer with a later sample, and two readers."""
    rng = np.random.default_rng(17)
    clinical: list[dict[str, Any]] = []
    said: list[dict[str, Any]] = []
    for at in range(PATIENTS):
        ctcs = int(rng.choice([0, 1, 3, 4, 5, 6, 9, 13]))
        months, seen = float(rng.exponential(18 if ctcs < 5 else 8)) + 1.6, float(rng.uniform(8, 40))
        about = {
            "patient_uid": f"p{at}", "sample_kind": "patient", "cancer_type": ("breast", "lung")[at % 2],
            "blood_volume_ml": 7.5, "manual_ctc": float(max(0, ctcs + rng.integers(-1, 2))),
            "os_months": min(months, seen), "os_event": float(months <= seen), "line_of_therapy": str(at % 3 + 1),
            "age": float(round(rng.normal(62, 8))), "ecog": float(at % 2), "covariate_simulated": "yes",
        }  # fmt: skip
        clinical.append(about | {"sample_uid": f"s{at}", "draw_day": 0.0})
        uids = write_sample(ws, f"s{at}", f"p{at}", ctcs, rng)
        for reader in ("anna", "ben"):
            label = "wbc" if reader == "anna" else "ctc"
            said.append({"cell_uid": uids[ctcs], "patient_uid": f"p{at}", "reader": reader, "label": label})
        if at % 2 == 0:
            clinical.append(about | {"sample_uid": f"s{at}-late", "draw_day": 28.0})
            write_sample(ws, f"s{at}-late", f"p{at}", max(ctcs - 2, 0), rng)
    opinions = pd.DataFrame(said).reindex(columns=list(OPINIONS)).assign(duty="reader", repeat=False)
    write_table(opinions, OPINIONS, ws.opinions)
    columns = [*CLINICAL, "covariate_simulated"]
    write_table(pd.DataFrame(clinical).reindex(columns=columns), CLINICAL, ws.clinical, extra_prefix="covariate_")
    write_json(ws.champion / "model.json", {"classes": CLASSES})
    calibration = {"temperature": 1.0, "usual": {"ctc": 0.3, "wbc": 0.7}, "spread": dict.fromkeys(CLASSES, 0.7), "reading_error": 0.005}  # fmt: skip
    write_json(ws.calibration, calibration)
    table = counted(ws, ws.champion, ws.embeddings, calibration, counts=params.counts, survival=params.survival)
    write_table(table, COUNTS, ws.counts)
    return ws


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, params: Params) -> tuple[Workspace, dict[str, Any]]:
    ws = build(Workspace(tmp_path_factory.mktemp("survival") / "lab"), params)
    survival = params.survival.model_copy(update={"draws": 50})
    stages.survive(ws, seed=20, counts=params.counts, survival=survival, say=lambda _: None)
    return ws, json.loads(ws.survival.read_text(encoding="utf-8"))


def test_each_source_and_group_has_a_report_from_day_0(lab: tuple[Workspace, dict[str, Any]]) -> None:
    found = lab[1]
    assert {(one["source"], one["group"]) for one in found["reports"]} == {
        (source, group) for source in ("model", "manual") for group in ("all", "breast", "lung")
    }
    assert (found["simulated"], found["endpoint"], found["denominator"]) == (True, "os", "proposed")
    assert {one["group"]: one["exploratory"] for one in found["reports"]} == {
        "all": True,
        "breast": False,
        "lung": True,
    }
    assert all(one["landmark_months"] is None for one in found["reports"])
    everyone = found["reports"][0]
    assert everyone["n"] == PATIENTS
    assert everyone["cox"]["hr"] > 1
    assert everyone["multivariable"]["n"] == PATIENTS


def test_a_landmark_analysis_is_made_where_patients_gave_blood_by_then(lab: tuple[Workspace, dict[str, Any]]) -> None:
    landmarks = lab[1]["landmarks"]
    assert {one["group"] for one in landmarks} == {"all", "breast"}
    assert all(one["landmark_months"] == pytest.approx(42 / (365.25 / 12)) for one in landmarks)
    assert all(one["n"] <= PATIENTS / 2 for one in landmarks)


def test_the_spread_has_every_reader_and_the_model_s_ratio_is_that_of_the_report(
    lab: tuple[Workspace, dict[str, Any]],
) -> None:
    found = lab[1]
    everyone = next(one for one in found["spread"] if one["group"] == "all")
    by_name = {one["name"]: one for one in everyone["sources"]}
    assert list(by_name) == ["manual", "reader anna", "reader ben", "model"]
    report = next(one for one in found["reports"] if (one["source"], one["group"]) == ("model", "all"))
    assert by_name["model"]["hr"] == pytest.approx(report["cox"]["hr"], rel=1e-9)
    manual = next(one for one in found["reports"] if (one["source"], one["group"]) == ("manual", "all"))
    assert by_name["manual"]["hr"] == pytest.approx(manual["cox"]["hr"], rel=1e-9)
    assert by_name["reader anna"]["hr"] == by_name["model"]["hr"]  # she called by the model's name what she read
    ben = by_name["reader ben"]
    assert (ben["cells_read"], ben["cells_changed"], ben["patients_changed"]) == (PATIENTS,) * 3
    assert ben["hr"] != by_name["model"]["hr"]
    assert everyone["draws"]["low"] < everyone["draws"]["high"]


def test_model_and_hand_are_compared_on_the_patients_whom_both_counted(lab: tuple[Workspace, dict[str, Any]]) -> None:
    found = {one["group"]: one for one in lab[1]["concordance"]}
    assert found["all"]["n"] == PATIENTS
    assert found["all"]["difference"] == pytest.approx(found["all"]["model"] - found["all"]["manual"])
    assert found["all"]["low"] < found["all"]["difference"] < found["all"]["high"]


def test_every_analysis_has_its_pictures(lab: tuple[Workspace, dict[str, Any]]) -> None:
    made = {path.name for path in (lab[0].pictures / "survival").iterdir()}
    assert {"km-model-all.svg", "km-manual-lung.png", "landmark-model-breast.svg", "spread-all.svg"} <= made
    assert len(made) == 2 * (6 + 4 + 3)
    assert "SIMULATED DATA" in (lab[0].pictures / "survival" / "spread-all.svg").read_text()


def test_no_patient_is_named_in_what_is_written(lab: tuple[Workspace, dict[str, Any]]) -> None:
    text = lab[0].survival.read_text()
    assert '"p1"' not in text
    assert '"s1"' not in text


def test_a_laboratory_without_later_samples_has_no_landmark_analysis_and_without_readings_no_readers(
    tmp_path: Path, params: Params
) -> None:
    ws = build(Workspace(tmp_path / "lab"), params)
    clinical = pd.read_parquet(ws.clinical)
    write_table(clinical[~(clinical["draw_day"] > 0)], CLINICAL, ws.clinical, extra_prefix="covariate_")
    write_table(pd.DataFrame(columns=list(OPINIONS)), OPINIONS, ws.opinions)
    stages.survive(ws, seed=20, counts=params.counts, survival=params.survival, say=lambda _: None)
    found = json.loads(ws.survival.read_text())
    assert found["landmarks"] == []
    assert [one["name"] for one in found["spread"][0]["sources"]] == ["manual", "model"]
