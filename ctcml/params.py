"""The only reader of `params.yaml`: typed, unknown keys are errors, all mistakes are reported at once."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from ctcml.errors import BadParams
from ctcml.records import CLASS_ID, FEATURES

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class Simulate(Section):
    patients: Count
    objects_per_patient: Count
    reader_error: Share
    historic_share: Share
    ambiguous_share: Share


class Image(Section):
    recipe: Literal["asinh", "paper", "given"]
    background_percentile: Annotated[float, Field(ge=0, le=100)]
    asinh_scale: Positive


class Intake(Section):
    page_order: tuple[str, ...]
    schedule: str
    quiet_minutes: Annotated[int, Field(ge=0)]


class Bound(Section):
    """One bound of a gate: the feature lies above `lower`, or at most at `upper` (ACCEPT's > and <=)."""

    feature: str
    lower: Number | None = None
    upper: Number | None = Field(default=None, validate_default=True)

    @field_validator("feature")
    @classmethod
    def feature_is_measured(cls, feature: str) -> str:
        if feature not in FEATURES:
            raise ValueError(f"no such feature; name one that is measured, such as {FEATURES[2]} or {FEATURES[-1]}")
        return feature

    @field_validator("upper")
    @classmethod
    def has_one_side(cls, upper: float | None, info: ValidationInfo) -> float | None:
        # Not a check of the whole bound: that would wait until its feature is mended.
        if "lower" in info.data and (info.data["lower"] is None) == (upper is None):
            raise ValueError("a bound has either lower or upper; give one, and a second bound for the other")
        return upper


Linear = Annotated[tuple[Bound, ...], Field(min_length=1)]


class Gates(Section):
    review_set: Count
    classes: dict[str, dict[str, Linear]]

    @field_validator("classes")
    @classmethod
    def classes_are_ids(cls, classes: dict[str, dict[str, Linear]]) -> dict[str, dict[str, Linear]]:
        wrong = [name for name in classes if not CLASS_ID.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong} are no class ids; write lower-case letters, digits and _")
        if "other" in classes:
            raise ValueError("'other' has no gate: its pool is what other gates let through wrongly; remove it")
        return classes


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


class Profile(Section):
    """One way to train, whole."""

    betas: Annotated[tuple[NotNegative, ...], Field(min_length=1)]
    epochs: tuple[Count, ...]
    keep_phase: Count
    batch_size: Count
    double_every: Annotated[int, Field(ge=0)]
    optimizer: Literal["adamw", "adadelta"]
    learning_rate: Positive
    weight_decay: NotNegative
    latent_l2: NotNegative
    reconstruction: Literal["bce", "sse"]
    hidden: Literal["linear", "relu"]
    output_bias: Literal["mean_pixel", "zero"]
    class_weights: Literal["sqrt", "none"]
    augmentation: Literal["mild", "paper", "none"]

    @model_validator(mode="after")
    def phases_agree(self) -> "Profile":
        if len(self.betas) != len(self.epochs):
            raise ValueError(
                f"{len(self.betas)} betas but {len(self.epochs)} epochs; give one number of epochs a phase"
            )
        if self.keep_phase > len(self.betas):
            raise ValueError(f"keep_phase {self.keep_phase} of {len(self.betas)} phases; name a phase that is trained")
        return self


class JitterStrength(Section):
    """How far images are pushed towards those of another instrument; `ctcml.augment.Jitter` explains each number."""

    share: Share
    gain: NotNegative
    noise_counts: NotNegative
    blur_px: NotNegative


class Train(Section):
    profile: str
    network: Literal["autoencoder", "standard"]
    device: Literal["auto", "cpu", "cuda", "mps"]
    channel_weights: tuple[Positive, Positive, Positive]
    new_class_from: Literal["weights", "scratch"]
    jitter: JitterStrength
    profiles: dict[str, Profile]

    @model_validator(mode="after")
    def profile_is_there(self) -> "Train":
        if self.profile not in self.profiles:
            raise ValueError(f"profile {self.profile!r} is not there; name one of {', '.join(self.profiles)}")
        return self

    def numbers(self, profile: str = "") -> dict[str, Any]:
        """What `ctcml.train.train` takes, of a profile or of the chosen one; without jitter, which knows the recipe."""
        chosen = self.profiles[profile or self.profile].model_dump()
        return chosen | {"network": self.network, "channel_weights": self.channel_weights}


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
    intake: Intake
    gates: Gates
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
