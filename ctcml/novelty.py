"""Two questions kept apart: is a cell *uncertain*, near a border between known classes, or *novel*, like nothing labelled?

Every score is a pure function of arrays, one number a cell, larger = more uncertain or more novel. None of them is best
everywhere, so the replay (`replay.py`) measures them on classes that it holds out, and what it supports is used.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import xlogy
from scipy.stats import rankdata
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ctcml.errors import BadInput

Floats = npt.NDArray[np.floating]
Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[Any]  # row numbers or one yes or no a row

NEIGHBOURS = 30  # measured in the prototype for the density ratio; 10 and 50 do not differ much
NEAREST = 10  # neighbours of the plain distances
PRINCIPAL = 25  # dimensions of 50 that ViM keeps as "explained"


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What is known of N cells without any reader: by a network, and in `appearance` without a class.

    `reconstruction_error` is NaN where the network draws no picture; `energy` is minus the log of the sum of exponentials
    of the network's outputs.
    """

    latents: Floats  # (N, D)
    probabilities: Floats  # (N, C)
    energy: Floats  # (N,)
    reconstruction_error: Floats  # (N, 3)
    appearance: Floats  # (N, F)

    def __post_init__(self) -> None:
        lengths = {one.name: len(getattr(self, one.name)) for one in fields(self)}
        if len(set(lengths.values())) > 1:
            raise BadInput(f"cells: {lengths} rows; give one row a cell in each")
        if not all(np.isfinite(getattr(self, name)).all() for name in ("latents", "probabilities", "appearance")):
            raise BadInput(
                "cells: latents, probabilities or appearance hold values that are not finite; embed the cells again with a"
                " sound model"
            )

    def __len__(self) -> int:
        return len(self.latents)

    def take(self, rows: Rows) -> "Seen":
        """The cells of these rows, in their order."""
        return Seen(**{one.name: getattr(self, one.name)[rows] for one in fields(self)})


# Uncertain: near a border between known classes.


