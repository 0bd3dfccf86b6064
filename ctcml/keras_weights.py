"""The weights that the paper's authors published: Keras 2.1.5 `.h5` files in, our networks out.

Such a file names its layers in the attribute `layer_names` of its root, or of the group `model_weights` when it holds a
whole model; each layer's group names its arrays, a kernel and a bias by turns, in `weight_names`. Only these are read:
a model's description in the file is never evaluated. Layers are known by the shape of their kernel, those of equal
shape by their order, which Keras keeps the same whether it lists decoders one after another or level by level.

Keras has its channels last: an image is (rows, columns, channels), and so it is flattened.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctcml.arrays import PUBLISHED_CLASSES, PUBLISHED_ORDER
from ctcml.errors import BadInput
from ctcml.images import SIZE
from ctcml.model import AECNN, ARCHITECTURE, INPUT, LATENT, StandardCNN, make_model, save_weights
from ctcml.records import PLANES
from ctcml.tables import atomic_path
from ctcml.thumbnails import UnfitFileError, in_our_order, one_line, read_bytes

Shape = tuple[int, ...]
Floats = NDArray[np.float32]
LARGEST_FILE = 256 * 2**20  # bytes; a published file has 5 or 7 MB
LARGEST_NAMES = 64 * 2**10  # bytes; an attribute of HDF5 and Keras holds no more
FOREIGN = (OSError, KeyError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError)  # raised by h5py
CHANNELS, SIDE = 64, SIZE // 8  # of the map between convolutions and dense layers
MAP = CHANNELS * SIDE * SIDE
UNDENSE = (LATENT, MAP)  # first layer of a decoder
ENCODER = ((3, 3, 3, 16), (3, 3, 16, 32), (3, 3, 32, CHANNELS))
DECODER = ((3, 3, CHANNELS, 32), (3, 3, 32, 16), (3, 3, 16, 1))  # of each plane
# "No CTC" is not our `other`, which means an artefact: theirs are white blood cells too.
THEIR_CLASSES = {len(ids): tuple(one or "no_ctc" for one in ids) for ids in PUBLISHED_CLASSES.values()}


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """One layer of an open file, under the name of its kernel; nothing of its arrays has been read yet."""

    name: str
    kernel: Any  # h5py.Dataset
    bias: Any

    def __str__(self) -> str:
        return f"{self.name!r} {self.kernel.shape}"


def read_keras(path: Path) -> tuple[StandardCNN, tuple[str, ...]]:
    """Read a file of the authors: the network, an `AECNN` if it has a decoder, and its classes in order.

    Its planes are put into our order, taken as `PUBLISHED_ORDER` says. Raises `BadInput` for any other file.
    """
    model, classes, _ = _read(path)
    return model, classes


def write_keras_model(path: Path, folder: Path, *, background_percentile: float) -> str:
    """Write a file of the authors as a model's folder, which opens like one that we trained; return its weights' SHA-256.

    The card comes last: a folder with a card is whole. Raises `BadInput` as `read_keras` does.
    """
    model, classes, source_sha256 = _read(path)
    digest = save_weights(model, folder / "weights.safetensors")
    card = {
        "architecture": ARCHITECTURE["autoencoder" if isinstance(model, AECNN) else "standard"],
        "input": INPUT,
        "classes": list(classes),
        "hidden": model.hidden_activation,
        "recipe": "paper",
        # `paper` has no use for the scale, but whoever makes images asks for all numbers of a recipe.
        "image": {"recipe": "paper", "background_percentile": background_percentile, "asinh_scale": 60.0},
        "source": path.name,
        "source_sha256": source_sha256,
        "source_planes": list(PUBLISHED_ORDER),
        "weights_sha256": digest,
    }
    with atomic_path(folder / "model.json") as unfinished:
        unfinished.write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return digest


def _read(path: Path) -> tuple[StandardCNN, tuple[str, ...], str]:
    """The network of a file, its classes, and the SHA-256 of the very bytes that were read."""
    try:
        content = read_bytes(path, path.parent, largest=LARGEST_FILE)
        with h5py.File(io.BytesIO(content), "r") as file:
            layers = _layers(file)
            classes = _classes(layers)
            has_decoder = any(layer.kernel.shape == UNDENSE for layer in layers)
            tensors: dict[str, Tensor] = {}
            for name, layer in _matched(layers, _wanted(len(classes), has_decoder=has_decoder)).items():
                weight, bias = _ours(name, _values(layer.kernel), _values(layer.bias))
                tensors[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(weight))
                tensors[f"{name}.bias"] = torch.from_numpy(np.ascontiguousarray(bias))
    except UnfitFileError as unfit:
        raise BadInput(f"weights {path}: {unfit}") from None
    except FOREIGN as error:
        raise BadInput(f"weights {path}: damaged or no Keras weights file ({one_line(error)}); get it again") from None
    # "All layers whose activation is not specified explicitly" use ReLU (paper), so this one too.
    model = make_model("autoencoder" if has_decoder else "standard", len(classes), hidden="relu")
    model.load_state_dict(tensors)
    return model, classes, hashlib.sha256(content).hexdigest()


def _layers(file: Any) -> list[_Layer]:
    """All layers that have weights, in the order of the file; a model inside the model counts as its layers."""
    root = file.get("model_weights", file)
    if "layer_names" not in root.attrs:
        raise UnfitFileError("has no layer_names, expected the weights of a Keras 2 model; get the authors' file")
    layers = []
    for layer in _names(root, "layer_names"):
        group = root[layer]
        names = _names(group, "weight_names")
        if len(names) % 2:
            raise UnfitFileError(
                f"layer {layer!r} has {len(names)} arrays, expected kernel and bias; get the paper's network"
            )
        arrays = [_array(group[name], name) for name in names]
        layers += [
            _Layer(name=name, kernel=kernel, bias=bias)
            for name, kernel, bias in zip(names[::2], arrays[::2], arrays[1::2], strict=True)
        ]
    return layers


def _names(group: Any, attribute: str) -> list[str]:
    """The names in an attribute: bytes of one length, as Keras writes them; HDF5 can loop for ever on damaged others."""
    about = group.attrs.get_id(attribute)
    if about.shape == (0,):
        return []
    if about.dtype.kind != "S" or len(about.shape) != 1 or about.get_storage_size() > LARGEST_NAMES:
        raise UnfitFileError(
            f"{attribute} of {group.name!r} is {about.dtype} {about.shape}, expected names of fixed length; get the authors' file"
        )
    return [one.decode() for one in group.attrs[attribute]]


def _listed(things: Sequence[str], none: str) -> str:
    """The first few, for a line that a person reads."""
    return ", ".join(things[:4]) + (f" and {len(things) - 4} more" if len(things) > 4 else "") or none


def _array(item: Any, name: str) -> Any:
    """The array of that name, if it is plain numbers inside this very file: HDF5 can also point at others."""
    if isinstance(item, h5py.Dataset):
        elsewhere = item.is_virtual or item.external
        if item.dtype == np.float32 and not elsewhere:
            return item
        found = "kept in another file" if elsewhere else str(item.dtype)
    else:
        found = "a group"
    raise UnfitFileError(f"{name!r} is {found}, expected float32 in this file; get the authors' file")


def _classes(layers: list[_Layer]) -> tuple[str, ...]:
    """The classes by the width of the layer after the latents."""
    heads = [one for one in layers if one.kernel.shape[:-1] == (LATENT,) and one.kernel.shape != UNDENSE]
    if not heads:
        found = _listed([str(one) for one in layers], "no other")
        raise UnfitFileError(f"has no layer ({LATENT}, classes) after the latents but {found}; get the paper's network")
    n_classes = heads[0].kernel.shape[1]
    if n_classes not in THEIR_CLASSES:
        expected = ", ".join(map(str, THEIR_CLASSES))
        raise UnfitFileError(
            f"layer {heads[0].name!r} has {n_classes} classes, expected {expected}: the names of others are not known"
        )
    return THEIR_CLASSES[n_classes]


def _wanted(n_classes: int, *, has_decoder: bool) -> dict[str, Shape]:
    """Our name of each layer and the shape of its kernel in Keras, equal shapes in the order of the authors' planes."""
    wanted: dict[str, Shape] = {f"convolutions.{place}": shape for place, shape in enumerate(ENCODER)}
    wanted |= {"dense": (MAP, 208), "latent": (208, LATENT)}
    wanted |= {"hidden": (LATENT, n_classes), "output": (n_classes, n_classes)}
    if has_decoder:
        wanted["undense"] = UNDENSE
        for plane in PUBLISHED_ORDER:
            branch = f"decoders.{PLANES.index(plane)}"
            wanted |= {f"{branch}.{2 * place}": shape for place, shape in enumerate(DECODER)}  # ReLUs between them
    return wanted


