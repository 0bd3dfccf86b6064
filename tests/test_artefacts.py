"""What a registered model carries beside its weights, and that no other file passes for one of it."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from scipy.special import softmax

from ctcml import artefacts
from ctcml.embed import load_scorer, score
from ctcml.engines import probe_images
from ctcml.errors import BrokenRecord
from ctcml.mlflow_model import _load_pyfunc
from ctcml.model import AECNN, save_weights
from ctcml.novelty import Seen
from ctcml.reference import PLACE, read_reference, write_reference

CLASSES = ["ctc", "tdev", "wbc"]
IMAGE = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}


def a_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    digest = save_weights(AECNN(len(CLASSES)), folder / "weights.safetensors")
    card = {
        "architecture": "AE-CNN", "classes": CLASSES, "recipe": "asinh", "hidden": "linear", "image": IMAGE,
        "n_train_per_class": {"ctc": 3, "tdev": 2, "wbc": 2}, "seed": 1, "weights_sha256": digest,
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return a_model(tmp_path / "model")


@pytest.fixture
def seal(model: Path) -> str:
    return artefacts.complete(model, scorecard=None, data_version="data-v1", code_commit="c0ffee")


def test_the_onnx_export_says_what_the_network_says_to_a_ten_thousandth(model: Path, seal: str) -> None:
    assert seal
    images = probe_images(20)
    session = onnxruntime.InferenceSession(str(model / artefacts.ONNX), providers=["CPUExecutionProvider"])
    logits, latents = session.run(None, {"images": images})
    said = score(load_scorer(model), images)
    assert np.abs(softmax(logits, axis=1) - said.probabilities).max() < 1e-4
    assert np.abs(latents - said.latents).max() < 1e-4 * max(1.0, np.abs(said.latents).max())


def test_an_export_that_says_something_else_is_not_registered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = artefacts.onnx_graph

    def twisted(weights: dict[str, np.ndarray], *, hidden: str) -> bytes:
        return real({**weights, "output.bias": weights["output.bias"] + np.float32([0.01, 0, 0])}, hidden=hidden)

    monkeypatch.setattr(artefacts, "onnx_graph", twisted)
    with pytest.raises(BrokenRecord, match=r"model\.onnx: says something else"):
        artefacts.complete(model, scorecard=None, data_version="data-v1", code_commit=None)


def test_the_input_contract_names_channels_size_and_the_version_of_the_preprocessing(model: Path, seal: str) -> None:
    assert seal
    contract = json.loads((model / artefacts.INPUT).read_text())
    assert contract["planes"] == ["CD45", "DAPI", "CK"]
    assert contract["shape"] == [80, 80, 3]
    assert contract["preprocessing_version"] == "asinh-v1(p10,60)"
    assert contract["classes"] == CLASSES


def test_the_model_card_is_for_people_and_says_research_use_only(model: Path, seal: str) -> None:
    assert seal
    text = (model / artefacts.CARD).read_text()
    assert "esearch use only" in text
    assert "data-v1" in text
    assert "c0ffee" in text


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", artefacts.ONNX, artefacts.CARD, artefacts.INPUT])
def test_any_file_that_was_changed_or_lost_is_named_when_the_model_is_loaded(model: Path, seal: str, name: str) -> None:
    artefacts.require_whole(model, registered=seal)
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BrokenRecord, match=f"model/{name}: SHA-256"):
        _load_pyfunc(str(model))
    (model / name).unlink()
    with pytest.raises(BrokenRecord, match=f"model/{name}: SHA-256 missing"):
        artefacts.require_whole(model, registered=seal)


def test_a_file_that_was_slipped_in_and_seals_that_were_made_anew_are_seen(model: Path, seal: str) -> None:
    (model / "chart").mkdir()
    (model / "chart" / "slipped.npz").write_bytes(b"x")
    with pytest.raises(BrokenRecord, match=r"chart/slipped\.npz"):
        artefacts.require_whole(model, registered=seal)
    artefacts.complete(model, scorecard=None, data_version="data-v1", code_commit="c0ffee")
    artefacts.require_whole(model)
    with pytest.raises(BrokenRecord, match=r"sha256\.json: SHA-256"):
        artefacts.require_whole(model, registered=seal)


def seen(rng: np.random.Generator, cells: int) -> Seen:
    return Seen(
        latents=rng.normal(size=(cells, 50)).astype(np.float32),
        probabilities=rng.dirichlet(np.ones(3), cells).astype(np.float32),
        energy=rng.normal(size=cells).astype(np.float32),
        reconstruction_error=rng.uniform(size=(cells, 3)).astype(np.float32),
        appearance=rng.normal(size=(cells, 33)).astype(np.float32),
    )


def test_the_same_reference_cells_give_the_same_bytes_and_come_back(tmp_path: Path) -> None:
    known, labels = seen(np.random.default_rng(1), 12), ["ctc", "wbc"] * 6
    for name in ("one", "two"):
        (tmp_path / name / "chart").mkdir(parents=True)
        write_reference(tmp_path / name / PLACE, known, labels)
    assert (tmp_path / "one" / PLACE).read_bytes() == (tmp_path / "two" / PLACE).read_bytes()
    assert read_reference(tmp_path / "one") is None  # no replay chose a score
    (tmp_path / "one" / "replay.json").write_text(json.dumps({"choice": {"score": "autoencoder.vim"}}))
    found = read_reference(tmp_path / "one")
    assert found is not None
    assert (found.score, list(found.labels)) == ("vim", labels)
    assert np.array_equal(found.seen.latents, known.latents)


def test_a_loaded_model_gives_the_novelty_score_that_the_replay_chose_else_its_energy(model: Path) -> None:
    images = probe_images(8)
    plain = _load_pyfunc(str(model)).predict(images)
    assert np.allclose(plain["novelty"], score(load_scorer(model), images).energy)
    (model / "chart").mkdir()
    write_reference(model / PLACE, seen(np.random.default_rng(2), 40), ["ctc", "wbc"] * 20)
    (model / "replay.json").write_text(json.dumps({"choice": {"score": "appearance.appearance_distance"}}))
    told = _load_pyfunc(str(model)).predict(images)
    assert list(told.columns[:5]) == ["predicted", "p_ctc", "p_tdev", "p_wbc", "error_cd45"]
    assert not np.allclose(told["novelty"], plain["novelty"])
    assert (told["novelty"] > 0).all()


def test_a_reference_that_is_not_ours_is_named(model: Path) -> None:
    (model / "chart").mkdir()
    (model / PLACE).write_bytes(b"not arrays")
    (model / "replay.json").write_text(json.dumps({"choice": {"score": "vim"}}))
    with pytest.raises(BrokenRecord, match=r"reference\.npz: not readable"):
        read_reference(model)
