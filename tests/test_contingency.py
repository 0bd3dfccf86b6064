"""Kappa and AC1 against published tables and other people's programs, and intervals over resampled patients."""

from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa as statsmodels_kappa

from ctcml.contingency import (
    Tables,
    class_figures,
    cohens_kappa,
    count_pairs,
    differences,
    draw_patients,
    exact_share,
    figures,
    gwets_ac1,
)

# Gwet, Handbook of Inter-Rater Reliability (4th ed. 2014), as printed with the author's R package irrCAC: 100 women by two
# abstractors (ectopic, abnormal and normal intrauterine pregnancy), and 223 psychiatric patients by two methods of diagnosis.
ABSTRACTORS = [[13, 0, 0], [0, 20, 7], [0, 4, 56]]
DIAGNOSES = [[40, 4, 4, 17], [6, 25, 2, 13], [4, 1, 21, 12], [15, 5, 9, 45]]
RARE = [[118, 5], [2, 0]]  # two who nearly always say the same one label: the paradox of kappa


def exact_kappa(table: list[list[int]]) -> Fraction:
    """Cohen's formula in whole numbers, cell by cell."""
    n, q = sum(map(sum, table)), range(len(table))
    observed = Fraction(sum(table[k][k] for k in q), n)
    chance = sum(Fraction(sum(table[k]), n) * Fraction(sum(row[k] for row in table), n) for k in q)
    return (observed - chance) / (1 - chance)


def exact_ac1(table: list[list[int]]) -> Fraction:
    """Gwet's formula in whole numbers, cell by cell."""
    n, q = sum(map(sum, table)), range(len(table))
    observed = Fraction(sum(table[k][k] for k in q), n)
    mean = [Fraction(sum(table[k]) + sum(row[k] for row in table), 2 * n) for k in q]
    chance = sum(pi * (1 - pi) for pi in mean) / (len(table) - 1)
    return (observed - chance) / (1 - chance)


@pytest.mark.parametrize(
    ("table", "kappa", "ac1"), [(ABSTRACTORS, "0.7964094", "0.8493305"), (DIAGNOSES, "0.432", "0.456")]
)
def test_kappa_and_ac1_are_what_gwet_printed_to_the_last_digit(table: list[list[int]], kappa: str, ac1: str) -> None:
    digits = len(kappa) - 2
    assert f"{float(cohens_kappa(np.array(table))):.{digits}f}" == kappa
    assert f"{float(gwets_ac1(np.array(table))):.{digits}f}" == ac1


@pytest.mark.parametrize("table", [ABSTRACTORS, DIAGNOSES, RARE, [[5, 0], [1, 3]], [[0, 3], [4, 0]]])
def test_kappa_and_ac1_are_the_exact_fractions_to_1e_9(table: list[list[int]]) -> None:
    assert abs(float(cohens_kappa(np.array(table))) - float(exact_kappa(table))) < 1e-9
    assert abs(float(gwets_ac1(np.array(table))) - float(exact_ac1(table))) < 1e-9


def test_where_one_label_is_rare_kappa_falls_below_chance_and_ac1_follows_the_agreement() -> None:
    assert float(cohens_kappa(np.array(RARE))) < 0
    assert 0.93 < float(gwets_ac1(np.array(RARE))) < float(exact_share(np.array(RARE))) < 0.95


def test_kappa_equals_scikit_learn_and_statsmodels_on_a_hundred_random_tables() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        size = int(rng.integers(2, 8))
        first, second = (rng.choice(size, 200, p=rng.dirichlet(np.ones(size))) for _ in range(2))
        second = np.where(rng.random(200) < rng.random(), first, second)
        table = np.zeros((size, size))
        np.add.at(table, (first, second), 1)
        ours = float(cohens_kappa(table))
        assert abs(ours - cohen_kappa_score(first, second, labels=np.arange(size))) < 1e-9
        assert abs(ours - statsmodels_kappa(table, return_results=False)) < 1e-9


def test_a_label_that_nobody_used_changes_ac1_and_not_kappa() -> None:
    table = np.array(ABSTRACTORS)
    wider = np.pad(table, (0, 1))
    assert float(cohens_kappa(wider)) == float(cohens_kappa(table))
    assert float(gwets_ac1(wider)) > float(gwets_ac1(table))


def test_with_one_label_only_kappa_is_undefined_and_ac1_is_not() -> None:
    table = np.array([[7.0, 0.0], [0.0, 0.0]])
    found = figures(Tables(whole=table, drawn=np.array([table] * 3), patients=2))
    assert found["kappa"] == {"value": None, "low": None, "high": None}
    assert found["ac1"]["value"] == 1
    assert found["exact_share"] == {"value": 1.0, "low": 0.59, "high": 1.0}  # binomtest(7, 7).proportion_ci()


