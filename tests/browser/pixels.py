"""Thumbnails of a workspace without a microscope: a few objects a kind are drawn, then turned and given noise of their own."""

from collections.abc import Mapping, Sequence

import numpy as np

from ctcml.cells_in_silico import draw_object
from ctcml.images import Counts
from ctcml.pencil import CANVAS_PX, draw_stain
from ctcml.records import PLANES
from ctcml.shards import Packed

SIDES = (32, 40, 48)  # pixels
MODELS = 16  # objects drawn a kind: drawing takes ten times as long as turning
SHADES = 24  # counts of camera noise


def draw_models(kinds: Sequence[str], rng: np.random.Generator) -> Mapping[str, list[Counts]]:
    """Some objects of each kind, uint16 (3, side, side), each from a cartridge with a stain of its own."""
    return {kind: [_model(kind, rng) for _ in range(MODELS)] for kind in kinds}


def _model(kind: str, rng: np.random.Generator) -> Counts:
    stain = draw_stain(rng)
    planes = draw_object(kind, float(rng.uniform(0, 0.4)), stain, rng)[: len(PLANES)]
    side = int(rng.choice(SIDES))
    margin = (CANVAS_PX - side) // 2
    crop = planes[:, margin : margin + side, margin : margin + side]
    floor = np.array(stain.background_counts[: len(PLANES)])[:, None, None]
    return np.clip(crop + floor, 0, 4000).astype(np.uint16)


def thumbnail(
    cell_uid: str, sample_uid: str, object_index: int, models: Sequence[Counts], rng: np.random.Generator
) -> Packed:
    """One of the drawn objects, turned, with noise of its own, so that no two thumbnails are the same."""
    model = models[int(rng.integers(len(models)))]
    pixels = np.rot90(model, int(rng.integers(4)), axes=(1, 2))
    noise = np.frombuffer(rng.bytes(pixels.size), dtype=np.uint8).reshape(pixels.shape) % SHADES
    return Packed(
        cell_uid=cell_uid,
        sample_uid=sample_uid,
        object_index=object_index,
        planes=PLANES,
        pixels=np.ascontiguousarray(pixels + noise.astype(np.uint16)),
        mask=None,
        source_bit_depth=12,
        source_order="DAPI,CK,CD45",
    )
