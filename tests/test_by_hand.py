"""Counts by hand beside counts by the model: who called what, and who changes side."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import a_sample
from matplotlib.image import imread

from ctcml import stages
from ctcml.by_hand import (
    UNTOLD,
    among_events,
    called_by_either,
    compare_by_hand,
    event_agreement,
    first_tubes,
    told,
    two_counts,
)
from ctcml.by_hand_pictures import tubes_plot
from ctcml.params import load_params
from ctcml.tables import (
    BY_HAND_CELLS,
    BY_HAND_SAMPLES,
    CLINICAL,
    COUNTS,
    EMBEDDING,
    MANIFEST,
    TRUTH,
    check,
    read_table,
    write_json,
    write_table,
)
from ctcml.workspace import Workspace

CLASSES = ["ctc", "tdev", "wbc"]


def the_164_samples() -> pd.DataFrame:
    """Events of the paper's external validation: 46,920, of which reviewers called 15,837 CTC, the network 10,413 of these;
    83.8 % agree in all. Dealt to 164 patients in turn."""
    both, hand_only = 10_413, 15_837 - 10_413
    model_only = round(46_920 * (1 - 0.838)) - hand_only
    neither = 46_920 - both - hand_only - model_only
    counts = (both, hand_only, model_only, neither)
    hand, model = ("ctc", "ctc", "", ""), ("ctc", "tdev", "ctc", "wbc")
    table = pd.DataFrame({"read_as": np.repeat(hand, counts), "predicted": np.repeat(model, counts)})
    return table.assign(patient_uid=[f"p{at % 164}" for at in range(len(table))])


def test_the_papers_events_have_the_papers_figures() -> None:
    """The paper: an overall agreement of 83.8 %; for the 15,837 CTCs the network agreed in 10,413 cases (65.8 %)."""
    found = event_agreement(the_164_samples(), bootstrap=200, rng=np.random.default_rng(1))
    assert (found["events"], found["patients"]) == (46_920, 164)
    assert found["both"] + found["hand_only"] == 15_837
    assert round(found["agreement"]["value"], 3) == 0.838
    assert round(found["hand_found"]["value"], 3) == 0.658
    assert found["model_confirmed"]["value"] == pytest.approx(found["both"] / (found["both"] + found["model_only"]))
    assert found["hand_found"]["low"] <= 0.658 <= found["hand_found"]["high"]
    chance = (15_837 / 46_920) * ((found["both"] + found["model_only"]) / 46_920)
    chance += (1 - 15_837 / 46_920) * (1 - (found["both"] + found["model_only"]) / 46_920)
    assert found["kappa"]["value"] == pytest.approx((found["agreement"]["value"] - chance) / (1 - chance))


def test_the_interval_is_wider_when_one_patient_has_all_the_disagreement() -> None:
    """Cells of one patient resemble each other, so patients are what is resampled."""
    rows = pd.DataFrame(
        {"read_as": "ctc", "predicted": ["tdev"] * 50 + ["ctc"] * 950, "patient_uid": [f"p{at // 50}" for at in range(1000)]}
    )  # fmt: skip
    dealt = rows.assign(patient_uid=[f"p{at % 20}" for at in range(1000)])
    clumped, spread = (event_agreement(one, bootstrap=500, rng=np.random.default_rng(1)) for one in (rows, dealt))
    width = [one["agreement"]["high"] - one["agreement"]["low"] for one in (clumped, spread)]
    assert clumped["agreement"]["value"] == spread["agreement"]["value"] == 0.95
    assert width[0] > 4 * width[1]


def test_without_a_ctc_of_the_hand_there_is_no_share_of_them() -> None:
    rows = pd.DataFrame({"read_as": "", "predicted": ["wbc", "ctc"], "patient_uid": ["a", "b"]})
    found = event_agreement(rows, bootstrap=50, rng=np.random.default_rng(1))
    assert found["hand_found"] == {"value": None, "low": None, "high": None}
    assert found["model_confirmed"]["value"] == 0
    assert found["kappa"]["value"] == 0  # by chance alone, the hand never says CTC


def test_only_what_somebody_calls_a_ctc_is_kept_the_surest_first() -> None:
    rows = pd.DataFrame(
        {
            "cell_uid": list("abcd"),
            "read_as": ["ctc", "", "ctc", ""],
            "predicted": ["ctc", "ctc", "tdev", "wbc"],
            "p_ctc": [0.7, 0.9, 0.2, 0.01],
        }
    )
    found = called_by_either(rows)
    assert found[["cell_uid", "called_by"]].to_numpy().tolist() == [["b", "model"], ["a", "both"], ["c", "hand"]]


def test_events_are_those_that_cellsearch_presented_where_the_source_says_so() -> None:
    cells = pd.DataFrame({"cell_uid": list("abc"), "proposed": [True, False, None]})
    assert among_events(cells, "proposed")[0]["cell_uid"].tolist() == ["a"]
    assert among_events(cells, "all")[1] == "all"
    unknown, name = among_events(cells.assign(proposed=None), "proposed")
    assert (len(unknown), name) == (3, "all")


def test_figures_are_of_the_first_tube_of_each_patient() -> None:
    tubes = pd.DataFrame(
        {"sample_uid": ["s1", "s2", "s3", "s4"], "patient_uid": ["a", "a", "b", "c"], "draw_day": [30.0, 0.0, None, 90.0]}
    )  # fmt: skip
    assert first_tubes(tubes) == {"s2", "s3", "s4"}


def clinical(samples: int, **more: object) -> pd.DataFrame:
    table = pd.DataFrame({name: pd.Series([None] * samples, dtype=object) for name in CLINICAL}).assign(
        sample_uid=[f"s{number}" for number in range(samples)],
        patient_uid=[f"p{number}" for number in range(samples)],
        sample_kind="patient",
        cancer_type=["breast" if number % 2 == 0 else "lung" for number in range(samples)],
        blood_volume_ml=7.5,
        **more,
    )
    return check(table, CLINICAL, "clinical").to_pandas()


def counts_of(model: list[float], *, cutoff: float = 5.0) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "sample_uid": [f"s{number}" for number in range(len(model))],
            "patient_uid": [f"p{number}" for number in range(len(model))],
            "cancer_type": "breast", "class_id": "ctc", "denominator": "proposed", "threshold": 0.0, "count": 1, "events": 10,
            "per_7_5_ml": model, "low": 0.0, "high": 99.0, "cutoff": cutoff, "exploratory": False, "flip_risk": 0.1, "side": "undecided",
            "tube_low": 0.0, "tube_high": 9.0, "tube_flip_risk": 0.1,
        }
    )  # fmt: skip
    others = [table.assign(threshold=0.5, per_7_5_ml=0.0), table.assign(denominator="all", per_7_5_ml=77.0)]
    return check(pd.concat([table, *others]), COUNTS, "counts").to_pandas()


def test_who_changes_side_comes_first_and_the_cut_off_itself_is_above() -> None:
    found = two_counts(clinical(4, manual_ctc=[5, 5, 0, np.nan]), counts_of([4, 5, 9, 9]), "proposed")
    assert found["sample_uid"].tolist() == ["s2", "s0", "s1"]  # the fourth was not counted by hand
    assert found["side_manual"].tolist() == ["below", "above", "above"]
    assert found["side_model"].tolist() == ["above", "below", "above"]
    assert found["changes_side"].tolist() == [True, True, False]
    assert list(found) == list(BY_HAND_SAMPLES)


def test_without_a_cut_off_nobody_changes_side() -> None:
    found = two_counts(clinical(1, manual_ctc=[0]), counts_of([400], cutoff=np.nan), "proposed")
    assert found[["side_manual", "side_model", "changes_side"]].to_numpy().tolist() == [["none", "none", False]]


def test_a_tube_whose_export_does_not_say_what_was_presented_is_compared_over_all_its_events() -> None:
    counts = counts_of([3.0])
    found = two_counts(clinical(1, manual_ctc=[3]), counts[counts["denominator"] == "all"], "proposed")
    assert found["model"].tolist() == [77.0]


def some_cells(samples: int = 4, each: int = 30) -> pd.DataFrame:
    """Cells of which the first eight of a tube are CTCs by the model; the operator misses two of them and adds one."""
    at = np.tile(np.arange(each), samples)
    return pd.DataFrame(
        {
            "cell_uid": [f"s{number}-{one}" for number in range(samples) for one in range(each)],
            "sample_uid": np.repeat([f"s{number}" for number in range(samples)], each),
            "patient_uid": np.repeat([f"p{number}" for number in range(samples)], each),
            "proposed": at < 20,
            "assigned": [bool(one < 6 or one == 12) if one < 20 else None for one in at],
            "predicted": np.where(at < 8, "ctc", np.where(at < 15, "tdev", "wbc")),
            "p_ctc": np.where(at < 8, 0.9, 0.05),
        }
    )


def some_truth(cells: pd.DataFrame) -> pd.DataFrame:
    chosen = cells[cells["sample_uid"].isin(["s0", "s1"])]
    steering = chosen["sample_uid"] == "s0"
    return chosen[["cell_uid", "sample_uid", "patient_uid"]].assign(
        class_id=np.where(np.arange(len(chosen)) % 30 < 10, "ctc", "wbc"),
        role=np.where(steering, "steering", "train"),
        purpose=np.where(steering, "evaluation", "training"),
        how="match",
    )


def compared(cells: pd.DataFrame, truth: pd.DataFrame | None = None):  # type: ignore[no-untyped-def]
    return compare_by_hand(
        cells,
        clinical(4, manual_ctc=[5, 5, 0, 8]),
        counts_of([4.0, 5.0, 9.0, 8.0]),
        some_truth(cells) if truth is None else truth,
        denominator="proposed",
        bootstrap=50,
        rng=np.random.default_rng(1),
    )


def test_operator_and_readers_are_compared_apart() -> None:
    found = compared(some_cells())
    operator = {one["group"]: one for one in found.report["operator"]["groups"]}
    assert set(operator) == {"all", "breast", "lung"}
    assert (operator["all"]["events"], operator["all"]["both"]) == (80, 24)
    assert (operator["all"]["model_only"], operator["all"]["hand_only"]) == (8, 4)
    evaluation, training = found.report["readers"]
    assert [one["set"] for one in (evaluation, training)] == ["evaluation", "training"]
    assert evaluation["groups"][0]["events"] == 30  # of s0, presented by CellSearch or not
    assert evaluation["groups"][0]["hand_found"]["value"] == 0.8
    assert "trained with these labels" in training["says"]
    cells = found.cells
    assert cells.groupby(["hand", "called_by"]).size().to_dict() == {
        ("operator", "both"): 24, ("operator", "hand"): 4, ("operator", "model"): 8,
        ("evaluation", "both"): 8, ("evaluation", "hand"): 2, ("training", "both"): 8, ("training", "hand"): 2,
    }  # fmt: skip
    assert list(cells) == list(BY_HAND_CELLS)


def test_a_source_that_tells_no_calls_is_said_to_and_readers_still_count() -> None:
    found = compared(some_cells().assign(assigned=None))
    assert found.report["operator"] == {"says": UNTOLD, "groups": []}
    assert found.report["readers"][0]["groups"]
    assert set(found.cells["hand"]) == {"evaluation", "training"}
    assert told(found.report)[0] == f"the operator: {UNTOLD}"
    assert told(found.report)[1].startswith("readers (evaluation) and model agree on 93.3% of 30 events")
    assert told(found.report)[-1] == "2 of 4 patients change side of the cut-off"


def test_tubes_of_controls_take_no_part() -> None:
    cells = some_cells()
    people = clinical(4, manual_ctc=[5, 5, 0, 8]).assign(sample_kind=["patient", "patient", "benign", "patient"])
    found = compare_by_hand(
        cells, people, counts_of([4.0, 5.0, 9.0, 8.0]), some_truth(cells),
        denominator="proposed", bootstrap=20, rng=np.random.default_rng(1),
    )  # fmt: skip
    assert "s2" not in set(found.samples["sample_uid"]) | set(found.cells["sample_uid"])
    assert found.report["tubes"][0]["tubes"] == 3


def test_the_same_seed_gives_the_same_report() -> None:
    assert compared(some_cells()).report == compared(some_cells()).report


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A SIMULATED laboratory of four tubes with pixels, as the stage finds it."""
    ws = Workspace(tmp_path)
    cells = some_cells()
    for number, (sample, rows) in enumerate(cells.groupby("sample_uid")):
        a_sample(ws, rows["cell_uid"].tolist(), sample=str(sample), patient=f"p{number}")
        listed = read_table(ws.manifest / f"{sample}.parquet", MANIFEST)
        said = rows[["proposed", "assigned"]].reset_index(drop=True)
        write_table(listed.assign(**said), MANIFEST, ws.manifest / f"{sample}.parquet")
        table = pd.DataFrame({name: pd.Series([None] * len(rows), dtype=object) for name in EMBEDDING}).assign(
            cell_uid=rows["cell_uid"].to_numpy(), sample_uid=sample, predicted=rows["predicted"].to_numpy(),
            probabilities=[[p, 1 - p, 0.0] for p in rows["p_ctc"]],
        )  # fmt: skip
        write_table(table, EMBEDDING, ws.embeddings / f"{sample}.parquet")
    people = clinical(4, manual_ctc=[5, 5, 0, 8]).assign(covariate_simulated="yes")
    write_table(people, CLINICAL, ws.clinical, extra_prefix="covariate_")
    write_table(counts_of([4.0, 5.0, 9.0, 8.0]), COUNTS, ws.counts)
    write_table(some_truth(cells), TRUTH, ws.truth)
    write_json(ws.champion / "model.json", {"classes": CLASSES})
    return ws


