"""Champion and challenger on the same settled cells: classes, groups of cells, probabilities, readers, patients' counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.scorecard_charts import calibration_chart, comparison_chart, confusion_chart, thresholds_chart
from dashboards.views.pieces import chart, drawn, said

GROUPS = {"cluster": "cluster of cells", "cancer_type": "cancer type", "instrument": "instrument"}
FIGURES = {
    "macro_f1": "mean F1",
    "accuracy": "accuracy",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
}
NOTHING = {"value": None, "low": None, "high": None}
Card = Mapping[str, Any]


def show_scorecards(report: Card, names: Mapping[str, str], *, simulated: bool) -> None:
    """Champion and challenger on the same settled cells."""
    before, after = report.get("champion"), report.get("challenger")
    if not after:
        st.write("There was no settled cell to score it on.")
        return
    left, right = st.columns(2)
    with left:
        whose = report.get("set", "sealed")
        st.markdown(
            f"**On {after['n']} settled cells of {after['patients']} {whose} patients**, with 95 % intervals over patients"
        )
        figure = comparison_chart(
            shares(before, names) if before else None,
            shares(after, names),
            simulated=simulated,
            first=shares(report["anchor"], names) if report.get("anchor") else None,
        )
        chart(
            figure,
            key="comparison",
            alt="Accuracy, CTC sensitivity and specificity and recall of each class, champion and challenger",
        )
    with right:
        st.markdown("**Where the challenger is right and wrong**, in cells")
        rows, columns = ([names.get(one, one) for one in after[side]] for side in ("true_classes", "predicted_classes"))
        chart(
            confusion_chart(after["confusion"], rows, columns, simulated=simulated),
            key="confusion",
            alt="Confusion matrix of the challenger",
        )
    for note in dict.fromkeys([*(before or {}).get("notes", []), *after["notes"]]):
        st.caption(note)
    left, right = st.columns(2)
    with left:
        show_groups(before, after, simulated=simulated)
    with right:
        show_calibration(after, simulated=simulated)
    left, right = st.columns([6, 5])
    with left:
        show_thresholds(after, simulated=simulated)
    with right:
        show_counts(before, after)


def shares(scorecard: Card, names: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each figure of a scorecard that is known."""
    found = {
        "CTC sensitivity": scorecard["ctc_sensitivity"],
        "CTC specificity": scorecard["ctc_specificity"],
        "Accuracy": scorecard["accuracy"],
        "Balanced accuracy": scorecard["balanced_accuracy"],
    }
    found |= {f"Recall: {names.get(one['class_id'], one['class_id'])}": one["recall"] for one in scorecard["classes"]}
    return {name: place for name, one in found.items() if (place := drawn(one))}


def show_groups(before: Card | None, after: Card, *, simulated: bool) -> None:
    """A figure of the reader's choice in each group of cells, the worst cluster named."""
    by = after.get("by")
    if not by:
        return
    st.markdown("**In each group of cells**")
    offered = [name for name in GROUPS if by.get(name)]
    kind = st.segmented_control(
        "Group by",
        offered,
        default=offered[0],
        required=True,
        key="group",
        bind="query-params",
        format_func=lambda one: GROUPS[one],
    )
    key = st.segmented_control(
        "Figure",
        list(FIGURES),
        default="macro_f1",
        required=True,
        key="figure",
        bind="query-params",
        format_func=lambda one: FIGURES[one],
    )
    rows = [f"{one['name']} ({one['cells']})" for one in by[kind]]
    now = of_groups(by[kind], key)
    if now:
        figure = comparison_chart(
            of_groups(before["by"][kind], key) if before and before.get("by") else None,
            now,
            simulated=simulated,
        )
        chart(figure, key="groups", alt=f"{FIGURES[key]} by {GROUPS[kind]}, champion and challenger")
    left_out = "" if len(now) == len(rows) else " Groups in which the figure is undefined are left out."
    st.caption(f"In brackets: settled cells. {said_of_worst(before, after)}{left_out}")


def of_groups(groups: Sequence[Card], key: str) -> dict[str, tuple[float, float, float]]:
    """What the chart needs of each group in which the figure is defined."""
    return {f"{one['name']} ({one['cells']})": place for one in groups if (place := drawn(one[key]))}


