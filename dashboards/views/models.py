"""Which model counts the cells, why it was allowed to, and how it learnt."""

from collections.abc import Mapping
from typing import Any

import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.model_charts import comparison_chart, confusion_chart, learning_chart
from dashboards.records import NotMade
from dashboards.views.pieces import chart, empty, picture

VERDICTS = {"promote": "green", "refuse": "red", "cannot decide": "orange"}
CURVES = {  # column of history.json: title, whether it is a share
    "sse_ratio": ("Reconstruction error / that of a blank image", False),
    "cross_entropy": ("Cross-entropy", False),
    "accuracy": ("Accuracy on the training images", True),
    "steering_accuracy": ("Accuracy on the steering patients", True),
}


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Models")
    simulated, names = records.is_simulated(workspace), records.class_names(workspace)
    st.subheader("The gate")
    reports = records.promotions(workspace)
    if isinstance(reports, NotMade):
        empty(reports)
    else:
        versions = [str(report["version"]) for report in reports]
        version = st.selectbox(
            "Challenger", versions, key="version", bind="query-params", format_func=lambda one: f"version {one}"
        )
        show_report(reports[versions.index(version)], names, simulated=simulated)
    st.subheader("The champion")
    show_champion(workspace, names)
    show_learning(workspace, simulated=simulated)


def show_report(report: Mapping[str, Any], names: Mapping[str, str], *, simulated: bool) -> None:
    """The verdict with its reasons, and champion and challenger on the same sealed cells."""
    promoted = "Promoted." if report.get("promoted") else "Not promoted."
    signed = f"Signed: {report['signed_by']}." if report.get("signed_by") else "Nobody has signed."
    with st.container(horizontal=True, vertical_alignment="center"):
        st.badge(f"VERDICT: {report['verdict'].upper()}", color=VERDICTS.get(report["verdict"], "gray"))
        st.caption(f"{promoted} {signed}")
    for reason in report["reasons"]:
        st.markdown(f"- {reason}")
    before, after = report.get("champion"), report["challenger"]
    left, right = st.columns(2)
    with left:
        st.markdown(
            f"**On {after['n']} sealed cells of {after['patients']} patients**, with 95 % intervals over patients"
        )
        chart(
            comparison_chart(shares(before, names) if before else None, shares(after, names), simulated=simulated),
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


def shares(scorecard: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of each figure of a scorecard that is known."""
    found = {
        "CTC sensitivity": scorecard["ctc_sensitivity"],
        "CTC specificity": scorecard["ctc_specificity"],
        "Accuracy": scorecard["accuracy"],
        "Balanced accuracy": scorecard["balanced_accuracy"],
    }
    found |= {f"Recall: {names.get(one['class_id'], one['class_id'])}": one["recall"] for one in scorecard["classes"]}
    return {name: (one["value"], one["low"], one["high"]) for name, one in found.items() if one["value"] is not None}


def show_champion(workspace: Workspace, names: Mapping[str, str]) -> None:
    """What the model says of itself."""
    model = records.champion(workspace)
    if isinstance(model, NotMade):
        empty(model)
        return
    per_class = model.get("n_train_per_class", {})
    if not isinstance(per_class, dict):
        per_class = dict(zip(model["classes"], per_class, strict=False))
    st.markdown(
        f"**{records.champion_version(workspace).capitalize()}**, {len(model['classes'])} classes, "
        f"input recipe `{model['recipe']}`, seed {model['seed']}, weights `{model['weights_sha256'][:12]}…`"
    )
    st.dataframe(
        {
            "Class": [names.get(one, one) for one in model["classes"]],
            "Training thumbnails": [per_class.get(one) for one in model["classes"]],
        },
        hide_index=True,
        width="content",
    )


def show_learning(workspace: Workspace, *, simulated: bool) -> None:
    """Curves over the phases of the schedule, and what the autoencoder gives back."""
    history = records.history(workspace)
    if isinstance(history, NotMade):
        empty(history)
    else:
        drawn = [column for column in CURVES if column in history and history[column].notna().any()]
        for place, column in enumerate(drawn):
            if place % 2 == 0:
                pair = st.columns(2)
            title, percent = CURVES[column]
            with pair[place % 2]:
                chart(
                    learning_chart(history, column=column, title=title, simulated=simulated, percent=percent),
                    key=f"learning-{column}",
                    alt=title,
                )
    pictures = records.reconstructions(workspace)
    st.subheader("Reconstructions")
    if isinstance(pictures, NotMade):
        empty(pictures)
        return
    st.caption("Upper row: thumbnails; lower row: what the network gives back after each phase.")
    for path in pictures:
        picture(path, caption="β = " + path.stem.removeprefix("reconstructions-beta-"))
