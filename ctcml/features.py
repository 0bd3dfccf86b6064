"""ACCEPT's features of one thumbnail: shape and brightness a channel, and how far the stains lie over the nucleus.

Names, units and definitions are those of ACCEPT's feature table, so gates written for one fit the other. Channel 1 is
CD45, 2 DAPI, 3 CK; further planes are not measured.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, gaussian_filter

from ctcml.errors import BadInput
from ctcml.records import FEATURES, PIXEL_SIZE_UM, PLANES

# 1, √2 or their mean by the pattern: 1 for a border pixel + 2 a straight and 10 a diagonal neighbour on the border.
PATTERN_LENGTH = np.zeros(50)
PATTERN_LENGTH[[5, 7, 15, 17, 25, 27]] = 1
PATTERN_LENGTH[[21, 33]] = np.sqrt(2)
PATTERN_LENGTH[[13, 23]] = (1 + np.sqrt(2)) / 2
RIM_PX = 3  # ACCEPT leaves 5 px around an object, so the outermost 3 show background
RIM_NOISE = 5.0  # standard deviations of the smoothed rim above it; camera noise alone never gets there
PEAK_SHARE = 0.2  # of the brightest place: the optics' skirt of a bright object is not part of it


def measure(
    pixels: NDArray[np.uint16], mask: NDArray[np.bool_] | None, *, background: Sequence[float] | None = None
) -> dict[str, float]:
    """Measure one thumbnail, `pixels` (planes, h, w) with CD45, DAPI, CK first and `mask` of that shape, by `FEATURES`.

    `background` has one number a channel, in counts; without it, it is the median of the pixels that lie in no channel's
    mask (ACCEPT). What lies below it counts as 0. In an empty mask intensities, Mass and Size are 0 and Eccentricity,
    Perimeter, P2A and the overlay on an empty nucleus NaN. Without a mask, `own_mask` makes one.
    """
    if (
        pixels.ndim != 3
        or len(pixels) < len(PLANES)
        or 0 in pixels.shape
        or (mask is not None and mask.shape != pixels.shape)
    ):
        raise BadInput(
            f"pixels {pixels.shape} with mask {None if mask is None else mask.shape}: expected (3 planes or more, height,"
            " width) for both; read the thumbnail again"
        )
    inside = (own_mask(pixels) if mask is None else mask)[: len(PLANES)]
    planes = pixels[: len(PLANES)]
    below = _unlabelled_median(planes, inside) if background is None else background
    area, around = inside.sum(axis=(1, 2)), perimeters(inside)
    with np.errstate(invalid="ignore"):  # nothing divided by nothing is NaN, as it should be
        of_channel = {
            "Eccentricity": eccentricities(inside),
            "Perimeter": np.where(area > 0, around, np.nan),
            "Size": area * PIXEL_SIZE_UM**2,
            "P2A": around**2 / (4 * np.pi * area),
        }
        overlay = (inside[1] & inside).sum(axis=(1, 2)) / area[1]
    found = dict.fromkeys(FEATURES, 0.0)
    for channel, (plane, body) in enumerate(zip(planes, inside, strict=True)):
        for name, value in (
            _brightness(plane[body], below[channel]) | {k: v[channel] for k, v in of_channel.items()}
        ).items():
            found[f"ch_{channel + 1}_{name}"] = float(value)
    found["ch_2_Overlay_ch_1"], found["ch_2_Overlay_ch_3"] = float(overlay[0]), float(overlay[2])
    return found


def eccentricities(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Eccentricity of each mask (n, h, w): of the ellipse with its second moments, 0 for a disc, NaN when empty.

    Equals `skimage.measure.regionprops`, which takes ten times as long for a thumbnail.

    >>> eccentricities(np.ones((1, 4, 4), bool)).tolist()
    [0.0]
    """
    rows, columns = (np.arange(n) - (n - 1) / 2 for n in masks.shape[1:])
    by_row, by_column = masks.sum(axis=2), masks.sum(axis=1)
    area = by_row.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        row, column = by_row @ rows / area, by_column @ columns / area
        high, wide = by_row @ rows**2 / area - row**2, by_column @ columns**2 / area - column**2
        slant = masks.astype(np.float64) @ columns
        slant = slant @ rows / area - row * column
        spread = np.sqrt((high - wide) ** 2 / 4 + slant**2)
        largest = (high + wide) / 2 + spread
        found: NDArray[np.float64] = np.sqrt(np.clip(np.where(largest > 1e-12, 2 * spread / largest, area * 0.0), 0, 1))
    return np.where(area > 0, found, np.nan)