def said_of_worst(before: Card | None, after: Card) -> str:
    """The worst cluster of each model by name, or that none can be called so."""
    told = []
    for who, card in (("challenger", after), ("champion", before)):
        worst = (card or {}).get("worst_cluster")
        if worst:
            told.append(f"{who} in {worst['name']} (F1 {said(worst['macro_f1'])})")
    return (
        f"Worst cluster: {'; '.join(told)}." if told else "No cluster has enough settled cells to be called the worst."
    )


def show_calibration(after: Card, *, simulated: bool) -> None:
    """What the challenger's probabilities are worth."""
    found = after.get("calibration")
    if not found:
        return
    st.markdown("**What the challenger's probabilities are worth**")
    chart(
        calibration_chart(found["bins"], simulated=simulated),
        key="calibration",
        alt="Share of cells that were right by the probability that the challenger gave, before and after its temperature",
    )
    st.caption(said_of_calibration(found))


def said_of_calibration(found: Card) -> str:
    """Its error before and after, and what chance alone would make of it."""
    told = (
        f"Calibration error {said(found['ece_before'], percent=True)} before and {said(found['ece_after'], percent=True)} "
        f"at temperature {found['temperature']:.2f}, which was fitted on steering patients."
    )
    chance = found.get("expected_by_chance")
    return told + (f" Chance alone makes {chance['mean']:.1%} of so few cells." if chance else "")


def show_thresholds(after: Card, *, simulated: bool) -> None:
    """What is left when only decisions count of which the challenger is sure."""
    marked = after.get("thresholds")
    if not marked:
        return
    st.markdown("**CTCs, if only decisions counted of which the challenger is so sure**")
    chart(
        thresholds_chart(after.get("threshold_curve") or marked, marked, simulated=simulated),
        key="thresholds",
        alt="CTC sensitivity, precision, specificity and kept decisions by threshold of probability",
    )
    st.dataframe(threshold_table(marked), hide_index=True, width="stretch")


def threshold_table(marked: Sequence[Card]) -> pd.DataFrame:
    """One row a threshold in use."""
    rows = [
        (
            f"≥ {one['threshold']:.0%}",
            f"{one['cells']} ({one['kept']['value']:.0%})",
            *(said(one[name], percent=True) for name in ("sensitivity", "specificity", "precision")),
        )
        for one in marked
    ]
    return pd.DataFrame(rows, columns=["Probability", "Kept", "Sensitivity", "Specificity", "Precision"])


def show_counts(before: Card | None, after: Card) -> None:
    """Agreement beside the readers' own, and how far patients' counts are off."""
    if not after.get("kappa"):
        return
    st.markdown("**Beside the readers, and patient by patient**")
    st.dataframe(beside_table(before, after), hide_index=True, width="stretch")
    st.caption(
        "κ on the evaluation arm. In the place of a reader: on the same cells, how well the model and how well the other "
        "reader agree with each reader. Settled labels hold the readers' own votes. Counts: CTCs called less CTCs settled, "
        "among the settled cells of each patient."
    )


def beside_table(before: Card | None, after: Card) -> pd.DataFrame:
    """One row a figure, a column for each model; the readers' own in a column of theirs."""
    models = {"Champion": before, "Challenger": after}
    readers, equals = (after["kappa"].get(name) for name in ("readers", "model_as_reader"))
    rows: dict[str, dict[str, str]] = {
        "κ with the settled label": {
            "Readers": "–", **{who: said(_of(one, "kappa", "model", "kappa")) for who, one in models.items()}
        },
        "κ of two readers": {"Readers": said(readers["kappa"]) if readers else "–"},
        "κ in the place of a reader": {
            "Readers": said(equals["other_reader"]["kappa"]) if equals else "–",
            **{who: said(_of(one, "kappa", "model_as_reader", "model", "kappa")) for who, one in models.items()},
        },
        "CTCs miscounted / settled CTCs": {
            who: said(_of(one, "count_error", "share"), percent=True) for who, one in models.items()
        },
        "CTCs miscounted, a patient": {
            who: said(_of(one, "count_error", "mean_cells")) for who, one in models.items()
        },
    }  # fmt: skip
    table = pd.DataFrame(rows).T.reindex(columns=["Readers", *models])
    return table.fillna("–").rename_axis("Figure").reset_index()


def _of(card: Card | None, *path: str) -> Mapping[str, float | None]:
    """The figure at that place of a scorecard; undefined where an older one has none."""
    found: Any = card
    for name in path:
        found = (found or {}).get(name)
    return found or NOTHING
