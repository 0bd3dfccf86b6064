"""Every cell on the flat maps with what is known of it, which of them are drawn, and which lie within an outline.

Nothing here is calculated beyond joining, drawing lots and telling inside from outside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.truth import training_cells
from ctcml.workspace import Workspace
from dashboards import records
from dashboards.records import NotMade, Stamp

METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
OUTLINE_POINTS = 60  # of a lasso, so that the address stays short; the cells told are those within just this outline
COLUMNS = ("cell_uid", "sample_uid", "predicted", "probabilities")
NAMED = ("predicted", "settled", "cancer_type", "site", "instrument")  # columns that hold few different names

Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which cells are on the map; an empty tuple lets all pass."""

    predicted: tuple[str, ...] = ()
    cancer_type: tuple[str, ...] = ()
    instrument: tuple[str, ...] = ()
    flagged: bool = False


def atlas(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a cell: places on both maps, class, its probability, settled class of training patients, sample, patient,
    cancer type, site, instrument, and cluster, novelty and flag where discovery looked at it."""
    if not workspace.map.exists():
        return NotMade(what="Latent map", command="ctcml repro map")
    if not records.stamp_of(workspace.embeddings):
        return NotMade(what="Embeddings", command="ctcml repro embed")
    return _joined(workspace, stamp_of(workspace))


def stamp_of(workspace: Workspace) -> Stamp:
    """What changes when anything that the atlas is made from is made again."""
    return records.stamp_of(
        workspace.map, workspace.embeddings, workspace.truth, workspace.cell_discovery, workspace.clinical
    )


@lru_cache(maxsize=2)  # an atlas of 60,000 cells is some 20 MB
def _joined(workspace: Workspace, stamp: Stamp) -> pd.DataFrame:
    scored = records.table_of(workspace.embeddings, "EMBEDDING", COLUMNS)
    chances = scored["probabilities"]
    cells = scored[["cell_uid", "sample_uid", "predicted"]].assign(
        probability=np.fromiter((max(one, default=np.nan) for one in chances), np.float32, len(chances))
    )
    cells = records.table_of(workspace.map, "MAP").merge(cells, on="cell_uid", how="left")
    people = records.table_of(workspace.clinical, "CLINICAL")
    for name in ("patient_uid", "cancer_type", "site", "instrument"):
        of_sample = {} if people is None else dict(zip(people["sample_uid"], people[name], strict=True))
        cells[name] = cells["sample_uid"].map(of_sample)
    labels = records.table_of(workspace.truth, "TRUTH")  # held-out patients' labels are for the gate alone
    settled = {} if labels is None else training_cells(labels).set_index("cell_uid")["class_id"]
    cells["settled"] = cells["cell_uid"].map(settled)
    found = records.table_of(workspace.cell_discovery, "DISCOVERY")
    if found is None:
        cells = cells.assign(cluster=-1, novelty=np.float32(np.nan), flagged=False)
    else:
        cells = cells.merge(found[["cell_uid", "cluster", "novelty", "flagged"]], on="cell_uid", how="left")
    cells["cluster"] = cells["cluster"].fillna(-1).astype(np.int32)
    cells["flagged"] = cells["flagged"].eq(True)
    return cells.astype(dict.fromkeys(NAMED, "category"))


def filtered(cells: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """The cells that all filters let pass."""
    keep = np.ones(len(cells), bool)
    for name in ("predicted", "cancer_type", "instrument"):
        if wanted := getattr(filters, name):
            keep &= cells[name].isin(wanted).to_numpy()
    return cells[keep & cells["flagged"].to_numpy()] if filters.flagged else cells[keep]


def drawn(cells: pd.DataFrame, *, most: int | None, seed: int = 0) -> pd.DataFrame:
    """At most about `most` cells, drawn by lot within each class and flag; a group that is rare is kept whole.

    Each group gets half an equal share at least, as far as it has cells, and of the rest in proportion to its size. The same
    lot falls each time.
    """
    if most is None or len(cells) <= most:
        return cells
    groups = cells.groupby(["predicted", "flagged"], observed=True).indices
    sizes = np.array([len(members) for members in groups.values()])
    sure = np.minimum(sizes, most // (2 * len(sizes)))
    left = sizes - sure
    shares = sure + (left * (most - sure.sum()) // max(left.sum(), 1))
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(members, share, replace=False) for members, share in zip(groups.values(), shares, strict=True)]
    return cells.iloc[np.sort(np.concatenate(chosen))]


def outlines_of(selection: Mapping[str, Any]) -> tuple[Outline, ...]:
    """The boxes and lassos of a selection as Plotly tells them, as outlines of few points.

    >>> outlines_of({"box": [{"x": [0, 2], "y": [1, 3]}], "lasso": []})
    (((0.0, 1.0), (2.0, 1.0), (2.0, 3.0), (0.0, 3.0)),)
    """
    found = []
    for box in selection.get("box", ()):
        (left, right), (low, high) = box["x"], box["y"]
        found.append(((left, low), (right, low), (right, high), (left, high)))
    for lasso in selection.get("lasso", ()):
        points = list(zip(lasso["x"], lasso["y"], strict=True))
        found.append(tuple(points[:: -(-len(points) // OUTLINE_POINTS)]))
    return tuple(tuple((round(float(x), 3), round(float(y), 3)) for x, y in one) for one in found if len(one) > 2)


def as_text(outlines: Sequence[Outline]) -> str:
    """Outlines as the address holds them.

    >>> as_text([((0.0, 1.0), (2.5, 1.0), (2.5, 3.0))])
    '0 1 2.5 1 2.5 3'
    """
    return "_".join(" ".join(f"{value:g}" for point in one for value in point) for one in outlines)


def from_text(text: str) -> tuple[Outline, ...]:
    """The outlines of an address; what is no outline is left out, as addresses are typed and cut.

    >>> from_text("0 1 2.5 1 2.5 3_a b"), from_text("")
    ((((0.0, 1.0), (2.5, 1.0), (2.5, 3.0)),), ())
    """
    found = []
    for one in text.split("_"):
        try:
            values = [float(value) for value in one.split()]
        except ValueError:
            continue
        if len(values) >= 6 and len(values) % 2 == 0 and np.isfinite(values).all():
            found.append(tuple(zip(values[::2], values[1::2], strict=True)))
    return tuple(found)


def within(x: NDArray[Any], y: NDArray[Any], outlines: Sequence[Outline]) -> NDArray[np.bool_]:
    """Which places lie within any of the outlines: an even number of edges to the right means outside (Shimrat 1962)."""
    inside = np.zeros(len(x), bool)
    for outline in outlines:
        corners = np.array(outline)
        low, high = corners.min(axis=0), corners.max(axis=0)
        near = np.flatnonzero((x >= low[0]) & (x <= high[0]) & (y >= low[1]) & (y <= high[1]))
        odd = np.zeros(len(near), bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if y0 != y1:
                crossed = (y[near] >= min(y0, y1)) & (y[near] < max(y0, y1))
                odd ^= crossed & (x[near] < x0 + (y[near] - y0) * (x1 - x0) / (y1 - y0))
        inside[near] |= odd
    return inside


def in_order(cells: pd.DataFrame, order: str) -> pd.DataFrame:
    """Most novel, surest or most doubtful cells first; those without the figure last.

    >>> in_order(pd.DataFrame({"novelty": [0.1, None, 0.7], "probability": 1.0}), "novel").index.tolist()
    [2, 0, 1]
    """
    column = "novelty" if order == "novel" else "probability"
    return cells.sort_values(column, ascending=order == "doubtful", na_position="last", kind="stable")


def summary(cells: pd.DataFrame, by: str) -> pd.DataFrame:
    """Cells, samples and patients for each value of a column, the most frequent first; no value is a row of its own."""
    named = cells.assign(**{by: cells[by].astype(object).where(cells[by].notna(), None)})
    found = named.groupby(by, dropna=False).agg(
        cells=("cell_uid", "size"), samples=("sample_uid", "nunique"), patients=("patient_uid", "nunique")
    )
    return found.sort_values("cells", ascending=False).reset_index()
