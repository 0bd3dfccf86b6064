"""Which samples, which cells and which events of life the Cohort page looks at: every choice stands in the address."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from dashboards.addresses import ALL, DEFAULT_CLASS, DENOMINATORS, threshold_name

DRAWS = {"every": "every sample", "first": "first samples", "later": "follow-up samples"}
ABOUT_SAMPLES = ["sample_uid", "sample_kind", "site", "line_of_therapy", "instrument", "draw_day", "manual_ctc"]


@dataclass(frozen=True, kw_only=True)
class People:
    """Whose samples: an empty tuple lets all pass."""

    cancer_type: str = ALL
    sites: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def cancer_types(self) -> tuple[str, ...]:
        return () if self.cancer_type == ALL else (self.cancer_type,)

    @property
    def is_group(self) -> bool:
        """Whether these are all patients of one cancer type, or simply all."""
        return not (self.sites or self.lines)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Which cells: a class, the events among which it is counted, and from which probability on."""

    class_id: str
    denominator: str
    threshold: float


def choose_cancer_type(types: Sequence[str]) -> str:
    """One cancer type or all of them; it holds for every section."""
    return st.segmented_control(
        "Cancer type",
        [ALL, *types],
        default=ALL,
        required=True,
        key="cancer",
        bind="query-params",
        format_func=str.capitalize,
    )


def choose_people(people: pd.DataFrame, cancer_type: str) -> People:
    """Site and line of therapy, as far as the clinical table knows more than one of them."""
    left, right = st.columns(2)
    sites = _several(left, "Site", people["site"], key="site")
    lines = _several(right, "Line of therapy", people["line_of_therapy"], key="line")
    return People(cancer_type=cancer_type, sites=sites, lines=lines)


def _several(place: st.delta_generator.DeltaGenerator, label: str, column: pd.Series, *, key: str) -> tuple[str, ...]:
    options = sorted(str(one) for one in column.dropna().unique())
    if len(options) < 2:
        return ()
    return tuple(place.multiselect(label, options, key=key, bind="query-params", placeholder="all"))


def choose_counted(counts: pd.DataFrame, names: Mapping[str, str]) -> Counted:
    """Class, denominator and threshold, of those that were counted."""
    class_ids, thresholds = list(dict.fromkeys(counts["class_id"])), sorted(counts["threshold"].unique())
    denominators = [name for name in DENOMINATORS if name in set(counts["denominator"])]
    adopt_ids("class", class_ids)
    adopt_ids("among", denominators)
    left, middle, right = st.columns(3)
    class_id = left.selectbox(
        "Class",
        class_ids,
        key="class",
        bind="query-params",
        format_func=lambda one: names.get(one, one),
        index=class_ids.index(DEFAULT_CLASS) if DEFAULT_CLASS in class_ids else 0,
    )
    denominator = middle.selectbox(
        "Counted among", denominators, key="among", bind="query-params", format_func=lambda one: DENOMINATORS[one]
    )
    threshold = right.selectbox("Counted when", thresholds, key="when", bind="query-params", format_func=threshold_name)
    # The table holds 32-bit numbers; rounded they are again those of params.yaml.
    return Counted(class_id=class_id, denominator=denominator, threshold=round(float(threshold), 6))


def adopt_ids(key: str, ids: Sequence[str]) -> None:
    """Let an address also name a choice by its identifier, as other programs write it."""
    asked = st.query_params.get(key)
    if asked in ids and key not in st.session_state:
        st.session_state[key] = asked


def rows_of(counts: pd.DataFrame, counted: Counted) -> pd.DataFrame:
    """The counts of this choice, one row a sample."""
    return counts[
        (counts["class_id"] == counted.class_id)
        & (counts["denominator"] == counted.denominator)
        & (counts["threshold"].round(6) == round(counted.threshold, 6))
    ]


def narrowed(rows: pd.DataFrame, clinical: pd.DataFrame, people: People, *, draws: str = "every") -> pd.DataFrame:
    """The same with what the clinical table says of each sample, for these people and draws alone."""
    joined = rows.merge(clinical[ABOUT_SAMPLES], on="sample_uid", how="left")
    kept = pd.Series(True, index=joined.index)
    if people.cancer_type != ALL:
        kept &= joined["cancer_type"] == people.cancer_type
    for column, chosen in (("site", people.sites), ("line_of_therapy", people.lines)):
        if chosen:
            kept &= joined[column].astype(str).isin(chosen)
    if draws != "every":
        later = joined["draw_day"] > 0
        kept &= later if draws == "later" else ~later
    return joined[kept].reset_index(drop=True)