def test_the_stage_writes_report_tables_and_pictures_and_says_what_it_found(ws: Workspace) -> None:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    lines: list[str] = []
    stages.compare(ws, seed=20, counts=params.counts, compare=params.compare, say=lines.append)
    assert lines[0].startswith("the operator and model agree on 85.0% of 80 events")
    assert len(read_table(ws.by_hand_samples, BY_HAND_SAMPLES)) == 4
    assert len(read_table(ws.by_hand_cells, BY_HAND_CELLS)) == 56
    made = {path.name for path in (ws.pictures / "by_hand").iterdir()}
    assert made == {
        "tubes.svg",
        "tubes.png",
        "operator-model-only.png",
        "operator-hand-only.png",
        "evaluation-hand-only.png",
        "training-hand-only.png",
    }
    shown = {
        one["picture"]: (one["shown"], one["total"]) for one in stages.json.loads(ws.by_hand.read_text())["galleries"]
    }
    assert shown == {
        "operator-model-only.png": (8, 8),
        "operator-hand-only.png": (4, 4),
        "evaluation-hand-only.png": (2, 2),
        "training-hand-only.png": (2, 2),
    }


def test_a_gallery_is_capped_and_names_the_total(ws: Workspace) -> None:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    few = params.compare.model_copy(update={"gallery": 3})
    stages.compare(ws, seed=20, counts=params.counts, compare=few, say=lambda line: None)
    first = stages.json.loads(ws.by_hand.read_text())["galleries"][0]
    assert (first["shown"], first["total"]) == (3, 8)


def test_tubes_are_drawn_also_where_there_is_one_or_none(tmp_path: Path) -> None:
    for tubes in (4, 1, 0):
        rows = two_counts(clinical(tubes, manual_ctc=[1] * tubes), counts_of([7.0] * tubes), "proposed")
        cells = some_cells()
        found = compare_by_hand(
            cells, clinical(tubes, manual_ctc=[1] * tubes), counts_of([7.0] * tubes), some_truth(cells).head(0),
            denominator="proposed", bootstrap=20, rng=np.random.default_rng(1),
        )  # fmt: skip
        tubes_plot(rows, found.report, tmp_path / "tubes.png", simulated=True)
        assert imread(tmp_path / "tubes.png").shape[1] > 1000
