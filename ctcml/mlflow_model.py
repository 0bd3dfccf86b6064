"""The model as MLflow loads it: a registered model names this module and brings its files; nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.embed import Scorer, load_scorer, score
from ctcml.records import PLANES


class CellClassifier:
    """Images (N, 80, 80, 3) uint8 in; one row a cell out: class, probabilities, errors a plane, latents."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def predict(self, images: NDArray[np.uint8]) -> pd.DataFrame:
        """Score images that were made with the recipe in the model's card; the standard CNN's errors are NaN."""
        scores = score(self.scorer, images)
        columns: dict[str, Any] = {"predicted": scores.predicted}
        columns |= {f"p_{name}": scores.probabilities[:, i] for i, name in enumerate(self.scorer.classes)}
        columns |= {f"error_{plane.lower()}": scores.reconstruction_error[:, i] for i, plane in enumerate(PLANES)}
        columns |= {f"z{i}": scores.latents[:, i] for i in range(scores.latents.shape[1])}
        return pd.DataFrame(columns)


def _load_pyfunc(folder: str) -> CellClassifier:
    """Open a model's folder; MLflow calls this by its name."""
    return CellClassifier(load_scorer(Path(folder)))
