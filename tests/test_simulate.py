"""The simulated laboratory: what it writes, that it repeats, and that its patients and cells hang together."""

import filecmp
from pathlib import Path

import numpy as np
import openpyxl
import pandas as pd
import pytest
import tifffile
from scipy.stats import spearmanr

from ctcml.cells_in_silico import KINDS
from ctcml.errors import BadInput
from ctcml.simulate import (
    Event,
    Simulated,
    draw_clinical,
    draw_historic_labels,
    plan_cohort,
    simulate_laboratory,
    write_sample,
)

THUMBS = "export/Full Detection_0.1/frames/{sample}/Thumbs"


def simulate(folder: Path, *, patients: int = 3, seed: int = 5) -> Simulated:
    return simulate_laboratory(
        folder, patients=patients, objects_per_patient=20, historic_share=0.6, ambiguous_share=0.1, seed=seed
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("laboratory") / "lab").folder


@pytest.fixture(scope="module")
def truth(lab: Path) -> pd.DataFrame:
    return pd.read_csv(lab / "simulated_truth.csv")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def cohort(patients: int, *, seed: int = 1, objects: int = 75):
    return plan_cohort(patients, objects, 0.1, np.random.default_rng(seed), np.random.SeedSequence(seed))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(lab: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again")
    assert files(tmp_path / "again") == files(lab)
    _, different, unreadable = filecmp.cmpfiles(lab, tmp_path / "again", files(lab), shallow=False)
    assert (different, unreadable) == ([], [])
    simulate(tmp_path / "other", seed=6)
    assert (tmp_path / "other/clinical.csv").read_bytes() != (lab / "clinical.csv").read_bytes()


def test_a_sample_does_not_depend_on_who_draws_it_or_on_what_was_drawn_before(tmp_path: Path) -> None:
    first, second = cohort(2, objects=12)
    (tmp_path / "a/output").mkdir(parents=True)
    (tmp_path / "b/output").mkdir(parents=True)
    in_order = [write_sample(first, tmp_path / "a"), write_sample(second, tmp_path / "a")]
    backwards = [write_sample(second, tmp_path / "b"), write_sample(first, tmp_path / "b")]
    assert in_order == backwards[::-1]
    assert filecmp.cmpfiles(tmp_path / "a", tmp_path / "b", files(tmp_path / "a"), shallow=False)[1:] == ([], [])


def test_many_processes_draw_the_same_cohort_and_report_every_patient(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    simulated = simulate_laboratory(
        tmp_path / "lab",
        patients=9,
        objects_per_patient=10,
        historic_share=0.6,
        ambiguous_share=0.1,
        seed=5,
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(done, 9) for done in range(1, 10)]
    truth = pd.read_csv(tmp_path / "lab/simulated_truth.csv")
    assert len(truth) == simulated.thumbnails
    cartridge = plan_cohort(9, 10, 0.1, *_plan_dice(5))[0]
    (tmp_path / "alone/output").mkdir(parents=True)
    alone = write_sample(cartridge, tmp_path / "alone")
    drawn = truth[truth["sample"] == cartridge.sample]
    assert [event.true_class for event in alone] == drawn["true_class"].tolist()
    names = files(tmp_path / "alone/frames")
    pooled = tmp_path / "lab/export/Full Detection_0.1/frames"
    assert filecmp.cmpfiles(tmp_path / "alone/frames", pooled, names, shallow=False)[1:] == ([], [])


def _plan_dice(seed: int) -> tuple[np.random.Generator, np.random.SeedSequence]:
    plan_seed, _, _, draw_seed = np.random.SeedSequence(seed).spawn(4)
    return np.random.default_rng(plan_seed), draw_seed


def test_names_follow_accept_and_indices_have_gaps(lab: Path, truth: pd.DataFrame) -> None:
    gaps = 0
    for sample, objects in truth.groupby("sample"):
        folder = lab / THUMBS.format(sample=sample)
        assert "." in str(sample)
        assert (folder / "ACCEPTThumbnails.txt").read_bytes() == b""
        stem = str(sample).replace(".", "_")
        expected = {f"{stem}_thumb_{index}{end}.tif" for index in objects["object_index"] for end in ("", "_segm")}
        assert {path.name for path in folder.glob("*.tif")} == expected
        assert objects["object_index"].is_monotonic_increasing
        assert objects["object_index"].min() >= 1
        gaps += int(objects["object_index"].max() - len(objects))
    assert gaps > 0


def test_a_thumbnail_has_four_16_bit_pages_and_a_mask_of_one_bit(lab: Path, truth: pd.DataFrame) -> None:
    sides = []
    for row in truth.itertuples():
        stem = lab / THUMBS.format(sample=row.sample) / f"{row.sample.replace('.', '_')}_thumb_{row.object_index}"
        with tifffile.TiffFile(f"{stem}.tif") as tiff, tifffile.TiffFile(f"{stem}_segm.tif") as mask:
            assert [page.compression.name for page in tiff.pages] == ["LZW", "PACKBITS", "PACKBITS", "PACKBITS"]
            assert [page.compression.name for page in mask.pages] == ["LZW", "PACKBITS", "PACKBITS", "PACKBITS"]
            assert {page.dtype for page in tiff.pages} == {np.dtype("uint16")}
            assert {page.bitspersample for page in mask.pages} == {1}
            pixels, inside = (np.stack([page.asarray() for page in file.pages]) for file in (tiff, mask))
        assert pixels.shape == inside.shape
        assert inside.any()
        assert pixels.max() <= 4095
        sides += pixels.shape[1:]
    assert min(sides) >= 10
    assert 20 <= np.median(sides) <= 40


def test_row_i_of_the_feature_table_is_thumbnail_i(lab: Path, truth: pd.DataFrame) -> None:
    for sample, objects in truth.groupby("sample"):
        table = pd.read_excel(lab / f"export/Full Detection_0.1/output/{sample}.xlsx")
        assert list(table.columns[:3]) == ["CellSearchIDs", "ThumbNr", "ch_1_Size"]
        written = table.iloc[objects["object_index"].to_numpy() - 1]
        assert written["ch_3_MeanIntensity"].notna().all()
        assert table.drop(written.index)["ch_3_MeanIntensity"].isna().all()
        vesicles = written[objects["true_class"].isin(["tdev", "cd45ev"]).to_numpy()]
        assert vesicles["CellSearchIDs"].isna().mean() > 0.8


def test_cellsearch_presents_most_tumour_cells(lab: Path, truth: pd.DataFrame) -> None:
    tables = {s: pd.read_excel(lab / f"export/Full Detection_0.1/output/{s}.xlsx") for s in truth["sample"].unique()}
    ctc = truth[truth["true_class"] == "ctc"]
    presented = [pd.notna(tables[r.sample]["CellSearchIDs"].iloc[r.object_index - 1]) for r in ctc.itertuples()]
    assert np.mean(presented) > 0.85


def test_the_summary_counts_the_thumbnails_of_each_sample(lab: Path, truth: pd.DataFrame) -> None:
    sheet = openpyxl.load_workbook(lab / "export/Full Detection_0.1/summaryTable.xlsx").active
    (header, *rows) = sheet.iter_rows(values_only=True)
    assert header == ("sampleID", "totalCount", "CS_CTC")
    assert {row[0]: row[1] for row in rows} == truth["sample"].value_counts().to_dict()


def test_the_clinical_table_says_that_it_is_simulated(lab: Path) -> None:
    clinical = pd.read_csv(lab / "clinical.csv")
    assert list(clinical.columns) == [
        *("patient", "sample", "sample_kind", "cancer_type", "blood_volume_ml", "manual_ctc", "os_months", "os_event"),
        *("pfs_months", "pfs_event", "draw_day", "line_of_therapy", "site", "instrument", "age", "ecog"),
        "covariate_simulated",
    ]
    assert set(clinical["covariate_simulated"]) == {"yes"}
    assert "SIMULATED" in (lab / "READ_ME.txt").read_text()
    assert (clinical["pfs_months"] <= clinical["os_months"]).all()


def test_old_labels_never_name_cd45ev_and_leave_the_doubtful_out() -> None:
    events = [
        Event("S", index, kind, ambiguity, True)
        for index, (kind, ambiguity) in enumerate([(kind, a) for kind in KINDS for a in [0.0] * 1500 + [0.8] * 500])
    ]
    labels = draw_historic_labels(events, 0.6, np.random.default_rng(0))
    joined = labels.assign(event=[events[index] for index in labels["object_index"]])
    truth = joined["event"].map(lambda event: event.true_class)
    doubtful = joined["event"].map(lambda event: event.ambiguity > 0)
    assert not labels["label"].eq("cd45ev").any()
    assert not truth.eq("cd45ev").any()
    assert (~doubtful).sum() / (5 * 1500) == pytest.approx(0.6, abs=0.03)
    assert doubtful.sum() / (5 * 500) < 0.15
    assert 0 < (labels["label"] != truth).mean() < 0.01


def test_a_label_of_the_archive_names_an_object_that_exists(lab: Path, truth: pd.DataFrame) -> None:
    labels = pd.read_csv(lab / "historic_labels.csv")
    assert list(labels.columns) == ["sample", "object_index", "label", "source"]
    assert len(labels.merge(truth, on=["sample", "object_index"])) == len(labels)


def test_classes_have_about_the_shares_of_the_papers_six_class_set() -> None:
    total = pd.DataFrame([cartridge.counts for cartridge in cohort(240)]).sum()
    paper = {"ctc": 0.13, "tdev": 0.23, "wbc": 0.30, "cd45ev": 0.18, "bare_nucleus": 0.08, "other": 0.07}
    for kind, share in paper.items():
        assert total[kind] / total.sum() == pytest.approx(share, abs=0.025), kind


def test_about_half_of_the_patients_have_fewer_than_five_tumour_cells_and_a_few_have_many() -> None:
    for patients in (40, 120):
        ctc = np.array([cartridge.counts["ctc"] for cartridge in cohort(patients)])
        assert 0.44 <= (ctc < 5).mean() <= 0.54
        assert ctc.max() >= 40


def test_survival_falls_as_the_number_of_tumour_cells_rises() -> None:
    cartridges = cohort(600, seed=3)
    clinical = draw_clinical(cartridges, [], np.random.default_rng(3))
    ctc = np.array([cartridge.counts["ctc"] for cartridge in cartridges])
    high = ctc >= 5
    assert spearmanr(ctc, clinical["os_months"]).statistic < -0.2
    assert 0.65 <= clinical["os_event"].mean() <= 0.82
    deaths = [clinical["os_event"][arm].sum() / clinical["os_months"][arm].sum() for arm in (high, ~high)]
    assert 1.7 <= deaths[0] / deaths[1] <= 2.8  # ratio of hazards, were they constant


def test_a_folder_that_holds_anything_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match="expected a new or empty folder"):
        simulate(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_cohort_of_nobody_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected at least 1"):
        simulate(tmp_path / "lab", patients=0)
