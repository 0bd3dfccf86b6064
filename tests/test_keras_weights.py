"""The authors' weight files: checked against a network written out by hand in numpy, channels last and in their planes.

No published file is at hand. These have the layout of Keras 2.1.5 (`keras/engine/topology.py`,
`save_weights_to_hdf5_group`) and the layers of the paper (Methods, Fig. 8), with random weights.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray

from ctcml import train
from ctcml.cli import cli
from ctcml.embed import load_scorer, score
from ctcml.errors import BadInput
from ctcml.keras_weights import LARGEST_FILE, read_keras, write_keras_model
from ctcml.model import AECNN, StandardCNN, load_model
from ctcml.params import load_params

SHIPPED = Path(__file__).parents[1] / "params.yaml"
Floats = NDArray[np.float32]
Layers = dict[str, tuple[Floats, ...]]  # Keras' name of a layer -> its arrays, in the order of the file
THEIRS_IN_OURS = [0, 2, 1]  # where CD45, CK, DAPI stand among CD45, DAPI, CK
BRANCH = ((64, 32), (32, 16), (16, 1))


def keras_layers(n: int, *, decoder: bool = False, level_by_level: bool = False) -> Layers:
    """Glorot uniform weights under Keras' names; `level_by_level` is the order of a model with parallel branches."""
    dice = np.random.default_rng(n)

    def layer(*shape: int) -> tuple[Floats, Floats]:
        area = int(np.prod(shape[:-2]))
        limit = np.sqrt(6 / (area * (shape[-2] + shape[-1])))
        kernel = dice.uniform(-limit, limit, shape).astype(np.float32)
        return kernel, dice.uniform(-0.1, 0.1, shape[-1]).astype(np.float32)

    layers: Layers = {"input_1": ()}
    for number, (inputs, outputs) in enumerate(((3, 16), (16, 32), (32, 64)), start=1):
        layers[f"conv2d_{number}"] = layer(3, 3, inputs, outputs)
        layers[f"max_pooling2d_{number}"] = ()
    layers |= {"flatten_1": (), "dense_1": layer(6400, 208), "dense_2": layer(208, 50)}
    if not decoder:
        return layers | {"dense_3": layer(50, n), "dense_4": layer(n, n)}
    layers |= {"dense_5": layer(50, 6400), "reshape_1": ()}
    levels = range(3)
    order = [(b, k) for k in levels for b in range(3)] if level_by_level else [(b, k) for b in range(3) for k in levels]
    for branch, level in order:
        layers[f"up_{branch}_{level}"] = ()
        layers[f"conv_{branch}_{level}"] = layer(3, 3, *BRANCH[level])
        if level_by_level and (branch, level) == (
            2,
            1,
        ):  # by depth from the outputs, the classifier stands near the end
            layers["dense_3"] = layer(50, n)
    layers.setdefault("dense_3", layer(50, n))
    return layers | {"concatenate_1": (), "dense_4": layer(n, n)}


def written(path: Path, layers: Layers, *, group: str = "/") -> Path:
    with h5py.File(path, "w") as file:
        root = file.require_group(group)
        root.attrs["layer_names"] = np.array([name.encode() for name in layers])  # of fixed length
        root.attrs["keras_version"], root.attrs["backend"] = b"2.1.5", b"tensorflow"
        for name, arrays in layers.items():
            place = root.create_group(name)
            names = [f"{name}/{array}:0" for array in ("kernel", "bias", "third")[: len(arrays)]]
            place.attrs["weight_names"] = np.array([one.encode() for one in names])
            for one, values in zip(names, arrays, strict=True):
                place.create_dataset(one, data=values)
    return path


# The network by hand: x is (N, rows, columns, channels).


def conv(x: Floats, layer: tuple[Floats, ...]) -> Floats:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows, columns = x.shape[1:3]
    taps = [padded[:, i : i + rows, j : j + columns] @ layer[0][i, j] for i in range(3) for j in range(3)]
    return np.sum(taps, axis=0) + layer[1]


def relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


