"""Subclasses of a class: found again, counted everywhere, and never more than exploratory."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import a_sample
from scipy.stats import gamma

from ctcml import stages
from ctcml.appearance import NAMES
from ctcml.params import load_params
from ctcml.subclasses import (
    count_subclasses,
    exemplars_of,
    find_subclasses,
    holm,
    looks_of,
    median_split,
    subclass_survival,
)
from ctcml.tables import (
    CLINICAL,
    EMBEDDING,
    MANIFEST,
    MAP,
    SUBCLASS_CELLS,
    SUBCLASS_COUNTS,
    check,
    read_table,
    write_json,
    write_table,
)
from ctcml.workspace import Workspace

SIZES = (30, 20, 10)  # of the three populations in each patient
PATIENTS = 8


def some_cells(seed: int = 3) -> pd.DataFrame:
    """tdEVs in three directions of the latent space, of which the second is large and the third bright, and leukocytes."""
    rng = np.random.default_rng(seed)
    directions = np.eye(6)
    parts = []
    for patient in range(PATIENTS):
        kinds = np.repeat([0, 1, 2, 3], [*SIZES, 15])
        latent = directions[kinds] + rng.normal(0, 0.08, (len(kinds), 6))
        looks = rng.normal(30, 2, (len(kinds), len(NAMES)))
        for name, levels in {
            "ck_brightness": (9.0, 11.0, 13.0, 0.0), "cd45_brightness": (0.0, 0.0, 0.0, 12.0), "dapi_brightness": (0.0, 0.0, 0.0, 12.0),
            "ck_area": (6.0, 16.0, 8.0, 1.0), "ck_peak": (90.0, 100.0, 220.0, 5.0),
        }.items():  # fmt: skip
            looks[:, NAMES.index(name)] = np.array(levels)[kinds] + rng.normal(0, 0.4, len(kinds))
        parts.append(
            pd.DataFrame(
                {
                    "cell_uid": [f"c{patient}-{at}" for at in range(len(kinds))],
                    "sample_uid": f"s{patient}",
                    "patient_uid": f"p{patient}",
                    "role": "train" if patient < 5 else "sealed" if patient < 7 else "steering",
                    "predicted": np.where(kinds == 3, "wbc", "tdev"),
                    "p_class": 0.9,
                    "proposed": np.arange(len(kinds)) % 5 == 0,
                    "kind": kinds,
                    "latent": list((latent * rng.uniform(0.5, 2, (len(kinds), 1))).astype(np.float32)),
                    "appearance": list(looks.astype(np.float32)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def found_in(cells: pd.DataFrame, **more: int):  # type: ignore[no-untyped-def]
    return find_subclasses(cells, "tdev", 3, **({"min_cells": 20, "draws": 5, "seed": 20} | more))


def test_populations_are_found_again_the_largest_first_also_in_patients_that_they_were_not_learnt_from() -> None:
    cells = some_cells()
    found = found_in(cells)
    assert found.refusal is None
    assert [one["name"] for one in found.subclasses] == ["tdev-1", "tdev-2", "tdev-3"]
    assert [one["cells"] for one in found.subclasses] == [size * PATIENTS for size in SIZES]
    assert [one["training_cells"] for one in found.subclasses] == [size * 5 for size in SIZES]
    kind = found.cells["cell_uid"].map(cells.set_index("cell_uid")["kind"])
    assert (found.cells["subclass"] == kind + 1).all()
    assert all(one["stability"] > 0.9 and one["patients"] == PATIENTS for one in found.subclasses)
    check(found.cells, SUBCLASS_CELLS, "subclass cells")


def test_the_number_of_a_cell_depends_neither_on_the_order_of_cells_nor_on_held_out_patients() -> None:
    cells = some_cells()
    numbers = found_in(cells).cells.set_index("cell_uid")["subclass"]
    turned = found_in(cells.iloc[::-1].reset_index(drop=True)).cells.set_index("cell_uid")["subclass"]
    alone = found_in(cells[cells["role"] == "train"]).cells.set_index("cell_uid")["subclass"]
    assert (turned[numbers.index] == numbers).all()
    assert (numbers[alone.index] == alone).all()


def test_a_subclass_is_described_in_words() -> None:
    profiles = {one["name"]: (one["profile"], one["looks"]) for one in found_in(some_cells()).subclasses}
    assert profiles["tdev-3"][0].startswith("CD45 -, DAPI -")
    assert profiles["tdev-3"][1].startswith("brighter CK")
    assert profiles["tdev-2"][1].startswith("larger")
    assert profiles["tdev-1"][1].startswith("smaller")


def test_peaks_that_differ_by_less_than_an_eye_sees_are_not_told() -> None:
    seen = np.full((20, len(NAMES)), 50.0)
    seen[:, NAMES.index("cd45_peak")] = np.linspace(2, 4, 20)
    inside = np.arange(20) >= 10
    assert looks_of(seen, inside) == ""
    seen[:, NAMES.index("cd45_peak")] *= 30
    assert looks_of(seen, inside) == "brighter CD45"
    assert looks_of(seen, np.ones(20, dtype=bool)) == ""


def test_too_few_training_cells_are_refused_with_a_sentence_and_count_nothing() -> None:
    cells = some_cells()
    found = found_in(cells, min_cells=200)
    assert found.refusal == (
        "tdev: 300 cells of training patients, at least 600 are needed for 3 subclasses (200 each); none are counted"
    )
    counted = count_subclasses(found, cells, clinical(), interval=0.95)
    assert counted.empty
    assert list(counted) == list(SUBCLASS_COUNTS)
    assert subclass_survival(counted, clinical(), endpoint="os", min_events=5) == []
    assert find_subclasses(cells, "no_such_class", 3, min_cells=20, draws=2, seed=1).refusal


def clinical(**more: object) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    table = pd.DataFrame({name: pd.Series([None] * PATIENTS, dtype=object) for name in CLINICAL}).assign(
        sample_uid=[f"s{number}" for number in range(PATIENTS)],
        patient_uid=[f"p{number}" for number in range(PATIENTS)],
        sample_kind="patient",
        cancer_type="breast",
        blood_volume_ml=7.5,
        os_months=rng.uniform(1, 40, PATIENTS),
        os_event=1.0,
        draw_day=0.0,
    )
    return check(table.assign(**more), CLINICAL, "clinical").to_pandas()


def test_every_tube_is_counted_per_7_5_ml_over_both_denominators_with_the_interval_of_drawing_one_tube() -> None:
    cells = some_cells()
    counted = count_subclasses(found_in(cells), cells, clinical(blood_volume_ml=15.0), interval=0.95)
    check(counted, SUBCLASS_COUNTS, "subclass counts")
    assert len(counted) == PATIENTS * 3 * 2
    row = counted[(counted["sample_uid"] == "s7") & (counted["subclass"] == 2)].set_index("denominator").loc["all"]
    assert (row["count"], row["of_class"], row["per_7_5_ml"]) == (20, 60, 10.0)
    assert (row["low"], row["high"]) == pytest.approx(gamma.ppf([0.025, 0.975], 20.5) / 2)
    presented = counted[counted["denominator"] == "proposed"]
    assert presented["count"].sum() == int((cells["proposed"] & (cells["predicted"] == "tdev")).sum())


def test_a_tube_whose_source_does_not_say_what_was_presented_has_one_denominator_and_none_of_a_kind_counts_0() -> None:
    cells = some_cells()
    cells = cells[(cells["sample_uid"] != "s0") | (cells["kind"] != 2)].assign(proposed=None)
    counted = count_subclasses(found_in(cells), cells, clinical(), interval=0.95)
    assert set(counted["denominator"]) == {"all"}
    nothing = counted[(counted["sample_uid"] == "s0") & (counted["subclass"] == 3)].iloc[0]
    assert (nothing["count"], nothing["low"]) == (0, 0.0)
    assert nothing["high"] > 2


def a_cohort(patients: int = 60) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts of two subclasses, of which the first shortens life, with follow-up tubes that must not count."""
    rng = np.random.default_rng(9)
    harmful, harmless = rng.poisson(6, patients), rng.poisson(6, patients)
    months = rng.exponential(30 * np.exp(-0.35 * (harmful - 6)))
    rows = [
        {
            "sample_uid": f"s{at}", "patient_uid": f"p{at}", "cancer_type": "breast", "class_id": "tdev", "subclass": number,
            "denominator": denominator, "count": int(cells[at]), "of_class": 12, "per_7_5_ml": float(cells[at]), "low": 0.0, "high": 50.0,
        }
        for at in range(patients)
        for number, cells in ((1, harmful), (2, harmless))
        for denominator in ("all", "proposed")
    ]  # fmt: skip
    table = pd.DataFrame({name: pd.Series([None] * patients, dtype=object) for name in CLINICAL}).assign(
        sample_uid=[f"s{at}" for at in range(patients)],
        patient_uid=[f"p{at}" for at in range(patients)],
        sample_kind="patient",
        cancer_type="breast",
        blood_volume_ml=7.5,
        os_months=np.minimum(months, 60),
        os_event=(months < 60).astype(float),
        draw_day=[30.0 if at == 0 else 0.0 for at in range(patients)],
    )
    return pd.DataFrame(rows), check(table, CLINICAL, "clinical").to_pandas()


