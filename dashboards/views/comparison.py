"""Section of the cohort page: CTCs by hand beside CTCs by the model, event by event and tube by tube, and the cells behind."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.addresses import ALL, sample_address, sample_query
from dashboards.comparison_charts import ratios_chart, tubes_chart
from dashboards.records import NotMade
from dashboards.tiles import tiles_html
from dashboards.views.pieces import Estimate, chart, go_to, said, show_missing

OPERATOR = "operator"
HANDS = {  # as the address says it, and the name in the report
    "the instrument's operator": OPERATOR,
    "readers, patients that the model never saw": "evaluation",
    "readers, cells that the model learnt": "training",
}
ONLY = {
    "model": "Called CTC by the model alone",
    "hand": "Called CTC by hand alone",
}
MOST = 60  # thumbnails of a gallery
COLUMNS = {
    "address": "Cells",
    "patient_uid": "Patient",
    "sample_uid": "Sample",
    "cancer_type": "Cancer type",
    "manual": "By hand",
    "model": "By the model",
    "low": "Low",
    "high": "High",
    "cutoff": "Cut-off",
    "side_manual": "Side by hand",
    "side_model": "Side by the model",
    "exploratory": "Exploratory",
}


def show(workspace: Workspace, group: str) -> None:
    """Events, tubes, who changes side, and the cells on which hand and model differ, of one cancer type or of all."""
    st.subheader("By hand and by the model")
    found, tubes, cells = (one(workspace) for one in (records.by_hand, records.by_hand_samples, records.by_hand_cells))
    if isinstance(found, NotMade) or isinstance(tubes, NotMade) or isinstance(cells, NotMade):
        show_missing(found, tubes, cells)
        return
    tubes, cells = (one if group == ALL else one[one["cancer_type"] == group] for one in (tubes, cells))
    hand = choose_hand(found)
    show_events(found, hand, group)
    show_tubes(workspace, found, tubes, group)
    show_galleries(workspace, cells[cells["hand"] == hand])


def choose_hand(found: Mapping[str, Any]) -> str:
    """Whose calls the model is compared with; without the operator's the readers' come first."""
    offered = [name for name, hand in HANDS.items() if of_hand(found, hand)["groups"]]
    if not found["operator"]["groups"]:
        st.caption(f"Operator: {found['operator']['says']}.")
    if not offered:
        st.caption("No cell of this comparison has been settled by readers yet.")
        return OPERATOR
    shown = st.segmented_control(
        "Compared with", offered, default=offered[0], required=True, key="hand", bind="query-params"
    )
    return HANDS[shown]


def of_hand(found: Mapping[str, Any], hand: str) -> Mapping[str, Any]:
    """The part of the report about one hand."""
    if hand == OPERATOR:
        operator: Mapping[str, Any] = found["operator"] | {"events": found["events"]}
        return operator
    return next((one for one in found["readers"] if one["set"] == hand), {"groups": [], "says": "", "events": ""})


def show_events(found: Mapping[str, Any], hand: str, group: str) -> None:
    """How far hand and model agree on the same events."""
    part = of_hand(found, hand)
    figures = next((one for one in part["groups"] if one["group"] == group), None)
    if figures is None:
        if part["groups"]:
            st.caption(f"No event of {group} patients was judged both ways.")
        return
    columns = st.columns(4)
    show_figure(columns[0], "Events on which both agree", figures["agreement"], percent=True)
    show_figure(columns[1], "CTCs by hand that the model finds", figures["hand_found"], percent=True)
    show_figure(columns[2], "The model's CTCs that are so by hand", figures["model_confirmed"], percent=True)
    show_figure(columns[3], "Cohen's kappa", figures["kappa"])
    st.caption(
        f"{figures['events']:,} {part['events']}, of {figures['patients']:,} patients: {figures['both']:,} CTCs by both, "
        f"{figures['model_only']:,} by the model alone, {figures['hand_only']:,} by hand alone. {part['says'].capitalize()}. "
        f"95 % intervals resample the patients. The paper's external samples: 83.8 % of 46,920 events, and 65.8 % of the "
        f"15,837 CTCs by hand."
    )
    if group == ALL and len(part["groups"]) > 2:
        st.dataframe(by_cancer_type(part["groups"]), hide_index=True, alt="Agreement by cancer type")


def show_figure(
    place: st.delta_generator.DeltaGenerator, name: str, estimate: Estimate, *, percent: bool = False
) -> None:
    """A figure with its interval below it, so that neither is cut off on a narrow page."""
    value = said({"value": estimate["value"], "low": None, "high": None}, percent=percent)
    form = ".1%" if percent else ".2f"
    interval = None if estimate["low"] is None else f"{estimate['low']:{form}} to {estimate['high']:{form}}"
    place.metric(name, value, delta=interval, delta_color="off", delta_arrow="off", border=True)


def by_cancer_type(groups: list[dict[str, Any]]) -> pd.DataFrame:
    """The same figures for each cancer type."""
    return pd.DataFrame(
        [
            {
                "Cancer type": one["group"],
                "Events": one["events"],
                "Agree": said(one["agreement"], percent=True),
                "CTCs by hand": one["both"] + one["hand_only"],
                "found by the model": said(one["hand_found"], percent=True),
                "CTCs by the model": one["both"] + one["model_only"],
                "so by hand": said(one["model_confirmed"], percent=True),
                "Kappa": said(one["kappa"]),
            }
            for one in groups
            if one["group"] != ALL
        ]
    )


def show_tubes(workspace: Workspace, found: Mapping[str, Any], tubes: pd.DataFrame, group: str) -> None:
    """Both counts of each tube, their ratios, and who changes side of the cut-off."""
    st.markdown("#### Tube by tube")
    figures = next((one for one in found["tubes"] if one["group"] == group), None)
    if figures is None or tubes.empty:
        st.caption("No tube here was counted by hand and by the model.")
        return
    show_tube_figures(figures)
    left, right = st.columns(2)
    about = f"{len(tubes)} tubes counted by hand and by the model; the table below holds those that change side"
    with left:
        picked = chart(
            tubes_chart(tubes, simulated=found["simulated"]),
            key="by-hand-tubes",
            alt=f"Scatter of {about}",
            selects=True,
        )
    with right:
        picked += chart(
            ratios_chart(tubes, figures, simulated=found["simulated"]),
            key="by-hand-ratios",
            alt=f"Bland-Altman plot of {about}",
            selects=True,
        )
    st.caption(
        "Each point is a tube; points are moved a little so that equal ones can be seen; rings change side. Lines and bands on "
        "the right: typical ratio and limits between which 95 % of the ratios lie, with 95 % intervals, of the first tube of "
        "each patient. Click on a tube to see its cells."
    )
    show_changes(workspace, tubes)
    if picked:
        go_to("Sample", "sample", sample_query(str(picked[0]["customdata"][-1]), {}))


def show_tube_figures(figures: Mapping[str, Any]) -> None:
    """Bias, limits, concordance and the share on the same side."""
    columns = st.columns(4)
    show_figure(columns[0], "Typical ratio, model to hand", figures["bias"])
    low, high = figures["lower"]["value"], figures["upper"]["value"]
    told = "–" if low is None else f"{low:.2f} to {high:.2f}"
    columns[1].metric(
        "95 % of the ratios", told, delta="limits of agreement", delta_color="off", delta_arrow="off", border=True
    )
    show_figure(columns[2], "Lin's concordance", figures["concordance"])
    show_figure(columns[3], "On the same side of the cut-off", figures["same_side"], percent=True)
    if figures["exploratory"]:
        st.badge("some cut-offs are exploratory", color="orange")


def show_changes(workspace: Workspace, tubes: pd.DataFrame) -> None:
    """The tubes that change side as a table, and all of them as a file."""
    moved = tubes[tubes["changes_side"]]
    st.markdown(f"**{len(moved)} of {int(tubes['cutoff'].notna().sum())} tubes with a cut-off change side**")
    if len(moved):
        st.dataframe(
            changes_table(moved), hide_index=True, alt="Tubes that change side of the cut-off",
            column_config={
                **COLUMNS,
                **{name: st.column_config.NumberColumn(COLUMNS[name], format="%.1f") for name in ("model", "low", "high")},
                "address": st.column_config.LinkColumn(COLUMNS["address"], display_text="see cells"),
            },
        )  # fmt: skip
    session.export_button(
        workspace,
        "Both counts as CSV",
        lambda: tubes.to_csv(index=False).encode(),
        file_name="by-hand-and-by-model.csv",
        mime="text/csv",
        what="by hand and by model",
        key="export-by-hand",
        samples=len(tubes),
    )


def changes_table(moved: pd.DataFrame) -> pd.DataFrame:
    """Pseudonyms, both counts, and the way to the cells."""
    addresses = [sample_address(sample_query(uid, {})) for uid in moved["sample_uid"]]
    return moved.assign(address=addresses)[list(COLUMNS)]


def show_galleries(workspace: Workspace, cells: pd.DataFrame) -> None:
    """The cells that only one of the two calls a CTC, those first on which they are furthest apart."""
    for called_by, heading in ONLY.items():
        rows = cells[cells["called_by"] == called_by].sort_values("p_ctc", ascending=called_by == "hand")
        shown = rows.head(MOST)
        capped = f", {len(shown)} of them shown" if len(shown) < len(rows) else ""
        st.markdown(f"**{heading}: {len(rows):,} cells{capped}**")
        if len(rows):
            st.html(tiles_html(workspace, shown, captions=captions_of(shown)))
    st.caption(
        "Below each cell: the model's probability that it is a CTC, and what the other one says it is. The model's own come with "
        "the surest first, those by hand alone with the least likely first. Red CD45, green CK, blue DAPI."
    )


def captions_of(cells: pd.DataFrame) -> dict[str, str]:
    """Probability of being a CTC, and what the other one says.

    >>> row = {"cell_uid": "c", "called_by": "hand", "predicted": "tdev", "read_as": "ctc", "p_ctc": 0.25}
    >>> captions_of(pd.DataFrame([row]))
    {'c': '0.25 tdev'}
    """
    told = {}
    for one in cells.to_dict("records"):
        other = one["predicted"] if one["called_by"] == "hand" else one["read_as"] or "no CTC"
        told[one["cell_uid"]] = f"{one['p_ctc']:.2f} {other}"
    return told
