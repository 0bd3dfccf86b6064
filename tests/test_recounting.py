"""What another model would count, before anybody is asked to sign for it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from ctcml import stages
from ctcml.params import Params, load_params
from ctcml.recount_pictures import changes_plot
from ctcml.recounting import as_csv, changes, flips_in_words, recounted
from ctcml.tables import (
    CLINICAL,
    COUNTS,
    EMBEDDING,
    MANIFEST,
    OPINIONS,
    TRUTH,
    check,
    read_table,
    write_json,
    write_table,
)
from ctcml.workspace import Workspace

CLASSES = ["ctc", "wbc"]


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params(Path(__file__).parents[1] / "params.yaml")


def say_of_samples(folder: Path, *, ctcs: int) -> None:
    """Embeddings of four samples of 12 cells of which a model calls so many CTCs."""
    for number in range(4):
        sure = np.where(np.arange(12) < ctcs, 0.9, 0.1).astype(np.float32)
        table = pd.DataFrame({name: pd.Series([None] * 12, dtype=object) for name in EMBEDDING}).assign(
            cell_uid=[f"s{number}-{at}" for at in range(12)],
            sample_uid=f"s{number}",
            predicted=np.where(sure > 0.5, *CLASSES),
            probabilities=list(np.stack([sure, 1 - sure], axis=1)),
        )
        write_table(table, EMBEDDING, folder / f"s{number}.parquet")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A SIMULATED laboratory of four samples, two of steering patients with settled cells; its champion finds four CTCs in each."""
    ws = Workspace(tmp_path / "lab")
    say_of_samples(ws.embeddings, ctcs=4)
    truth, samples = [], []
    for number in range(4):
        sample, patient = f"s{number}", f"p{number}"
        cells = pd.DataFrame({"cell_uid": [f"{sample}-{at}" for at in range(12)], "sample_uid": sample})
        manifest = cells.assign(patient_uid=patient, proposed=True).reindex(columns=list(MANIFEST))
        write_table(manifest, MANIFEST, ws.manifest / f"{sample}.parquet")
        samples.append({"sample_uid": sample, "patient_uid": patient, "cancer_type": "breast", "blood_volume_ml": 7.5})
        if number < 2:
            truth += [
                (uid, sample, patient, CLASSES[at >= 5], "steering", "evaluation", "both readers")
                for at, uid in enumerate(cells["cell_uid"])
            ]
    write_table(pd.DataFrame(truth, columns=list(TRUTH)), TRUTH, ws.truth)
    write_table(pd.DataFrame(samples).reindex(columns=list(CLINICAL)), CLINICAL, ws.clinical)
    write_table(pd.DataFrame(columns=list(OPINIONS)), OPINIONS, ws.opinions)
    for model in (ws.champion, tmp_path / "challenger"):
        write_json(model / "model.json", {"classes": CLASSES})
    return ws


def count_by_stages(ws: Workspace, params: Params) -> pd.DataFrame:
    stages.calibrate(ws, counts=params.counts, say=lambda _: None)
    stages.count(ws, counts=params.counts, survival=params.survival, say=lambda _: None)
    return read_table(ws.counts, COUNTS)


def test_a_preview_is_what_the_stages_count_once_the_model_is_champion(
    ws: Workspace, params: Params, tmp_path: Path
) -> None:
    before = count_by_stages(ws, params)
    say_of_samples(tmp_path / "preview", ctcs=6)
    numbers = {"counts": params.counts, "survival": params.survival}
    preview = recounted(ws, tmp_path / "challenger", tmp_path / "preview", **numbers)
    write_table(preview, COUNTS, tmp_path / "preview.parquet")
    calibration = json.loads(ws.calibration.read_text())
    say_of_samples(ws.embeddings, ctcs=6)
    after = count_by_stages(ws, params)
    assert json.loads(ws.calibration.read_text()) != calibration  # a model is counted with errors of its own
    assert ws.counts.read_bytes() == (tmp_path / "preview.parquet").read_bytes()
    table = changes(before, after)
    assert table["flips"].tolist() == [True] * 4
    assert (table["count_before"].tolist(), table["count_after"].tolist()) == ([4] * 4, [6] * 4)
    say_of_samples(ws.embeddings, ctcs=4)  # the way back
    assert not changes(before, count_by_stages(ws, params))["flips"].any()


