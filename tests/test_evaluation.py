"""The candidate on steering patients: what is written is what one counts by hand."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from factories import a_cell, a_sample
from PIL import Image

from ctcml.clinical import COVARIATE
from ctcml.evaluation import NOTHING_SETTLED, TILES, _show, evaluate_candidate
from ctcml.model import AECNN, save_weights
from ctcml.shards import Packed, pack_shard
from ctcml.tables import CLINICAL, MISTAKES, OPINIONS, TRUTH, read_table, write_table
from ctcml.workspace import Workspace

CLASSES = ["ctc", "tdev", "wbc", "bare_nucleus", "other"]
SAMPLES = [("breast", "patient"), ("breast", "patient"), ("colorectal", "patient"), ("breast", "benign")]
PER_SAMPLE = 6
LABELS = [*CLASSES, "ctc"]  # of the cells of each sample, in order


def a_candidate(ws: Workspace, biases: Sequence[float]) -> str:
    """A model that gives every cell the same probabilities; returns the hash of its weights."""
    torch.manual_seed(1)
    model = AECNN(len(CLASSES))
    with torch.no_grad():
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor(biases))
    ws.candidate.mkdir(parents=True, exist_ok=True)
    digest = save_weights(model, ws.candidate / "weights.safetensors")
    image = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}
    card = {
        "classes": CLASSES, "hidden": "linear", "recipe": "asinh", "image": image, "weights_sha256": digest,
        "architecture": "AE-CNN",
    }  # fmt: skip
    (ws.candidate / "model.json").write_text(json.dumps(card))
    return digest


def a_workspace(root: Path) -> Workspace:
    """Four steering samples of six cells each, and the same of a sealed patient that nobody may open."""
    ws, rng = Workspace(root), np.random.default_rng(2)
    rows, samples = [], []
    for number, (cancer_type, kind) in enumerate([*SAMPLES, ("lung", "patient")]):
        sample, patient, role = f"s{number}", f"p{number}", "steering" if number < len(SAMPLES) else "sealed"
        samples.append({"sample_uid": sample, "patient_uid": patient, "sample_kind": kind, "cancer_type": cancer_type})
        packed = [
            Packed(
                cell_uid=f"{sample}-{at}", sample_uid=sample, object_index=at, planes=("CD45", "DAPI", "CK", "FITC"),
                pixels=a_cell(rng), mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK,FITC", restore_low=(),
                restore_high=(),
            )
            for at in range(PER_SAMPLE)
        ]  # fmt: skip
        if role == "steering":  # the pixels of the sealed patient are not even there
            pack_shard(packed, ws.shards / f"{sample}.parquet")
        rows += [
            (one.cell_uid, sample, patient, label, role, "evaluation", "both readers")
            for one, label in zip(packed, LABELS, strict=True)
        ]
    write_table(pd.DataFrame(rows, columns=list(TRUTH)), TRUTH, ws.truth)
    a_sample(
        ws, [f"t1-{at}" for at in range(PER_SAMPLE)], sample="t1", patient="t1"
    )  # groups by appearance come from it
    ws.roles.write_text(json.dumps({row[2]: row[4] for row in rows} | {"t1": "train"}))
    write_table(pd.DataFrame(_opinions(rows), columns=list(OPINIONS)), OPINIONS, ws.opinions)
    clinical = pd.DataFrame(samples).assign(**{f"{COVARIATE}simulated": "yes", "blood_volume_ml": 7.5})
    write_table(
        clinical.reindex(columns=[*CLINICAL, f"{COVARIATE}simulated"]), CLINICAL, ws.clinical, extra_prefix=COVARIATE
    )
    return ws


def _opinions(rows: list[tuple[str, ...]]) -> list[tuple[Any, ...]]:
    """Two readers of every cell, of whom the second calls each tdEV a CTC."""
    return [
        (cell, patient, purpose, "round-1", reader, "reader", "ctc" if (reader, label) == ("ben", "tdev") else label, "",
         "", 2.0, "2026-03-02T12:00:00+00:00", False)
        for cell, _, patient, label, _, purpose, _ in rows
        for reader in ("anna", "ben")
    ]  # fmt: skip


def evaluated(ws: Workspace, said: list[str] | None = None) -> dict[str, Any]:
    """The report as it comes back from its file."""
    report = evaluate_candidate(
        ws, ws.pictures / "evaluation", thresholds=(0.5, 0.75), temperature_sd=0.3, readers_differ=0.1, readers_differ_cells=50.0,
        bootstrap=50, seed=20, simulated=True, say=(said if said is not None else []).append,
    )  # fmt: skip
    read_back: dict[str, Any] = json.loads(json.dumps(report))
    return read_back


@dataclass(frozen=True)
class Evaluated:
    """A workspace after its candidate was evaluated; read, never changed."""

    ws: Workspace
    digest: str
    report: dict[str, Any]
    said: list[str]


def after(root: Path, biases: Sequence[float]) -> Evaluated:
    ws, said = a_workspace(root), list[str]()
    digest = a_candidate(ws, biases)
    return Evaluated(ws, digest, evaluated(ws, said), said)


@pytest.fixture(scope="module")
def all_ctc(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A candidate that calls everything a CTC."""
    return after(tmp_path_factory.mktemp("all") / "lab", [3.0, 0, 0, 0, 0])


