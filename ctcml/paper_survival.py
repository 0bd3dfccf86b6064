"""The paper's Fig. 6 on a laboratory's own patients: survival by counts of the operator, of the standard CNN and of the AE-CNN.

Only first samples of patients count, at the cut-off that was set before for their cancer type. No label is read here, so
patients of all three sets are in it; the report says how many of them the networks were trained on.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ctcml.clinical import COVARIATE
from ctcml.counts import CTC, TUBE_ML
from ctcml.embed import Scorer, score
from ctcml.landmark import last_samples
from ctcml.published import CHANGED_SIDE, EVENTS_AGREED, MANUAL_CTC_AGREED, MEDIANS, SURVIVAL_PATIENTS
from ctcml.shards import read_inputs
from ctcml.tables import CLINICAL, MANIFEST, read_folder, read_table
from ctcml.workspace import Workspace

SOURCES = {"manual": "counts by hand", "standard": "standard CNN", "autoencoder": "AE-CNN"}
FEWEST_PATIENTS = 10  # ours: of a cancer type, else it has no analysis of its own

Progress = Callable[[int, int], None]


def counted_patients(
    ws: Workspace,
    scorers: Mapping[str, Scorer],
    image: Mapping[str, Any],
    *,
    endpoint: str,
    cutoffs: Mapping[str, float],
    trained_on: Collection[str],
    progress: Progress,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One row a patient with a first sample and a cut-off: counts per 7.5 ml of every source, follow-up, cut-off; and what agrees.

    Events are those that CellSearch presented; where an export does not say which, all of them, and `denominator` is "all".
    """
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    first = last_samples(samples[samples["sample_kind"] == "patient"], None).sort_index()
    first = first[first["cancer_type"].isin(cutoffs)]
    columns = ["cell_uid", "sample_uid", "proposed", "assigned"]
    events = read_folder(ws.manifest, MANIFEST, columns=columns)
    events = events[events["sample_uid"].isin(first["sample_uid"])]
    said = bool(len(events)) and not events["proposed"].isna().any()
    chosen = events[events["proposed"].eq(True)] if said else events
    first = first[first["sample_uid"].isin(events["sample_uid"])]
    called = _called(ws, chosen, scorers, image, progress)
    volume = first.set_index("sample_uid")["blood_volume_ml"]
    table = first[["patient_uid", "sample_uid", "cancer_type", "manual_ctc"]].rename(columns={"manual_ctc": "manual"})
    table = table.assign(
        duration=first[f"{endpoint}_months"],
        event=first[f"{endpoint}_event"],
        cutoff=[float(cutoffs[one]) for one in first["cancer_type"]],
        trained_on=first["patient_uid"].isin(set(trained_on)),
    )
    for network in scorers:
        number = called.groupby("sample_uid")[network].sum().reindex(table["sample_uid"]).fillna(0).to_numpy()
        table[network] = number * TUBE_ML / volume.reindex(table["sample_uid"]).to_numpy()
    about = {"denominator": "proposed" if said else "all", "endpoint": endpoint, "events": len(chosen)}
    return table.reset_index(drop=True), about | {"agreement": _agreement(called, table, list(scorers))}


def _called(
    ws: Workspace, events: pd.DataFrame, scorers: Mapping[str, Scorer], image: Mapping[str, Any], progress: Progress
) -> pd.DataFrame:
    """Each event with a column a network: whether it calls the event a CTC. One sample at a time is in memory."""
    parts = []
    groups = list(events.groupby("sample_uid"))
    for done, (sample, mine) in enumerate(groups, start=1):
        uids, pictures = read_inputs(ws.shards, [str(sample)], cell_uids=set(mine["cell_uid"]), **image)
        calls = {name: np.array(score(one, pictures).predicted, dtype=object) == CTC for name, one in scorers.items()}
        parts.append(pd.DataFrame({"cell_uid": uids, **calls}).merge(mine, on="cell_uid"))
        progress(done, len(groups))
    if not parts:
        return events.assign(**{name: np.zeros(len(events), dtype=bool) for name in scorers})
    return pd.concat(parts, ignore_index=True)


def _agreement(called: pd.DataFrame, table: pd.DataFrame, networks: Sequence[str]) -> list[dict[str, Any]]:
    """Network beside operator, event by event, and the patients whose side of the cut-off differs; the paper's figures beside."""
    known = called[called["assigned"].notna()]
    by_hand = known["assigned"].eq(True)
    counted = table[table["manual"].notna()]
    rows = []
    for network in networks:
        same, manual = known[network].to_numpy(dtype=bool) == by_hand.to_numpy(), int(by_hand.sum())
        differs = (counted[network] >= counted["cutoff"]) != (counted["manual"] >= counted["cutoff"])
        theirs = network == "autoencoder"  # the paper compares its final network
        rows.append(
            {
                "network": network,
                "events": len(known),
                "events_agreed": float(same.mean()) if len(known) else None,
                "manual_ctc": manual,
                "manual_ctc_agreed": float(known.loc[by_hand, network].mean()) if manual else None,
                "patients": len(counted),
                "changed_side": int(differs.sum()),
                "paper": {
                    "events_agreed": EVENTS_AGREED if theirs else None,
                    "manual_ctc_agreed": MANUAL_CTC_AGREED if theirs else None,
                    "changed_side": f"{CHANGED_SIDE} of {SURVIVAL_PATIENTS}" if theirs else None,
                },
            }
        )
    return rows


def survival_reports(table: pd.DataFrame, *, min_events: int, endpoint: str, denominator: str) -> list[dict[str, Any]]:
    """Kaplan-Meier, log-rank and Cox of every source, for all patients together and for each cancer type with enough of them."""
    from ctcml.survival import analyse  # lifelines takes seconds to import

    sizes = table["cancer_type"].value_counts()
    groups = ["all", *sorted(str(one) for one in sizes.index[sizes >= FEWEST_PATIENTS])]
    reports = []
    for group in groups:
        rows = table if group == "all" else table[table["cancer_type"] == group]
        for source, title in SOURCES.items():
            report = analyse(
                rows.assign(count=rows[source]),
                cutoff=None if group == "all" else float(rows["cutoff"].iloc[0]),
                label=f"{title}, {group} patients",
                min_events=min_events,
                exploratory=denominator == "all",  # no cut-off was validated for all events
                endpoint=endpoint,
                denominator=denominator,
            ).to_dict()
            theirs = (
                MEDIANS.get(source) if group == "breast" and rows["cutoff"].iloc[0] == 5 else None
            )  # theirs are breast
            reports.append(report | {"source": source, "group": group, "paper_medians": theirs})
    return reports


def roles_of(ws: Workspace) -> dict[str, str]:
    """patient_uid -> train, steering or sealed."""
    found: dict[str, str] = json.loads(ws.roles.read_text(encoding="utf-8"))
    return found