def _matched(layers: list[_Layer], wanted: dict[str, Shape]) -> dict[str, _Layer]:
    """Give each wanted layer the first of its shape that is left; `UnfitFileError` unless all find one and none is left."""
    left, matched = list(layers), {}
    for name, shape in wanted.items():
        place = next((place for place, one in enumerate(left) if one.kernel.shape == shape), None)
        if place is not None:
            matched[name] = left.pop(place)
    missing = _listed([f"{name} {shape}" for name, shape in wanted.items() if name not in matched], "no further layer")
    found = _listed([str(one) for one in left], "none")
    if len(matched) < len(wanted) or left:
        raise UnfitFileError(f"expected {missing}, found {found}; get the weights of the paper's network")
    for layer in matched.values():
        if layer.bias.shape != layer.kernel.shape[-1:]:
            expected = layer.kernel.shape[-1:]
            raise UnfitFileError(
                f"layer {layer.name!r} has a bias of {layer.bias.shape}, expected {expected}; get it again"
            )
    return matched


def _values(array: Any) -> Floats:
    values: Floats = array[()]
    if not np.isfinite(values).all():
        raise UnfitFileError(f"{array.name!r} holds values that are no finite numbers; get it again")
    return values


def _ours(name: str, kernel: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """Kernel and bias of Keras as weight and bias of torch: outputs first, and maps flattened channel by channel."""
    if name == "convolutions.0":
        kernel = kernel[:, :, list(in_our_order(PUBLISHED_ORDER))]
    if kernel.ndim == 4:  # rows, columns, inputs, outputs
        return kernel.transpose(3, 2, 0, 1), bias
    if name == "dense":
        return kernel.reshape(SIDE, SIDE, CHANNELS, -1).transpose(3, 2, 0, 1).reshape(-1, MAP), bias
    if name == "undense":
        weight = kernel.reshape(LATENT, SIDE, SIDE, CHANNELS).transpose(3, 1, 2, 0).reshape(MAP, LATENT)
        return weight, bias.reshape(SIDE, SIDE, CHANNELS).transpose(2, 0, 1).ravel()
    return kernel.T, bias
