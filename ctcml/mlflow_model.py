"""The model as MLflow loads it: this file is copied into each registered model and run there; nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from ctcml.embed import Scorer, load_scorer, score
from ctcml.records import PLANES


class CellClassifier(PythonModel):  # type: ignore[misc]  # MLflow has no types
    """Images (N, 80, 80, 3) uint8 in; one row a cell out: class, probabilities, errors a plane, latents."""

    scorer: Scorer

    def load_context(self, context: PythonModelContext) -> None:
        """Open the weights; called by MLflow once."""
        self.scorer = load_scorer(Path(context.artifacts["model"]))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score images that were made with the recipe in the model's card."""
        scores = score(self.scorer, model_input)
        columns: dict[str, Any] = {"predicted": scores.predicted}
        columns |= {f"p_{name}": scores.probabilities[:, i] for i, name in enumerate(self.scorer.classes)}
        columns |= {f"error_{plane.lower()}": scores.reconstruction_error[:, i] for i, plane in enumerate(PLANES)}
        columns |= {f"z{i}": scores.latents[:, i] for i in range(scores.latents.shape[1])}
        return pd.DataFrame(columns)


set_model(CellClassifier())
