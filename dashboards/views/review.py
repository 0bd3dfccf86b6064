"""What the readers did, how well they agree with each other, with themselves and with the model, and what waits for them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from ctcml.workspace import Workspace
from dashboards import records
from dashboards.model_charts import agreement_chart, agreement_over_time, bars
from dashboards.records import NotMade
from dashboards.session import viewed
from dashboards.views.class_desk import show_desk
from dashboards.views.pieces import chart, drawn, empty, said

STATES = {  # key of the record: what the page calls it, and what that means
    "settled": ("Settled", "cells with a label that two readers or the adjudicator stand for"),
    "waiting": ("Wait for a reader", "cells that lack one of their two readings"),
    "contested": ("Wait for the adjudicator", "cells on which the two readers differ"),
    "checks_waiting": ("Checks open", "agreed cells that a third person has still to read"),
    "unreadable": ("Unreadable", "cells that nobody could read; they get no label"),
}
PURPOSES = {"evaluation": "Evaluation", "training": "Training"}
FIGURES = {"exact_share": "Exact agreement", "kappa": "Cohen's κ", "ac1": "Gwet's AC1"}


def show(workspace: Workspace) -> None:
    """Draw the page."""
    st.title("Review")
    st.caption(
        "Two readers read each thumbnail without seeing each other, the model or the patient; "
        "a third settles what they differ on, and checks a share of what they agree on."
    )
    viewed(workspace, "review")
    simulated = records.is_simulated(workspace)
    found = records.agreement(workspace)
    if isinstance(found, NotMade):
        empty(found)
    else:
        show_state(found)
        show_agreement(found, records.names_of_classes(workspace), simulated=simulated)
        show_beside(found)
        show_readers(found, simulated=simulated)
    show_desk(workspace)
    st.subheader("Reading queue")
    queued = records.queue_composition(workspace)
    if isinstance(queued, NotMade):
        empty(queued)
    else:
        chart(
            bars(list(queued["reason"]), list(queued["cells"]), groups=list(queued["purpose"]), simulated=simulated),
            key="queue",
            alt="Queued thumbnails by reason and purpose",
        )


def show_state(found: Mapping[str, Any]) -> None:
    """How many cells stand where."""
    state = {name: told for name, told in STATES.items() if name in found}
    for column, (name, (told, meaning)) in zip(st.columns(max(len(state), 1)), state.items(), strict=False):
        column.metric(told, f"{found[name]:,}", border=True, help=meaning)


def show_agreement(found: Mapping[str, Any], names: Mapping[str, str], *, simulated: bool) -> None:
    """The figures as a table, per class as a picture, over time, per pair of readers and per cluster."""
    st.subheader("How far do two readers agree?")
    st.dataframe(agreement_table(overall(found)), hide_index=True, width="stretch")
    unreadable, checks = found["unreadable_pairs"], found["checks"]
    st.caption(
        "Figure (95 % interval over resampled patients). **Exact agreement**: share of cells to which both gave the same label. "
        "**Cohen's κ**: agreement beyond chance, where 1 is perfect and 0 is chance; it is low where nearly all cells are of one "
        "class, however well people read. **Gwet's AC1**: the same with an estimate of chance that becomes small there, so that "
        "it stays near the exact agreement. "
        "Each cell counts once, at its first reading by two. "
        f"Of {unreadable['pairs']:,} cells read twice, one reader found {unreadable['by_one']:,} unreadable (a disagreement) and "
        f"both {unreadable['by_both']:,} (left out)."
    )
    st.markdown(said_of_checks(checks))
    left, right = st.columns(2)
    with left:
        st.markdown("**Class by class**, each against all others")
        classes = by_class(found["by_class"], names)
        if classes:
            chart(agreement_chart(classes, simulated=simulated), key="classes", alt="Kappa and AC1 of each class")
            st.caption("In brackets: cells that at least one reader called so.")
        else:
            st.write("No class was read twice yet.")
    with right:
        st.markdown("**Over time**")
        rows = found["over_time"]
        if rows:
            figure = agreement_over_time(
                [one["occasion"] for one in rows],
                [drawn(one["kappa"]) for one in rows],
                [drawn(one["cumulative"]["kappa"]) for one in rows],
                simulated=simulated,
            )
            chart(figure, key="time", alt="Kappa of each occasion and of all occasions up to it")
            st.caption("κ of each occasion, and of all occasions up to then, with 95 % intervals.")
        else:
            st.write("Nothing was read twice yet.")
    classes_tab, readers_tab, clusters_tab = st.tabs(["By class", "By pair of readers", "By cluster"])
    with classes_tab:
        st.dataframe(class_table(found["by_class"], names), hide_index=True, width="stretch")
        st.caption(
            "Both said it: of the cells that at least one called so, the share that both did; "
            "κ and AC1 are those of this class against all others, over all cells."
        )
    with readers_tab:
        pairs = {" and ".join(one["readers"]): one for one in found["by_pair"]}
        st.dataframe(agreement_table(pairs, "Readers"), hide_index=True, width="stretch")
    with clusters_tab:
        st.dataframe(agreement_table(found["by_cluster"], "Cluster"), hide_index=True, width="stretch")
        st.caption(
            "Clusters of the champion's latent space. Where readers differ most, a definition may need to be clearer, or a class is "
            "missing. κ is undefined (–) where all is one class."
        )


def overall(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The rows of the first table."""
    return {
        "All cells, two readers": found,
        "Evaluation (random cells of held-out patients)": found["by_purpose"]["evaluation"],
        "Training (chosen by the queue)": found["by_purpose"]["training"],
        "Read again by two on a later occasion": found["rereads"],
        "The same reader twice (hidden repeats)": found["within_reader"]["all"],
    }


