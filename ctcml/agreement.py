"""How far people agree, with each other, with themselves and with what was settled, and how the model does beside them.

Which pairs of readings there are, is decided once (`reader_pairs`): each cell counts once, on the first occasion on which two
people read it without seeing each other. `new:<class>` and `<class>` are one label, `unreadable` agrees with nothing.

The first of a pair is the one whose name sorts first. Cohen's kappa takes chance from the margins of the first and of the
second, so for two readers it is the usual figure, and with more of them it is that of "who sorts first" against "who sorts
second"; the figures per pair of readers do not have that blemish. AC1 and exact agreement do not care who is first.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ctcml.contingency import (
    Draws,
    Tables,
    class_figures,
    count_pairs,
    differences,
    differing_share,
    draw_patients,
    figures,
)
from ctcml.records import NEW_PREFIX, UNREADABLE, Confidence, Duty, Purpose

PAIR = ["cell_uid", "patient_uid", "purpose", "occasion", "at", "one", "other", "label", "other_label"]


def reader_pairs(opinions: pd.DataFrame) -> pd.DataFrame:
    """One row a cell and occasion that two people read as readers (`PAIR`), readers in order of name, `new:` left out.

    Rows are in the order in which the first of their readings came in. Hidden repeats, adjudications and checks are no part of a pair;
    should one occasion have more than two readings of a cell, the first two count.
    """
    read = opinions[opinions["duty"].eq(Duty.READER.value) & ~opinions["repeat"].astype(bool)]
    read = read.assign(order=np.arange(len(read)), label=_plain(read["label"]))
    read = read.drop_duplicates(["cell_uid", "occasion", "reader"])
    read = read[read.groupby(["cell_uid", "occasion"]).cumcount() < 2].sort_values("reader", kind="stable")
    place = read.groupby(["cell_uid", "occasion"]).cumcount()
    both = read[place == 0].merge(read[place == 1], on=["cell_uid", "occasion"], suffixes=("", "_of_other"))
    both["at"] = both[["at", "at_of_other"]].min(axis=1)
    begun = np.minimum(both["order"], both["order_of_other"])
    both = both.rename(columns={"reader": "one", "reader_of_other": "other", "label_of_other": "other_label"})
    return both.iloc[np.argsort(begun, kind="stable")][PAIR].reset_index(drop=True)


def agreement_report(
    opinions: pd.DataFrame,
    *,
    classes: Collection[str],
    settled: Mapping[str, str],
    cluster: Mapping[str, str],
    predicted: Mapping[str, str],
    bootstrap: int,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Everything this module knows of a table of readings (`tables.OPINIONS`), ready for JSON; nothing is NaN.

    `classes` are the class_ids on offer (AC1 needs them, said or not), `settled` the settled class, `cluster` the name of the
    cluster and `predicted` the champion's class of a cell_uid; cells may be missing from each.

    "Figures" below are what `figures` gives: n, patients, and value, low and high of exact_share, kappa and ac1.

    - the figures of all pairs stand at the top; `by_purpose`, `by_class` (as `class_figures`), `by_cluster`, `by_pair` and
      `over_time` (a row an occasion, with `cumulative`) are parts of them; `rereads` are later occasions of the same cells;
    - `unreadable_pairs`: pairs of readings, and how many of them one or both could not read;
    - `versus_settled`, per purpose: each reader against the settled label, which holds that reader's own vote, and the model;
    - `model_as_reader`, per purpose: the model against each reader beside the other reader against the same one on the same
      cells, and the difference; only on the evaluation arm are the model's figures fair, it was trained on the other labels;
    - `within_reader`: first reading against hidden repeat; `checks`: how often a third person differs from two who agreed;
    - `readers`: how much each read, how long it took, how sure they were.

    >>> said = pd.DataFrame({
    ...     "cell_uid": ["a", "a", "b", "b"], "patient_uid": ["p", "p", "q", "q"], "purpose": "evaluation",
    ...     "occasion": "round-1", "reader": ["anna", "ben"] * 2, "duty": "reader", "label": ["ctc", "ctc", "wbc", "ctc"],
    ...     "confidence": "", "reasons": "", "lead_time_s": 2.0, "at": "2026-03-02T12:00:00+00:00", "repeat": False,
    ... })
    >>> report = agreement_report(said, classes=["ctc", "wbc"], settled={}, cluster={}, predicted={},
    ...                           bootstrap=100, rng=np.random.default_rng(0))
    >>> report["by_purpose"]["evaluation"]["n"], report["by_purpose"]["evaluation"]["exact_share"]
    (2, {'value': 0.5, 'low': 0.0, 'high': 1.0})
    >>> report["by_purpose"]["training"]["kappa"]
    {'value': None, 'low': None, 'high': None}
    >>> sorted(report)
    ['ac1', 'bootstrap', 'by_class', 'by_cluster', 'by_pair', 'by_purpose', 'checks', 'exact_share', 'kappa', 'labels', \
'model_as_reader', 'n', 'over_time', 'patients', 'readers', 'rereads', 'unreadable_pairs', 'versus_settled', 'within_reader']
    """
    offered = {*classes, *_plain(opinions["label"]), *settled.values(), *predicted.values()}
    labels = {label.removeprefix(NEW_PREFIX) for label in offered}
    draws = draw_patients(set(opinions["patient_uid"]), labels, bootstrap=bootstrap, rng=rng)
    each = reader_pairs(opinions)
    again = each.duplicated("cell_uid")
    pairs = each[~again]
    whole = _of_pairs(pairs, draws)
    return {
        **figures(whole),
        "unreadable_pairs": _unreadable(pairs),
        "by_purpose": {
            purpose.value: figures(_of_pairs(_of_purpose(pairs, purpose), draws)) for purpose in Purpose
        },
        "by_class": {
            label: class_figures(whole, at) for at, label in enumerate(draws.labels) if label != UNREADABLE
        },
        "by_cluster": _by_cluster(pairs, cluster, draws),
        "by_pair": _by_pair(pairs, draws),
        "over_time": _over_time(pairs, draws),
        "rereads": figures(_of_pairs(each[again], draws)),
        "versus_settled": {
            purpose.value: _versus_settled(_of_purpose(opinions, purpose), settled, predicted, draws)
            for purpose in Purpose
        },
        "model_as_reader": {
            purpose.value: _model_as_reader(_of_purpose(pairs, purpose), predicted, draws) for purpose in Purpose
        },
        "within_reader": _within_reader(opinions, draws),
        "checks": _checks(opinions, pairs, draws),
        "readers": {reader: workload(rows) for reader, rows in opinions.groupby("reader")},
        "labels": list(draws.labels),
        "bootstrap": bootstrap,
    }  # fmt: skip


