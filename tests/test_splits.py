"""A patient's set is decided once, in fixed proportions, and leakage is refused."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctcml.errors import ProtocolBreach
from ctcml.records import Patient, Role
from ctcml.splits import assign_patients, leaks, refuse_leakage

BLOCK = {"train": 5, "steering": 1, "sealed": 2}


def people(count: int, cancer_type: str = "breast") -> list[Patient]:
    return [Patient(patient_uid=f"{cancer_type}{number:03}", cancer_type=cancer_type) for number in range(count)]


def test_each_cancer_type_is_split_in_the_proportions_of_the_block() -> None:
    roles = assign_patients([*people(16), *people(8, "lung")], {}, **BLOCK, seed=1)
    assert Counter(role for uid, role in roles.items() if uid.startswith("breast")) == {
        Role.TRAIN: 10,
        Role.SEALED: 4,
        Role.STEERING: 2,
    }
    assert Counter(role for uid, role in roles.items() if uid.startswith("lung")) == {
        Role.TRAIN: 5,
        Role.SEALED: 2,
        Role.STEERING: 1,
    }


@given(st.integers(0, 40), st.integers(0, 1000))
def test_who_comes_later_never_changes_who_came_before(first: int, seed: int) -> None:
    everybody = people(40)
    early = assign_patients(everybody[:first], {}, **BLOCK, seed=seed)
    known = {uid: ("breast", role) for uid, role in early.items()}
    late = assign_patients(everybody, known, **BLOCK, seed=seed)
    assert not set(early) & set(late)
    assert early | late == assign_patients(everybody, {}, **BLOCK, seed=seed)


def test_another_seed_makes_another_assignment() -> None:
    assert assign_patients(people(16), {}, **BLOCK, seed=1) != assign_patients(people(16), {}, **BLOCK, seed=2)


def test_a_sealed_patient_in_training_is_refused_by_name_of_the_set() -> None:
    with pytest.raises(ProtocolBreach, match="sealed"):
        refuse_leakage({"p1": Role.TRAIN, "p2": Role.SEALED}, ["p1", "p2"], [Role.TRAIN], "training")
    refuse_leakage({"p1": Role.TRAIN}, ["p1"], [Role.TRAIN], "training")


APART = [("p1", "train"), ("p2", "sealed"), ("p3", "steering")]


def found(
    *,
    assigned: list[tuple[str, str]] = APART,
    pixels: tuple[str, ...] = ("a", "b", "c", "d"),
    labels: dict[str, str] | None = None,
    queue: dict[str, str] | None = None,
) -> list[str]:
    """Leaks among the cells c1 and c2 of patient p1, c3 of p2 and c4 of p3."""
    cells = pd.DataFrame(
        {"cell_uid": ["c1", "c2", "c3", "c4"], "patient_uid": ["p1", "p1", "p2", "p3"], "content_sha256": pixels}
    )

    def rows(purpose_of: dict[str, str] | None) -> pd.DataFrame:
        twice = 2 * list((purpose_of or {}).items())  # as in the ledger and in a table that was made of it
        return pd.DataFrame(twice, columns=["cell_uid", "purpose"])

    return leaks(assigned, cells, rows(labels), rows(queue))


def test_sets_that_are_apart_have_no_leak() -> None:
    right = {"c1": "training", "c3": "evaluation", "c4": "evaluation"}
    assert found() == []
    assert found(labels=right, queue=right, assigned=[*APART, ("p1", "train")]) == []
    assert found(pixels=("a", "a", "b", "c")) == []  # twice, but in one set
    assert found(pixels=("", "", "", "")) == []  # an old manifest does not say


def test_each_way_in_which_two_sets_touch_is_named() -> None:
    (twice,) = found(assigned=[*APART, ("p2", "train")])
    assert twice.startswith("patient p2: assigned to sealed and train")
    (nowhere,) = found(assigned=APART[:2])
    assert nowhere.startswith("patient p3: has cells but no set")
    (copied,) = found(pixels=("a", "b", "b", "c"))
    assert copied.startswith("cells c2, c3: the same pixels in sealed and train")
    (learnt,) = found(labels={"c1": "training", "c3": "training"})
    assert learnt.startswith("label c3: purpose training, but the patient is sealed")
    (picked,) = found(queue={"c4": "training"})
    assert picked.startswith("queued cell c4: purpose training, but the patient is steering")
    (wasted,) = found(queue={"c1": "evaluation"})
    assert wasted.startswith("queued cell c1: purpose evaluation, but the patient is train")
