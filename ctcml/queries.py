"""Which thumbnails are worth a reader's time, and why: the discovery queue and the evaluation arm."""

import math
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.records import Purpose, Reading, Role
from ctcml.splits import refuse_leakage

COLUMNS = ["cell_uid", "purpose", "reason", "rank"]
ARM = ["cell_uid", "patient_uid", "group", "reason"]  # a row a cell, the worthiest first; groups take turns
ARMS = ("random", "repeat", "doubtful", "critical", "novel", "border")  # in the order in which they are drawn
DOUBTFUL, REPEAT = "doubtful label", "hidden repeat"
REREADS = (DOUBTFUL, REPEAT)  # kinds of reasons for which a cell is asked that has been read or labelled
CTC = "ctc"
NO_OTHERS: Mapping[str, pd.DataFrame] = MappingProxyType({})


def discovery_queue(
    cells: pd.DataFrame,
    *,
    budget: int,
    shares: Mapping[str, float],
    per_patient: int,
    roles: Mapping[str, str],
    rng: np.random.Generator,
    others: Mapping[str, pd.DataFrame] = NO_OTHERS,
) -> pd.DataFrame:
    """Choose up to `budget` cells of training patients for two readers, each with its reason (`tables.QUEUE`).

    `cells` are the candidates, a row each, which nobody has read or labelled: cell_uid, patient_uid, predicted,
    uncertainty (1 - margin), cluster, flagged. `others` gives the arms that need more, as tables with the columns of
    `ARM`: `critical` from `decision_critical`, `doubtful` from `doubtful_labels`, `repeat` from `hidden_repeats`.
    `shares` are those of the arms in the budget (see `places`).

    The random arm is drawn first and blindly, so that it stays a fair sample of what is unread; only the cap touches
    it. Hidden repeats are drawn at random too. Novel cells are drawn at random, from each flagged cluster in turn, so
    that a large one does not crowd out a small one. Border cells are those of the smallest margin, of each predicted
    class in turn, so that a rare class gets its share; they take over the places that other arms leave empty. No
    patient gives more than `per_patient` cells. The order is shuffled: it must not tell a reader the reason.
    Raises `ProtocolBreach` if any cell belongs to a patient who is not in the training set, `BadInput` for a cell
    that is listed twice or shares that are none.
    """
    cells = cells.sort_values("cell_uid", ignore_index=True)  # the draw must not depend on the order of files
    given = {arm: others.get(arm, pd.DataFrame(columns=ARM)) for arm in ("repeat", "doubtful", "critical")}
    for table in (cells, *given.values()):
        _require_distinct(table["cell_uid"])
        refuse_leakage(roles, table["patient_uid"], [Role.TRAIN], "discovery")
    room = places(budget, shares)
    arms = {
        "random": _dealt(cells, rng).assign(group="", reason="random"),
        "repeat": _dealt(given["repeat"].sort_values("cell_uid"), rng),
        "doubtful": given["doubtful"],
        "critical": given["critical"],
        "novel": _novel(_dealt(cells, rng)),
        "border": _border(cells),
    }
    reasons: dict[str, str] = {}
    load: Counter[str] = Counter()

    def is_free(cell: tuple[str, str, str]) -> bool:
        return cell[0] not in reasons and load[cell[1]] < per_patient

    for arm in ARMS:
        left = budget - len(reasons)
        wanted = left if arm == "border" else min(left, room[arm])
        for cell_uid, patient_uid, reason in islice(_in_turns(arms[arm], is_free), wanted):
            reasons[cell_uid] = reason
            load[patient_uid] += 1
    return _queue(reasons, Purpose.TRAINING, rng)


