"""Ways to put cells into clusters by their place in a feature space; every cell gets an answer, noise too."""

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.neighbors import KNeighborsClassifier

from ctcml.errors import BadInput

STARTS = 4  # of k-means; the best is kept
UMAP_DIMENSIONS = 5  # as in the prototype, where HDBSCAN in 50 dimensions found nothing
UMAP_NEIGHBOURS = 15  # UMAP's default, as in the prototype
VOTERS = 5  # clustered cells around a noise point

Floats = npt.NDArray[np.floating]
Members = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grouping:
    """The cluster of each cell, `member` int32 (N,), numbered from 0 without gaps; `noise` (N,): in none of its own.

    A noise point carries the cluster that most of its nearest clustered cells belong to.
    """

    member: Members
    noise: npt.NDArray[np.bool_]


def group(
    placed: Floats,
    *,
    method: Literal["kmeans", "hdbscan"],
    clusters: int,
    min_cells: int,
    seed: int,
    starts: int = STARTS,
) -> Grouping:
    """Cluster cells placed in a space (N, D) whose axes have like scales; the same for the same seed and order of cells.

    `kmeans` makes `clusters` clusters, but never more than there are distinct points or N // `min_cells`; it is the
    one that found new classes best. `hdbscan` (Campello 2013, excess of mass) chooses the number itself, in UMAP's 5
    dimensions, each cluster with `min_cells` cells or more before noise joins it; where it sees no two clusters, all
    cells are one. Raises `BadInput` without cells or with values that are not finite.
    """
    if placed.ndim != 2 or not len(placed) or not np.isfinite(placed).all():
        raise BadInput(
            f"clusters: expected finite places (cells, dimensions), found shape {placed.shape}; embed the cells again"
        )
    if method == "hdbscan":
        return join_noise(placed, _hdbscan(placed, min_cells=min_cells, seed=seed))
    wanted = max(1, min(clusters, len(placed) // min_cells, len(np.unique(placed, axis=0))))
    member = KMeans(wanted, n_init=starts, random_state=seed).fit_predict(placed)
    return Grouping(member=member.astype(np.int32), noise=np.zeros(len(placed), np.bool_))


def _hdbscan(placed: Floats, *, min_cells: int, seed: int) -> npt.NDArray[np.intp]:
    """HDBSCAN's own labels, -1 for noise."""
    smallest = max(2, min_cells)
    # UMAP starts from principal components, of which there must be fewer than cells.
    if len(placed) < max(2 * smallest, UMAP_DIMENSIONS + 2):
        return np.zeros(len(placed), np.intp)
    spread_out = _umap(placed, seed)
    return np.asarray(HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(spread_out))


def _umap(placed: Floats, seed: int) -> Floats:
    # Imported here: it takes seconds, and warns that its optional TensorFlow part is not installed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP
    # One job and a start from the principal components: with more jobs, or a spectral start, runs may differ.
    reducer = UMAP(
        n_components=min(UMAP_DIMENSIONS, placed.shape[1]),
        n_neighbors=min(UMAP_NEIGHBOURS, len(placed) - 1),
        metric="cosine",
        min_dist=0.0,
        init="pca",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(reducer.fit_transform(placed.astype(np.float32)))


def join_noise(placed: Floats, labels: npt.NDArray[np.intp]) -> Grouping:
    """Give each noise point, labelled -1, the cluster of most of its 5 nearest clustered cells in (N, D).

    Where two clusters have as many voters, the nearer ones win. Where all are noise, all are one cluster.
    """
    noise = labels < 0
    if noise.all():
        return Grouping(member=np.zeros(len(labels), np.int32), noise=noise)
    member = labels.astype(np.int32)
    if noise.any():
        voters = min(VOTERS, int((~noise).sum()))
        votes = np.linspace(1.1, 1.0, voters)  # the nearest first; two are worth more than one and three than two
        nearest = KNeighborsClassifier(voters, weights=lambda far: np.tile(votes, (len(far), 1)))
        member[noise] = nearest.fit(placed[~noise], labels[~noise]).predict(placed[noise])
    return Grouping(member=member, noise=noise)
