"""Flat maps of the latent space for the eye: fitted once with a model, kept beside it, reused for every later cell.

Nothing is decided from a map, and no place on one names a cell. A reducer is the cells that it was fitted on, with
their places, as plain arrays: nothing is pickled, and it opens with any version of the libraries that made it.
"""

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.manifold import TSNE
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from ctcml.errors import BadInput, BrokenRecord
from ctcml.tables import atomic_path

Method = Literal["tsne", "umap"]
METHODS: tuple[Method, ...] = ("tsne", "umap")
RECORD = "reducer.json"  # which model the maps beside it belong to, and the hash of each
PERPLEXITY = 30.0  # van der Maaten's usual one; the paper shows t-SNE and names no perplexity
FEWEST_CELLS = 5
# A new cell is placed between this many fitted ones by this power of the distance. Measured on simulated cells, each
# fitted cell placed by the others: off by 0.5-0.8 % of the map's width in the median, as with 5 neighbours and power 1; but
# there, cells between two islands lay on four stepping stones, one for each way to share out five neighbours.
NEIGHBOURS, POWER = 15, 4
SAME = 1e-3  # z-scored distance below which a cell is the fitted one: scored in other batches, latents differ by 1e-6 or so

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, eq=False)
class Reducer:
    """A fitted map: where its N cells lie on the plane, and in the D-dimensional latent space of one model."""

    method: Method
    seed: int
    weights_sha256: str  # of the model whose latents these are
    mean: Floats  # (D,); latents are z-scored with these two before distances are taken
    scale: Floats  # (D,)
    latents: npt.NDArray[np.float32]  # (N, D), as the model gave them
    places: npt.NDArray[np.float32]  # (N, 2)

    def __post_init__(self) -> None:
        n, width = self.latents.shape
        if self.places.shape != (n, 2) or self.mean.shape != (width,) or self.scale.shape != (width,) or not n:
            raise BadInput(
                f"{self.method} map: {n} cells of width {width} with places {self.places.shape}, mean {self.mean.shape} "
                f"and scale {self.scale.shape}; fit it again"
            )

    def z_scored(self, latents: Floats) -> Floats:
        return (latents.astype(np.float64) - self.mean) / self.scale