def pool(x: Floats) -> Floats:
    n, rows, columns, channels = x.shape
    return x.reshape(n, rows // 2, 2, columns // 2, 2, channels).max((2, 4))


def dense(x: Floats, layer: tuple[Floats, ...]) -> Floats:
    return x @ layer[0] + layer[1]


def latents(x: Floats, layers: Layers) -> Floats:
    for number in (1, 2, 3):
        x = pool(relu(conv(x, layers[f"conv2d_{number}"])))
    return dense(relu(dense(x.reshape(len(x), -1), layers["dense_1"])), layers["dense_2"])


def probabilities(latent: Floats, layers: Layers) -> Floats:
    powers = np.exp(dense(relu(dense(latent, layers["dense_3"])), layers["dense_4"]))
    return powers / powers.sum(1, keepdims=True)


def reconstruction(latent: Floats, layers: Layers) -> Floats:
    start = relu(dense(latent, layers["dense_5"])).reshape(-1, 10, 10, 64)
    planes = []
    for branch in range(3):
        x = start
        for level in range(3):
            x = conv(x.repeat(2, 1).repeat(2, 2), layers[f"conv_{branch}_{level}"])
            x = relu(x) if level < 2 else 1 / (1 + np.exp(-x))
        planes.append(x)
    return np.concatenate(planes, 3)


def thumbnails(n: int = 2) -> NDArray[np.uint8]:
    """Images with the authors' planes last: CD45, CK, DAPI."""
    return np.random.default_rng(0).integers(0, 256, (n, 80, 80, 3), dtype=np.uint8)


def seen_by(model: StandardCNN) -> tuple[Floats, Floats, Floats | None]:
    """Probabilities, latents and the reconstruction in the authors' planes."""
    ours = np.ascontiguousarray(thumbnails()[..., THEIRS_IN_OURS].transpose(0, 3, 1, 2))
    with torch.inference_mode():
        logits, latent = model.encode(torch.from_numpy(ours).float() / 255)
        rebuilt = model.decode(latent).permute(0, 2, 3, 1).numpy() if isinstance(model, AECNN) else None
    return logits.softmax(1).numpy(), latent.numpy(), None if rebuilt is None else rebuilt[..., THEIRS_IN_OURS]


def close(found: Floats | None, wanted: Floats) -> None:
    assert found is not None
    assert wanted.std() > 1e-3  # a constant would hide a wrong order
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("group", ["/", "model_weights"], ids=["weights file", "whole model"])
@pytest.mark.parametrize("n", [2, 5, 6])
def test_a_standard_cnn_answers_as_in_keras(tmp_path: Path, n: int, group: str) -> None:
    layers = keras_layers(n)
    model, classes = read_keras(written(tmp_path / "cnn.h5", layers, group=group))
    x = thumbnails().astype(np.float32) / 255
    assert (len(classes), model.hidden_activation, isinstance(model, AECNN)) == (n, "relu", False)
    answer, latent, _ = seen_by(model)
    close(latent, latents(x, layers))
    close(answer, probabilities(latents(x, layers), layers))


@pytest.mark.parametrize("group", ["/", "model_weights"], ids=["weights file", "whole model"])
@pytest.mark.parametrize("level_by_level", [False, True], ids=["branch after branch", "level by level"])
def test_an_autoencoder_answers_and_rebuilds_as_in_keras(tmp_path: Path, level_by_level: bool, group: str) -> None:
    layers = keras_layers(6, decoder=True, level_by_level=level_by_level)
    model, _ = read_keras(written(tmp_path / "ae.h5", layers, group=group))
    x = thumbnails().astype(np.float32) / 255
    answer, latent, rebuilt = seen_by(model)
    close(latent, latents(x, layers))
    close(answer, probabilities(latents(x, layers), layers))
    close(rebuilt, reconstruction(latents(x, layers), layers))


def test_a_model_inside_the_model_counts_as_its_layers(tmp_path: Path) -> None:
    layers = keras_layers(5)
    with h5py.File(tmp_path / "nested.h5", "w") as file:
        file.attrs["layer_names"] = np.array([b"model_1"])
        names = [f"{name}/{array}:0" for name, arrays in layers.items() if arrays for array in ("kernel", "bias")]
        group = file.create_group("model_1")
        group.attrs["weight_names"] = np.array([name.encode() for name in names])
        for name, values in zip(names, (one for arrays in layers.values() for one in arrays), strict=True):
            group.create_dataset(name, data=values)
    plain, _ = read_keras(written(tmp_path / "plain.h5", layers))
    nested, _ = read_keras(tmp_path / "nested.h5")
    for found, wanted in zip(seen_by(nested)[:2], seen_by(plain)[:2], strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("n", "wanted"),
    [
        (2, ("no_ctc", "ctc")),
        (5, ("wbc", "ctc", "other", "bare_nucleus", "tdev")),
        (6, ("wbc", "cd45ev", "ctc", "other", "bare_nucleus", "tdev")),
    ],
)
def test_classes_come_in_the_order_of_the_authors_labels(tmp_path: Path, n: int, wanted: tuple[str, ...]) -> None:
    assert read_keras(written(tmp_path / "cnn.h5", keras_layers(n)))[1] == wanted


@pytest.mark.parametrize("decoder", [False, True], ids=["standard CNN", "AE-CNN"])
def test_the_folder_opens_like_a_model_that_we_trained(tmp_path: Path, decoder: bool) -> None:
    path = written(tmp_path / "theirs.h5", keras_layers(6, decoder=decoder))
    digest = write_keras_model(path, tmp_path / "model", background_percentile=10.0)
    model, card = load_model(tmp_path / "model")
    assert isinstance(model, AECNN) == decoder
    for found, wanted in zip(seen_by(model)[:2], seen_by(read_keras(path)[0])[:2], strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert card["input"] == "80x80x3 uint8 CD45,DAPI,CK"
    assert card["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert card["image"] == {"recipe": "paper", "background_percentile": 10.0, "asinh_scale": 60.0}
    scorer = load_scorer(tmp_path / "model")
    assert (scorer.recipe, scorer.weights_sha256) == ("paper", digest)
    assert (
        digest
        == card["weights_sha256"]
        == hashlib.sha256((tmp_path / "model/weights.safetensors").read_bytes()).hexdigest()
    )


def test_a_scorer_of_the_imported_autoencoder_gives_the_probabilities_of_keras(tmp_path: Path) -> None:
    layers = keras_layers(6, decoder=True)
    write_keras_model(written(tmp_path / "ae.h5", layers), tmp_path / "model", background_percentile=10.0)
    scores = score(load_scorer(tmp_path / "model"), thumbnails()[..., THEIRS_IN_OURS])
    close(scores.probabilities, probabilities(latents(thumbnails().astype(np.float32) / 255, layers), layers))


@pytest.mark.usefixtures("one_thread")
def test_a_laboratory_goes_on_from_published_weights_in_its_own_order_of_classes(tmp_path: Path) -> None:
    file = written(tmp_path / "theirs.h5", keras_layers(5, decoder=True))
    done = CliRunner().invoke(cli, ["import-keras", str(file), str(tmp_path / "start"), "--workspace", str(tmp_path)])
    assert done.exit_code == 0
    assert "AE-CNN of wbc, ctc, other" in done.output
    refused = CliRunner().invoke(cli, ["import-keras", str(file), str(tmp_path / "start")])
    assert "expected a folder that is not there yet" in str(refused.exception)

    ours = ["ctc", "tdev", "wbc", "cd45ev", "bare_nucleus", "other"]
    numbers = load_params(SHIPPED).train.numbers("paper") | {"epochs": (1,), "betas": (0.0,), "keep_phase": 1}
    trained = train.train(
        thumbnails(6), np.arange(6), classes=ours, jitter=None, seed=0, recipe="paper", start=tmp_path / "start",
        checkpoints=tmp_path / "checkpoints", **numbers,
    )  # fmt: skip
    published = load_model(tmp_path / "start")[0]
    assert trained.card["start"] == load_model(tmp_path / "start")[1]["weights_sha256"]
    # At beta = 0 the head learns nothing, so the row of "wbc" is still the published one, at its new place.
    assert torch.equal(trained.model.output.weight[2, :5], published.output.weight[0])


def test_a_refused_file_leaves_no_folder_behind(tmp_path: Path) -> None:
    layers = keras_layers(2)
    layers.pop("dense_4")
    with pytest.raises(BadInput):
        write_keras_model(written(tmp_path / "cnn.h5", layers), tmp_path / "model", background_percentile=10.0)
    assert not (tmp_path / "model").exists()


# What is refused.


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_keras(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of_layers(path: Path, change: Callable[[Layers], Any], *, decoder: bool = False) -> str:
    layers = keras_layers(6, decoder=decoder)
    change(layers)
    return refusal(written(path / "changed.h5", layers))


def zeros(*shapes: tuple[int, ...]) -> tuple[Floats, ...]:
    return tuple(np.zeros(shape, np.float32) for shape in shapes)


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.pop("conv_1_1"), decoder=True)
    assert "expected decoders.1.2 (3, 3, 32, 16), found none" in said


def test_a_layer_too_many_is_named(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(conv2d_4=zeros((3, 3, 64, 128), (128,))))
    assert "expected no further layer, found 'conv2d_4/kernel:0' (3, 3, 64, 128)" in said


def test_a_layer_of_another_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(dense_1=zeros((6400, 200), (200,))))
    assert "expected dense (6400, 208), found 'dense_1/kernel:0' (6400, 200)" in said


def test_a_decoder_without_its_first_layer_is_refused(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.pop("dense_5"), decoder=True)
    assert "found 'conv_0_0/kernel:0' (3, 3, 64, 32)" in said
    assert "and 5 more" in said


def test_other_numbers_of_classes_are_refused(tmp_path: Path) -> None:
    said = refusal(written(tmp_path / "cnn.h5", keras_layers(3)))
    assert "layer 'dense_3/kernel:0' has 3 classes, expected 2, 5, 6" in said


def test_a_network_without_the_fifty_latents_is_refused(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(dense_3=zeros((40, 6), (6,))))
    assert "no layer (50, classes)" in said


def test_a_bias_that_does_not_fit_its_kernel_is_named(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(dense_2=zeros((208, 50), (49,))))
    assert "'dense_2/kernel:0' has a bias of (49,), expected (50,)" in said


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("array", [0, 1], ids=["kernel", "bias"])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, array: int, value: float) -> None:
    def spoil(layers: Layers) -> None:
        layers["conv2d_2"][array].flat[3] = value

    assert f"/conv2d_2/conv2d_2/{('kernel', 'bias')[array]}:0' holds values that are no finite numbers" in of_layers(
        tmp_path, spoil
    )


def test_a_layer_that_is_no_kernel_and_bias_is_refused(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(prelu_1=zeros((80, 80, 16))))
    assert "'prelu_1' has 1 arrays, expected kernel and bias" in said


def test_other_numbers_than_float32_are_refused(tmp_path: Path) -> None:
    said = of_layers(tmp_path, lambda layers: layers.update(dense_4=(np.zeros((6, 6)), np.zeros(6))))
    assert "'dense_4/kernel:0' is float64" in said


def test_values_that_stand_in_another_file_are_not_fetched(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(4 * 36))
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    with h5py.File(path, "r+") as file:
        del file["dense_4/dense_4/kernel:0"]
        file["dense_4"].create_dataset("dense_4/kernel:0", (6, 6), np.float32, external=[(str(secret), 0, 144)])
    assert "'dense_4/kernel:0' is kept in another file" in refusal(path)


def test_a_group_in_the_place_of_an_array_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    with h5py.File(path, "r+") as file:
        del file["dense_4/dense_4/kernel:0"]
        file["dense_4"].create_group("dense_4/kernel:0")
    assert "'dense_4/kernel:0' is a group" in refusal(path)


def test_a_declared_size_is_judged_before_anything_is_unpacked(tmp_path: Path) -> None:
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    with h5py.File(path, "r+") as file:
        del file["dense_1/dense_1/kernel:0"]
        file["dense_1"].create_dataset("dense_1/kernel:0", (2**30, 2**20), np.float32, chunks=(64, 64))
    assert "(1073741824, 1048576)" in refusal(path)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["dense_2/kernel:0", "dense_2/bias:0"], "object (2,)"),  # on HDF5's heap, whose damage can loop for ever
        (np.bytes_("dense_2/kernel:0"), "|S16 ()"),
    ],
)
def test_names_that_keras_does_not_write_so_are_refused(tmp_path: Path, names: Any, found: str) -> None:
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    with h5py.File(path, "r+") as file:
        file["dense_2"].attrs["weight_names"] = names
    assert f"weight_names of '/dense_2' is {found}, expected names of fixed length" in refusal(path)