def test_each_subclass_has_its_own_survival_stamped_exploratory_with_a_corrected_p() -> None:
    counts, samples = a_cohort()
    harmful, harmless = subclass_survival(counts, samples, endpoint="os", min_events=5)
    assert harmful["exploratory"] is harmless["exploratory"] is True
    assert (harmful["n"], harmful["tests"]) == (59, 2)  # the follow-up tube is no tube at registration
    assert harmful["cox_log_count"]["hr"] > 2
    assert harmful["p_corrected"] == pytest.approx(2 * harmful["cox_log_count"]["p"])
    assert harmful["p_corrected"] < 0.05 < harmless["p_corrected"]
    assert harmless["p_corrected"] == pytest.approx(harmless["cox_log_count"]["p"])
    assert {arm["name"][0] for arm in harmful["arms"]} == {"<", "≥"}


def test_where_events_are_too_few_there_is_a_refusal_and_no_p() -> None:
    counts, samples = a_cohort(12)
    for one in subclass_survival(counts, samples, endpoint="os", min_events=40):
        assert one["p_corrected"] is None
        assert "at least 40 are needed" in one["refusals"][0]


def test_arms_are_as_even_as_ties_allow() -> None:
    assert median_split(np.array([0.0, 0.0, 0.0, 1.0, 4.0])) == 1.0
    assert median_split(np.array([0.0] * 7 + [1.0] * 22 + [2.0] * 19)) == 2.0  # 29 and 19 rather than 7 and 41
    assert median_split(np.array([7.0, 7.0])) == 8.0
    assert median_split(np.array([])) == 1.0


