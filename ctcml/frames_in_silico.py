"""The simulated camera: objects on one frame, background, noise, the 8-bit archive, the crops that ACCEPT would cut.

A frame is uint16 of shape (4, height, width): CD45, DAPI, CK, FITC in restored, pseudo 12-bit counts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ctcml.cells_in_silico import draw_object
from ctcml.pencil import CHANNELS, Planes, Stain

FRAME_SIDE_PX = 576
CLUMPED_SHARE = 0.13  # objects that lie beside another one
DEAD_PIXELS = 14  # and as many hot ones, a channel and FRAME_SIDE_PX² pixels
COUNTS_PER_ELECTRON = 0.6  # variance of the shot noise over its mean
READ_VARIANCE = 16.0  # counts²
HIGHEST_COUNT = 4095  # 12 bit

Frame = npt.NDArray[np.uint16]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Crop:
    """Where an object lies in its frame, and its mask (4, height, width) in that box."""

    rows: slice
    columns: slice
    mask: Mask


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored:
    """What an archive keeps of a frame: uint8 of its shape, and the counts a plane that its ends stood for."""

    img: npt.NDArray[np.uint8]
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]


def photograph(wanted: list[tuple[str, float]], stain: Stain, rng: np.random.Generator) -> tuple[Frame, list[Crop]]:
    """Photograph objects (kind, ambiguity) in one frame; gives the restored frame and one crop an object."""
    counts = empty_field(stain, rng, (FRAME_SIDE_PX, FRAME_SIDE_PX))
    crops = [
        place(counts, draw_object(kind, ambiguity, stain, rng), middle)
        for (kind, ambiguity), middle in zip(wanted, _scatter(len(wanted), rng), strict=True)
    ]
    return archive(through_camera(counts, rng)), crops


def store(seen: Planes) -> Stored:
    """Store counts as a CellTracks archive does: 8 bit a channel over the frame's own range."""
    low = np.rint(seen.min(axis=(1, 2), keepdims=True))
    high = np.maximum(np.rint(seen.max(axis=(1, 2), keepdims=True)), low + 1)
    img = np.rint((seen - low) * (255 / (high - low))).astype(np.uint8)
    return Stored(img=img, low=low.ravel(), high=high.ravel())


def archive(seen: Planes) -> Frame:
    """Store counts as a CellTracks archive does, 8 bit a channel with the frame's range, and restore them.

    Restored = low + img·(high − low)/max(img), with low and high from private TIFF tags (ACCEPT). Neighbouring levels
    end up as far apart as 1/255 of the frame's range, which is what makes dim CD45 hard.

    >>> archive(np.array([[[0.0, 7.0, 16.0, 4095.0]]])).tolist()
    [[[0, 0, 16, 4095]]]
    """
    stored = store(seen)
    low, high = stored.low[:, None, None], stored.high[:, None, None]
    largest = np.maximum(stored.img.max(axis=(1, 2), keepdims=True), 1)
    restored: Frame = np.rint(low + stored.img * ((high - low) / largest)).astype(np.uint16)
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


def place(field: Planes, patch: Planes, middle: tuple[int, int]) -> Crop:
    """Add an object to the field; gives the crop that ACCEPT would cut."""
    half = patch.shape[1] // 2
    rows, columns = (
        slice(max(at - half, 0), min(at + half, side)) for at, side in zip(middle, field.shape[1:], strict=True)
    )
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


def empty_field(stain: Stain, rng: np.random.Generator, shape: tuple[int, int]) -> Planes:
    """Background with haze, uneven light and faint scan lines, in counts, float32 (4, *shape)."""
    field = np.empty((len(CHANNELS), *shape), np.float32)
    down, across = (1 - np.float32(0.08) * np.linspace(-1, 1, side, dtype=np.float32) ** 2 for side in shape)
    common = _haze(9, shape, rng)
    for channel, counts in enumerate(stain.background_counts):
        own = _haze(12, shape, rng)
        haze = np.exp(np.float32(0.06) * common + np.float32(0.05) * own)
        lines = np.float32(0.8) * rng.standard_normal((shape[0], 1), dtype=np.float32)
        field[channel] = np.float32(counts) * haze * down[:, None] * across[None, :] + lines
    return field


def _haze(spots: int, shape: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Dice `spots` to every `FRAME_SIDE_PX` pixels, interpolated to the size of a frame."""
    coarse = rng.standard_normal([round(spots * side / FRAME_SIDE_PX) for side in shape], dtype=np.float32)
    down, across = (
        np.linspace(0, spots_a_side - 1.001, side, dtype=np.float32)
        for spots_a_side, side in zip(coarse.shape, shape, strict=True)
    )
    at, part = down.astype(int), down % 1
    rows = coarse[at] * (1 - part)[:, None] + coarse[at + 1] * part[:, None]
    at, part = across.astype(int), across % 1
    whole: npt.NDArray[np.float32] = rows[:, at] * (1 - part) + rows[:, at + 1] * part
    return whole


def through_camera(counts: Planes, rng: np.random.Generator) -> Planes:
    """Add shot noise, read noise, dead and hot pixels; clip at 12 bit."""
    noise = rng.standard_normal(counts.shape, dtype=np.float32)
    seen: Planes = counts + noise * np.sqrt(
        np.float32(COUNTS_PER_ELECTRON) * np.maximum(counts, 0) + np.float32(READ_VARIANCE)
    )
    dead = round(DEAD_PIXELS * counts[0].size / FRAME_SIDE_PX**2)
    for channel in seen:
        for level in (0.0, rng.uniform(300, 900)):
            rows, columns = (rng.integers(0, side, dead) for side in counts.shape[1:])
            channel[rows, columns] = level
    return np.clip(seen, 0, HIGHEST_COUNT)
