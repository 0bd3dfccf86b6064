import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ctcml import engines
from ctcml.engines import (
    BF16_TOLERANCE,
    FP32_TOLERANCE,
    REFERENCE,
    Floats,
    choose_engine,
    difference,
    engines_here,
    load_engine,
    probe_images,
)
from ctcml.errors import BadInput, BrokenRecord
from ctcml.images import to_inputs
from ctcml.model import ARCHITECTURE, Hidden, Network, initialise, load_model, make_model, save_weights
from tests.factories import a_cell

CLASSES = ["ctc", "tdev", "wbc", "cd45ev", "bare_nucleus", "other"]


def stored_model(folder: Path, *, network: Network = "autoencoder", hidden: Hidden = "linear") -> Path:
    """Random weights with logits as far apart as a trained network's, about 10."""
    model = make_model(network, len(CLASSES), hidden=hidden)
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.output.weight *= 40
    card = {"architecture": ARCHITECTURE[network], "classes": CLASSES, "hidden": hidden, "recipe": "asinh"}
    card["weights_sha256"] = save_weights(model, folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return stored_model(tmp_path)


def thumbnails(n: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    cells = [a_cell(rng, height=int(rng.integers(18, 60))) for _ in range(n)]
    return to_inputs(cells, recipe="asinh", background_percentile=10.0, asinh_scale=60.0)


def test_the_reference_is_the_network_as_it_is_written(model: Path) -> None:
    images = thumbnails(70)
    network, _ = load_model(model)
    with torch.inference_mode():
        logits, latents = network.encode(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    said = load_engine(REFERENCE, model).score(images)
    np.testing.assert_allclose(said[0], logits, atol=1e-5)
    np.testing.assert_allclose(said[1], latents, atol=1e-5)


@pytest.mark.parametrize("network", ["autoencoder", "standard"])
@pytest.mark.parametrize("hidden", ["linear", "relu"])
def test_every_engine_of_this_machine_equals_the_reference(tmp_path: Path, network: Network, hidden: Hidden) -> None:
    model, images = stored_model(tmp_path, network=network, hidden=hidden), thumbnails(150)
    truth = load_engine(REFERENCE, model).score(images)
    for name in engines_here()[1:]:
        said = load_engine(name, model).score(images)
        assert [one.dtype for one in said] == [np.float32, np.float32]
        np.testing.assert_allclose(said[0], truth[0], atol=BF16_TOLERANCE if "bf16" in name else FP32_TOLERANCE)
        if "bf16" not in name:
            assert difference(truth, said, tolerance=FP32_TOLERANCE) == ""


def test_engines_take_any_number_of_images_and_read_only_ones(model: Path) -> None:
    images = thumbnails(65)
    images.flags.writeable = False
    for name in engines_here():
        engine = load_engine(name, model)
        assert [one.shape for one in engine.score(images)] == [(65, 6), (65, 50)]
        assert [one.shape for one in engine.score(images[:0])] == [(0, 6), (0, 50)]


def test_an_engine_leaves_the_number_of_torchs_threads_as_it_was(model: Path) -> None:
    before = torch.get_num_threads()
    load_engine("torch-fp32", model, threads=before + 1).score(thumbnails(2))
    assert torch.get_num_threads() == before


def test_the_choice_names_what_was_tried_and_is_never_slower_than_the_reference(model: Path) -> None:
    choice = choose_engine(model)
    rates = {one.name: one.per_second for one in choice.offers}
    assert {*rates, *(one.name for one in choice.declined)} == set(engines_here())
    assert {"torch-fp32", "onnx"} <= set(rates)
    assert choice.chosen.per_second * engines.WORTH_TORCH >= max(rates.values())
    assert str(choice).startswith(f"{choice.chosen.name} ({choice.chosen.per_second:,.0f} thumbnails/s")


def test_one_engine_may_be_asked_for_by_name(model: Path) -> None:
    for name in ("torch-fp32", REFERENCE):
        assert choose_engine(model, wanted=name).chosen.name == name
    with pytest.raises(BadInput, match=r"engine 'openvino': expected auto or one of reference, .*onnx"):
        choose_engine(model, wanted="openvino")


def with_a_wrong_bias(weights: Mapping[str, Floats], *, hidden: str) -> bytes:
    wrong = {**weights, "output.bias": weights["output.bias"] + np.float32(0.001)}
    return RIGHT_GRAPH(wrong, hidden=hidden)


RIGHT_GRAPH = engines.onnx_graph


def test_an_engine_that_answers_differently_is_not_offered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "onnx_graph", with_a_wrong_bias)
    choice = choose_engine(model)
    assert "onnx" not in [one.name for one in choice.offers]
    assert "onnx not offered: logits differ by up to 0.001, expected at most 0.0001" in str(choice)
    with pytest.raises(BadInput, match="engine onnx: logits differ"):
        choose_engine(model, wanted="onnx")


def test_an_engine_that_does_not_run_is_not_offered(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "onnx_graph", lambda *_, **__: b"no graph")
    (declined,) = (one for one in choose_engine(model).declined if one.name == "onnx")
    assert declined.reason.startswith("does not run (")
    assert "\n" not in declined.reason


def test_an_answer_that_is_no_number_is_a_difference() -> None:
    truth = np.zeros((2, 6), np.float32), np.zeros((2, 50), np.float32)
    assert "logits differ" in difference(truth, (truth[0] * np.nan, truth[1]), tolerance=1.0)


def test_logits_within_the_tolerance_must_name_the_same_classes() -> None:
    truth = np.array([[0.0, 0.01]] * 100, np.float32), np.zeros((100, 50), np.float32)
    turned = truth[0].copy()
    turned[0] = turned[0, ::-1]
    assert difference(truth, (turned, truth[1]), tolerance=0.05).startswith("99.0% of the predictions")


def test_weights_that_are_not_the_cards_are_one_line(model: Path) -> None:
    (model / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(BrokenRecord, match="its card says") as told:
        choose_engine(model)
    assert "\n" not in str(told.value)


def test_the_probe_is_always_the_same_and_mostly_black_like_thumbnails() -> None:
    images = probe_images(64)
    assert (images == probe_images(64)).all()
    assert images.shape == (64, 80, 80, 3)
    assert np.median(images) < 20
    assert images.max() > 200


def test_a_process_that_runs_onnx_never_imports_torch(model: Path) -> None:
    program = "import sys, pathlib, ctcml.scoring as s; s.load_engine('onnx', pathlib.Path(sys.argv[1])); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program, str(model)], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