def perimeters(masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Perimeter [px] of each mask (n, h, w): the line through the middles of its border pixels, holes included.

    After Benkrid and Crookes (2000), as `skimage.measure.perimeter` with 4 neighbours, but all masks at once: a border
    pixel counts 1, √2 or their mean for straight, diagonal and mixed neighbours, from a table of the 3×3 patterns.

    >>> perimeters(np.ones((1, 5, 5), bool)).tolist()
    [16.0]
    """
    framed = np.pad(masks, ((0, 0), (2, 2), (2, 2)))
    up, down, left, right = framed[:, :-2, 1:-1], framed[:, 2:, 1:-1], framed[:, 1:-1, :-2], framed[:, 1:-1, 2:]
    middle = framed[:, 1:-1, 1:-1]
    border = (middle & ~(up & down & left & right)).view(np.uint8)
    straight = border[:, :-2, 1:-1] + border[:, 2:, 1:-1] + border[:, 1:-1, :-2] + border[:, 1:-1, 2:]
    diagonal = border[:, :-2, :-2] + border[:, :-2, 2:] + border[:, 2:, :-2] + border[:, 2:, 2:]
    lengths = PATTERN_LENGTH[(border[:, 1:-1, 1:-1] + 2 * straight + 10 * diagonal)]
    found: NDArray[np.float64] = lengths.sum(axis=(1, 2))
    return found


def own_mask(pixels: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Make a mask, bool (planes, h, w), from the thumbnail alone: what stands out of its rim, holes filled.

    A channel whose brightest place is no brighter than the rim's noise stays empty.
    """
    mask = np.zeros(pixels.shape, dtype=np.bool_)
    for plane, inside in zip(pixels, mask, strict=True):
        smooth = gaussian_filter(plane.astype(np.float32), 1.0)
        rim = np.concatenate(
            [smooth[:RIM_PX].ravel(), smooth[-RIM_PX:].ravel(), smooth[:, :RIM_PX].ravel(), smooth[:, -RIM_PX:].ravel()]
        )
        level = float(np.median(rim))
        noise = max(1.4826 * float(np.median(np.abs(rim - level))), 0.5)  # counts are whole numbers
        inside[:] = binary_fill_holes(
            smooth > level + max(RIM_NOISE * noise, PEAK_SHARE * (float(smooth.max()) - level))
        )
    return mask


def _unlabelled_median(pixels: NDArray[np.uint16], inside: NDArray[np.bool_]) -> list[float]:
    rest = ~inside.any(axis=0)
    # A mask that fills its whole box leaves no background; the darkest pixel is the nearest thing to it.
    return [float(np.median(plane[rest])) if rest.any() else float(plane.min()) for plane in pixels[: len(PLANES)]]


def _brightness(counts: NDArray[np.uint16], below: float) -> dict[str, float]:
    if not counts.size:
        return dict.fromkeys(("MeanIntensity", "MaxIntensity", "MedianIntensity", "StandardDeviation", "Mass"), 0.0)
    above = np.sort(np.maximum(counts - float(below), 0))
    half = above.size // 2
    mass = float(above.sum())
    return {
        "MeanIntensity": mass / above.size,
        "MaxIntensity": above[-1],
        "MedianIntensity": (above[half] + above[-half - 1]) / 2,
        "StandardDeviation": above.std(),
        "Mass": mass,
    }