def agreement_table(rows: Mapping[str, Mapping[str, Any]], first: str = "Compared") -> pd.DataFrame:
    """One row for each set of figures: cells, patients, and each figure with its interval."""
    return pd.DataFrame(
        [
            {
                first: name,
                "Cells": one["n"],
                "Patients": one["patients"],
                FIGURES["exact_share"]: said(one["exact_share"], percent=True),
                FIGURES["kappa"]: said(one["kappa"]),
                FIGURES["ac1"]: said(one["ac1"]),
            }
            for name, one in rows.items()
        ],
        columns=[first, "Cells", "Patients", *FIGURES.values()],
    )


def class_table(found: Mapping[str, Any], names: Mapping[str, str]) -> pd.DataFrame:
    """One row a class that somebody used, in the order of the registry."""
    rows = [
        (
            names.get(one, one),
            found[one]["n"],
            *(said(found[one][key], percent=key == "exact_share") for key in FIGURES),
        )
        for one in used_classes(found, names)
    ]
    return pd.DataFrame(rows, columns=["Class", "Cells", "Both said it", FIGURES["kappa"], FIGURES["ac1"]])


def used_classes(found: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Classes that at least one reader used, in the order of the registry, those not in it last."""
    order = [*(one for one in names if one in found), *(one for one in found if one not in names)]
    return [one for one in order if found[one]["n"] > 0]


def by_class(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """What the chart of classes needs: figures by name and number of cells."""
    return {
        f"{names.get(class_id, class_id)} ({found[class_id]['n']})": {
            key: place for key in ("kappa", "ac1") if (place := drawn(found[class_id][key]))
        }
        for class_id in used_classes(found, names)
    }


def show_beside(found: Mapping[str, Any]) -> None:
    """The model in the place of a reader, and readers and model against what was settled."""
    st.subheader("The model beside the readers")
    compared = found["model_as_reader"]["evaluation"]
    if not compared["all"]["n"]:
        st.write("There are no cells of the evaluation arm yet that two readers and the champion judged.")
    else:
        st.dataframe(model_table(compared), hide_index=True, width="stretch")
        st.caption(
            "Only cells of the evaluation arm, which the model was not trained on, each judged by two readers and the model. "
            "In each row all is about the same cells: how well the model agrees with this reader, and how well the other reader "
            "does. **Difference**: model less other reader. An interval above 0: the model agrees with this reader better than a "
            "colleague does; one that holds 0: no difference is shown. A class that the model does not know "
            "yet counts against it. The last row sums over the readers."
        )
    with st.expander("Readers and model against the settled label"):
        st.dataframe(settled_table(found["versus_settled"]), hide_index=True, width="stretch")
        st.caption(
            "A settled label holds the reader's own vote, so that readers look better here than they are, and the model does not "
            "have that advantage; compare it in the table above. The model was trained on the labels of the training cells, so "
            "its figures there say nothing about new patients."
        )


def model_table(compared: Mapping[str, Any]) -> pd.DataFrame:
    """The model and the other reader against each reader, on the same cells."""
    rows = [(f"with {name}", one) for name, one in compared["readers"].items()] + [("with both", compared["all"])]
    return pd.DataFrame(
        [
            {
                "Compared": name,
                "Cells": one["n"],
                "Model, exact": said(one["model"]["exact_share"], percent=True),
                "Other reader, exact": said(one["other_reader"]["exact_share"], percent=True),
                "Model, κ": said(one["model"]["kappa"]),
                "Other reader, κ": said(one["other_reader"]["kappa"]),
                "Difference in κ": said(one["difference"]["kappa"], signed=True),
            }
            for name, one in rows
        ]
    )


def settled_table(found: Mapping[str, Any]) -> pd.DataFrame:
    """Each reader and the model against settled labels, evaluation before training."""
    columns = ["Purpose", "Reader", "Cells", "Exact", "Cohen's κ", "Model's κ, same cells"]
    rows = [
        (
            told,
            reader,
            one["n"],
            said(one["exact_share"], percent=True),
            said(one["kappa"]),
            said(one["model"]["kappa"]),
        )
        for purpose, told in PURPOSES.items()
        for reader, one in found[purpose]["readers"].items()
    ]
    return pd.DataFrame(rows, columns=columns)


def show_readers(found: Mapping[str, Any], *, simulated: bool) -> None:
    """How much each person read, for what, how long it took and how sure they were."""
    st.subheader("Who read how much")
    if not found["readers"]:
        st.write("Nobody has read a thumbnail yet.")
        return
    st.dataframe(workload_table(found["readers"], found["within_reader"]["readers"]), hide_index=True, width="stretch")
    st.caption(
        "Repeats are cells that came back to the same reader unannounced; κ compares the two. "
        "Sure to guess: shares of the readings for which a confidence was given."
    )


def workload_table(readers: Mapping[str, Any], within: Mapping[str, Any]) -> pd.DataFrame:
    """One row a person."""
    return pd.DataFrame(
        [
            {
                "Person": name,
                "Readings": one["readings"],
                "as reader": one["by_duty"]["reader"],
                "as adjudicator": one["by_duty"]["adjudicator"],
                "as check": one["by_duty"]["check"],
                "Repeats": one["repeats"],
                "κ with own repeats": said(within[name]["kappa"]) if name in within else "–",
                "Median time": "–" if one["median_lead_time_s"] is None else f"{one['median_lead_time_s']:.1f} s",
                "Unreadable": percent_of(one["unreadable_share"]),
                "Sure / probable / doubtful / guess": shares_of(one["confidence"]),
            }
            for name, one in readers.items()
        ]
    )


def said_of_checks(checks: Mapping[str, Any]) -> str:
    """One sentence about the third person."""
    if not checks["n"]:
        return "No cell on which two agree was checked by a third person yet."
    return (
        f"A third person checked {checks['n']:,} of the cells on which two agree, and said something else on "
        f"**{said(checks['differs'], percent=True)}** of them."
    )


def percent_of(share: float | None) -> str:
    """A share as people write it."""
    return "–" if share is None else f"{share:.1%}"


def shares_of(confidence: Mapping[str, float | None]) -> str:
    """Shares in percent, in the order of the page on which they were given."""
    values: Sequence[float | None] = list(confidence.values())
    return "–" if None in values else " / ".join(f"{100 * (value or 0):.0f}" for value in values) + " %"
