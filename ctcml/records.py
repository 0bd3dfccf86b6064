"""The nouns of the laboratory: frozen, checked at birth, without any I/O."""

import re
from dataclasses import dataclass
from enum import StrEnum

from ctcml.errors import BadInput

PIXEL_SIZE_UM = 0.64  # CellTracks Analyzer II, micrometres per pixel (ACCEPT)
PLANES = ("CD45", "DAPI", "CK")  # order of planes in shards and in the network's input
# Names of ACCEPT's features of channel 1 (CD45), 2 (DAPI) and 3 (CK), as `features.measure` gives them.
FEATURES = (
    *(
        f"ch_{channel}_{name}"
        for channel in range(1, len(PLANES) + 1)
        for name in (
            "Eccentricity", "Perimeter", "MeanIntensity", "MaxIntensity", "MedianIntensity", "Size",
            "StandardDeviation", "Mass", "P2A",
        )
    ),
    "ch_2_Overlay_ch_1",
    "ch_2_Overlay_ch_3",
)  # fmt: skip
# What a reader may say of an object beside its class, and how the page calls it.
REASONS = {
    "fragment": "fragment",
    "cd45_positive": "CD45+",
    "no_nucleus": "no nucleus",
    "misaligned": "misaligned",
    "out_of_focus": "out of focus",
    "debris": "debris",
}
UNREADABLE = "unreadable"  # a label that is no class: the reader cannot say, another person decides
NEW_PREFIX = "new:"  # a label that proposes a class
RESERVED = (UNREADABLE, "new_class")  # names that the page uses for other things than classes
CLASS_ID = re.compile(r"[a-z][a-z0-9_]{0,39}")


class Role(StrEnum):
    """The set a patient belongs to for good; decided once, at first intake."""

    TRAIN = "train"
    STEERING = "steering"
    SEALED = "sealed"


class Purpose(StrEnum):
    """Why a label exists; evaluation labels are closed to trainer and picker."""

    TRAINING = "training"
    EVALUATION = "evaluation"


class Duty(StrEnum):
    """For what a reading was asked: as one of the two, to decide where they differ, or to check where they agree."""

    READER = "reader"
    ADJUDICATOR = "adjudicator"
    CHECK = "check"


class Confidence(StrEnum):
    """How sure a reader says to be; four steps, so that nobody can stay in the middle."""

    SURE = "sure"
    PROBABLE = "probable"
    DOUBTFUL = "doubtful"
    GUESS = "guess"


class Verdict(StrEnum):
    """What the gate says of a challenger."""

    PROMOTE = "promote"
    REFUSE = "refuse"
    CANNOT_DECIDE = "cannot decide"


def class_id_from_name(name: str) -> str:
    """Normalise a reader's name of a class to its permanent id.

    Raises `BadInput` if nothing usable is left.

    >>> class_id_from_name(" CD45EV ")
    'cd45ev'
    >>> class_id_from_name("Bare nucleus")
    'bare_nucleus'
    """
    wanted = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
    if not CLASS_ID.fullmatch(wanted):
        raise BadInput(
            f"class name {name!r}: expected up to 40 letters or digits starting with a letter; type another name"
        )
    return wanted


@dataclass(frozen=True, kw_only=True)
class CellClass:
    """One class of objects; `class_id` is permanent and never reused."""

    class_id: str
    name: str
    definition: str
    retired: bool = False

    def __post_init__(self) -> None:
        if not CLASS_ID.fullmatch(self.class_id):
            raise BadInput(f"class_id {self.class_id!r}: expected lower-case letters, digits and _; rename it")
        if self.class_id in RESERVED:
            raise BadInput(f"class_id {self.class_id!r}: the reading page uses that name for something else; rename it")
        if not self.name.strip():
            raise BadInput(f"class {self.class_id!r}: its name is empty; give it one")


PAPER_CLASSES = (
    CellClass(
        class_id="ctc", name="CTC", definition="CK+, DAPI+, CD45−, at least 4 µm, nucleus inside the cytokeratin"
    ),
    CellClass(class_id="tdev", name="tdEV", definition="Tumour-derived extracellular vesicle: CK+, DAPI−, CD45−"),
    CellClass(class_id="wbc", name="WBC", definition="White blood cell: DAPI+, CD45+, CK−"),
    CellClass(class_id="bare_nucleus", name="Bare nucleus", definition="DAPI+ only"),
    CellClass(class_id="other", name="Other object", definition="Artefact, debris or an object of unknown origin"),
)


@dataclass(frozen=True, kw_only=True)
class Patient:
    """A pseudonymous patient; `patient_uid` is keyed and says nothing about the person."""

    patient_uid: str
    cancer_type: str


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One tube of blood of one patient."""

    sample_uid: str
    patient_uid: str
    sample_kind: str
    cancer_type: str
    blood_volume_ml: float = 7.5

    def __post_init__(self) -> None:
        if not 0 < self.blood_volume_ml <= 50:
            raise BadInput(
                f"sample {self.sample_uid}: blood_volume_ml is {self.blood_volume_ml}, expected 0 to 50; check the clinical table"
            )


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reader's answer about one thumbnail on one occasion.

    `label` is a `class_id`, `new:<class_id>` when the reader proposes a class, or `UNREADABLE`. `confidence` is what the
    reader said, or None; `reasons` are keys of `REASONS`.
    """

    read_uid: str
    cell_uid: str
    reader: str
    label: str
    occasion: str
    purpose: Purpose
    lead_time_s: float | None = None
    duty: Duty = Duty.READER
    confidence: Confidence | None = None
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not CLASS_ID.fullmatch(self.label.removeprefix(NEW_PREFIX)):
            raise BadInput(
                f"reading {self.read_uid}: label {self.label!r} is neither a class nor new:<name>; read the cell again"
            )
        if not self.reader:
            raise BadInput(f"reading {self.read_uid}: the reader is missing")
        if unknown := set(self.reasons) - set(REASONS):
            raise BadInput(
                f"reading {self.read_uid}: reasons {sorted(unknown)} are not among {list(REASONS)}; read it again"
            )


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A thumbnail with a label that two readers, or the adjudicator, stand for."""

    cell_uid: str
    label: str
    how: str
    purpose: Purpose
    occasion: str


@dataclass(frozen=True, kw_only=True)
class Contested:
    """A thumbnail for a third person: the two readers differ, or (duty check) somebody shall look whether they are right."""

    cell_uid: str
    labels: tuple[str, str]
    purpose: Purpose
    occasion: str
    duty: Duty = Duty.ADJUDICATOR


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A thumbnail that was read as often as the rule asks and gets no label from it, and why."""

    cell_uid: str
    occasion: str
    why: str