def exact_agreement(opinions: pd.DataFrame, purpose: Purpose) -> tuple[float | None, int]:
    """Share of cells on which both readers said the same, and of how many cells, as in the report; None without any.

    Cells that neither could read are left out.
    """
    pairs = _of_purpose(reader_pairs(opinions), purpose).drop_duplicates("cell_uid")
    pairs = pairs[~(pairs["label"].eq(UNREADABLE) & pairs["other_label"].eq(UNREADABLE))]
    return (float(pairs["label"].eq(pairs["other_label"]).mean()) if len(pairs) else None), len(pairs)


def workload(own: pd.DataFrame) -> dict[str, Any]:
    """What one reader did: readings by duty, repeats among them, median seconds, shares of each confidence and unreadable."""
    seconds = own["lead_time_s"].dropna()
    said = own.loc[own["confidence"].fillna("").ne(""), "confidence"]
    return {
        "readings": len(own),
        "by_duty": {duty.value: int(own["duty"].eq(duty.value).sum()) for duty in Duty},
        "repeats": int(own["repeat"].sum()),
        "median_lead_time_s": round(float(seconds.median()), 2) if len(seconds) else None,
        "confidence": {one.value: float(said.eq(one.value).mean()) if len(said) else None for one in Confidence},
        "unreadable_share": float(own["label"].eq(UNREADABLE).mean()) if len(own) else None,
    }


def _by_cluster(pairs: pd.DataFrame, cluster: Mapping[str, str], draws: Draws) -> dict[str, Any]:
    """Clusters with pairs in them, the one with most first."""
    named = pairs.assign(cluster=pairs["cell_uid"].map(cluster))
    found = {str(name): figures(_of_pairs(rows, draws)) for name, rows in named.groupby("cluster")}
    return dict(sorted(found.items(), key=lambda one: -one[1]["n"]))


def _by_pair(pairs: pd.DataFrame, draws: Draws) -> list[dict[str, Any]]:
    return [
        {"readers": list(names), **figures(_of_pairs(rows, draws))} for names, rows in pairs.groupby(["one", "other"])
    ]


def _over_time(pairs: pd.DataFrame, draws: Draws) -> list[dict[str, Any]]:
    """Each occasion, in the order in which their first pairs came in, and all occasions up to it."""
    rows = []
    occasions = list(dict.fromkeys(pairs["occasion"]))
    for at, occasion in enumerate(occasions):
        own, so_far = pairs[pairs["occasion"] == occasion], pairs[pairs["occasion"].isin(occasions[: at + 1])]
        rows.append(
            {
                "occasion": occasion,
                "first_at": str(own["at"].min()),
                **figures(_of_pairs(own, draws)),
                "cumulative": figures(_of_pairs(so_far, draws)),
            }
        )
    return rows


