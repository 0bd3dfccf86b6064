"""A patient's set is decided once, in fixed proportions, and leakage is refused."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctcml.errors import ProtocolBreach
from ctcml.records import Patient, Role
from ctcml.splits import assign_patients, refuse_leakage

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
