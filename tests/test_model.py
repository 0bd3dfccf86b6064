import json
from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv2d, cross_entropy, interpolate

from ctcml.errors import BrokenRecord
from ctcml.model import (
    AECNN,
    DoublingConv2d,
    Hidden,
    StandardCNN,
    grow_head,
    initialise,
    load_model,
    save_weights,
    set_output_bias,
)

KNOWN = ["ctc", "tdev", "wbc", "bare_nucleus", "other"]


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fresh_model(n_classes: int = 5, seed: int = 0) -> AECNN:
    model = AECNN(n_classes)
    initialise(model, dice(seed))
    return model


def thumbnails(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, 80, 80, generator=dice(1))


def store_model(model: AECNN, folder: Path, **changed: object) -> None:
    digest = save_weights(model, folder / "weights.safetensors")
    classes = KNOWN[: model.n_classes]
    card = {
        "classes": classes,
        "recipe": "asinh",
        "architecture": "AE-CNN",
        "hidden": model.hidden_activation,
        "weights_sha256": digest,
    } | changed
    (folder / "model.json").write_text(json.dumps(card))


def test_the_six_class_networks_have_the_parameters_that_the_papers_text_implies() -> None:
    # Counted by hand from Methods, "Deep learning network architectures", with convolutions that keep the size.
    encoder = (3 * 9 + 1) * 16 + (16 * 9 + 1) * 32 + (32 * 9 + 1) * 64 + (6400 + 1) * 208 + (208 + 1) * 50
    classifier = (50 + 1) * 6 + (6 + 1) * 6
    decoder = (50 + 1) * 6400 + 3 * ((64 * 9 + 1) * 32 + (32 * 9 + 1) * 16 + (16 * 9 + 1) * 1)
    assert sum(weights.numel() for weights in StandardCNN(6).parameters()) == encoder + classifier == 1_365_790
    assert sum(weights.numel() for weights in AECNN(6).parameters()) == encoder + classifier + decoder == 1_761_889


def test_the_network_gives_logits_fifty_latents_and_a_picture_between_black_and_white() -> None:
    logits, latent, rebuilt = (output.detach() for output in fresh_model()(thumbnails()))
    assert (logits.shape, latent.shape, rebuilt.shape) == ((6, 5), (6, 50), (6, 3, 80, 80))
    assert 0 <= float(rebuilt.min()) <= float(rebuilt.max()) <= 1


def test_encode_says_what_the_whole_network_says() -> None:
    model = fresh_model()
    logits, latent = model.encode(thumbnails())
    assert torch.equal(logits, model(thumbnails())[0])
    assert torch.equal(latent, model(thumbnails())[1])


def test_the_folded_convolution_equals_upsampling_and_then_convolving() -> None:
    layer = DoublingConv2d(4, 5)
    x = torch.randn(2, 4, 7, 9, generator=dice())
    assert layer.bias is not None
    expected = conv2d(interpolate(x, scale_factor=2, mode="nearest"), layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x), expected)


def test_weights_start_glorot_uniform_and_biases_at_zero() -> None:
    model = fresh_model()
    limit = (6 / (6400 + 208)) ** 0.5  # Glorot and Bengio 2010, equation 16
    assert float(model.dense.weight.detach().abs().max()) == pytest.approx(limit, rel=0.01)
    assert all(not weights.any() for name, weights in model.named_parameters() if name.endswith("bias"))


def test_the_same_seed_starts_the_same_model_whatever_the_global_generator_did() -> None:
    first = fresh_model(seed=4).state_dict()
    torch.rand(7)
    assert all(torch.equal(weights, first[name]) for name, weights in fresh_model(seed=4).state_dict().items())


def test_with_the_output_bias_a_fresh_decoder_paints_the_mean_pixel_of_each_plane() -> None:
    model, mean = fresh_model(), torch.tensor([0.002, 0.02, 0.2])
    set_output_bias(model, mean)
    torch.testing.assert_close(model.decode(torch.zeros(1, 50)).mean((0, 2, 3)), mean)