@pytest.fixture(scope="module")
def no_ctc(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """A candidate that calls everything a tdEV."""
    return after(tmp_path_factory.mktemp("none") / "lab", [0, 1.0, 0, 0, 0])


def test_a_model_that_calls_everything_a_ctc_has_every_other_cell_as_a_false_one(all_ctc: Evaluated) -> None:
    ws, digest, report, said = all_ctc.ws, all_ctc.digest, all_ctc.report, all_ctc.said
    p_ctc = np.exp(3) / (np.exp(3) + 4)
    assert (report["n"], report["patients"], report["weights_sha256"], report["note"]) == (24, 4, digest, None)
    assert report["scorecard"]["accuracy"]["value"] == pytest.approx(8 / 24)
    assert report["scorecard"]["ctc_sensitivity"]["value"] == 1
    assert report["scorecard"]["ctc_specificity"]["value"] == 0
    mistakes = read_table(ws.mistakes, MISTAKES)
    assert Counter(mistakes["kind"]) == {"false": 16}
    assert Counter(mistakes["true_class"]) == dict.fromkeys(CLASSES[1:], 4)
    assert mistakes["p_ctc"].to_numpy() == pytest.approx(p_ctc, abs=1e-6)
    assert [(one["cancer_type"], one["false"]["mistakes"], one["false"]["cells"]) for one in report["by_cancer_type"]] == [
        ("benign breast", 4, 4), ("breast", 8, 8), ("colorectal", 4, 4), ("all", 16, 16),
    ]  # fmt: skip
    assert report["by_cancer_type"][-1]["false"]["above"] == [16, 16]
    assert report["by_probability"][8] == {"low": 0.8, "high": 0.9, "ctc": 8, "missed": 0, "not_ctc": 16, "false": 16}
    assert said == [
        "24 settled cells of 4 steering patients: 33.3% right, 0 of 8 CTCs missed, 16 of 16 other cells called CTC"
    ]


def test_a_model_that_calls_nothing_a_ctc_misses_them_all(no_ctc: Evaluated) -> None:
    ws, everything = no_ctc.ws, no_ctc.report["by_cancer_type"][-1]
    assert everything["missed"]["mistakes"] == everything["missed"]["cells"] == 8
    assert everything["missed"]["classes"] == {"tdev": 8}
    assert everything["missed"]["above"] == [0, 0]  # none of them with a probability over 0.5
    mistakes = read_table(ws.mistakes, MISTAKES)
    assert Counter(mistakes["kind"]) == {"missed": 8}
    assert set(mistakes["cell_uid"]) == {f"s{sample}-{at}" for sample in range(4) for at in (0, 5)}


def test_the_pictures_are_there_and_a_gallery_without_a_thumbnail_is_not(no_ctc: Evaluated) -> None:
    ws = no_ctc.ws
    pictures = sorted(path.name for path in (ws.pictures / "evaluation").iterdir())
    assert [name for name in pictures if name.endswith(".png")] == [
        "confusion.png", "missed-ctc.png", "mistakes.png", "reliability.png", "subgroups.png", "thresholds.png",
    ]  # fmt: skip
    assert {"scorecard.html", "scorecard.json"} <= set(pictures)
    for name in (name for name in pictures if name.endswith(".png")):
        with Image.open(ws.pictures / "evaluation" / name) as picture:
            assert min(picture.size) > 200
            assert np.asarray(picture.convert("L")).std() > 10


def test_the_score_card_says_where_how_sure_and_how_well_people_did(all_ctc: Evaluated) -> None:
    card = all_ctc.report["scorecard"]
    assert [(one["name"], one["cells"]) for one in card["by"]["cancer_type"]] == [
        ("benign breast", 6), ("breast", 12), ("colorectal", 6),
    ]  # fmt: skip
    assert [one["name"] for one in card["by"]["instrument"]] == ["not known"]
    assert card["calibration"]["temperature"] > 1.5  # 83 % sure and right in a third of the cells
    assert card["calibration"]["ece_after"]["value"] < card["calibration"]["ece_before"]["value"]
    assert card["kappa"]["model"]["kappa"]["value"] == 0  # it says one word only
    assert card["kappa"]["readers"]["exact_share"]["value"] == pytest.approx(5 / 6)
    assert (card["simulated"], card["judged_on"]) == (True, "steering patients, cells drawn at random")
    assert [one["missed"] for one in card["thresholds"]] == [0, 0]


def test_nobody_opens_a_cell_of_a_sealed_patient(all_ctc: Evaluated) -> None:
    assert "lung" not in json.dumps(all_ctc.report)
    assert "p4" not in set(read_table(all_ctc.ws.mistakes, MISTAKES)["patient_uid"])


def test_without_a_settled_steering_cell_there_is_a_note_and_no_failure(tmp_path: Path) -> None:
    ws = a_workspace(tmp_path / "lab")
    truth = read_table(ws.truth, TRUTH)
    write_table(truth[truth["role"] == "sealed"], TRUTH, ws.truth)
    digest, said = a_candidate(ws, [3.0, 0, 0, 0, 0]), list[str]()
    report = evaluated(ws, said)
    assert (report["n"], report["scorecard"], report["weights_sha256"]) == (0, None, digest)
    assert report["note"] == NOTHING_SETTLED
    assert said == [NOTHING_SETTLED]
    assert read_table(ws.mistakes, MISTAKES).empty
    assert not ws.pictures.exists()


def test_of_very_many_mistakes_the_surest_are_shown(all_ctc: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, str]] = []

    def watched(tiles: list[Any], captions: list[str], path: Path, *, title: str, **_: Any) -> None:
        assert len(tiles) == len(captions)
        shown.append((len(tiles), title))

    monkeypatch.setattr("ctcml.evaluation.gallery", watched)
    monkeypatch.setattr("ctcml.evaluation.TILES", 10)
    assert TILES >= 36  # the paper's missed CTCs fit on one sheet
    _show(all_ctc.ws, read_table(all_ctc.ws.mistakes, MISTAKES), "false", Path("false.png"), simulated=True)
    assert shown == [(10, "False CTCs: the 10 surest of 16 · p(CTC), label, cancer type")]


def test_the_same_candidate_gives_the_same_report_and_the_same_files(no_ctc: Evaluated, tmp_path: Path) -> None:
    again = after(tmp_path / "lab", [0, 1.0, 0, 0, 0])
    assert again.report == no_ctc.report

    def files(one: Evaluated) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (one.ws.pictures / "evaluation").iterdir()}

    assert files(again) == files(no_ctc)
