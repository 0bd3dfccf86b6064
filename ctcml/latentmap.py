"""A flat map of the latent space for the eye; nothing is decided from it."""

import warnings
from typing import Literal

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from sklearn.preprocessing import StandardScaler

from ctcml.errors import BadInput

FEWEST_CELLS = 5

Floats = npt.NDArray[np.floating]


def fit_map(latents: Floats, *, method: Literal["umap", "tsne"], seed: int) -> npt.NDArray[np.float32]:
    """Place cells (N, D) on a plane (N, 2); the same for the same seed, machine and order of cells.

    Latents are z-scored first. Distances between far groups mean nothing on such maps. t-SNE (perplexity 30) is what
    the paper shows, UMAP is quicker. Raises `BadInput` with fewer than 5 cells.
    """
    if len(latents) < FEWEST_CELLS:
        raise BadInput(f"map: expected at least {FEWEST_CELLS} cells, found {len(latents)}; take in more samples")
    placed = StandardScaler().fit_transform(latents.astype(np.float64)).astype(np.float32)
    xy = _umap(placed, seed) if method == "umap" else _tsne(placed, seed)
    return np.asarray(xy, dtype=np.float32)


def _tsne(placed: Floats, seed: int) -> Floats:
    perplexity = min(30.0, (len(placed) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(placed))


def _umap(placed: Floats, seed: int) -> Floats:
    # Imported here: it takes seconds, and warns that its optional TensorFlow part is not installed.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)
        from umap import UMAP
    # One job and a start from the principal components: with more jobs, or a spectral start, runs may differ.
    neighbours = min(15, len(placed) - 1)
    return np.asarray(UMAP(n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1).fit_transform(placed))
