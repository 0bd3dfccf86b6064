"""How far a sample lies from others, in a model's latents, in appearance and in the channels' intensities, class by class.

Three distances within what the model calls one class, so a tube with many CTCs is no farther than another: the maximum mean
discrepancy (MMD; Gretton et al. 2012, JMLR 13:723) of the model's latents, which tells what the model feels of it; the MMD
of appearance, in which no label had a say; and the Kolmogorov-Smirnov distance of intensities, which tells what moved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import kstest

from ctcml.appearance import brightness
from ctcml.errors import BadInput
from ctcml.records import PLANES

MEASURES = ("latents", "appearance", "intensity")
LEVELS = tuple(
    f"{plane.lower()}_level" for plane in PLANES
)  # median rank of a tube's cells among the reference's: 0.5 is usual
FEWEST_CELLS = 10  # of a class in the other tubes of the reference, else the class has no say

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """N cells: the model's latents (N, D), `appearance` (N, 33), the class that the model calls each, and its sample."""

    latents: NDArray[Any]
    appearance: NDArray[Any]
    predicted: NDArray[Any]
    samples: NDArray[Any]

    def __post_init__(self) -> None:
        lengths = {name: len(one) for name, one in vars(self).items()}
        if len(set(lengths.values())) > 1:
            raise BadInput(f"drift: {lengths} rows; give one row a cell in each")

    def take(self, rows: NDArray[Any]) -> "Looks":
        """The cells of these rows, in their order."""
        return Looks(**{name: one[rows] for name, one in vars(self).items()})


def looks_of(embeddings: pd.DataFrame) -> Looks:
    """The rows of `tables.EMBEDDING` as arrays; there must be one at least."""
    return Looks(
        latents=np.stack(embeddings["latent"].to_list()),
        appearance=np.stack(embeddings["appearance"].to_list()),
        predicted=embeddings["predicted"].to_numpy(dtype=str),
        samples=embeddings["sample_uid"].to_numpy(dtype=str),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Gauge:
    """The reference cells of one class in one space, and how alike cells of different tubes are."""

    scaled: Floats  # (M, F), in standard deviations of these cells
    spread: Floats  # (F,)
    tubes: NDArray[Any]  # (M,): the sample of each
    likeness: dict[str, tuple[float, float]]  # tube -> summed likeness to the cells of other tubes, and number of pairs
    whole: tuple[float, float]  # the same over all pairs of cells of different tubes

    def distance(self, points: NDArray[Any], tube: str) -> float:
        """Unbiased MMD² of the cells of `tube` and the reference's other tubes.

        Pairs within one tube of the reference are left out: what its few tubes have in common by chance is then no
        distance, on average, however few they are.
        """
        scaled = points / self.spread
        own, pairs = self.likeness.get(tube, (0.0, 0.0))
        among = (self.whole[0] - 2 * own) / (self.whole[1] - 2 * pairs)
        within = (_likeness(scaled, scaled).sum() - len(scaled)) / (len(scaled) * (len(scaled) - 1))
        across = _likeness(scaled, self.scaled[self.tubes != tube]).mean()
        return float(within - 2 * across + among)


def _likeness(one: Floats, other: Floats) -> Floats:
    """Gaussian kernel; its width is the mean squared distance of two cells of a class, twice the number of features."""
    return np.asarray(np.exp(-cdist(one, other, "sqeuclidean") / (2 * one.shape[1])))


def _gauge(points: Floats, everywhere: Floats, tubes: NDArray[Any]) -> _Gauge:
    # A measurement that never varies within the class may still vary in a sample.
    spread = np.maximum(points.std(axis=0), 0.1 * everywhere + 1e-9)
    scaled = points / spread
    names, tube = np.unique(tubes, return_inverse=True)
    member = np.eye(len(names))[tube]
    alike, pairs = member.T @ _likeness(scaled, scaled) @ member, np.outer(member.sum(axis=0), member.sum(axis=0))
    for table in (alike, pairs):
        np.fill_diagonal(table, 0)
    sums = zip(alike.sum(axis=1).tolist(), pairs.sum(axis=1).tolist(), strict=True)
    return _Gauge(
        scaled=scaled,
        spread=spread,
        tubes=tubes,
        likeness=dict(zip(names.tolist(), sums, strict=True)),
        whole=(float(alike.sum()), float(pairs.sum())),
    )


def sample_distances(reference: Looks, cells: Looks, *, min_cells: int) -> pd.DataFrame:
    """Set each sample among `cells` beside the reference's other tubes; one row a sample, in order of name.

    Columns: sample_uid; cells (that could be compared); MEASURES, each 0 or more; LEVELS. NaN with fewer than `min_cells`. The two
    MMDs are means over the classes, weighted by the sample's cells; the intensity is the largest over the planes of the KS
    distance of the cells' ranks in their class from what they would be if drawn from the reference.
    """
    gauges: dict[str, list[_Gauge]] = {}
    spaces = [(one.latents.astype(np.float64), one.appearance.astype(np.float64)) for one in (reference, cells)]
    for kind in np.unique(reference.predicted):
        rows = reference.predicted == kind
        if rows.sum() >= FEWEST_CELLS:
            gauges[kind] = [_gauge(one[rows], one.std(axis=0), reference.samples[rows]) for one in spaces[0]]
    levels = [brightness(one.appearance).astype(np.float64) for one in (reference, cells)]
    found = []
    for sample in np.unique(cells.samples):
        own = cells.samples == sample
        parts = []  # of each class: number of cells, both MMD², ranks of the cells' levels (n, 3)
        for kind, of_kind in gauges.items():
            mine = own & (cells.predicted == kind)
            others = (reference.predicted == kind) & (reference.samples != sample)
            if mine.sum() < 2 or others.sum() < FEWEST_CELLS or len(set(reference.samples[others])) < 2:
                continue
            moved = [one.distance(space[mine], sample) for one, space in zip(of_kind, spaces[1], strict=True)]
            parts.append((int(mine.sum()), moved, _ranks(levels[0][others], levels[1][mine])))
        found.append({"sample_uid": str(sample), **_summed(parts, min_cells)})
    return pd.DataFrame(found, columns=["sample_uid", "cells", *MEASURES, *LEVELS])


def _ranks(known: Floats, levels: Floats) -> Floats:
    """The share of known cells below each level, column by column; of equal ones half count."""
    columns = []
    for ours, theirs in zip(np.sort(known, axis=0).T, levels.T, strict=True):
        columns.append(np.searchsorted(ours, theirs, "left") + np.searchsorted(ours, theirs, "right"))
    return np.stack(columns, axis=1) / (2 * len(known))


def _summed(parts: Sequence[tuple[int, list[float], Floats]], min_cells: int) -> dict[str, float]:
    cells = sum(number for number, _, _ in parts)
    if not parts or cells < min_cells:
        return {"cells": cells} | dict.fromkeys((*MEASURES, *LEVELS), np.nan)
    squares = np.average([moved for _, moved, _ in parts], axis=0, weights=[number for number, _, _ in parts])
    ranks = np.concatenate([one for _, _, one in parts])
    distances = [
        *np.sqrt(np.maximum(squares, 0)),
        max(float(kstest(one, "uniform", method="asymp").statistic) for one in ranks.T),
    ]
    told = dict(zip((*MEASURES, *LEVELS), [*distances, *np.median(ranks, axis=0)], strict=True))
    return {"cells": cells} | {name: float(value) for name, value in told.items()}
