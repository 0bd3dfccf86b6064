"""Reading any table of patients for `ctcml survival`: every value that cannot be is named with its line and column."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ctcml.errors import BadInput

MISSING = {"", "na", "nan", "n/a", "null", "none", "."}
NAMED = 5  # mistakes that one message names


def read_cohort(
    path: Path,
    *,
    count: str,
    duration: str,
    event: str,
    covariates: Sequence[str] = (),
    draw_day: str | None = None,
    patient: str | None = None,
) -> pd.DataFrame:
    """Read a CSV with a header: `duration`, `event`, `count`, the covariates and, if named, `draw_day`.

    Empty cells, NA and NaN are missing. Separators are commas, semicolons or tabs. Raises `BadInput`, in one line, for a
    file that is no table, a column that is not there, values that are no numbers, negative durations or counts, events
    other than 0 and 1, and, with a column `patient`, patients who are there twice.
    """
    header, lines = _lines(path)
    wanted = {"count": count, "duration": duration, "event": event}
    wanted |= {"draw_day": draw_day} if draw_day else {}
    needed = [*wanted.values(), *covariates, *([patient] if patient else [])]
    absent = [name for name in needed if name not in header]
    if absent:
        raise BadInput(f"{path}: column {absent[0]!r} is missing; found {', '.join(header)}")
    table = pd.DataFrame([row for _, row in lines], columns=header, dtype=str)
    numbers = [line for line, _ in lines]
    mistakes: list[str] = []
    read = {name: _numbers(table[column], column, name, numbers, mistakes) for name, column in wanted.items()}
    mistakes += _twice(table[patient], numbers) if patient else []
    if mistakes:
        more = f" and {len(mistakes) - NAMED} more" if len(mistakes) > NAMED else ""
        raise BadInput(f"{path}: {'; '.join(mistakes[:NAMED])}{more}; mend the table")
    others = {name: table[name].map(lambda text: None if _missing(text) else text.strip()) for name in covariates}
    return pd.DataFrame(read | others)


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and each row with the line on which it ends."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise BadInput(
            f"{path}: not readable as a UTF-8 CSV table ({why}); name another file or save it again"
        ) from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise BadInput(f"{path}: line {reader.line_num}: not readable as CSV ({error}); save it again") from None
    if len(rows) < 2:
        raise BadInput(f"{path}: {len(rows)} lines, expected a header and a line for each patient; name another file")
    header = [name.strip() for name in rows[0][1]]
    double = [name for name in header if header.count(name) > 1]
    if double:
        raise BadInput(f"{path}: column {double[0]!r} is there twice; give each column a name of its own")
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise BadInput(
                f"{path}: line {line}: {len(row)} values, expected {len(header)} as in the header; mend the line"
            )
    return header, rows[1:]


def _numbers(texts: pd.Series, column: str, name: str, lines: Sequence[int], mistakes: list[str]) -> list[float]:
    found = []
    for line, text in zip(lines, texts, strict=True):
        value = float("nan") if _missing(text) else _number(text)
        if value is None or math.isinf(value):
            mistakes.append(f"line {line}: {column} is {text!r}, expected a number")
        elif name in ("duration", "count") and value < 0:
            mistakes.append(f"line {line}: {column} is {text}, expected 0 or more")
        elif name == "event" and not math.isnan(value) and value not in (0, 1):
            mistakes.append(f"line {line}: {column} is {text}, expected 1 (happened) or 0 (not yet)")
        found.append(float("nan") if value is None else value)
    return found


def _number(text: str) -> float | None:
    """
    >>> _number(" 3.5"), _number("3,5"), _number("many")
    (3.5, None, None)
    """
    try:
        return float(text)
    except ValueError:
        return None


def _missing(text: str) -> bool:
    return text.strip().lower() in MISSING


def _twice(patients: pd.Series, lines: Sequence[int]) -> list[str]:
    again = patients.duplicated()
    return [
        f"line {line}: patient {name!r} is there twice, expected one line each"
        for line, name, double in zip(lines, patients, again, strict=True)
        if double
    ]
