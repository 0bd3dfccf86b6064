"""The clinical table: what a laboratory knows of its samples, checked row by row and pseudonymised."""

from pathlib import Path

import pandas as pd

from ctcml.errors import BadInput
from ctcml.identity import pseudonym
from ctcml.tables import CLINICAL

REQUIRED = ("patient", "sample", "sample_kind", "cancer_type", "blood_volume_ml")
SAMPLE_KINDS = ("patient", "benign", "cell_line", "control")
NUMBERS = (
    "blood_volume_ml",
    "manual_ctc",
    "os_months",
    "os_event",
    "pfs_months",
    "pfs_event",
    "draw_day",
    "age",
    "ecog",
)
TEXTS = ("line_of_therapy", "site", "instrument")
COVARIATE = "covariate_"


def read_clinical(path: Path, key: bytes) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read `clinical.csv`; returns the pseudonymised table and the map sample id -> sample_uid.

    Durations in months, blood volume in millilitres, draw day in days from registration. Values that cannot be are
    refused with the row named, all rows at once (`BadInput`); nothing is corrected.
    """
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such clinical table; name it with --clinical") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise BadInput(
            f"{path}: not readable as a UTF-8 CSV table ({' '.join(str(error).split())}); save it again"
        ) from None
    missing = [name for name in REQUIRED if name not in raw.columns]
    if missing:
        raise BadInput(f"{path}: columns {missing} are missing; expected at least {list(REQUIRED)}")
    mistakes = _mistakes(raw)
    if mistakes:
        raise BadInput(f"{path}: {len(mistakes)} mistake(s): " + "; ".join(mistakes[:20]))
    samples = {sample: pseudonym(key, "sample", sample) for sample in raw["sample"]}
    table = pd.DataFrame(
        {
            "sample_uid": raw["sample"].map(samples),
            "patient_uid": [pseudonym(key, "patient", patient) for patient in raw["patient"]],
            "sample_kind": raw["sample_kind"],
            "cancer_type": raw["cancer_type"],
        }
    )
    for name in NUMBERS:
        table[name] = pd.to_numeric(raw[name].replace("", None)) if name in raw else float("nan")
        table[name] = table[name].astype("float64")
    for name in TEXTS:
        table[name] = raw[name].replace("", None) if name in raw else None
    for name in raw.columns:
        if name not in CLINICAL and name not in REQUIRED:
            table[COVARIATE + name.removeprefix(COVARIATE)] = raw[name]
    return table[[*CLINICAL, *(name for name in table if name.startswith(COVARIATE))]], samples


def _mistakes(raw: pd.DataFrame) -> list[str]:
    found = []
    for number, row in enumerate(raw.to_dict("records"), start=2):  # line 1 is the header
        for name in REQUIRED:
            if not row[name].strip():
                found.append(f"line {number}: {name} is empty")
        if row["sample_kind"] not in SAMPLE_KINDS:
            found.append(f"line {number}: sample_kind is {row['sample_kind']!r}, expected one of {SAMPLE_KINDS}")
        for name in NUMBERS:
            found += _number_mistake(number, name, row.get(name, ""))
    for sample in raw["sample"][raw["sample"].duplicated()].unique():
        found.append(f"sample {sample!r} stands in more than one line")
    of_patient = raw.groupby("patient")["cancer_type"].nunique()
    found += [f"patient {patient!r} has more than one cancer type" for patient in of_patient[of_patient > 1].index]
    return found


def _number_mistake(line: int, name: str, text: str) -> list[str]:
    if not text:
        return []
    try:
        value = float(text)
    except ValueError:
        return [f"line {line}: {name} is {text!r}, expected a number"]
    allowed = {"os_event": (0, 1), "pfs_event": (0, 1), "blood_volume_ml": (0.1, 50), "age": (0, 120), "ecog": (0, 5)}
    low, high = allowed.get(name, (0, 100_000))
    if name == "draw_day":
        low = -100_000
    if not low <= value <= high or (name.endswith("_event") and value not in (0, 1)):
        return [f"line {line}: {name} is {text}, expected {low} to {high}"]
    return []