def test_nothing_to_compare_is_none_and_no_exception() -> None:
    draws = draw_patients([], ["ctc"], bootstrap=10, rng=np.random.default_rng(0))
    nothing = pd.Series([], dtype=object)
    found = figures(count_pairs(nothing, nothing, nothing, draws))
    assert (found["n"], found["patients"]) == (0, 0)
    assert {found[name]["value"] for name in ("exact_share", "kappa", "ac1")} == {None}


def a_laboratory(rng: np.random.Generator, patients: int, cells: int, clumped: bool) -> pd.DataFrame:
    """Pairs of labels of SIMULATED cells that agree as often in each patient, or always in some and seldom in others."""
    rows = []
    for patient in range(patients):
        right = rng.choice([0.55, 0.95]) if clumped else 0.75
        for _ in range(cells):
            first = rng.integers(0, 3)
            second = first if rng.random() < right else (first + rng.integers(1, 3)) % 3
            rows.append((f"p{patient:03d}", "abc"[first], "abc"[second]))
    return pd.DataFrame(rows, columns=["patient", "first", "second"])


def counted(pairs: pd.DataFrame, *, bootstrap: int, seed: int = 0, labels: str = "abc") -> Tables:
    draws = draw_patients(set(pairs["patient"]), list(labels), bootstrap=bootstrap, rng=np.random.default_rng(seed))
    return count_pairs(pairs["first"], pairs["second"], pairs["patient"], draws)


def test_a_draw_is_the_table_of_the_drawn_patients_cells() -> None:
    pairs = a_laboratory(np.random.default_rng(0), 6, 5, clumped=False)
    draws = draw_patients(set(pairs["patient"]), list("abc"), bootstrap=20, rng=np.random.default_rng(1))
    tables = count_pairs(pairs["first"], pairs["second"], pairs["patient"], draws)
    of_patient = dict(iter(pairs.groupby("patient")))
    for weights, drawn in zip(draws.weights, tables.drawn, strict=True):
        again = pd.concat(
            [of_patient[name] for name, times in zip(draws.patients, weights, strict=True) for _ in range(int(times))]
        )
        wanted = cohen_kappa_score(again["first"], again["second"], labels=list("abc"))
        assert abs(float(cohens_kappa(drawn)) - wanted) < 1e-9


def test_the_interval_of_kappa_holds_the_true_value_in_about_95_of_100_laboratories() -> None:
    # Three labels alike and 3 of 4 alike: chance is 1/3, kappa (3/4 - 1/3) / (2/3) = 0.625.
    rng, held = np.random.default_rng(3), 0
    for seed in range(200):
        kappa = figures(counted(a_laboratory(rng, 40, 15, clumped=True), bootstrap=300, seed=seed))["kappa"]
        held += kappa["low"] <= 0.625 <= kappa["high"]
    assert 0.89 <= held / 200 <= 0.99


def test_patients_that_differ_widen_the_interval() -> None:
    widths = []
    for clumped in (True, False):
        kappa = figures(counted(a_laboratory(np.random.default_rng(5), 30, 40, clumped), bootstrap=500))["kappa"]
        widths.append(kappa["high"] - kappa["low"])
    assert widths[0] > 1.5 * widths[1]


def test_one_patient_gives_binomial_limits_and_never_a_width_of_zero() -> None:
    found = figures(counted(a_laboratory(np.random.default_rng(0), 1, 20, clumped=False), bootstrap=50))
    for name in ("exact_share", "kappa", "ac1"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_two_who_could_not_read_a_cell_are_no_pair_and_one_who_could_not_disagrees() -> None:
    pairs = pd.DataFrame(
        {"patient": ["p", "q", "q"], "first": ["unreadable", "unreadable", "a"], "second": ["unreadable", "a", "a"]}
    )
    found = figures(counted(pairs, bootstrap=10))
    assert found["n"] == 2
    assert found["exact_share"]["value"] == 0.5


def test_a_class_counts_the_cells_that_either_called_so() -> None:
    pairs = pd.DataFrame({"patient": list("pqrs"), "first": list("aabc"), "second": list("abbc")})
    found = class_figures(counted(pairs, bootstrap=10), 0)
    assert (found["n"], found["of"], found["exact_share"]["value"]) == (2, 4, 0.5)
    assert found["kappa"]["value"] == pytest.approx(cohen_kappa_score([1, 1, 0, 0], [1, 0, 0, 0]))


def test_a_difference_on_the_same_cells_has_a_narrower_interval_than_its_parts() -> None:
    rng = np.random.default_rng(7)
    pairs = a_laboratory(rng, 40, 15, clumped=True)
    better = pairs.assign(second=np.where(rng.random(len(pairs)) < 0.2, pairs["first"], pairs["second"]))
    draws = draw_patients(set(pairs["patient"]), list("abc"), bootstrap=500, rng=rng)
    one, other = (count_pairs(rows["first"], rows["second"], rows["patient"], draws) for rows in (better, pairs))
    gap, kappa = differences(one, other)["kappa"], figures(other)["kappa"]
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    assert gap["high"] - gap["low"] < kappa["high"] - kappa["low"]
