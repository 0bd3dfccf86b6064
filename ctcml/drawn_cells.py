"""Cells of a SIMULATED cohort drawn into memory, without an export on disk: what the comparisons train and judge on."""

from dataclasses import dataclass

import numpy as np

from ctcml.frames_in_silico import Frame, photograph
from ctcml.images import Counts, to_camera_scale
from ctcml.pencil import draw_stain
from ctcml.records import PLANES
from ctcml.simulate import OBJECTS_PER_FRAME, plan_cohort


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnCell:
    """One simulated cell as two laboratories would have it: its range restored from the tags, and 8 bit without them."""

    kind: str
    patient: int
    cancer_type: str
    restored: Counts
    unrestored: Counts


def draw_cells(seed: int, *, patients: int, objects: int) -> list[DrawnCell]:
    """Draw a SIMULATED cohort's cells without writing it: `ctcml simulate`'s own objects, frames and 8-bit archive."""
    plan, draws = np.random.SeedSequence(seed).spawn(2)
    cells = []
    for patient, cartridge in enumerate(plan_cohort(patients, objects, 0.1, np.random.default_rng(plan), draws)):
        rng = np.random.default_rng(cartridge.seed)
        stain = draw_stain(rng)
        kinds = rng.permutation([kind for kind, number in cartridge.counts.items() for _ in range(number)])
        for start in range(0, len(kinds), OBJECTS_PER_FRAME):
            wanted = [
                (str(kind), float(rng.beta(2.0, 1.2)) if rng.uniform() < cartridge.ambiguous_share else 0.0)
                for kind in kinds[start : start + OBJECTS_PER_FRAME]
            ]
            frame, crops = photograph(wanted, stain, rng)
            stored = _without_tags(frame)
            cells += [
                DrawnCell(
                    kind=kind, patient=patient, cancer_type=cartridge.cancer_type,
                    restored=frame[: len(PLANES), crop.rows, crop.columns].copy(),  # a view would keep the whole frame
                    unrestored=stored[: len(PLANES), crop.rows, crop.columns].copy(),
                )
                for (kind, _), crop in zip(wanted, crops, strict=True)
            ]  # fmt: skip
    return cells


def _without_tags(frame: Frame) -> Counts:
    """Return a restored frame as whoever ignores tags 755 and 756 reads it: 8 bit of the frame's own range."""
    low, high = (edge(axis=(1, 2), keepdims=True).astype(np.float64) for edge in (frame.min, frame.max))
    stored = np.rint((frame - low) * (255 / np.maximum(high - low, 1))).astype(np.uint16)
    return to_camera_scale(stored, bit_depth=8, restored=False, recipe="")
