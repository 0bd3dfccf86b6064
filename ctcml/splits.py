"""Train, steering and sealed: which set a patient belongs to, decided once at first intake and never recomputed."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from ctcml.errors import ProtocolBreach
from ctcml.records import Patient, Role


def assign_patients(
    new: Iterable[Patient], known: Mapping[str, tuple[str, Role]], *, train: int, steering: int, sealed: int, seed: int
) -> dict[str, Role]:
    """Give each new patient a set, by permuted blocks within cancer type.

    `known` maps patient_uid to (cancer type, role) of everybody assigned before; a block that was begun is gone on with, so
    patients who arrive one by one fill the sets in the same proportions as patients who arrive together. The order of the
    block comes from the workspace's seed, the cancer type and the number of the block alone; within a block patients take
    their places as they come.

    >>> new = [Patient(patient_uid=f"p{i}", cancer_type="breast") for i in range(8)]
    >>> Counter(assign_patients(new, {}, train=5, steering=1, sealed=2, seed=1).values())[Role.SEALED]
    2
    """
    block = [Role.TRAIN] * train + [Role.STEERING] * steering + [Role.SEALED] * sealed
    filled = Counter(cancer_type for cancer_type, _ in known.values())
    roles: dict[str, Role] = {}
    for patient in dict.fromkeys(new):
        if patient.patient_uid in known:
            continue
        number, place = divmod(filled[patient.cancer_type], len(block))
        order = np.random.default_rng([seed, number, *patient.cancer_type.encode()]).permutation(len(block))
        roles[patient.patient_uid] = block[order[place]]
        filled[patient.cancer_type] += 1
    return roles


def refuse_leakage(roles: Mapping[str, str], patients: Iterable[str], allowed: Iterable[Role], purpose: str) -> None:
    """`ProtocolBreach` when a patient of another set than `allowed` is about to be used for `purpose`."""
    permitted = set(allowed)
    wrong = sorted({patient for patient in patients if roles.get(patient) not in permitted})
    if wrong:
        raise ProtocolBreach(
            f"{purpose}: {len(wrong)} patient(s) are not in {'/'.join(sorted(permitted))}, first {wrong[0]} "
            f"({roles.get(wrong[0], 'unassigned')}); leave them out"
        )