def test_a_hdf5_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["images"] = np.zeros((2, 3))
    assert "no layer_names" in refusal(tmp_path / "other.h5")


def test_a_layer_that_is_named_and_not_there_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    with h5py.File(path, "r+") as file:
        del file["dense_2"]
    assert "dense_2" in refusal(path)


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.h5"
    path.write_text("<!DOCTYPE html>")
    assert "damaged or no Keras weights file" in refusal(path)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path / "cnn.h5", keras_layers(6))
    os.truncate(path, int(path.stat().st_size * share))
    assert "damaged or no Keras weights file" in refusal(path)


def test_a_pointer_of_git_lfs_is_refused(tmp_path: Path) -> None:
    """What a clone without Git LFS holds in the place of the published files."""
    path = tmp_path / "weights.h5"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ee26\nsize 7116688\n")
    assert "get it again" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.h5")
    (tmp_path / "folder.h5").mkdir()
    assert "Is a directory" in refusal(tmp_path / "folder.h5")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "large.h5"
    path.touch()
    os.truncate(path, LARGEST_FILE + 1)
    assert f"has {LARGEST_FILE + 1} bytes" in refusal(path)


def test_a_card_names_the_source_and_its_planes(tmp_path: Path) -> None:
    write_keras_model(written(tmp_path / "cnn.h5", keras_layers(2)), tmp_path / "model", background_percentile=5.0)
    card = json.loads((tmp_path / "model/model.json").read_text())
    assert (card["source"], card["source_planes"]) == ("cnn.h5", ["CD45", "CK", "DAPI"])
    assert card["image"]["background_percentile"] == 5.0