def test_holms_correction_is_that_of_r() -> None:
    """R: p.adjust(c(0.01, 0.02, 0.03, 0.005), "holm") gives 0.03 0.04 0.04 0.02."""
    assert holm([0.01, 0.02, 0.03, 0.005]) == pytest.approx([0.03, 0.04, 0.04, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_exemplars_are_half_typical_half_random_and_no_cell_twice() -> None:
    found = found_in(some_cells())
    shown = exemplars_of(found.cells, 1, 10, np.random.default_rng(1))
    assert [len(rows) for rows in shown.values()] == [5, 5]
    assert pd.concat(shown.values())["cell_uid"].is_unique
    own = found.cells[found.cells["subclass"] == 1]
    assert shown["typical"]["distance"].max() <= own["distance"].nsmallest(5).max()
    assert len(exemplars_of(own.head(3), 1, 10, np.random.default_rng(1))["random"]) == 0


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A SIMULATED laboratory of eight tubes with pixels, as the stage finds it."""
    ws, cells = Workspace(tmp_path), some_cells()
    for sample, rows in cells.groupby("sample_uid"):
        a_sample(ws, rows["cell_uid"].tolist(), sample=str(sample), patient=rows["patient_uid"].iloc[0])
        listed = read_table(ws.manifest / f"{sample}.parquet", MANIFEST)
        write_table(listed.assign(proposed=rows["proposed"].to_numpy()), MANIFEST, ws.manifest / f"{sample}.parquet")
        table = pd.DataFrame({name: pd.Series([None] * len(rows), dtype=object) for name in EMBEDDING}).assign(
            **{name: rows[name].to_numpy() for name in ("cell_uid", "sample_uid", "predicted", "latent", "appearance")},
            probabilities=[[0.9, 0.1]] * len(rows),
        )
        write_table(table, EMBEDDING, ws.embeddings / f"{sample}.parquet")
    places = np.random.default_rng(1).normal(0, 1, (len(cells), 4))
    write_table(cells[["cell_uid"]].assign(**dict(zip(list(MAP)[1:], places.T, strict=True))), MAP, ws.map)
    write_table(clinical().assign(covariate_simulated="yes"), CLINICAL, ws.clinical, extra_prefix="covariate_")
    write_json(ws.roles, dict(zip(cells["patient_uid"], cells["role"], strict=True)))
    write_json(ws.champion / "model.json", {"classes": ["tdev", "wbc"]})
    return ws


def run(ws: Workspace, **changes: object) -> list[str]:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    wanted = params.subclasses.model_copy(update={"classes": {"tdev": 3}, "draws": 2, "exemplars": 6} | changes)
    lines: list[str] = []
    stages.subclass(ws, seed=20, subclasses=wanted, counts=params.counts, survival=params.survival, say=lines.append)
    return lines


def test_the_stage_writes_counts_cells_report_and_pictures(ws: Workspace) -> None:
    assert run(ws) == ["tdev: 3 subclasses of 480 cells, 3 of them stable (Jaccard 0.75 or more); exploratory"]
    assert len(read_table(ws.subclass_cells, SUBCLASS_CELLS)) == 480
    counted = read_table(ws.subclasses, SUBCLASS_COUNTS)
    assert counted.loc[counted["denominator"] == "all", "count"].sum() == 480
    (told,) = json.loads(ws.subclass_report.read_text())["classes"]
    assert told["refusal"] is None
    assert [one["subclass"] for one in told["survival"]] == [1, 2, 3]
    made = {path.name for path in (ws.pictures / "subclasses").iterdir()}
    assert made == {
        "tdev-1.png", "tdev-2.png", "tdev-3.png", "tdev-map.svg", "tdev-map.png", "tdev-hazards.svg", "tdev-hazards.png",
    }  # fmt: skip
    assert told["sheets"] == {"1": "tdev-1.png", "2": "tdev-2.png", "3": "tdev-3.png"}


def test_a_class_that_the_champion_does_not_know_is_refused_beside_one_that_it_does(ws: Workspace) -> None:
    lines = run(ws, classes={"cd45ev": 2, "tdev": 3})
    assert lines[0] == (
        "cd45ev: 0 cells of training patients, at least 40 are needed for 2 subclasses (20 each); none are counted"
    )
    unknown, known = json.loads(ws.subclass_report.read_text())["classes"]
    assert (unknown["sheets"], unknown["map"], unknown["subclasses"]) == ({}, None, [])
    assert known["sheets"]
    assert set(read_table(ws.subclasses, SUBCLASS_COUNTS)["class_id"]) == {"tdev"}


def test_without_any_subclass_the_tables_are_there_and_empty(ws: Workspace) -> None:
    run(ws, classes={"cd45ev": 2})
    assert read_table(ws.subclasses, SUBCLASS_COUNTS).empty
    assert read_table(ws.subclass_cells, SUBCLASS_CELLS).empty


def test_the_stage_gives_the_same_tables_again(ws: Workspace) -> None:
    run(ws)
    first = ws.subclass_cells.read_bytes(), ws.subclasses.read_bytes()
    run(ws)
    assert (ws.subclass_cells.read_bytes(), ws.subclasses.read_bytes()) == first
