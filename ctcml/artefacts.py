"""What a registered model consists of beside its weights, and the proof that its files are those that were registered.

To what training left come: the input contract, the network as ONNX for programs that know nothing of ours, the model card
for people, and the SHA-256 of every file, which is compared whenever the model is loaded.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file
from scipy.special import softmax

from ctcml.engines import BATCH, REFERENCE, Output, load_engine, onnx_graph, probe_images
from ctcml.errors import BrokenRecord
from ctcml.images import SIZE, recipe_tag
from ctcml.model_card import model_card
from ctcml.records import PLANES
from ctcml.shards import file_hash
from ctcml.tables import write_json

SEALS = "sha256.json"
ONNX = "model.onnx"
INPUT = "input.json"
CARD = "model_card.md"
TOLERANCE = 1e-4  # largest difference of a probability or latent between the network and its ONNX export


def complete(folder: Path, *, scorecard: Mapping[str, Any] | None, data_version: str, code_commit: str | None) -> str:
    """Add to a model's `folder` what a registered version carries; returns the SHA-256 of all its files together.

    Raises `BrokenRecord` when the ONNX export does not say what the network says.
    """
    card = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    write_json(folder / INPUT, input_contract(card))
    (folder / ONNX).write_bytes(onnx_graph(load_file(folder / "weights.safetensors"), hidden=card["hidden"]))
    _require_equal(folder)
    told = scorecard or {}
    text = model_card(
        card | {"simulated": told.get("simulated"), "sha256": _sums(folder)},
        dict(scorecard) if scorecard else None,
        version="of the registry that this card came from",
        data_version=data_version,
        code_commit=code_commit or "unknown",
    )
    (folder / CARD).write_text(text, encoding="utf-8")
    write_json(folder / SEALS, _sums(folder))
    return file_hash(folder / SEALS)


def input_contract(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a thumbnail must be before the model may see it; the tag names the version of the recipe."""
    image = card.get("image")
    return {
        "planes": list(PLANES),
        "shape": [SIZE, SIZE, len(PLANES)],
        "dtype": "uint8",
        "preprocessing": image or {"recipe": card["recipe"]},
        "preprocessing_version": recipe_tag(**image) if image else None,
        "onnx": {"input": "images", "outputs": ["logits, in the order of classes", "latents"]},
        "classes": list(card["classes"]),
    }


def require_whole(folder: Path, *, registered: str | None = None) -> None:
    """Compare every file of a registered model with its seal; `BrokenRecord` names the first that differs or is missing.

    `registered` is the hash that the registry keeps of the seals themselves. A model from before seals has none and
    passes where none is registered.
    """
    if not (folder / SEALS).exists():
        if registered is not None:
            raise BrokenRecord(f"{folder.name}: {SEALS} is missing; restore MLflow's artifacts from the backup")
        return
    if registered is not None and file_hash(folder / SEALS) != registered:
        raise BrokenRecord(
            f"{folder.name}/{SEALS}: SHA-256 {file_hash(folder / SEALS)[:12]}, registered {registered[:12]}; "
            "restore MLflow's artifacts from the backup"
        )
    expected, found = json.loads((folder / SEALS).read_text(encoding="utf-8")), _sums(folder)
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise BrokenRecord(
                f"{folder.name}/{name}: SHA-256 {str(found.get(name, 'missing'))[:12]}, sealed as "
                f"{str(expected.get(name, 'not part of it'))[:12]}; restore MLflow's artifacts from the backup"
            )


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file by its place; the seals themselves and the version that a champion's copy notes stay out."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {
        file.relative_to(folder).as_posix(): file_hash(file)
        for file in files
        if file.name not in (SEALS, "version.json")
    }


def _require_equal(folder: Path) -> None:
    import onnxruntime

    images = probe_images(BATCH)
    said = load_engine(REFERENCE, folder).score(images)
    # The file itself, as another program would open it.
    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
    logits, latents = session.run(None, {"images": images})
    exported: Output = logits, latents
    apart = max(
        float(np.abs(softmax(said[0], axis=1) - softmax(exported[0], axis=1)).max()), _latents_apart(said, exported)
    )
    if not apart <= TOLERANCE:  # so that NaN fails as well
        raise BrokenRecord(
            f"{ONNX}: says something else than the network, by up to {apart:.2g}, expected {TOLERANCE:g}; train it again"
        )


def _latents_apart(said: Output, exported: Output) -> float:
    """Latents have no scale of their own: where they are large, so is what rounding does to them."""
    return float(np.abs(said[1] - exported[1]).max()) / max(1.0, float(np.abs(said[1]).max()))
