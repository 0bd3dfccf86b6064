"""Which plane looks like which stain: the marks by which swapped channels betray themselves.

Four marks need neither the share of each kind of cell nor the strength of a stain, which differ between laboratories:

* where a nucleus and another stain lie together, the nucleus is the smaller one, both in a leukocyte (CD45 around DAPI)
  and in a tumour cell (CK around DAPI);
* CD45 and CK seldom lie together;
* the brightest tenth of CK is brighter than the brightest tenth of CD45.

They are compared with what simulated laboratories show, for the planes as they are named and for every other order. Where
all events are CK+ and DAPI+ (CellSearch's own proposals alone) there is too little CD45 to tell, and nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctcml.records import PLANES

# As expected of CD45, DAPI, CK: mean over 72 samples of 6 simulated laboratories (seeds 100 to 105), and the spread between
# samples, but not less than what another laboratory's optics and antibodies may well shift.
EXPECTED = {
    "log area of CD45 over DAPI": (0.72, 0.20),
    "log area of CK over DAPI": (0.45, 0.30),
    "share of CD45 and CK together": (0.23, 0.15),
    "log brightness of CK over CD45": (1.05, 0.70),
}
FARTHEST = 3.0  # spreads: beyond it a mark is simply wrong, and no single one outweighs the others
UNKNOWN = 2.0  # squared spreads counted for a mark that could not be measured, as between a right and a wrong one
STAINED_COUNTS, STAINED_NOISE = 60.0, 8.0  # a stain is present above both: counts, and times the rim's noise
BODY_SHARE = 0.35  # of the peak: what counts as the stain's area
TOP_PIXELS = 12  # their median is the peak: no hot pixel makes one
RIM_PX = 2
FEWEST = 5  # objects from which a median is taken
FEWEST_OBJECTS = 30  # from which an order is judged
# Log likelihood ratios from which another order is clearly more likely: of a delivery, and of one sample in it.
CLEARLY, CLEARLY_ALONE = 2.0, 3.0

Order = tuple[int, int, int]
ORDERS: tuple[Order, ...] = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Staining:
    """What the objects of a sample show of its first three planes, as named; NaN where too few objects show it.

    `area` (3, 3): median log ratio of the areas of two stains that lie together. `together` (3, 3): their share among the
    objects that have the rarer one. `brightness` (3,): log of the 90th percentile of the peaks of stained objects.
    """

    objects: int
    area: NDArray[np.float64]
    together: NDArray[np.float64]
    brightness: NDArray[np.float64]

    def marks(self, order: Order) -> NDArray[np.float64]:
        """The marks in the order of `EXPECTED`, if planes `order` were CD45, DAPI and CK."""
        cd45, dapi, ck = order
        return np.array(
            [
                self.area[cd45, dapi],
                self.area[ck, dapi],
                self.together[cd45, ck],
                self.brightness[ck] - self.brightness[cd45],
            ]
        )


def look_at(pixels: NDArray[np.uint16]) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Peak above background, whether a stain is present, and its area [px], each (3,), of one thumbnail's first planes."""
    planes = pixels[: len(PLANES)].astype(np.float32)
    rim = np.concatenate(
        [planes[:, rows, columns].reshape(len(planes), -1) for rows, columns in _rim_parts(RIM_PX)], axis=1
    )
    level = np.median(rim, axis=1, keepdims=True)
    noise = 1.4826 * np.median(np.abs(rim - level), axis=1)
    above = planes.reshape(len(planes), -1) - level
    top = max(above.shape[1] - TOP_PIXELS, 0)
    peak = np.median(np.partition(above, top, axis=1)[:, top:], axis=1).astype(np.float64)
    stained = peak > np.maximum(STAINED_COUNTS, STAINED_NOISE * noise)
    area = (above > BODY_SHARE * np.maximum(peak, 1)[:, None]).sum(axis=1).astype(np.float64)
    return peak, stained, area


def _rim_parts(width: int) -> tuple[tuple[slice, slice], ...]:
    every, inner = slice(None), slice(width, -width)
    return (
        (slice(None, width), every),
        (slice(-width, None), every),
        (inner, slice(None, width)),
        (inner, slice(-width, None)),
    )


def staining_of(thumbnails: Sequence[NDArray[np.uint16]]) -> Staining:
    """Sum up the thumbnails of a sample, each uint16 (planes, h, w) on the camera's 12-bit scale."""
    shape = (len(thumbnails), len(PLANES))
    peak, stained, area = np.empty(shape), np.empty(shape, np.bool_), np.empty(shape)
    for number, pixels in enumerate(thumbnails):
        peak[number], stained[number], area[number] = look_at(pixels)
    both = stained[:, :, None] & stained[:, None, :]
    ratio = np.log(area[:, :, None] + 1) - np.log(area[:, None, :] + 1)
    rarer = np.minimum(stained.sum(axis=0)[:, None], stained.sum(axis=0)[None, :])
    planes = range(len(PLANES))
    return Staining(
        objects=len(thumbnails),
        area=np.array([[_median(ratio[both[:, a, b], a, b]) for b in planes] for a in planes]),
        together=(both.sum(axis=0) + 1) / (rarer + 4),  # a little towards ¼, so that few objects say little
        brightness=np.array([_top_tenth(np.log(np.maximum(peak[stained[:, a], a], 1))) for a in planes]),
    )


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) >= FEWEST else np.nan


def _top_tenth(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values, 0.9)) if len(values) >= FEWEST else np.nan


def likelier_order(samples: Sequence[Staining]) -> tuple[Order, float]:
    """Return the likeliest order (places of CD45, DAPI, CK among the planes) and its log likelihood over that as named.

    The marks are averaged over the samples. The ratio is 0 where the planes are best as they are named.
    """
    scores = {order: _score(np.array([one.marks(order) for one in samples])) for order in ORDERS}
    best = max(scores, key=lambda order: scores[order])  # of equals the first, which is as named
    return best, scores[best] - scores[ORDERS[0]]


def _score(marks: NDArray[np.float64]) -> float:
    """Log likelihood, but for a constant, of marks (samples, 4)."""
    expected, spread = np.array(list(EXPECTED.values())).T
    known = np.isfinite(marks)
    mean = np.where(known, marks, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    off = np.minimum(((mean - expected) / spread) ** 2, FARTHEST**2)
    return float(-0.5 * np.where(known.any(axis=0), off, UNKNOWN).sum())