def test_a_plane_that_is_always_black_still_gets_a_finite_output_bias() -> None:
    model = fresh_model()
    set_output_bias(model, torch.tensor([0.0, 0.5, 1.0]))
    assert bool(model.decode(torch.zeros(1, 50)).isfinite().all())


@pytest.mark.parametrize("n_new", [1, 2])
def test_a_grown_head_repeats_every_old_logit_and_every_old_answer(n_new: int) -> None:
    model = fresh_model()
    torch.nn.init.normal_(model.output.bias, generator=dice(2))
    grown = grow_head(model, KNOWN, [*KNOWN, *("cd45ev", "cluster")[:n_new]])
    old, new = model.encode(thumbnails(64))[0], grown.encode(thumbnails(64))[0]
    assert new.shape == (64, 5 + n_new)
    torch.testing.assert_close(new[:, :5], old)
    assert torch.equal(new.argmax(1), old.argmax(1))


def test_a_grown_head_answers_in_the_order_of_the_laboratorys_classes() -> None:
    model, order = fresh_model(), ["wbc", "cd45ev", "ctc", "tdev", "other", "bare_nucleus"]
    old, new = model.encode(thumbnails(64))[0], grow_head(model, KNOWN, order).encode(thumbnails(64))[0]
    torch.testing.assert_close(new[:, [order.index(name) for name in KNOWN]], old)
    assert [order[k] for k in new.argmax(1)] == [KNOWN[k] for k in old.argmax(1)]


def test_growing_leaves_the_old_model_and_its_reconstruction_alone() -> None:
    model = fresh_model()
    before = {name: weights.clone() for name, weights in model.state_dict().items()}
    grown = grow_head(model, KNOWN, [*KNOWN, "cd45ev"])
    assert isinstance(grown, AECNN)
    assert torch.equal(grown(thumbnails())[2], model(thumbnails())[2])
    assert all(torch.equal(weights, before[name]) for name, weights in model.state_dict().items())


@pytest.mark.parametrize("hidden", ["linear", "relu"])
def test_a_new_neuron_learns_from_the_first_step_on(hidden: Hidden) -> None:
    model = AECNN(5, hidden=hidden)
    initialise(model, dice())
    grown = grow_head(model, KNOWN, [*KNOWN, "cd45ev"])
    cross_entropy(grown.encode(thumbnails())[0], torch.full((6,), 5)).backward()  # type: ignore[no-untyped-call]
    assert grown.hidden.weight.grad is not None
    assert bool(grown.hidden.weight.grad[5].any())


def test_a_model_comes_back_from_its_folder_with_the_same_bits(tmp_path: Path) -> None:
    model = fresh_model()
    store_model(model, tmp_path)
    back, card = load_model(tmp_path)
    assert all(torch.equal(weights, model.state_dict()[name]) for name, weights in back.state_dict().items())
    assert card["classes"] == KNOWN


def test_a_changed_byte_in_the_weights_is_noticed(tmp_path: Path) -> None:
    store_model(fresh_model(), tmp_path)
    content = bytearray((tmp_path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(BrokenRecord, match="fetch it again"):
        load_model(tmp_path)


@pytest.mark.parametrize("missing", ["weights.safetensors", "model.json"])
def test_a_folder_that_lacks_a_file_is_no_model(tmp_path: Path, missing: str) -> None:
    store_model(fresh_model(), tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(BrokenRecord, match="not readable"):
        load_model(tmp_path)


@pytest.mark.parametrize("card", ["{", "[]", '{"classes": ["ctc"]}'])
def test_a_card_that_says_too_little_is_refused_in_one_line(tmp_path: Path, card: str) -> None:
    store_model(fresh_model(), tmp_path)
    (tmp_path / "model.json").write_text(card)
    with pytest.raises(BrokenRecord) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_card_of_other_classes_than_the_weights_is_refused(tmp_path: Path) -> None:
    store_model(fresh_model(), tmp_path, classes=["ctc", "tdev"])
    with pytest.raises(BrokenRecord, match="do not fit"):
        load_model(tmp_path)