def places(budget: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Places of each arm in a round: random ones rounded up, so that its share holds, the rest of the rounding to border.

    Arms without a share get no place. Raises `BadInput` for an unknown arm, or shares that do not sum to 1.

    >>> places(30, {"random": 0.125, "novel": 0.55, "border": 0.325})["random"]
    4
    """
    unknown = sorted(set(shares) - set(ARMS))
    if unknown or min(shares.values(), default=0) < 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-9):
        raise BadInput(f"shares {dict(shares)}: expected shares of {', '.join(ARMS)} that sum to 1; mend them")
    # Rounded first: 70 * 0.1 is a little more than 7 in floating point.
    exact = {arm: round(budget * shares.get(arm, 0), 6) for arm in ARMS}
    whole = {arm: math.ceil(share) if arm == "random" else math.floor(share) for arm, share in exact.items()}
    return whole | {"border": budget - sum(number for arm, number in whole.items() if arm != "border")}


def decision_critical(
    cells: pd.DataFrame,
    counts: pd.DataFrame,
    *,
    classes: Sequence[str],
    denominator: str,
    flip_risk: float,
    between: tuple[float, float],
) -> pd.DataFrame:
    """Cells that could move a patient across the cut-off of the cancer type (an arm of `discovery_queue`).

    `cells` has cell_uid, patient_uid, sample_uid, proposed and probabilities (lists in the order of `classes`),
    `counts` is `tables.COUNTS`. A sample is at stake when the cut-off lies in the interval of the CTCs of this very tube, by
    arg-max over `denominator`, or the chance that the tube lies on its other side is above `flip_risk`; that the next tube of
    the same blood would hold others, no reading can change. In it those cells of the denominator count whose probability p of being a CTC
    lies `between` two bounds: by p (1 - p), the variance that each brings into the count. Samples take turns, the
    one of the greatest flip risk first.
    """
    rows = counts[(counts["class_id"] == CTC) & (counts["threshold"] == 0) & (counts["denominator"] == denominator)]
    undecided = (rows["tube_low"] < rows["cutoff"]) & (rows["tube_high"] >= rows["cutoff"])
    rows = rows.assign(flip_risk=rows["tube_flip_risk"])
    rows = rows[rows["cutoff"].notna() & (undecided | (rows["flip_risk"] > flip_risk))]
    cells = cells.assign(chance=_chance(cells, [CTC] * len(cells), classes)).sort_values("cell_uid")
    if denominator == "proposed":
        cells = cells[cells["proposed"].eq(True)]
    near = cells[cells["chance"].between(*between)].merge(rows[["sample_uid", "flip_risk", "cutoff"]], on="sample_uid")
    near = near.assign(influence=near["chance"] * (1 - near["chance"]), group=near["sample_uid"])
    near = near.sort_values(["flip_risk", "influence"], ascending=False, kind="stable", ignore_index=True)
    why = [
        f"critical: flip risk {risk:.2f} at the cut-off of {cutoff:g} CTC per 7.5 ml"
        for risk, cutoff in zip(near["flip_risk"], near["cutoff"], strict=True)
    ]
    return near.assign(reason=why)[ARM]


def doubtful_labels(
    labelled: pd.DataFrame, noisy: pd.DataFrame, *, classes: Sequence[str], below: float
) -> pd.DataFrame:
    """Settled training labels that are probably wrong (an arm of `discovery_queue`): by confident learning, then by the champion.

    `noisy` comes from `label_noise`. `labelled` has cell_uid, patient_uid, class_id and probabilities (lists in the order of
    `classes`); those to which the champion, which learnt them, still gives a probability under `below` follow, the least
    probable first. The champion says nothing of labels of a class that it does not know.
    """
    chance = _chance(labelled, labelled["class_id"], classes)
    doubted = labelled.assign(chance=chance, group="").sort_values("cell_uid")
    doubted = doubted[(doubted["chance"] < below) & ~doubted["cell_uid"].isin(set(noisy["cell_uid"]))]
    doubted = doubted.sort_values("chance", kind="stable", ignore_index=True)
    why = [
        f"{DOUBTFUL}: probability {one:.3f} of {class_id}"
        for one, class_id in zip(doubted["chance"], doubted["class_id"], strict=True)
    ]
    learnt = [
        f"{DOUBTFUL}: {given} looks like {suggested} to judges of other patients"
        for given, suggested in zip(noisy["given"], noisy["suggested"], strict=True)
    ]
    arms = [noisy.assign(group="", reason=learnt)[ARM], doubted.assign(reason=why)[ARM]]
    return pd.concat([one for one in arms if len(one)], ignore_index=True) if any(map(len, arms)) else arms[1]


def hidden_repeats(cells: pd.DataFrame, readings: Iterable[Reading]) -> pd.DataFrame:
    """Cells among these (cell_uid, patient_uid) that two readers have read for training (an arm of `discovery_queue`)."""
    readers = Counter(
        uid for uid, _ in {(one.cell_uid, one.reader) for one in readings if one.purpose == Purpose.TRAINING}
    )
    read = [uid for uid, number in readers.items() if number > 1]
    return cells[cells["cell_uid"].isin(read)].assign(group="", reason=REPEAT)[ARM]


def not_asked_before(asked: pd.DataFrame, queued: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Keep the rows (cell_uid, reason) for which no round was opened yet; `queued` are bodies of the ledger's events.

    A cell is asked for the first time once, as a doubtful label once, and as a hidden repeat once.
    """
    before = [(one["cell_uid"], kind_of(one.get("reason", ""))) for one in queued]
    cells, rereads = {cell_uid for cell_uid, _ in before}, set(before)
    kept = [
        (cell_uid, kind) not in rereads if (kind := kind_of(reason)) in REREADS else cell_uid not in cells
        for cell_uid, reason in zip(asked["cell_uid"], asked["reason"], strict=True)
    ]
    return asked[np.array(kept, dtype=bool)]


def repeat_cases(queued: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """Cells with the occasions on which they came as hidden repeats; `queued` are bodies of the ledger's events."""
    return {(one["cell_uid"], one["occasion"]) for one in queued if kind_of(one["reason"]) == REPEAT}


def kind_of(reason: str) -> str:
    """What sort of reason it is.

    >>> kind_of("doubtful label: probability 0.012 of ctc")
    'doubtful label'
    """
    return reason.partition(":")[0]


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


def _novel(shuffled: pd.DataFrame) -> pd.DataFrame:
    flagged = shuffled[shuffled["flagged"].astype(bool)]
    return flagged.assign(group=flagged["cluster"], reason=[f"novel: cluster {one}" for one in flagged["cluster"]])


def _border(cells: pd.DataFrame) -> pd.DataFrame:
    unsure = cells.sort_values("uncertainty", ascending=False, kind="stable")
    why = [f"border: margin {1 - one:.2f}" for one in unsure["uncertainty"]]
    return unsure.assign(group=unsure["predicted"], reason=why)


def _in_turns(arm: pd.DataFrame, is_free: Callable[[tuple[str, str, str]], bool]) -> Iterator[tuple[str, str, str]]:
    """One free cell of each group in turn: cell, patient and reason; what is free is asked when a turn comes."""
    columns = ["cell_uid", "patient_uid", "reason"]
    groups = [of_group[columns].itertuples(index=False, name=None) for _, of_group in arm.groupby("group", sort=False)]
    waiting = deque(filter(is_free, group) for group in groups)
    while waiting:
        group = waiting.popleft()
        if (cell := next(group, None)) is not None:
            yield cell
            waiting.append(group)


def _chance(cells: pd.DataFrame, class_ids: Iterable[str], classes: Sequence[str]) -> list[float]:
    """Probability of one class for each cell; NaN of a class that is not in the model's list."""
    at = {class_id: place for place, class_id in enumerate(classes)}
    pairs = zip(cells["probabilities"], class_ids, strict=True)
    return [float(row[at[class_id]]) if class_id in at else math.nan for row, class_id in pairs]


def _dealt(cells: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return cells.iloc[rng.permutation(len(cells))]


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
