"""Fig. 6: first samples at prespecified cut-offs, counts per 7.5 ml, and what agrees with the operator."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import a_cell

from ctcml import paper_survival
from ctcml.paper_survival import counted_patients, survival_reports
from ctcml.shards import Packed, pack_shard
from ctcml.tables import CLINICAL, MANIFEST, write_table
from ctcml.workspace import Workspace

IMAGE: dict[str, Any] = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}
CUTOFFS = {"breast": 5, "colorectal": 3}


class Caller:
    """Stands in for a network: calls the first `ctc` cells of each sample CTC."""

    def __init__(self, ctc: int) -> None:
        self.ctc = ctc

    def predicted(self, n: int) -> list[str]:
        return ["ctc" if at < self.ctc else "wbc" for at in range(n)]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Three breast patients, one with a second sample, one colorectal with 15 ml, one of a type without a cut-off; 6 cells a sample."""
    ws = Workspace(tmp_path / "lab")
    samples = [
        ("s1", "p1", "patient", "breast", 7.5, 6, 0.0),
        ("s1b", "p1", "patient", "breast", 7.5, 9, 30.0),
        ("s2", "p2", "patient", "breast", 7.5, 1, np.nan),
        ("s3", "p3", "patient", "colorectal", 15.0, np.nan, 0.0),
        ("s4", "p4", "patient", "lung", 7.5, 2, 0.0),
        ("s5", "p5", "control", "breast", 7.5, 0, 0.0),
    ]
    names = ("sample_uid", "patient_uid", "sample_kind", "cancer_type", "blood_volume_ml", "manual_ctc", "draw_day")
    clinical = pd.DataFrame(samples, columns=names)
    clinical = clinical.assign(os_months=12.0, os_event=1.0).reindex(columns=list(CLINICAL))
    write_table(clinical, CLINICAL, ws.clinical)
    rng = np.random.default_rng(1)
    for sample, patient, *_ in samples:
        packed = [
            Packed(
                cell_uid=f"{sample}-{at}", sample_uid=sample, object_index=at, planes=("CD45", "DAPI", "CK"), pixels=a_cell(rng)[:3],
                mask=None, source_bit_depth=12, source_order="CD45,DAPI,CK",
            )
            for at in range(6)
        ]  # fmt: skip
        digest = pack_shard(packed, ws.shards / f"{sample}.parquet")
        rows = {name: [None] * 6 for name in MANIFEST} | {
            "cell_uid": [one.cell_uid for one in packed], "sample_uid": sample, "patient_uid": patient, "object_index": range(6),
            "proposed": [True] * 4 + [False] * 2, "assigned": [True] + [False] * 5,
            "content_sha256": [one.content_sha256 for one in packed], "shard_sha256": digest,
        }  # fmt: skip
        write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / f"{sample}.parquet")

    class Said:
        def __init__(self, caller: Caller, images: Any) -> None:
            self.predicted = caller.predicted(len(images))

    monkeypatch.setattr(paper_survival, "score", Said)
    return ws


def counted(ws: Workspace, **callers: int) -> Any:
    scorers: Any = {name: Caller(ctc) for name, ctc in callers.items()}
    return counted_patients(
        ws, scorers, IMAGE, endpoint="os", cutoffs=CUTOFFS, trained_on={"p2"}, progress=lambda done, of: None
    )


def test_first_samples_of_patients_with_a_cutoff_are_counted_per_seven_and_a_half_millilitres(ws: Workspace) -> None:
    table, about = counted(ws, standard=2, autoencoder=3)
    assert table["sample_uid"].tolist() == ["s1", "s2", "s3"]  # no follow-up sample, no lung, no control
    assert table["standard"].tolist() == [2.0, 2.0, 1.0]  # p3 gave 15 ml
    assert table["cutoff"].tolist() == [5.0, 5.0, 3.0]
    assert table["trained_on"].tolist() == [False, True, False]
    assert about["denominator"] == "proposed"
    assert about["events"] == 12  # four of six in each sample were presented by the instrument


def test_agreement_is_of_events_of_the_operators_ctcs_and_of_patients_sides(ws: Workspace) -> None:
    _, about = counted(ws, standard=2, autoencoder=1)
    standard, autoencoder = about["agreement"]
    assert standard["events_agreed"] == pytest.approx(
        9 / 12
    )  # of four events, the second is called against the operator
    assert autoencoder["events_agreed"] == 1
    assert autoencoder["manual_ctc_agreed"] == 1
    assert (autoencoder["changed_side"], autoencoder["patients"]) == (
        1,
        2,
    )  # p1 has 6 by hand and 1 by network, cut-off 5
    assert autoencoder["paper"]["events_agreed"] == 0.838  # "an overall agreement of 83.8%"
    assert standard["paper"]["events_agreed"] is None  # the paper compares its final network


def test_an_export_that_does_not_say_what_was_presented_is_counted_whole_and_exploratory(ws: Workspace) -> None:
    for file in ws.manifest.iterdir():
        write_table(pd.read_parquet(file).assign(proposed=None), MANIFEST, file)
    _, about = counted(ws, standard=2, autoencoder=2)
    assert about["denominator"] == "all"
    reports = survival_reports(a_cohort(), min_events=5, endpoint="os", denominator="all")
    assert all(one["exploratory"] for one in reports)


def a_cohort(patients: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(2)
    count = rng.integers(0, 12, patients)
    cancer = np.where(np.arange(patients) < 50, "breast", "colorectal")
    return pd.DataFrame(
        {
            "cancer_type": cancer, "duration": rng.exponential(20 / (1 + (count >= 5)), patients), "event": 1.0,
            "cutoff": np.where(cancer == "breast", 5.0, 3.0), "manual": count, "standard": count, "autoencoder": count,
        }
    )  # fmt: skip


def test_every_source_is_analysed_for_all_patients_and_for_types_with_enough_of_them() -> None:
    reports = survival_reports(a_cohort(), min_events=5, endpoint="os", denominator="proposed")
    assert [(one["group"], one["source"]) for one in reports] == [
        (group, source) for group in ("all", "breast", "colorectal") for source in ("manual", "standard", "autoencoder")
    ]
    assert not any(one["exploratory"] for one in reports)
    medians = {(one["group"], one["source"]): one["paper_medians"] for one in reports}
    # "patients with <5 DL CTCs had a median overall survival of 26.9 months whereas patients with >=5 DL CTCs had […] 11.4"
    assert medians["breast", "autoencoder"] == (26.9, 11.4)
    assert medians["breast", "standard"] is None
    assert medians["all", "autoencoder"] is None


def test_arms_with_few_events_are_refused_in_words_instead_of_failing() -> None:
    reports = survival_reports(a_cohort(8), min_events=5, endpoint="os", denominator="proposed")
    assert [one["group"] for one in reports] == ["all"] * 3
    assert all("at least 5 are needed" in one["refusals"][0] for one in reports)
