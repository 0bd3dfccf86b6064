"""Which model counts the cells, why it was allowed to, and how it learnt."""

from collections.abc import Mapping

import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.model_charts import learning_chart
from dashboards.records import NotMade
from dashboards.session import viewed
from dashboards.views.model_desk import show_history, show_promotion, show_waiting
from dashboards.views.pieces import chart, empty, picture
from dashboards.views.scorecards import show_scorecards
from dashboards.views.verdict import show_changes, show_verdict

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
    show_waiting(workspace)
    show_gate(workspace, names, simulated=simulated)
    st.subheader("Champions")
    show_history(workspace)
    st.html(
        'Whether the cartridges still suit the champion is told by <a href="data" target="_self" style="color: inherit">drift, on the page Data</a>.'
    )
    st.subheader("The champion")
    show_champion(workspace, names)
    show_learning(workspace, simulated=simulated)


def show_gate(workspace: Workspace, names: Mapping[str, str], *, simulated: bool) -> None:
    """The report on the challenger that the address names, with the form to sign it where that is due."""
    reports = records.promotions(workspace)
    if isinstance(reports, NotMade):
        empty(reports)
        return
    versions = [str(report["version"]) for report in reports]
    version = st.selectbox(
        "Challenger", versions, key="version", bind="query-params", format_func=lambda one: f"version {one}"
    )
    report = reports[versions.index(version)]
    viewed(workspace, "models", version=version)  # patients and their counts by either model
    show_verdict(report, simulated=simulated)
    show_changes(workspace, report)
    show_promotion(workspace, report)
    show_scorecards(report, names, simulated=simulated)


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
