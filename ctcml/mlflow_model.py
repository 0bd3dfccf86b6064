"""The model as MLflow loads it: a registered model names this module and brings its files; nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.artefacts import require_whole
from ctcml.embed import Scorer, load_scorer, look
from ctcml.novelty import novelty_scores
from ctcml.records import PLANES
from ctcml.reference import Reference, read_reference


class CellClassifier:
    """Images (N, 80, 80, 3) uint8 in; one row a cell out: class, probabilities, errors a plane, novelty, latents."""

    def __init__(self, scorer: Scorer, reference: Reference | None = None) -> None:
        self.scorer, self.reference = scorer, reference

    def predict(self, images: NDArray[np.uint8]) -> pd.DataFrame:
        """Score images that were made with the recipe in the model's card; the standard CNN's errors are NaN.

        `novelty` (larger is more novel) is the score that the replay chose for this model, beside the training cells that
        came with it; a score of densities looks at all cells of a call together. A model without them gives its energy.
        """
        seen = look(self.scorer, images)
        novelty = seen.energy
        if self.reference is not None and len(images):
            known = self.reference
            novelty = novelty_scores(known.seen, known.labels, seen, names=[known.score])[known.score]
        columns: dict[str, Any] = {"predicted": [self.scorer.classes[at] for at in seen.probabilities.argmax(axis=1)]}
        columns |= {f"p_{name}": seen.probabilities[:, i] for i, name in enumerate(self.scorer.classes)}
        columns |= {f"error_{plane.lower()}": seen.reconstruction_error[:, i] for i, plane in enumerate(PLANES)}
        columns |= {"novelty": np.asarray(novelty, dtype=np.float64)}
        columns |= {f"z{i}": seen.latents[:, i] for i in range(seen.latents.shape[1])}
        return pd.DataFrame(columns)


def _load_pyfunc(folder: str) -> CellClassifier:
    """Open a model's folder, whose files must be those that were registered; MLflow calls this by its name."""
    model = Path(folder)
    require_whole(model)
    return CellClassifier(load_scorer(model), read_reference(model))
