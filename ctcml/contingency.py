"""Square tables of counts, how often one gave this label and the other that one: kappa, AC1 and their intervals.

A table is kept per patient, because cells of one patient resemble each other and the patient is what is resampled; a draw
weighs the patients' tables, so a thousand draws of all figures are a few matrix products.

`unreadable` is a label of its own that agrees with nothing: beside a class it is a disagreement, and two of them are no pair,
because no label comes of it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ctcml.bootstrap import Floats, patient_weights, ratio, share_interval
from ctcml.records import UNREADABLE

CONFIDENCE = 0.95
UNDEFINED: Mapping[str, None] = {"value": None, "low": None, "high": None}

Estimate = dict[str, float | None]  # value, low, high


def exact_share(tables: Floats) -> Floats:
    """Share on the diagonal of tables (..., Q, Q); NaN of an empty one.

    >>> float(exact_share(np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])))
    0.89
    """
    return ratio(_diagonal(tables), _sum(tables))


def cohens_kappa(tables: Floats) -> Floats:
    """Cohen's kappa (Educ Psychol Meas 1960; 20:37) of tables (..., Q, Q); NaN where all is one label, or nothing.

    >>> round(float(cohens_kappa(np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]]))), 7)
    0.7964094
    """
    return beyond_chance(exact_share(tables), cohens_chance(tables))


def gwets_ac1(tables: Floats) -> Floats:
    """Gwet's AC1 (Br J Math Stat Psychol 2008; 61:29) of tables (..., Q, Q); NaN of an empty one, or of Q = 1.

    >>> round(float(gwets_ac1(np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]]))), 7)
    0.8493305
    """
    return beyond_chance(exact_share(tables), gwets_chance(tables))


def beyond_chance(share: Floats | float, chance: Floats) -> Floats:
    """What of the possible agreement beyond chance was reached; NaN where chance alone would always agree."""
    return ratio(np.asarray(share - chance), 1 - chance)


def cohens_chance(tables: Floats) -> Floats:
    """Agreement of two who give their labels as often as they did, but to any cell: from the margins of each."""
    return ratio((tables.sum(axis=-1) * tables.sum(axis=-2)).sum(axis=-1), _sum(tables) ** 2)


def gwets_chance(tables: Floats) -> Floats:
    """Sum of pi (1 - pi) over the labels, divided by Q - 1, where pi is the mean share that the two gave a label.

    Q is the number of labels on offer, said or not: a label without a cell makes chance smaller, so it must be in the table.
    """
    said = ratio(tables.sum(axis=-1) + tables.sum(axis=-2), 2 * _sum(tables)[..., None])
    return ratio((said * (1 - said)).sum(axis=-1), np.asarray(tables.shape[-1] - 1))


CHANCE: Mapping[str, Callable[[Floats], Floats]] = {"kappa": cohens_chance, "ac1": gwets_chance}


def one_against_the_rest(tables: Floats, label: int) -> Floats:
    """Tables (..., 2, 2) of one label and all others.

    >>> one_against_the_rest(np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]]), 1).tolist()
    [[20, 7], [4, 69]]
    """
    both = tables[..., label, label]
    first, second = tables[..., label, :].sum(axis=-1) - both, tables[..., :, label].sum(axis=-1) - both
    neither = _sum(tables) - both - first - second
    return np.stack([np.stack([both, first], axis=-1), np.stack([second, neither], axis=-1)], axis=-2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """The labels on offer, and how often each patient was drawn: one set of draws for all figures.

    A patient's place is a column of `weights` (draws, patients). Because all figures share the draws, differences between
    them have intervals too.
    """

    labels: pd.Index
    patients: pd.Index
    weights: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Tables:
    """Counts of pairs of labels: in all (Q, Q), in each draw (draws, Q, Q), and of how many patients they are."""

    whole: Floats
    drawn: Floats
    patients: int


def draw_patients(
    patients: Collection[str], labels: Collection[str], *, bootstrap: int, rng: np.random.Generator
) -> Draws:
    """Resample the patients `bootstrap` times; `unreadable` is always among the labels on offer."""
    listed = pd.Index(sorted(set(patients)), dtype=object)
    drawn = patient_weights(len(listed), draws=bootstrap, rng=rng) if len(listed) else np.zeros((bootstrap, 0))
    return Draws(labels=pd.Index(sorted({*labels, UNREADABLE}), dtype=object), patients=listed, weights=drawn)


def count_pairs(first: pd.Series, second: pd.Series, patients: pd.Series, draws: Draws) -> Tables:
    """Count pairs of labels, in all and per draw; pairs that are both `unreadable` are left out."""
    size, at, other = len(draws.labels), draws.labels.get_indexer(first), draws.labels.get_indexer(second)
    nothing = draws.labels.get_loc(UNREADABLE)
    counted = (at != nothing) | (other != nothing)
    cell = (at * size + other)[counted]
    whose, row = np.unique(draws.patients.get_indexer(patients)[counted], return_inverse=True)
    of_patient = np.bincount(row * size**2 + cell, minlength=len(whose) * size**2).reshape(len(whose), size**2)
    drawn = draws.weights[:, whose] @ of_patient.astype(np.float64)
    return Tables(
        whole=of_patient.sum(axis=0).reshape(size, size).astype(np.float64),
        drawn=drawn.reshape(len(drawn), size, size),
        patients=len(whose),
    )


def figures(tables: Tables) -> dict[str, Any]:
    """Exact agreement, kappa and AC1 with 95 % intervals over resampled patients, and the pairs and patients behind them.

    Where the draws do not differ, as when all agree or there is one patient, the exact binomial limits of the agreement are
    given, with chance agreement held fixed for kappa and AC1; they do not know about patients. An undefined figure is None.

    >>> same = np.array([[20.0, 0.0], [0.0, 10.0]])
    >>> figures(Tables(whole=same, drawn=np.array([same] * 5), patients=1))["kappa"]
    {'value': 1.0, 'low': 0.739, 'high': 1.0}
    """
    share = _share(_diagonal(tables.whole), _sum(tables.whole), exact_share(tables.drawn))
    return {
        "n": int(_sum(tables.whole)),
        "patients": tables.patients,
        "exact_share": share,
        **_beyond_chance(tables.whole, tables.drawn),
    }


def class_figures(tables: Tables, label: int) -> dict[str, Any]:
    """One class against the rest: `exact_share` is, of the cells that either called so, the share that both did.

    `n` counts the cells that either called so; kappa and AC1 are those of the two-by-two table of all pairs, `of`.
    """
    whole, drawn = one_against_the_rest(tables.whole, label), one_against_the_rest(tables.drawn, label)
    either, either_drawn = (_sum(table) - table[..., 1, 1] for table in (whole, drawn))
    share = _share(whole[0, 0], either, ratio(drawn[..., 0, 0], either_drawn))
    return {"n": int(either), "of": int(_sum(whole)), "exact_share": share, **_beyond_chance(whole, drawn)}


def differing_share(tables: Tables) -> Estimate:
    """Share off the diagonal, with its interval."""
    cells, drawn = _sum(tables.whole), exact_share(tables.drawn)
    return _share(cells - _diagonal(tables.whole), cells, 1 - drawn)


def differences(one: Tables, other: Tables) -> dict[str, Estimate]:
    """Each figure of `one` less that of `other`, with percentiles of the difference in the same draws."""
    functions = {"exact_share": exact_share, "kappa": cohens_kappa, "ac1": gwets_ac1}
    return {
        name: _percentiles(
            function(one.whole) - function(other.whole), function(one.drawn) - function(other.drawn), None
        )
        for name, function in functions.items()
    }


def _share(hits: Floats, cells: Floats, drawn: Floats) -> Estimate:
    if not cells:
        return dict(UNDEFINED)
    low, high = share_interval(float(hits), float(cells), drawn, confidence=CONFIDENCE)
    return {"value": float(hits / cells), "low": low, "high": high}


def _beyond_chance(whole: Floats, drawn: Floats) -> dict[str, Estimate]:
    found = {}
    for name, chance in CHANCE.items():
        value = beyond_chance(exact_share(whole), chance(whole))
        resampled = beyond_chance(exact_share(drawn), chance(drawn))
        found[name] = _percentiles(value, resampled, (whole, chance))
    return found


def _percentiles(value: Floats, drawn: Floats, fixed: tuple[Floats, Callable[[Floats], Floats]] | None) -> Estimate:
    """The 95 % percentiles of a figure; where the draws do not differ, binomial limits with chance as in `fixed`, or None."""
    if not np.isfinite(value):
        return dict(UNDEFINED)
    seen = drawn[np.isfinite(drawn)]
    if len(seen) and np.ptp(seen) > 1e-12:
        low, high = np.quantile(seen, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    elif fixed:
        whole, chance = fixed
        limits = share_interval(float(_diagonal(whole)), float(_sum(whole)), np.empty(0), confidence=CONFIDENCE)
        low, high = (max(float(beyond_chance(limit, chance(whole))), -1.0) for limit in limits)
    else:
        return {"value": float(value), "low": None, "high": None}
    return {"value": float(value), "low": round(float(low), 3), "high": round(float(high), 3)}


def _sum(tables: Floats) -> Floats:
    return np.asarray(tables.sum(axis=(-2, -1)))


def _diagonal(tables: Floats) -> Floats:
    return np.asarray(np.trace(tables, axis1=-2, axis2=-1))
