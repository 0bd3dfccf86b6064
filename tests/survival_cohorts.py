"""Cohorts on which our survival figures are set beside those of R: real ones that ship with lifelines, Freireich's, a drawn one.

`python tests/survival_cohorts.py FOLDER` writes them as CSV for tests/r/figures.R; a real cohort of CTC counts is added where
CTCML_REAL_DATA names the folder of real tables, of which nothing but R's figures is kept.
"""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import datasets

CUTOFFS = {
    "freireich": 5, "rossi": 3, "lung": 20, "gbsg2": 4, "waltons": 5, "drawn": 5, "ends_at_half": 5, "cabav7": 5,
}  # fmt: skip
LANDMARKS = {
    "freireich": 5, "rossi": 12, "lung": 90, "gbsg2": 365, "waltons": 20, "drawn": 6, "ends_at_half": 2, "cabav7": 3.5,
}  # fmt: skip


def cohorts() -> dict[str, pd.DataFrame]:
    """By name: duration, event, count and, where there are any, `other` (a second count) and covariates `x_…`."""
    found = {
        "freireich": freireich(),
        "rossi": rossi(),
        "lung": lung(),
        "gbsg2": gbsg2(),
        "waltons": waltons(),
        "drawn": drawn(),
        "ends_at_half": ends_at_half(),
    }
    real = cabav7()
    return found if real is None else found | {"cabav7": real}


def freireich() -> pd.DataFrame:
    """Freireich 1963, Blood 21:699: 6-mercaptopurine (count 0) against placebo (10), with the logarithm of white cells."""
    table = datasets.load_leukemia()
    return pd.DataFrame(
        {
            "duration": table["t"], "event": table["status"], "count": 10 * table["Rx"], "other": table["logWBC"],
            "x_white": table["logWBC"],
        }
    )  # fmt: skip


def rossi() -> pd.DataFrame:
    """Rossi 1980: weeks until the arrest of 432 people released from prison; the count is that of earlier convictions."""
    table = datasets.load_rossi()
    return pd.DataFrame(
        {
            "duration": table["week"], "event": table["arrest"], "count": table["prio"], "other": 60 - table["age"],
            "x_age": table["age"], "x_married": np.where(table["mar"] == 1, "yes", "no"),
        }
    )  # fmt: skip


def lung() -> pd.DataFrame:
    """Loprinzi 1994, J Clin Oncol 12:601: advanced lung cancer; the count is what lacks of a Karnofsky score of 100."""
    table = datasets.load_lung().dropna(subset=["ph.karno", "pat.karno"])
    return pd.DataFrame(
        {
            "duration": table["time"], "event": table["status"], "count": 100 - table["ph.karno"],
            "other": 100 - table["pat.karno"], "x_age": table["age"], "x_sex": table["sex"].map({1: "m", 2: "f"}),
        }
    )  # fmt: skip


def gbsg2() -> pd.DataFrame:
    """Schumacher 1994, J Clin Oncol 12:2086: node-positive breast cancer; the count is that of positive nodes."""
    table = datasets.load_gbsg2()
    return pd.DataFrame(
        {
            "duration": table["time"], "event": table["cens"], "count": table["pnodes"], "other": table["tsize"],
            "x_age": table["age"], "x_grade": table["tgrade"], "x_hormone": table["horTh"],
        }
    )  # fmt: skip


def waltons() -> pd.DataFrame:
    """Walton's flies: 163 of them, many dying on the same day."""
    table = datasets.load_waltons()
    return pd.DataFrame({"duration": table["T"], "event": table["E"], "count": 10 * (table["group"] == "miR-137")})


def drawn() -> pd.DataFrame:
    """SIMULATED: whole months, so with heavy ties; the lower arm's curve runs at exactly 1/2 from month 12 to month 18."""
    rng = np.random.default_rng(8)
    low = np.concatenate([np.tile(np.arange(3, 13), 2), np.arange(18, 28), np.arange(20, 30)])
    early = np.ceil(rng.exponential(7, 60))
    return pd.DataFrame(
        {
            "duration": np.concatenate([low, np.minimum(early, 24)]),
            "event": np.concatenate([np.repeat([1, 1, 0], [20, 10, 10]), early <= 24]).astype(int),
            "count": np.concatenate([rng.integers(0, 5, 40), 5 + rng.poisson(20, 60)]),
            "other": rng.poisson(9, 100),
            "x_age": rng.normal(64, 9, 100).round(),
            "x_site": rng.choice(["A", "A", "B", "C"], 100),
        }
    )


def ends_at_half() -> pd.DataFrame:
    """SIMULATED: a curve that ends at exactly 1/2, and one that falls to 0."""
    return pd.DataFrame(
        {
            "duration": [*range(1, 6), *range(6, 11), *range(1, 11)],
            "event": [1] * 5 + [0] * 5 + [1] * 10,
            "count": [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, *range(5, 15)],
        }
    )


def cabav7() -> pd.DataFrame | None:
    """CABA-V7, castration-resistant prostate cancer (Erasmus MC, CABAV7_Aneuploidy): CTC per 7.5 ml, overall survival."""
    folder = os.environ.get("CTCML_REAL_DATA")
    if not folder:
        return None
    table = pd.read_csv(Path(folder) / "ctc_survival_cabav7.csv")
    return pd.DataFrame(
        {
            "duration": table["os_months"], "event": table["event"], "count": table["ctc_baseline_7_5ml"],
            "x_age": table["age"], "x_ecog": table["ecog"], "x_ar_v7": table["ar_v7"].where(table["ar_v7"].notna(), ""),
        }
    )  # fmt: skip


if __name__ == "__main__":
    for name, table in cohorts().items():
        table.assign(cutoff=CUTOFFS[name], landmark=LANDMARKS[name]).to_csv(
            Path(sys.argv[1]) / f"{name}.csv", index=False
        )