def choose_cells(class_ids: Sequence[str], *, most: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Which cells a map is fitted on: all, or of each class its share of `most`, at least one; in the order given.

    >>> choose_cells(["ctc"] * 2 + ["wbc"] * 98, most=10, rng=np.random.default_rng(0)).size
    10
    """
    labels = np.asarray(class_ids)
    if len(labels) <= most:
        return np.arange(len(labels))
    classes, cells = np.unique(labels, return_counts=True)
    shares = np.maximum(1, cells * most // len(labels))
    drawn = [
        rng.choice(np.flatnonzero(labels == name), share, replace=False)
        for name, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(drawn))


def fit_map(latents: Floats, *, method: Method, seed: int) -> npt.NDArray[np.float32]:
    """Place cells (N, D) on a plane (N, 2); the same for the same seed, machine and order of cells.

    Latents are z-scored first. Distances between far groups mean nothing on such maps. t-SNE is what the paper shows.
    Raises `BadInput` with fewer than 5 cells.
    """
    return fit_reducer(latents, method=method, seed=seed, weights_sha256="").places


def fit_reducer(latents: Floats, *, method: Method, seed: int, weights_sha256: str) -> Reducer:
    """The same, kept as what places later cells of the model with these weights."""
    if len(latents) < FEWEST_CELLS:
        raise BadInput(f"map: expected at least {FEWEST_CELLS} cells, found {len(latents)}; take in more samples")
    kept = latents.astype(np.float32)
    scaler = StandardScaler().fit(kept.astype(np.float64))
    z_scored = scaler.transform(kept.astype(np.float64)).astype(np.float32)
    places = _umap(z_scored, seed) if method == "umap" else _tsne(z_scored, seed)
    return Reducer(
        method=method,
        seed=seed,
        weights_sha256=weights_sha256,
        mean=scaler.mean_,
        scale=scaler.scale_,
        latents=kept,
        places=places.astype(np.float32),
    )


def place(reducer: Reducer, latents: Floats) -> npt.NDArray[np.float32]:
    """Put cells (M, D) of the same model on a fitted map (M, 2), each for itself, whatever comes with it.

    A cell lies at the mean of its nearest fitted cells in latent space, weighted by the inverse of the distance: this is
    where `UMAP.transform` and openTSNE (Policar et al. 2024) start a new point, without the moves that follow
    and that would let new cells push each other about. A fitted cell lies exactly where it was fitted. A kind of cell
    that the fitted ones lack therefore forms no island of its own: it lies among those that it resembles most.
    """
    if latents.ndim != 2 or latents.shape[1] != len(reducer.mean):
        raise BadInput(
            f"map: latents of shape {latents.shape}, expected (cells, {len(reducer.mean)}); score them with the map's model"
        )
    if not len(latents):
        return np.empty((0, 2), np.float32)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(reducer.latents)), algorithm="brute")
    distances, found = near.fit(reducer.z_scored(reducer.latents)).kneighbors(reducer.z_scored(latents))
    weights = np.maximum(distances, SAME) ** -POWER
    weights[distances[:, 0] < SAME, 1:] = 0
    between = np.einsum("mk,mkp->mp", weights, reducer.places[found].astype(np.float64))
    return np.asarray(between / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def write_chart(folder: Path, reducers: Iterable[Reducer], *, about: dict[str, Any]) -> None:
    """Write `<method>.npz` for each reducer of one model, and last `reducer.json` with `about` and the files' hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    maps, weights = {}, ""
    for one in reducers:
        content, weights = io.BytesIO(), one.weights_sha256
        np.savez(content, **asdict(one))
        with atomic_path(folder / f"{one.method}.npz") as unfinished:
            unfinished.write_bytes(content.getvalue())
        maps[one.method] = {"seed": one.seed, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    record = {"weights_sha256": weights, "maps": maps} | about
    with atomic_path(folder / RECORD) as unfinished:
        unfinished.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_chart(folder: Path, *, weights_sha256: str) -> dict[Method, Reducer]:
    """The maps that `write_chart` left, of the model with these weights.

    Raises `BrokenRecord` when they are not there, belong to another model, or were changed since.
    """
    if not (folder / RECORD).exists():
        raise BrokenRecord(
            f"{folder}: expected the maps that were fitted with the model, found no {RECORD}; the model was registered "
            "without them: run `ctcml loop` to train and register one that has them"
        )
    remedy = "bring the model's folder back with `dvc checkout`"
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        found, hashes = str(record["weights_sha256"]), {name: record["maps"][name]["sha256"] for name in METHODS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(f"{folder / RECORD}: not readable ({' '.join(str(error).split())}); {remedy}") from None
    if found != weights_sha256:
        raise BrokenRecord(
            f"{folder}: maps of the model with weights {found[:12]}, expected {weights_sha256[:12]}; {remedy}"
        )
    reducers = {name: _read(folder / f"{name}.npz", hashes[name], remedy) for name in METHODS}
    strange = [one.method for one in reducers.values() if one.weights_sha256 != weights_sha256]
    if strange:
        raise BrokenRecord(f"{folder}: {', '.join(strange)} was fitted with another model; {remedy}")
    return reducers


def _read(file: Path, sha256: str, remedy: str) -> Reducer:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise BrokenRecord(f"{file}: not readable ({error.strerror}); {remedy}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BrokenRecord(f"{file}: SHA-256 {found[:12]}, {RECORD} says {str(sha256)[:12]}; {remedy}")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in Reducer.__dataclass_fields__}
        plain = {name: kept[name].item() for name in ("method", "seed", "weights_sha256")}
        return Reducer(**kept | plain)
    except (ValueError, KeyError, BadInput, zipfile.BadZipFile) as error:
        raise BrokenRecord(f"{file}: not a map ({' '.join(str(error).split())}); {remedy}") from None


def _tsne(z_scored: Floats, seed: int) -> Floats:
    perplexity = min(PERPLEXITY, (len(z_scored) - 1) / 3)
    return np.asarray(TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(z_scored))


def _umap(z_scored: Floats, seed: int) -> Floats:
    neighbours = min(15, len(z_scored) - 1)
    # Exact neighbours, the cell itself among them: UMAP's own search takes as long to compile as all the rest.
    distances, found = NearestNeighbors(n_neighbors=neighbours, algorithm="brute").fit(z_scored).kneighbors(z_scored)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # its optional TensorFlow part is not installed
        warnings.filterwarnings("ignore", "precomputed_knn.*knn_search_index", UserWarning)  # for its own transform
        from umap import UMAP  # here, for it takes seconds

        # One job and a start from the principal components: with more jobs, or a spectral start, runs may differ.
        umap = UMAP(n_neighbors=neighbours, init="pca", random_state=seed, n_jobs=1, precomputed_knn=(found, distances))
        return np.asarray(umap.fit_transform(z_scored))
