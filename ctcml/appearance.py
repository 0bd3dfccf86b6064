"""What a thumbnail looks like, measured without any class: a space in which no label ever had a say.

A network that was trained on known classes may have learned to overlook what makes a new one new. These numbers cannot:
size, brightness, shape and texture of each plane and how the planes lie over each other. They are taken from the network's
input, so they exist for every thumbnail, also for those that came preprocessed.
"""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput

OF_PLANE = ("brightness", "mean_square", "mean_cube", "peak", "area", "core", "radius", "eccentricity", "roughness")
PAIRS = tuple(combinations(("cd45", "dapi", "ck"), 2))
NAMES = (
    *(f"{plane}_{name}" for plane in ("cd45", "dapi", "ck") for name in OF_PLANE),
    *(f"{one}_{other}_{name}" for one, other in PAIRS for name in ("likeness", "distance")),
)
FLOOR = 16  # grey levels of 255: below, a pixel is background
CHUNK = 256  # images at a time, so that the floats stay in the cache

Floats = NDArray[np.float32]


def appearance(images: NDArray[np.uint8]) -> Floats:
    """Measure images (N, 80, 80, 3) uint8; returns float32 (N, 33), a column each of `NAMES`.

    Of each plane: log2 of 1 + the sum of grey levels above `FLOOR`; root mean square and cubic mean, which weigh bright pixels more; the
    brightest pixel; square roots of the areas above `FLOOR` and above half of the brightest pixel [px]; root mean square
    distance from the plane's centre [px]; eccentricity of the second moments (0 a disc, 1 a line); mean step between
    neighbouring pixels over the mean grey level. Of each two planes: cosine of the angle between them, and the distance of
    their centres [px]. A plane without any signal has zeros.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (80, 80, 3):
        raise BadInput(f"images are {images.dtype} {images.shape}, expected uint8 (N, 80, 80, 3); prepare them first")
    found = np.empty((len(images), len(NAMES)), np.float32)
    for first in range(0, len(images), CHUNK):
        part = slice(first, first + CHUNK)
        found[part] = _measure(np.ascontiguousarray(images[part].transpose(0, 3, 1, 2), dtype=np.float32))
    return found


def brightness(features: Floats) -> Floats:
    """The levels of CD45, DAPI and CK (N, 3) among the columns of `appearance`: log2 of 1 + the sum of grey levels above `FLOOR`."""
    return features[:, [NAMES.index(f"{plane}_brightness") for plane in ("cd45", "dapi", "ck")]]


def _measure(planes: Floats) -> Floats:
    """Planes (n, 3, h, w) of grey levels -> (n, 33)."""
    n, channels, height, width = planes.shape
    flat = planes.reshape(n, channels, -1)
    total, peak = flat.sum(axis=2), flat.max(axis=2)
    squares = np.einsum("ncp,ncp->nc", flat, flat)
    cubes = np.einsum("ncp,ncp->nc", flat * flat, flat)
    area = (flat > FLOOR).sum(axis=2)
    stained = np.maximum(flat - FLOOR, 0).sum(axis=2)  # without the noise of the whole thumbnail
    core = (flat > np.maximum(peak, 1)[:, :, None] / 2).sum(axis=2)
    rows, columns = np.arange(height, dtype=np.float32), np.arange(width, dtype=np.float32)
    whole = np.maximum(total, 1)
    by_row, by_column = planes.sum(axis=3), planes.sum(axis=2)
    y, x = by_row @ rows / whole, by_column @ columns / whole
    high, wide = by_row @ rows**2 / whole - y**2, by_column @ columns**2 / whole - x**2
    slant = (planes @ columns) @ rows / whole - x * y
    spread = np.sqrt(np.maximum((high - wide) ** 2 / 4 + slant**2, 0))
    largest, smallest = (high + wide) / 2 + spread, np.maximum((high + wide) / 2 - spread, 0)
    steps = np.abs(np.diff(planes, axis=2)).sum(axis=(2, 3)) + np.abs(np.diff(planes, axis=3)).sum(axis=(2, 3))
    pixels = height * width
    of_planes = [
        np.log2(1 + stained),
        np.sqrt(squares / pixels),
        np.cbrt(cubes / pixels),
        peak,
        np.sqrt(area),
        np.sqrt(core * (peak > 0)),
        np.sqrt(np.maximum(high + wide, 0)),
        np.sqrt(np.clip(1 - smallest / np.maximum(largest, 1e-6), 0, 1)) * (total > 0),
        steps / whole,
    ]
    of_pairs = []
    for one, other in combinations(range(channels), 2):
        together = np.einsum("np,np->n", flat[:, one], flat[:, other])
        of_pairs.append(together / np.sqrt(np.maximum(squares[:, one] * squares[:, other], 1)))
        apart = np.hypot(y[:, one] - y[:, other], x[:, one] - x[:, other])
        of_pairs.append(apart * ((total[:, one] > 0) & (total[:, other] > 0)))
    return np.concatenate([np.stack(of_planes, axis=2).reshape(n, -1), np.stack(of_pairs, axis=1)], axis=1)
