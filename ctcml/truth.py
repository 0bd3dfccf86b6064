"""The ground truth: derived from the ledger and from nothing else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from ctcml.class_registry import classes_of
from ctcml.errors import ProtocolBreach
from ctcml.ledger import Event
from ctcml.records import NEW_PREFIX, UNREADABLE, CellClass, Purpose, Role
from ctcml.tables import TRUTH

MASKED = "sealed_"  # what labels of sealed patients begin with where they may not be read


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Labelled cells (`tables.TRUTH`), the class registry in order of registration, and every patient's set.

    Labels of sealed patients lie apart: `sealed` goes into the file that only the gate may open.
    """

    cells: pd.DataFrame
    sealed: pd.DataFrame
    classes: tuple[CellClass, ...]
    roles: dict[str, Role]
    historic_unused: int  # historic labels of steering and sealed patients: not drawn at random, so closed to everybody


def ground_truth(events: Iterable[Event], manifest: pd.DataFrame) -> GroundTruth:
    """Replay the ledger: the last settlement of a cell stands, else its historic label.

    Raises `ProtocolBreach` when a settled label would let a steering or sealed patient into training.
    """
    events = list(events)
    roles: dict[str, Role] = {}
    labels: dict[str, tuple[str, str, str]] = {}
    for event in events:
        body = event.body
        if event.kind == "patient_assigned":
            roles[body["patient_uid"]] = Role(body["role"])
        elif event.kind == "historic_label":
            labels.setdefault(body["cell_uid"], (body["class_id"], Purpose.TRAINING, "historic"))
        elif event.kind == "settlement":
            labels[body["cell_uid"]] = (body["class_id"], body["purpose"], body["how"])
    cells = manifest[["cell_uid", "sample_uid", "patient_uid"]][manifest["cell_uid"].isin(labels)].copy()
    for place, name in enumerate(("class_id", "purpose", "how")):
        cells[name] = [labels[uid][place] for uid in cells["cell_uid"]]
    cells["role"] = [roles[patient].value for patient in cells["patient_uid"]]
    held_out = cells["role"] != Role.TRAIN
    unused = held_out & (cells["how"] == "historic")
    cells = cells[~unused]
    refuse_mixed_purposes(cells)
    closed = cells["role"] == Role.SEALED
    return GroundTruth(
        cells=_in_order(cells[~closed]),
        sealed=_in_order(cells[closed]),
        classes=classes_of(events),
        roles=roles,
        historic_unused=int(unused.sum()),
    )


def _in_order(cells: pd.DataFrame) -> pd.DataFrame:
    return cells[list(TRUTH)].sort_values(["sample_uid", "cell_uid"], ignore_index=True)


def without_sealed_labels(opinions: pd.DataFrame, roles: Mapping[str, Role]) -> pd.DataFrame:
    """Readings (`tables.OPINIONS`) in which those of sealed patients say only which of a cell's readings are alike.

    That is enough to tell how often two readers differ; what they called the cell is for the gate.
    """
    closed = opinions["patient_uid"].map(roles).eq(Role.SEALED) & opinions["label"].ne(UNREADABLE)
    said = opinions["label"].str.removeprefix(NEW_PREFIX)
    number = said[closed].groupby(opinions["cell_uid"]).transform(lambda labels: pd.factorize(labels)[0])
    alike = MASKED + number.astype(int).astype(str)
    return opinions.assign(
        label=opinions["label"].where(~closed, alike), reasons=opinions["reasons"].where(~closed, "")
    )


def refuse_mixed_purposes(cells: pd.DataFrame) -> None:
    """Training labels belong to training patients, evaluation labels to steering and sealed ones; `ProtocolBreach` if not."""
    for_training = cells["purpose"] == Purpose.TRAINING
    of_training = cells["role"] == Role.TRAIN
    wrong = cells[for_training != of_training]
    if len(wrong):
        first = wrong.iloc[0]
        raise ProtocolBreach(
            f"{len(wrong)} label(s) would cross the sets, first cell {first['cell_uid']}: purpose {first['purpose']} but patient is "
            f"{first['role']}; find the settlement with `ctcml ledger show` and withdraw it"
        )


def training_cells(cells: pd.DataFrame) -> pd.DataFrame:
    """The rows that the trainer may see."""
    return cells[(cells["purpose"] == Purpose.TRAINING) & (cells["role"] == Role.TRAIN)]


def evaluation_cells(cells: pd.DataFrame, role: Role) -> pd.DataFrame:
    """The rows of the evaluation arm of steering patients; `ProtocolBreach` for those of sealed ones."""
    if role == Role.SEALED:
        raise ProtocolBreach("the labels of sealed patients are for the gate alone; judge on steering patients")
    return cells[(cells["purpose"] == Purpose.EVALUATION) & (cells["role"] == role)]