def _unreadable(pairs: pd.DataFrame) -> dict[str, int]:
    number = pairs["label"].eq(UNREADABLE).astype(int) + pairs["other_label"].eq(UNREADABLE).astype(int)
    return {"pairs": len(pairs), "by_one": int((number == 1).sum()), "by_both": int((number == 2).sum())}


def _versus_settled(
    opinions: pd.DataFrame, settled: Mapping[str, str], predicted: Mapping[str, str], draws: Draws
) -> dict[str, Any]:
    """Each reader's first reading as a reader against the settled label, the model on the same cells, and on all of them."""
    read = opinions[opinions["duty"].eq(Duty.READER.value) & ~opinions["repeat"].astype(bool)]
    read = read.drop_duplicates(["cell_uid", "reader"])
    read = read.assign(label=_plain(read["label"]), settled=_plain(read["cell_uid"].map(settled)))
    read = read[read["settled"].notna()].assign(predicted=lambda rows: _plain(rows["cell_uid"].map(predicted)))
    return {
        "readers": {
            reader: figures(_of(own, "settled", "label", draws)) | {"model": _of_model(own, "settled", draws)}
            for reader, own in read.groupby("reader")
        },
        "model": _of_model(read.drop_duplicates("cell_uid"), "settled", draws),
    }


def _model_as_reader(pairs: pd.DataFrame, predicted: Mapping[str, str], draws: Draws) -> dict[str, Any]:
    """The model in the place of one reader: against the other, on the cells that both and the model judged.

    `all` sums over the readers, so each cell counts twice, once against each of its readers; `n` says how many cells that are.
    """
    judged = pairs.assign(predicted=_plain(pairs["cell_uid"].map(predicted)))
    judged = judged[judged["predicted"].notna()]
    # Where either could not read the cell, readers and model would be compared on different cells.
    judged = judged[judged["label"].ne(UNREADABLE) & judged["other_label"].ne(UNREADABLE)]
    turned = judged.rename(columns={"one": "other", "other": "one", "label": "other_label", "other_label": "label"})
    both = pd.concat([judged, turned], ignore_index=True)
    return {
        "all": _beside(both, draws) | {"n": len(judged)},
        "readers": {reader: _beside(own, draws) for reader, own in both.groupby("one")},
    }


def _beside(rows: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    model, other = _of(rows, "label", "predicted", draws), _of(rows, "label", "other_label", draws)
    return {
        "n": len(rows),
        "model": figures(model),
        "other_reader": figures(other),
        "difference": differences(model, other),
    }


def _within_reader(opinions: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    """The first reading of a cell against the first hidden repeat of it by the same person."""
    plain = opinions.assign(label=_plain(opinions["label"]))
    repeat = plain["repeat"].astype(bool)
    first = plain[~repeat].drop_duplicates(["cell_uid", "reader"])
    again = plain[repeat].drop_duplicates(["cell_uid", "reader"])[["cell_uid", "reader", "label"]]
    both = first.merge(again, on=["cell_uid", "reader"], suffixes=("", "_again"))
    return {
        "all": figures(_of(both, "label", "label_again", draws)),
        "readers": {reader: figures(_of(own, "label", "label_again", draws)) for reader, own in both.groupby("reader")},
    }


def _checks(opinions: pd.DataFrame, pairs: pd.DataFrame, draws: Draws) -> dict[str, Any]:
    """Of the cells on which two agreed and a third person was asked, the share on which that person says something else."""
    agreed = pairs[pairs["label"].eq(pairs["other_label"]) & pairs["label"].ne(UNREADABLE)]
    third = opinions[opinions["duty"].eq(Duty.CHECK.value)].drop_duplicates("cell_uid")
    third = third.assign(check=_plain(third["label"]))[["cell_uid", "check"]]
    tables = _of(agreed.merge(third, on="cell_uid"), "label", "check", draws)
    return {"n": int(tables.whole.sum()), "patients": tables.patients, "differs": differing_share(tables)}


def _of_purpose(table: pd.DataFrame, purpose: Purpose) -> pd.DataFrame:
    return table[table["purpose"] == purpose.value]


def _of_model(rows: pd.DataFrame, against: str, draws: Draws) -> dict[str, Any]:
    return figures(_of(rows[rows["predicted"].notna()], against, "predicted", draws))


def _of_pairs(pairs: pd.DataFrame, draws: Draws) -> Tables:
    return _of(pairs, "label", "other_label", draws)


def _of(rows: pd.DataFrame, first: str, second: str, draws: Draws) -> Tables:
    return count_pairs(rows[first], rows[second], rows["patient_uid"], draws)


def _plain(labels: pd.Series) -> pd.Series:
    """Labels without `new:`: a class may be accepted between two readings; what is missing stays so."""
    return labels.astype(object).map(lambda label: label.removeprefix(NEW_PREFIX), na_action="ignore")
