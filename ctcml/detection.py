"""Finding every object of one frame: what stands out of the background's noise in any channel.

A frame is uint16 of shape (planes, height, width). The way is ACCEPT's (background, a threshold a channel, the union of
the channels' masks, 4 neighbours, 10 pixels or more, nothing at the border), with a threshold that follows the noise.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ctcml.errors import BadInput

TILE_PX = 64  # the background is even over so many pixels, and no single object fills half of such a tile
HAZE_TILE_PX = 32  # the background's finer structure, once objects are known,
HAZE_NOISE = 4.0  # and how many standard deviations of it may be haze
SEEN_NOISE = 4.0  # standard deviations of the smoothed background above it: an object reaches as far as this
SURE_NOISE = 9.0  # and its brightest place lies above this: haze passes 7, an object of 4 µm at an SNR of 5 reaches 14
PEAK_SHARE = 0.2  # of an object's brightest place: the optics' skirt of a bright object is not part of it
SMALLEST_PX = 10  # ACCEPT
MARGIN_SHARE, MARGIN_PX = 0.2, 5  # a thumbnail is the object's box grown by 20 %, at least 5 px, a side (ACCEPT)
BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # a Gaussian of 1 px, the width of the optics' blur
HOT_NOISE = 6.0  # standard deviations by which a dead or hot pixel stands out,
HOT_RATIO = 4.0  # and how much brighter it is than all its neighbours but one; the optics' blur allows 2.5
LEAST_NOISE = 0.25  # counts: an image without any noise at all still has whole numbers
ROUNDING = (
    0.29  # 1/√12, the standard deviation of rounding over its step: where the step swallows the noise, it is the noise
)
SMOOTHING = 70 / 256  # what the binomial leaves of the noise's standard deviation

Plane = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class FoundObject:
    """One object: its thumbnail's place in the frame, its mask (planes, h, w) there, and its middle in frame pixels."""

    rows: slice
    columns: slice
    mask: NDArray[np.bool_]
    row: float
    column: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Detected:
    """All objects of one frame, by row, then column; `background` is the median count a plane where no object lies."""

    objects: tuple[FoundObject, ...]
    at_border: int
    background: tuple[float, ...]


def detect(
    frame: NDArray[np.uint16],
    *,
    seen_noise: float = SEEN_NOISE,
    sure_noise: float = SURE_NOISE,
    peak_share: float = PEAK_SHARE,
    smallest_px: int = SMALLEST_PX,
) -> Detected:
    """Find all objects of a frame; those that touch its border are counted and left out. `BadInput` for no frame."""
    if frame.ndim != 3 or min(frame.shape, default=0) < 1:
        raise BadInput(f"frame has shape {frame.shape}, expected (planes, height, width); read the frame again")
    signal = np.stack([_above_noise(plane) for plane in frame])
    candidates: NDArray[np.bool_] = np.logical_or.reduce(signal > seen_noise)
    labels, number = ndimage.label(candidates)
    place = np.flatnonzero(candidates)
    label_of = labels.ravel()[place]
    strongest = np.zeros((len(frame), number + 1), np.float32)
    for plane, peaks in zip(signal, strongest, strict=True):
        np.maximum.at(peaks, label_of, plane.ravel()[place])
    sure = strongest.max(axis=0) > sure_noise
    sure[0] = False
    touching = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    at_border = int(sure[touching].sum())
    sure[touching] = False
    found = []
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if sure[label]:
            levels = np.maximum(seen_noise, peak_share * strongest[:, label])[:, None, None]
            mask = (signal[:, *box] > levels) & (labels[box] == label)
            if np.count_nonzero(mask.any(axis=0)) >= smallest_px:
                found.append(_cut_out(mask, box, frame.shape[1:]))
    thin = candidates[::2, ::2]
    rest = thin == thin.all()  # where nothing lies; everywhere, when objects cover the frame
    background = tuple(float(np.median(plane[::2, ::2][rest])) for plane in frame)
    found.sort(key=lambda one: (one.row, one.column))
    return Detected(objects=tuple(found), at_border=at_border, background=background)


def _above_noise(plane: NDArray[np.uint16]) -> Plane:
    """The smoothed plane above its background, in standard deviations of the smoothed background."""
    above = plane.astype(np.float32)
    above -= _between_tiles(ndimage.median_filter(_tiles(above, TILE_PX, np.median), 3, mode="nearest"), above.shape)
    rounding = ROUNDING * _step(plane)
    _mend(above, max(1.0, rounding))
    smooth = _smoothed(above)
    # Stained haze varies over shorter ways than an object may be long, so what remains of it is taken off in smaller
    # tiles, where an object counts no more than the haze may: it can lift its own background by a few noises at most.
    least = max(LEAST_NOISE, SMOOTHING * rounding)
    most = np.float32(HAZE_NOISE * _noise(smooth, least))
    smooth -= _between_tiles(_tiles(np.clip(smooth, -most, most), HAZE_TILE_PX, np.mean), smooth.shape)
    smooth /= np.float32(_noise(smooth, least))
    return smooth


