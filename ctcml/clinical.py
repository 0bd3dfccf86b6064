"""The clinical table: what a laboratory knows of its samples, checked row by row and pseudonymised."""

import csv
import re
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
WHOLE = ("manual_ctc", "os_event", "pfs_event", "ecog")
OF_PATIENT = ("cancer_type", "os_months", "os_event", "pfs_months", "pfs_event")  # counted from registration
TEXTS = ("line_of_therapy", "site", "instrument")
COVARIATE = "covariate_"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


def read_clinical(path: Path, key: bytes) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read `clinical.csv`; returns the pseudonymised table and the map sample id -> sample_uid.

    Durations in months, blood volume in millilitres, draw day in days from registration. Values that cannot be are
    refused with the row named, all rows at once (`BadInput`); nothing is corrected.
    """
    try:
        raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such clinical table; name it with --clinical") from None
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, OSError) as error:
        raise BadInput(
            f"{path}: not readable as a UTF-8 CSV table ({' '.join(str(error).split())}); save it again"
        ) from None
    if "\0" in text:  # pandas would cut the cell there
        raise BadInput(
            f"{path}: not readable as a CSV table, it holds a NUL character in line {text[: text.index(chr(0))].count(chr(10)) + 1}; save it again"
        )
    header = next(line for line in text.splitlines() if line.strip())
    names = [name.strip().removeprefix(COVARIATE) for name in next(csv.reader([header]))]
    twice = sorted({name for name in names if names.count(name) > 1 or not name})
    if twice:  # pandas would rename the second one
        raise BadInput(f"{path}: columns {twice} have no name or the same one; give each column a name of its own")
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
    # Lines and no names: these sentences go into logs.
    line_of = pd.Series(range(2, len(raw) + 2), index=raw.index)
    for _, lines in line_of.groupby(raw["sample"]):
        if len(lines) > 1:
            found.append(f"lines {_listed(lines)} are about the same sample")
    for name in OF_PATIENT:
        known = raw[raw[name] != ""] if name in raw else raw.iloc[:0].assign(**{name: ""})
        for _, values in known.groupby("patient")[name]:
            if values.nunique() > 1:
                found.append(f"lines {_listed(line_of[values.index])}: one patient with more than one {name}")
    return found


def _listed(lines: "pd.Series[int]") -> str:
    return ", ".join(str(line) for line in lines[:5])


def _number_mistake(line: int, name: str, text: str) -> list[str]:
    if not text:
        return []
    if not NUMBER.fullmatch(text):
        return [f"line {line}: {name} is {text!r}, expected a number"]
    value = float(text)
    allowed = {"os_event": (0, 1), "pfs_event": (0, 1), "blood_volume_ml": (0.1, 50), "age": (0, 120), "ecog": (0, 5)}
    low, high = allowed.get(name, (0, 100_000))
    if name == "draw_day":
        low = -100_000
    if not low <= value <= high:
        return [f"line {line}: {name} is {text}, expected {low} to {high}"]
    if name in WHOLE and value != round(value):
        return [f"line {line}: {name} is {text}, expected a whole number"]
    return []
