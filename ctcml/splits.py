"""Train, steering and sealed: which set a patient belongs to, decided once at first intake and never recomputed."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ctcml.errors import ProtocolBreach
from ctcml.records import Patient, Purpose, Role


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


def leaks(
    assigned: Iterable[tuple[str, str]], cells: pd.DataFrame, labels: pd.DataFrame, queue: pd.DataFrame
) -> list[str]:
    """Every way in which the three sets touch, a sentence each; none when they are apart.

    `assigned` holds (patient_uid, set) of each assignment that was ever written down, `cells` cell_uid, patient_uid and
    content_sha256 of the data, `labels` cell_uid and purpose of every label that somebody may learn or judge by, `queue`
    the same of every cell that was or is to be asked. Pixels that are all alike across patients of one set are no leak.
    """
    sets: dict[str, set[str]] = {}
    for patient, role in assigned:
        sets.setdefault(patient, set()).add(str(role))
    named = cells.assign(role=cells["patient_uid"].map({patient: min(roles) for patient, roles in sets.items()}))
    found = [
        f"patient {patient}: assigned to {' and '.join(sorted(roles))}; the ledger may hold one set a patient"
        for patient, roles in sets.items()
        if len(roles) > 1
    ]
    found += [
        f"patient {patient}: has cells but no set; take the patient in again, so that the ledger knows the set"
        for patient in sorted(set(named.loc[named["role"].isna(), "patient_uid"]))
    ]
    return found + _shared_pixels(named) + _crossing(labels, named, "label") + _crossing(queue, named, "queued cell")


def _shared_pixels(cells: pd.DataFrame) -> list[str]:
    """The same pixels in two sets: one cell that was taken in under two patients, or one picture in two exports."""
    known = cells[cells["role"].notna() & cells["content_sha256"].fillna("").ne("")]
    twice = known[known.groupby("content_sha256")["role"].transform("nunique") > 1]
    return [
        f"cells {', '.join(same['cell_uid'])}: the same pixels in {' and '.join(sorted(set(same['role'])))}; "
        "find out whose they are and withdraw the other patient"
        for _, same in twice.groupby("content_sha256", sort=False)
    ]


def _crossing(rows: pd.DataFrame, cells: pd.DataFrame, what: str) -> list[str]:
    """Training for a held-out patient, or evaluation of a training patient."""
    rows = rows.drop_duplicates(["cell_uid", "purpose"])
    of_cell = cells.drop_duplicates("cell_uid").set_index("cell_uid")
    role = rows["cell_uid"].map(of_cell["role"])
    wrong = rows[role.notna() & rows["purpose"].eq(Purpose.TRAINING).ne(role.eq(Role.TRAIN))]
    return [
        f"{what} {row.cell_uid}: purpose {row.purpose}, but the patient is {role[row.Index]}; "
        "find it with `ctcml ledger show` and withdraw it"
        for row in wrong.itertuples()
    ]