def uncertainty(probabilities: Floats) -> Scores:
    """One minus the margin between the two likeliest classes of each row of (N, C): 0 is sure, 1 is a tie.

    >>> uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    highest = np.sort(_by_class(probabilities), axis=1)
    return np.asarray(1 - (highest[:, -1] - highest[:, -2]))


def class_entropy(probabilities: Floats) -> Scores:
    """Entropy of each row of (N, C), from 0, one class for certain, to 1, all alike.

    >>> class_entropy(np.array([[0.5, 0.5], [1.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    sure = _by_class(probabilities)
    return np.asarray(np.abs(xlogy(sure, sure).sum(axis=1)) / np.log(sure.shape[1]))


def max_softmax(probabilities: Floats) -> Scores:
    """One minus the probability of the likeliest class (Hendrycks and Gimpel, ICLR 2017): the plain baseline."""
    return np.asarray(1 - _by_class(probabilities).max(axis=1))


# Novel: far from everything that has a label.


def knn_distance(known: Floats, cells: Floats, *, neighbours: int = NEAREST) -> Scores:
    """Mean cosine distance of cells (N, D) to their nearest known cells (M, D) (Sun et al., ICML 2022).

    Never choose cells by this score alone: it prefers odd debris (measured).
    """
    near = NearestNeighbors(n_neighbors=min(neighbours, len(known)), metric="cosine").fit(known)
    return np.asarray(near.kneighbors(cells)[0].mean(axis=1), dtype=np.float64)


def scaled_distance(known: Floats, cells: Floats, *, neighbours: int = NEAREST) -> Scores:
    """Mean distance to the nearest known cells, each column in standard deviations of the known cells."""
    scale = StandardScaler().fit(known.astype(np.float64))
    near = NearestNeighbors(n_neighbors=min(neighbours, len(known))).fit(scale.transform(known))
    return np.asarray(near.kneighbors(scale.transform(cells))[0].mean(axis=1), dtype=np.float64)


def relative_mahalanobis(known: Floats, labels: Sequence[str], cells: Floats) -> Scores:
    """Distance to the nearest class less that to all known cells together (Ren et al. 2021, arXiv:2106.09022).

    One shrunk covariance (Ledoit and Wolf 2004) for all classes, and one around the common mean.
    """
    names = np.asarray(labels, dtype=object)
    centres = {name: known[names == name].mean(axis=0, dtype=np.float64) for name in sorted(set(names))}
    within = LedoitWolf(assume_centered=True).fit(known - np.stack([centres[name] for name in names]))
    whole = LedoitWolf().fit(known)
    nearest = np.min([within.mahalanobis(cells - centre) for centre in centres.values()], axis=0)
    return np.asarray(nearest - whole.mahalanobis(cells))


def virtual_logit(known: Seen, cells: Seen) -> Scores:
    """What lies outside the principal space of the known latents, scaled, plus the energy (ViM; Wang et al., CVPR 2022)."""
    centre = known.latents.mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(np.cov(known.latents.T.astype(np.float64)))
    rest = directions[:, : max(known.latents.shape[1] - PRINCIPAL, 1)]  # eigh gives the smallest first

    def outside(latents: Floats) -> Scores:
        return np.asarray(np.linalg.norm((latents - centre) @ rest, axis=1))

    highest = np.log(np.maximum(known.probabilities.max(axis=1), 1e-12)) - known.energy  # the largest output
    weight = np.abs(highest).mean() / max(float(outside(known.latents).mean()), 1e-12)
    return np.asarray(weight * outside(cells.latents) + cells.energy, dtype=np.float64)


def density_ratio(placed: Floats, in_reference: npt.NDArray[np.bool_], *, neighbours: int = NEIGHBOURS) -> Scores:
    """Local density of unlabelled against labelled cells, in 0..1 (N,), in z-scored space (N, D).

    With a and r the shares of all unlabelled and of all labelled cells that are among a cell's nearest: a / (a + r).
    0.5 is a region that is labelled as well as the rest, 1 one without any label. It needs a batch, and also sees
    a change of instrument. Raises `BadInput` without any labelled cell.
    """
    _require_sound(placed, in_reference)
    labelled = float(in_reference.mean())
    if labelled == 1.0 or len(placed) < 2:
        return np.zeros(len(placed))
    scaled = StandardScaler().fit_transform(placed.astype(np.float64))
    near = NearestNeighbors(n_neighbors=min(neighbours, len(placed) - 1)).fit(scaled).kneighbors()[1]
    reference = in_reference[near].mean(axis=1)
    near_unlabelled, near_labelled = (1 - reference) / (1 - labelled), reference / labelled
    return np.asarray(near_unlabelled / (near_unlabelled + near_labelled))


def _density(known: Floats, cells: Floats) -> Scores:
    both = np.concatenate([known, cells])
    return density_ratio(both, np.arange(len(both)) < len(known))[len(known) :]


Score = Callable[[Seen, Sequence[str], Seen], Scores]  # known cells, their labels, the cells in question

BASELINES = ("max_softmax", "reconstruction", "knn")
SCORES: Mapping[str, Score] = {
    "max_softmax": lambda known, labels, cells: max_softmax(cells.probabilities),
    "entropy": lambda known, labels, cells: class_entropy(cells.probabilities),
    "margin": lambda known, labels, cells: uncertainty(cells.probabilities),
    "energy": lambda known, labels, cells: np.asarray(cells.energy, dtype=np.float64),
    "knn": lambda known, labels, cells: knn_distance(known.latents, cells.latents),
    "relative_mahalanobis": lambda known, labels, cells: relative_mahalanobis(known.latents, labels, cells.latents),
    "vim": lambda known, labels, cells: virtual_logit(known, cells),
    "reconstruction": lambda known, labels, cells: np.asarray(
        cells.reconstruction_error.mean(axis=1), dtype=np.float64
    ),
    "density": lambda known, labels, cells: _density(known.latents, cells.latents),
    "appearance_distance": lambda known, labels, cells: scaled_distance(known.appearance, cells.appearance),
    "appearance_density": lambda known, labels, cells: _density(known.appearance, cells.appearance),
}


OF_APPEARANCE = ("appearance_distance", "appearance_density")  # in which no network has a say
COMBINED = "combined"
# Density sees a class of many cells and is blind for few; the others do not ask how many there are.
PANEL = ("density", "appearance_density", "appearance_distance", "vim", "reconstruction")
NAMES = (*SCORES, COMBINED)


def novelty_scores(
    known: Seen, labels: Sequence[str], cells: Seen, *, names: Sequence[str] = NAMES, without: Sequence[str] = ()
) -> dict[str, Scores]:
    """The named scores of `cells` (N,) beside `known` cells with their `labels`.

    `combined` is the mean rank, in 0..1, by the scores of `PANEL`. A network without a decoder has no "reconstruction".
    Raises `BadInput` for an unknown name, fewer than two known cells or another number of labels.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise BadInput(f"novelty: no score {unknown[0]!r}; choose of {', '.join(NAMES)}")
    if len(known) < 2 or len(labels) != len(known):
        raise BadInput(
            f"novelty: {len(known)} known cells with {len(labels)} labels, expected 2 or more with one each; read some cells first"
        )
    drawn = not np.isnan(cells.reconstruction_error).any()
    asked = {*names, *(PANEL if COMBINED in names else ())} - {COMBINED} - (set() if drawn else {"reconstruction"})
    found = {name: SCORES[name](known, labels, cells) for name in SCORES if name in asked}
    if COMBINED in names:
        ranks = [rankdata(found[name]) / len(cells) for name in PANEL if name in found]
        found[COMBINED] = np.mean(ranks, axis=0)
    return {name: found[name] for name in names if name in found and name not in without}


def _by_class(probabilities: Floats) -> Scores:
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise BadInput(
            f"probabilities: expected cells by 2 or more classes, found shape {probabilities.shape}; score them again"
        )
    return probabilities.astype(np.float64)


def _require_sound(placed: Floats, in_reference: npt.NDArray[np.bool_]) -> None:
    if placed.ndim != 2 or in_reference.shape != (len(placed),) or in_reference.dtype != np.bool_:
        raise BadInput(
            f"novelty: expected places (N, D) and a yes or no for each, found {placed.shape} and "
            f"{in_reference.dtype} {in_reference.shape}; give one row a cell"
        )
    if not np.isfinite(placed).all():
        raise BadInput("novelty: latents hold values that are not finite; embed the cells again with a sound model")
    if not in_reference.any():
        raise BadInput("novelty: 0 labelled cells, expected 1 or more; read some cells first")
