"""Which thumbnails are worth a reader's time, and why: the discovery queue and the evaluation arm."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import numpy as np
import pandas as pd

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.records import Purpose, Role
from ctcml.splits import refuse_leakage

COLUMNS = ["cell_uid", "purpose", "reason", "rank"]


def discovery_queue(
    discovery: pd.DataFrame,
    patients: "Mapping[str, str] | pd.Series",
    *,
    roles: Mapping[str, str],
    novel: int,
    uncertain: int,
    random: int,
    per_patient: int,
    exclude: Collection[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Choose cells of training patients for two readers (`tables.QUEUE`); why: random, novel or uncertain.

    `discovery` is the table of that name, `patients` gives the patient_uid of a cell_uid, `exclude` holds cells already
    read or queued; labelled cells are left out too.

    The random arm is drawn first and blindly, so that it stays a fair sample. Novel cells are drawn at random from the
    flagged clusters, so that the share of real finds among them is that of the clusters. Uncertain cells are those with
    the smallest margin; they take over the places that too few novel cells leave empty. No patient gives more
    than `per_patient` cells. The order is shuffled: it must not tell a reader the reason.
    Raises `ProtocolBreach` if any cell belongs to a patient who is not in the training set.
    """
    cells = discovery.sort_values("cell_uid", ignore_index=True)  # the draw must not depend on the order of files
    _require_distinct(cells["cell_uid"])
    owner = {cell_uid: patients.get(cell_uid, "") for cell_uid in cells["cell_uid"]}
    refuse_leakage(roles, owner.values(), [Role.TRAIN], "discovery")
    free = cells[~cells["in_reference"].astype(bool) & ~cells["cell_uid"].isin(set(exclude))]
    free = free.set_index("cell_uid", drop=False)
    reasons: dict[str, str] = {}
    load: Counter[str] = Counter()

    def take(candidates: Iterable[str], wanted: int, reason_of: Mapping[str, str]) -> int:
        """Take the first free candidates whose patients have room; return how many are lacking."""
        for cell_uid in candidates:
            if wanted <= 0:
                break
            if cell_uid not in reasons and load[owner[cell_uid]] < per_patient:
                reasons[cell_uid] = reason_of[cell_uid]
                load[owner[cell_uid]] += 1
                wanted -= 1
        return wanted

    everything = dict.fromkeys(free.index, "random")
    in_flagged = free.loc[free["flagged"].astype(bool), "cluster"]
    flagged = {cell_uid: f"novel: cluster {cluster}" for cell_uid, cluster in in_flagged.items()}
    doubtful = free["uncertainty"].sort_values(ascending=False, kind="stable")
    unsure = {cell_uid: f"uncertain: margin {1 - doubt:.2f}" for cell_uid, doubt in doubtful.items()}
    take(_shuffled(everything, rng), random, everything)
    lacking = take(_shuffled(flagged, rng), novel, flagged)
    take(doubtful.index, uncertain + lacking, unsure)
    return _queue(reasons, Purpose.TRAINING, rng)


def evaluation_queue(
    manifest: pd.DataFrame,
    roles: Mapping[str, str],
    *,
    sealed: int,
    steering: int,
    exclude: Collection[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw uniform random cells of sealed and of steering patients (`tables.QUEUE`), without any model.

    `manifest` needs cell_uid and patient_uid; cells of training patients are passed over. Where there are fewer cells
    than wanted all are taken. Raises `ProtocolBreach` for a patient without a set.
    """
    cells = manifest[["cell_uid", "patient_uid"]].sort_values("cell_uid", ignore_index=True)
    _require_distinct(cells["cell_uid"])
    without = sorted(set(cells["patient_uid"]) - set(roles))
    if without:
        raise ProtocolBreach(
            f"patient {without[0]}: belongs to no set ({len(without)} such patients); assign patients first"
        )
    role = cells["patient_uid"].map({patient: str(role) for patient, role in roles.items()})
    free = ~cells["cell_uid"].isin(set(exclude))
    drawn: list[str] = []
    for kind, wanted in ((Role.SEALED, sealed), (Role.STEERING, steering)):
        drawn += _shuffled(cells.loc[free & (role == kind.value), "cell_uid"], rng)[:wanted]
    return _queue(dict.fromkeys(drawn, "evaluation"), Purpose.EVALUATION, rng)


def _shuffled(cell_uids: Iterable[str], rng: np.random.Generator) -> list[str]:
    in_order = list(cell_uids)
    return [in_order[place] for place in rng.permutation(len(in_order))]


def _queue(reasons: Mapping[str, str], purpose: Purpose, rng: np.random.Generator) -> pd.DataFrame:
    order = _shuffled(reasons, rng)
    rows = [(cell_uid, purpose.value, reasons[cell_uid], rank) for rank, cell_uid in enumerate(order)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"rank": np.int32})


def _require_distinct(cell_uids: pd.Series) -> None:
    twice = cell_uids[cell_uids.duplicated()]
    if len(twice):
        raise BadInput(f"cell {twice.iloc[0]}: listed twice ({len(twice)} such rows); give each cell once")
