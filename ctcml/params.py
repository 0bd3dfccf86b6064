"""The only reader of `params.yaml`: typed, unknown keys are errors, all mistakes are reported at once."""

from math import isclose
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
    check_share: Share
    new_class_min: Count


class Review(Section):
    schedule: str
    look_alikes: Annotated[int, Field(ge=0)]
    bootstrap: Count


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

    def shortened(self, profile: str, epochs: tuple[int, ...]) -> dict[str, Any]:
        """The numbers of a profile for the first phases alone, with these epochs, and without the network."""
        phases = len(epochs)
        kept = {"betas": self.profiles[profile].betas[:phases], "epochs": epochs, "keep_phase": phases}
        return {name: value for name, value in (self.numbers(profile) | kept).items() if name != "network"}

    def numbers(self, profile: str = "") -> dict[str, Any]:
        """What `ctcml.train.train` takes, of a profile or of the chosen one; without jitter, which knows the recipe."""
        chosen = self.profiles[profile or self.profile].model_dump()
        return chosen | {"network": self.network, "channel_weights": self.channel_weights}


class Replay(Section):
    """How the replay hides classes; `ctcml.replay` explains what it is for."""

    profile: str
    epochs: Annotated[tuple[Count, ...], Field(min_length=1)]
    networks: Annotated[tuple[Literal["standard", "autoencoder"], ...], Field(min_length=1)]
    cells: Count
    seeds: Count
    prevalences: tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    ratios: Annotated[tuple[Positive, ...], Field(min_length=1)]


class Discover(Section):
    clusters: Count
    method: Literal["kmeans", "hdbscan"]
    min_cells: Count
    draws: Count
    exemplars: Count
    map: Literal["umap", "tsne"]
    map_cells: Count


class Shares(Section):
    """What each arm of the discovery queue gets of the budget; `ctcml.queries.discovery_queue` explains the arms."""

    novel: Share
    border: Share
    critical: Share
    doubtful: Share
    repeat: Share
    # Below a tenth the only fair sample would be too small to say anything.
    random: Annotated[float, Field(ge=0.1, le=1)]

    @model_validator(mode="after")
    def sum_to_one(self) -> "Shares":
        whole = sum(self.model_dump().values())
        if not isclose(whole, 1, abs_tol=1e-9):
            raise ValueError(f"shares sum to {whole:.6g}, expected 1; change one of them")
        return self


class Queue(Section):
    budget: Count
    shares: Shares
    per_patient: Count
    flip_risk: Share
    critical_between: tuple[Share, Share]
    doubtful_below: Share
    doubtful_folds: Annotated[int, Field(ge=2)]
    evaluation_sealed: Annotated[int, Field(ge=0)]
    evaluation_steering: Annotated[int, Field(ge=0)]

    @field_validator("critical_between")
    @classmethod
    def has_a_middle(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] >= bounds[1]:
            raise ValueError("no probability lies between; give the lower bound first")
        return bounds


class Gate(Section):
    """How much worse a challenger may be, and how often the sealed set may be opened; `ctcml.promotion` explains."""

    bootstrap: Count
    ctc_sensitivity_margin: Share
    ctc_specificity_margin: Share
    cluster_f1_margin: Share
    count_error_margin: Share
    anchor_margin: Share
    anchor_confidence: Annotated[float, Field(ge=0.5, lt=1)]
    recall_margin: Share
    calibration_margin: Share
    drift_margin: Share
    cluster_min_cells: Count
    class_min_cells: Count
    new_class_floor: Share
    min_ctc: Count
    sealed_looks: Count
    fresh_share: Annotated[float, Field(gt=0, le=1)]
    unattended: bool

    def rule(self) -> dict[str, Any]:
        """The numbers that `ctcml.promotion.judge` takes."""
        return self.model_dump(exclude={"sealed_looks", "fresh_share", "unattended"})


class Retrain(Section):
    """When the clock trains again; `ctcml.retraining` explains the reasons."""

    schedule: str
    new_labels: Count
    new_class: bool
    drift_alarm: bool


class Executor(Section):
    """Where per-sample work runs; `ctcml.executor` explains the kinds. It changes nothing of what is made."""

    kind: Literal["here", "threads", "processes", "dask", "ray"]
    workers: Annotated[int, Field(ge=0)]
    address: str

    @field_validator("address")
    @classmethod
    def address_is_of_a_cluster(cls, address: str, info: ValidationInfo) -> str:
        if address and info.data.get("kind") not in ("dask", "ray", None):
            raise ValueError(
                f"kind {info.data['kind']!r} runs on this machine; leave the address empty, or name a cluster's kind"
            )
        return address


class Drift(Section):
    """When samples are called unlike the training cells; `ctcml.drift` explains each number."""

    rate: Annotated[float, Field(gt=0, lt=0.5)]
    min_cells: Annotated[int, Field(ge=2)]
    reference_cells: Count
    recent: Count
    chance: Annotated[float, Field(gt=0, lt=0.5)]
    bound: Annotated[float, Field(gt=1)]
    bootstrap: Count


class Counts(Section):
    interval: Annotated[float, Field(gt=0, lt=1)]
    thresholds: tuple[Share, ...]
    denominator: Literal["proposed", "all"]
    temperature_sd: Positive
    patient_spread: Positive
    patient_spread_sd: Positive
    frequency_events: Positive
    readers_differ: Share
    readers_differ_cells: Positive


class Survival(Section):
    endpoint: Literal["os", "pfs"]
    min_events: Count
    cutoffs: dict[str, Count]
    exploratory_cutoffs: dict[str, Count]
    landmark_days: Positive
    covariates: tuple[str, ...]
    draws: Annotated[int, Field(ge=2)]


class Compare(Section):
    """Counts by hand beside those by the model; `ctcml.by_hand` explains what is compared."""

    bootstrap: Count
    gallery: Count


class Subclasses(Section):
    """How many subclasses of which class are looked for; `ctcml.subclasses` explains how."""

    classes: dict[str, Annotated[int, Field(ge=2)]]
    min_cells: Count
    draws: Count
    exemplars: Count

    @field_validator("classes")
    @classmethod
    def classes_are_ids(cls, classes: dict[str, int]) -> dict[str, int]:
        wrong = [name for name in classes if not CLASS_ID.fullmatch(name)]
        if wrong:
            raise ValueError(f"{wrong} are no class ids; write lower-case letters, digits and _")
        return classes


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
    replay: Replay
    discover: Discover
    queue: Queue
    gate: Gate
    retrain: Retrain
    executor: Executor
    drift: Drift
    counts: Counts
    survival: Survival
    compare: Compare
    subclasses: Subclasses

    @model_validator(mode="after")
    def replay_can_train(self) -> "Params":
        profile = self.train.profiles.get(self.replay.profile)
        if profile is None or len(self.replay.epochs) > len(profile.betas):
            raise ValueError(
                f"replay: profile {self.replay.profile!r} with {len(self.replay.epochs)} phases is not there; name one of"
                f" {', '.join(self.train.profiles)} with as many phases or more"
            )
        return self


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
