"""The only reader of `params.yaml`: typed, unknown keys are errors, all mistakes are reported at once."""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ctcml.errors import BadParams

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Simulate(Section):
    patients: Count
    objects_per_patient: Count
    reader_error: Share
    historic_share: Share
    ambiguous_share: Share


class Image(Section):
    recipe: Literal["asinh", "paper"]
    background_percentile: Annotated[float, Field(ge=0, le=100)]
    asinh_scale: Positive


class Splits(Section):
    train: Count
    steering: Count
    sealed: Count


class Settlement(Section):
    rule: Literal["adjudicate", "paper"]
    new_class_min: Count


class Review(Section):
    readers: tuple[str, str]
    adjudicator: str

    @model_validator(mode="after")
    def three_people(self) -> "Review":
        if len({*self.readers, self.adjudicator}) != 3:
            raise ValueError("readers and adjudicator are not three different people; name three")
        return self


class Train(Section):
    betas: tuple[Annotated[float, Field(ge=0)], ...]
    epochs: tuple[Count, ...]
    keep_phase: Count
    batch_size: Count
    learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    latent_l2: Annotated[float, Field(ge=0)]
    channel_weights: tuple[Positive, Positive, Positive]
    class_weights: Literal["sqrt", "none"]
    augmentation: Literal["mild", "paper", "none"]
    new_class_from: Literal["weights", "scratch"]

    @model_validator(mode="after")
    def phases_agree(self) -> "Train":
        if len(self.betas) != len(self.epochs):
            raise ValueError(
                f"{len(self.betas)} betas but {len(self.epochs)} epochs; give one number of epochs a phase"
            )
        if not self.betas or self.keep_phase > len(self.betas):
            raise ValueError(f"keep_phase {self.keep_phase} of {len(self.betas)} phases; name a phase that is trained")
        return self


class Discover(Section):
    clusters: Count
    ratio: Positive
    min_cells: Count
    neighbours: Count
    map: Literal["umap", "tsne"]
    map_cells: Count
    exemplars: Count


class Queue(Section):
    novel: Annotated[int, Field(ge=0)]
    uncertain: Annotated[int, Field(ge=0)]
    random: Annotated[int, Field(ge=0)]
    per_patient: Count
    evaluation_sealed: Annotated[int, Field(ge=0)]
    evaluation_steering: Annotated[int, Field(ge=0)]


class Gate(Section):
    bootstrap: Count
    ctc_sensitivity_margin: Share
    ctc_specificity_margin: Share
    shared_accuracy_margin: Share
    new_class_floor: Share
    min_ctc: Count
    unattended: bool


class Counts(Section):
    interval: Annotated[float, Field(gt=0, lt=1)]
    thresholds: tuple[Share, ...]
    denominator: Literal["proposed", "all"]


class Survival(Section):
    endpoint: Literal["os", "pfs"]
    min_events: Count
    cutoffs: dict[str, Count]
    exploratory_cutoffs: dict[str, Count]


class Params(Section):
    """All of `params.yaml`; only the CLI and the flows hold one whole."""

    seed: Annotated[int, Field(ge=0)]
    simulate: Simulate
    image: Image
    splits: Splits
    settlement: Settlement
    review: Review
    train: Train
    discover: Discover
    queue: Queue
    gate: Gate
    counts: Counts
    survival: Survival


def load_params(path: Path) -> Params:
    """Read and check a parameter file; `BadParams` names every mistake at once."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadParams(f"{path}: no such file; run `ctcml init` to make a workspace") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise BadParams(f"{path}: not readable as YAML ({' '.join(str(error).split())}); mend the file") from None
    try:
        return Params.model_validate(found)
    except ValidationError as error:
        mistakes = [
            f"{'.'.join(str(part) for part in mistake['loc']) or 'file'}: {mistake['msg']} (found {str(mistake['input'])[:60]!r})"
            for mistake in error.errors()
        ]
        raise BadParams(f"{path}: {len(mistakes)} mistake(s): " + "; ".join(mistakes)) from None