def _noise(above: Plane, least: float) -> float:
    """Standard deviation of what is no object: from the median absolute deviation of one pixel in 25."""
    sample = above[::5, ::5]
    return max(1.4826 * float(np.median(np.abs(sample - np.median(sample)))), least)


def _step(plane: NDArray[np.uint16]) -> int:
    """How far apart neighbouring counts are: 1 from the camera, 16 in a bright frame that was stored in 8 bit."""
    levels = np.flatnonzero(np.bincount(plane[::3, ::3].ravel()))
    return int(np.diff(levels).min()) if len(levels) > 1 else 0


def _tiles(plane: Plane, size: int, level: Callable[..., Any]) -> Plane:
    """The median or mean of each tile of about `size` pixels a side, of every other pixel in both directions."""
    thin = plane[::2, ::2]
    number = [max(1, round(side / size)) for side in plane.shape]
    each = [-(-side // tiles) for side, tiles in zip(thin.shape, number, strict=True)]
    padding = [(0, one * tiles - side) for one, tiles, side in zip(each, number, thin.shape, strict=True)]
    whole = np.pad(thin, padding, mode="symmetric").reshape(number[0], each[0], number[1], each[1])
    levels: Plane = level(whole.transpose(0, 2, 1, 3).reshape(*number, -1), axis=2).astype(np.float32)
    return levels


def _between_tiles(levels: Plane, shape: tuple[int, ...]) -> Plane:
    """Interpolate between the middles of tiles; beyond the outermost middles their level holds."""
    down = _ramps(levels.T, shape[0]).T
    return _ramps(down, shape[1])


def _ramps(levels: Plane, side: int) -> Plane:
    """Stretch (n, tiles) to (n, side). A matrix product would say the same, but its threads would fight the processes."""
    size = 2 * math.ceil(math.ceil(side / 2) / levels.shape[1])  # as in _tiles, which looks at every other pixel
    held = np.pad(levels, ((0, 0), (1, 1)), mode="edge")
    way = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    ramps = held[:, :-1, None] + np.diff(held, axis=1)[:, :, None] * way
    return ramps.reshape(len(levels), -1)[:, size // 2 : size // 2 + side]


def _mend(above: Plane, least: float) -> None:
    """Give dead and hot pixels the median of their neighbours, in place: no optics make a single bright pixel."""
    noise = _noise(above, least)
    inner = above[1:-1, 1:-1]
    rows, columns = np.nonzero(np.abs(inner) > HOT_NOISE * noise)
    around = [(down, across) for down in range(3) for across in range(3) if (down, across) != (1, 1)]
    neighbours = (
        np.stack([above[rows + down, columns + across] for down, across in around])
        if rows.size
        else np.empty((8, 0), np.float32)
    )
    value = inner[rows, columns]
    second = np.partition(neighbours, -2, axis=0)[-2]  # the brightest neighbour may be a hot pixel itself
    hot = value > HOT_RATIO * np.maximum(second, noise)
    dead = value < np.minimum(neighbours.min(axis=0), 0) - HOT_NOISE * noise / 2
    broken = hot | dead
    inner[rows[broken], columns[broken]] = np.median(neighbours[:, broken], axis=0)


def _smoothed(plane: Plane) -> Plane:
    """Convolve with the binomial in both directions by adding shifted copies: three times as fast as a general filter."""
    for axis in (0, 1):
        padded = np.pad(plane, [(2, 2) if way == axis else (0, 0) for way in (0, 1)], mode="edge")
        side = plane.shape[axis]
        plane = np.zeros_like(plane)
        for shift, weight in enumerate(BINOMIAL):
            part = padded[shift : shift + side] if axis == 0 else padded[:, shift : shift + side]
            plane += np.float32(weight) * part
    return plane


def _cut_out(mask: NDArray[np.bool_], box: tuple[slice, slice], frame: tuple[int, ...]) -> FoundObject:
    """Fit a box around a mask of `box`, and grow it alike on both sides so far as the frame allows: the middle stays."""
    seen: NDArray[np.bool_] = np.logical_or.reduce(mask)
    sides, middles = list[slice](), list[float]()
    for axis, (outer, length) in enumerate(zip(box, frame, strict=True)):
        hit = np.flatnonzero(seen.any(axis=1 - axis))
        first, end = int(outer.start + hit[0]), int(outer.start + hit[-1]) + 1
        margin = min(max(MARGIN_PX, round(MARGIN_SHARE * (end - first))), first, length - end)
        sides.append(slice(first - margin, end + margin))
        middles.append((first + end - 1) / 2)
    whole = np.zeros((len(mask), *(side.stop - side.start for side in sides)), dtype=np.bool_)
    inner = [
        slice(max(outer.start, side.start), min(outer.stop, side.stop)) for outer, side in zip(box, sides, strict=True)
    ]
    here, there = (
        [slice(one.start - start.start, one.stop - start.start) for one, start in zip(inner, place, strict=True)]
        for place in (sides, box)
    )
    whole[:, *here] = mask[:, *there]
    return FoundObject(rows=sides[0], columns=sides[1], mask=whole, row=middles[0], column=middles[1])
