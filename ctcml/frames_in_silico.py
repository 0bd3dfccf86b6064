"""The simulated camera: objects on one frame, background, noise, the 8-bit archive, the crops that ACCEPT would cut.

A frame is uint16 of shape (4, side, side): CD45, DAPI, CK, FITC in restored, pseudo 12-bit counts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctcml.cells_in_silico import draw_object
from ctcml.pencil import CHANNELS, Planes, Stain

FRAME_SIDE_PX = 576
CLUMPED_SHARE = 0.13  # objects that lie beside another one
DEAD_PIXELS = 14
HIGHEST_COUNT = 4095  # 12 bit

Frame = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Where an object lies in its frame, and its mask (4, height, width) in that box."""

    rows: slice
    columns: slice
    mask: Mask


def photograph(wanted: list[tuple[str, float]], stain: Stain, rng: np.random.Generator) -> tuple[Frame, list[Crop]]:
    """Photograph objects (kind, ambiguity) in one frame; gives the restored frame and one crop an object."""
    counts = _empty_field(stain, rng)
    crops = [
        _place(counts, draw_object(kind, ambiguity, stain, rng), middle)
        for (kind, ambiguity), middle in zip(wanted, _scatter(len(wanted), rng), strict=True)
    ]
    return archive(_through_camera(counts, rng)), crops


def archive(seen: Planes) -> Frame:
    """Store counts as a CellTracks archive does, 8 bit a channel with the frame's range, and restore them.

    Restored = low + img·(high − low)/max(img), with low and high from private TIFF tags (ACCEPT). Neighbouring levels
    end up as far apart as 1/255 of the frame's range, which is what makes dim CD45 hard.

    >>> archive(np.array([[[0.0, 7.0, 16.0, 4095.0]]])).tolist()
    [[[0, 0, 16, 4095]]]
    """
    low = np.rint(seen.min(axis=(1, 2), keepdims=True))
    high = np.maximum(np.rint(seen.max(axis=(1, 2), keepdims=True)), low + 1)
    stored = np.rint((seen - low) * (255 / (high - low)))
    largest = np.maximum(stored.max(axis=(1, 2), keepdims=True), 1)
    restored: Frame = np.rint(low + stored * ((high - low) / largest)).astype(np.uint16)
    return restored


def _scatter(number: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Middles of objects: each on a plot of its own, but some beside the one before."""
    plots_a_side = int(np.ceil(np.sqrt(max(number, 12) * 1.4)))
    pitch = FRAME_SIDE_PX / plots_a_side
    middles: list[tuple[float, float]] = []
    for plot in rng.permutation(plots_a_side**2)[:number]:
        if middles and rng.uniform() < CLUMPED_SHARE:
            angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(22, 34)
            middles.append((middles[-1][0] + away * np.sin(angle), middles[-1][1] + away * np.cos(angle)))
        else:
            row, column = divmod(int(plot), plots_a_side)
            middles.append(((row + rng.uniform(0.15, 0.85)) * pitch, (column + rng.uniform(0.15, 0.85)) * pitch))
    return [(int(row), int(column)) for row, column in np.clip(middles, 8, FRAME_SIDE_PX - 9)]


def _place(field: Planes, patch: Planes, middle: tuple[int, int]) -> Crop:
    """Add an object to the field; gives the crop that ACCEPT would cut."""
    half = patch.shape[1] // 2
    rows, columns = (slice(max(at - half, 0), min(at + half, FRAME_SIDE_PX)) for at in middle)
    top, left = rows.start - middle[0] + half, columns.start - middle[1] + half
    inner = patch[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start]
    field[:, rows, columns] += inner
    strongest = inner.max(axis=(1, 2), keepdims=True)
    mask = inner > np.maximum(0.22 * strongest, min(28.0, 0.5 * float(strongest.max())))
    seen = mask.any(axis=0)
    high, wide = _grown(seen.any(axis=1)), _grown(seen.any(axis=0))
    return Crop(
        rows=slice(rows.start + high.start, rows.start + high.stop),
        columns=slice(columns.start + wide.start, columns.start + wide.stop),
        mask=mask[:, high, wide],
    )


def _grown(hit: npt.NDArray[np.bool_]) -> slice:
    """An object's extent, grown by 20 % or at least 5 px a side, clipped."""
    inside = np.flatnonzero(hit)
    first, last = int(inside[0]), int(inside[-1]) + 1
    margin = max(5, round(0.2 * (last - first)))
    return slice(max(first - margin, 0), min(last + margin, len(hit)))


def _empty_field(stain: Stain, rng: np.random.Generator) -> Planes:
    """Background with haze, uneven light and faint scan lines, in counts."""
    field = np.empty((len(CHANNELS), FRAME_SIDE_PX, FRAME_SIDE_PX), np.float32)
    light = 1 - np.float32(0.08) * np.linspace(-1, 1, FRAME_SIDE_PX, dtype=np.float32) ** 2
    common = _enlarged(rng.standard_normal((9, 9), dtype=np.float32))
    for channel, counts in enumerate(stain.background_counts):
        own = _enlarged(rng.standard_normal((12, 12), dtype=np.float32))
        haze = np.exp(np.float32(0.06) * common + np.float32(0.05) * own)
        lines = np.float32(0.8) * rng.standard_normal((FRAME_SIDE_PX, 1), dtype=np.float32)
        field[channel] = np.float32(counts) * haze * light[:, None] * light[None, :] + lines
    return field


def _enlarged(coarse: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Interpolate a coarse square to the size of a frame."""
    where = np.linspace(0, len(coarse) - 1.001, FRAME_SIDE_PX, dtype=np.float32)
    at, part = where.astype(int), where % 1
    rows = coarse[at] * (1 - part)[:, None] + coarse[at + 1] * part[:, None]
    whole: npt.NDArray[np.float32] = rows[:, at] * (1 - part) + rows[:, at + 1] * part
    return whole


def _through_camera(counts: Planes, rng: np.random.Generator) -> Planes:
    """Add shot noise, read noise, dead and hot pixels; clip at 12 bit."""
    noise = rng.standard_normal(counts.shape, dtype=np.float32)
    seen: Planes = counts + noise * np.sqrt(np.float32(0.6) * np.maximum(counts, 0) + np.float32(16))
    for channel in seen:
        for level in (0.0, rng.uniform(300, 900)):
            rows, columns = rng.integers(0, FRAME_SIDE_PX, (2, DEAD_PIXELS))
            channel[rows, columns] = level
    return np.clip(seen, 0, HIGHEST_COUNT)
