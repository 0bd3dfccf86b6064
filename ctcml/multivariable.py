"""Cox's model of the count together with what else is known of the patients.

The count enters as ln(1 + count): cutting it in two would throw away what it knows (Altman and Royston 2006, BMJ
332:1080). Numbers enter as they are, words as one column a level against the commonest; patients who lack a covariate
are left out and counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.concordances import concordance
from ctcml.cox import Hazard, NoFit, fit_cox
from ctcml.proportional import GLOBAL

COUNT = "ln(1 + count)"
FEWEST_EVENTS, WANTED_EVENTS = 5, 10  # for each column of the model
MOST_LACKING = 0.5  # ours: a covariate that more patients lack would cost more of them than it is worth
MOST_LEVELS = 8  # ours: a text with more of them is a name or a remark and no covariate


@dataclass(frozen=True, kw_only=True)
class Term:
    """The hazard ratio of one column of the model; `proportional_p` is that of all levels of its covariate together."""

    name: str
    hr: float
    low: float
    high: float
    p: float
    proportional_p: float


@dataclass(frozen=True, kw_only=True)
class Multivariable:
    """A model of the count and covariates on the patients who have them all."""

    n: int
    events: int
    left_out: int
    terms: tuple[Term, ...]
    global_proportional_p: float
    concordance: float


@dataclass(frozen=True, kw_only=True)
class Design:
    """Columns of a model (patients, columns), which of them belong to which covariate, and how to read each."""

    columns: pd.DataFrame
    terms: dict[str, list[str]]
    per: dict[str, str]


def multivariable(known: pd.DataFrame, covariates: Sequence[str]) -> tuple[Multivariable, list[str]] | NoFit:
    """Fit the model; returns it with notes.

    Fewer than 5 events a column are refused and fewer than 10 get a note: below 5 the limits no longer hold (Vittinghoff
    and McCulloch 2007, Am J Epidemiol 165:710), between 5 and 10 they do as a rule (Peduzzi et al. 1995).
    """
    absent = [name for name in covariates if name not in known]
    if absent:
        return NoFit(why=f"needs the column {absent[0]!r}, which is not there")
    lacking = {name: _lacks(known[name]) for name in covariates}
    kept = [name for name in covariates if lacking[name].mean() <= MOST_LACKING]
    whole = known[~np.logical_or.reduce([np.zeros(len(known), dtype=bool), *(lacking[name] for name in kept)])]
    whole = whole.reset_index(drop=True)
    deaths = int(whole["event"].sum())
    design, notes = design_of(whole, kept)
    notes += [
        f"model with covariates: {_told(name)} is known of {int((~lacking[name]).sum())} of {len(known)} patients and is left out"
        for name in covariates
        if name not in kept
    ]
    if isinstance(design, NoFit):
        return design
    each = deaths / design.columns.shape[1]
    if each < FEWEST_EVENTS:
        return NoFit(
            why=f"has {deaths} events for {design.columns.shape[1]} columns, at least {FEWEST_EVENTS} for each are "
            "needed; choose fewer covariates"
        )
    if each < WANTED_EVENTS:
        notes.append(f"model with covariates: {each:.1f} events for each column, {WANTED_EVENTS} are wanted")
    durations, events = whole["duration"].to_numpy(float), whole["event"].to_numpy(float)
    fit = fit_cox(durations, events, design.columns, terms=design.terms)
    if isinstance(fit, NoFit):
        return fit
    term_of = {column: term for term, columns in design.terms.items() for column in columns}
    hazards = [fit.hazard(column, design.per[column], term=term_of[column]) for column in fit.columns]
    return Multivariable(
        n=len(whole),
        events=deaths,
        left_out=len(known) - len(whole),
        terms=tuple(_term(one) for one in hazards),
        global_proportional_p=fit.proportional[GLOBAL],
        concordance=concordance(durations, events, design.columns.to_numpy(float) @ fit.beta).value,
    ), notes


def design_of(whole: pd.DataFrame, covariates: Sequence[str]) -> tuple[Design | NoFit, list[str]]:
    """Code the count and the covariates as columns; a covariate that is the same in all patients is left out with a note."""
    columns, terms, per = {COUNT: np.log1p(whole["count"].to_numpy(float))}, {COUNT: [COUNT]}, {COUNT: COUNT}
    notes = []
    for name in covariates:
        values = pd.to_numeric(whole[name], errors="coerce")
        levels = whole[name].astype(str).str.strip()
        told = _told(name)
        if levels.nunique() < 2:
            notes.append(f"model with covariates: {told} is the same in all patients and is left out")
        elif values.notna().all():
            columns[name], terms[name], per[name] = values.to_numpy(float), [name], told
        elif levels.nunique() > MOST_LEVELS:
            return NoFit(why=f"cannot take {told}: {levels.nunique()} different texts, at most {MOST_LEVELS}"), notes
        else:
            commonest = levels.value_counts().sort_index().idxmax()
            others = sorted(set(levels) - {commonest})
            terms[name] = [f"{name}={level}" for level in others]
            columns |= {f"{name}={level}": (levels == level).to_numpy(float) for level in others}
            per |= {f"{name}={level}": f"{told} {level} against {commonest}" for level in others}
    return Design(columns=pd.DataFrame(columns), terms=terms, per=per), notes


def _lacks(values: pd.Series) -> NDArray[np.bool_]:
    return np.asarray(values.isna() | (values.astype(str).str.strip() == ""), dtype=bool)


def _told(name: str) -> str:
    return name.removeprefix("covariate_").replace("_", " ")


def _term(one: Hazard) -> Term:
    return Term(name=one.per, hr=one.hr, low=one.low, high=one.high, p=one.p, proportional_p=one.proportional_p)