def counts(rows: dict[str, tuple[float, str]], *, cutoff: float = 5.0, denominator: str = "proposed") -> pd.DataFrame:
    """Counts of CTCs by sample: per 7.5 ml and the side; beside them those of other classes, thresholds and denominators."""
    found = []
    for sample, (per_tube, side) in rows.items():
        right = {"class_id": "ctc", "denominator": denominator, "threshold": 0.0, "per_7_5_ml": per_tube, "side": side}
        others = [{"class_id": "wbc"}, {"threshold": 0.9}] + [{"denominator": "all"}] * (denominator == "proposed")
        for one in ({}, *others):
            about = {
                "sample_uid": sample,
                "patient_uid": f"patient {sample}",
                "cancer_type": "breast",
                "cutoff": cutoff,
                "exploratory": False,
                "events": 40,
                "count": int(per_tube),
                "low": per_tube / 2,
                "high": per_tube * 2,
            }
            found.append(about | right | ({**one, "per_7_5_ml": 99.0, "count": 99} if one else {}))
    table = pd.DataFrame(found).reindex(columns=list(COUNTS))
    return check(table, COUNTS, "counts").to_pandas()


def test_flips_come_first_and_an_interval_that_comes_to_hold_the_cutoff_is_no_flip() -> None:
    before = counts(
        {"a": (8, "undecided"), "b": (4, "below"), "c": (3, "below"), "d": (20, "above"), "e": (5, "undecided")}
    )
    after = counts({"a": (20, "above"), "b": (5, "undecided"), "c": (3, "below"), "d": (9, "above"), "f": (1, "below")})
    table = changes(before, after)
    assert table["sample_uid"].tolist() == ["b", "a", "e", "f", "d", "c"]
    assert table["flips"].tolist() == [True, False, False, False, False, False]  # at the cut-off is over it
    assert table["side_changes"].tolist() == [True, True, False, False, False, False]
    gone, new = table.iloc[2], table.iloc[3]
    assert (gone["count_before"], new["count_after"], new["patient_uid"]) == (5, 1, "patient f")
    assert pd.isna(gone["count_after"])
    assert pd.isna(new["side_before"])
    assert flips_in_words(table) == [
        "patient patient b, sample b (breast): 4 -> 5 CTC per 7.5 ml, now at or over the cut-off of 5"
    ]
    assert as_csv(table) == as_csv(changes(before, after))
    lines = as_csv(table).splitlines()
    assert len(lines) == 7
    assert lines[1].startswith("b,patient b,breast,proposed,5,False,4,5,4,5,")


def test_a_sample_whose_export_does_not_say_what_was_proposed_is_compared_over_all_its_events() -> None:
    whole = {"a": (4.0, "below")}
    table = changes(counts(whole, denominator="all"), counts({"a": (6.0, "above")}, denominator="all"))
    assert (table["denominator"].tolist(), table["flips"].tolist()) == (["all"], [True])
    told = changes(counts(whole), counts(whole), denominator="all")
    assert told["count_before"].tolist() == [99]


def test_without_a_cutoff_nothing_flips() -> None:
    table = changes(counts({"a": (1, "none")}, cutoff=np.nan), counts({"a": (90, "none")}, cutoff=np.nan))
    assert not table["flips"].any()
    assert flips_in_words(table) == []


def test_the_picture_of_a_recount_is_the_same_again_and_grows_with_its_rows(tmp_path: Path) -> None:
    one, many = ({f"s{at}": (4.0, "below") for at in range(n)} for n in (1, 60))
    for name, rows in (("one", one), ("many", many)):
        after = dict.fromkeys(rows, (6.0, "above"))
        for again in ("", "-again"):
            changes_plot(changes(counts(rows), counts(after)), tmp_path / f"{name}{again}.png", simulated=True)
        assert (tmp_path / f"{name}.png").read_bytes() == (tmp_path / f"{name}-again.png").read_bytes()
    one_row, forty_rows = (imread(tmp_path / f"{name}.png").shape[0] for name in ("one", "many"))
    assert forty_rows > 2 * one_row
    changes_plot(changes(counts(one), counts(one)), tmp_path / "none.svg", simulated=False)
    assert (tmp_path / "none.svg").read_text() != ""
