from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.cohort_file import read_cohort
from ctcml.errors import BadInput

GOOD = "patient,ctc,months,died,age\nA,0,12.5,1,60\nB,7,3,0,\nC,NA,4,1,71\n"


def read(tmp_path: Path, text: str, **more: Any) -> pd.DataFrame:
    path = tmp_path / "cohort.csv"
    path.write_bytes(text.encode("utf-8"))
    return read_cohort(path, **({"count": "ctc", "duration": "months", "event": "died"} | more))


def test_columns_are_found_by_the_names_that_the_table_gives_them(tmp_path: Path) -> None:
    found = read(tmp_path, GOOD, covariates=["age"])
    assert found["count"].tolist()[:2] == [0, 7]
    assert np.isnan(found["count"][2])
    assert found["duration"].tolist() == [12.5, 3, 4]
    assert found["event"].tolist() == [1, 0, 1]
    assert found["age"].tolist() == ["60", None, "71"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_as_well_and_a_byte_order_mark_is_no_name(tmp_path: Path, separator: str) -> None:
    text = "\ufeff" + GOOD.replace(",", separator).replace("\n", "\r\n")
    assert read(tmp_path, text).equals(read(tmp_path, GOOD))


def test_a_comma_within_quotes_is_part_of_a_value(tmp_path: Path) -> None:
    found = read(tmp_path, 'ctc,months,died,site\n1,2,1,"Enschede, NL"\n2,3,0,B\n', covariates=["site"])
    assert found["site"].tolist() == ["Enschede, NL", "B"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ctc,months\n1,2\n", r"column 'died' is missing; found ctc, months"),
        (GOOD.replace("A,0", "A,none at all"), r"line 2: ctc is 'none at all', expected a number"),
        (GOOD.replace("12.5", "-1"), r"line 2: months is -1, expected 0 or more"),
        (GOOD.replace("B,7", "B,-7"), r"line 3: ctc is -7, expected 0 or more"),
        (GOOD.replace("3,0,", "3,2,"), r"line 3: died is 2, expected 1"),
        (GOOD.replace("12.5", "inf"), r"line 2: months is 'inf', expected a number"),
        (GOOD.replace("A,0,12.5,1,60", "A,0,12,5,1,60"), r"line 2: 6 values, expected 5"),
        (GOOD.replace("age", "ctc"), r"column 'ctc' is there twice"),
        ("", r"0 lines, expected a header"),
        ("ctc,months,died\n", r"1 lines, expected a header and a line for each patient"),
        ("\n\nctc,months,died\n\nmany,2,1\n", r"line 5: ctc is 'many'"),
    ],
)
def test_what_cannot_be_is_named_with_its_line_and_column_in_one_line(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(BadInput, match=named) as error:
        read(tmp_path, text)
    assert "\n" not in str(error.value)


def test_many_mistakes_are_named_at_once_and_the_rest_counted(tmp_path: Path) -> None:
    rows = "".join(f"x{at},5,1\n" for at in range(9))
    with pytest.raises(BadInput, match=r"line 2.*line 6: ctc is 'x4', expected a number and 4 more"):
        read(tmp_path, "ctc,months,died\n" + rows)


def test_what_is_no_text_or_no_file_is_one_line_too(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        read_cohort(tmp_path / "none.csv", count="a", duration="b", event="c")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00ctc")
    with pytest.raises(BadInput, match="not readable as a UTF-8"):
        read_cohort(tmp_path / "x.csv", count="a", duration="b", event="c")
    with pytest.raises(BadInput, match="not readable"):
        read_cohort(tmp_path, count="a", duration="b", event="c")


def test_a_patient_who_is_there_twice_is_refused_where_patients_are_named(tmp_path: Path) -> None:
    text = GOOD.replace("C,NA", "A,NA")
    assert len(read(tmp_path, text)) == 3
    with pytest.raises(BadInput, match=r"line 4: patient 'A' is there twice"):
        read(tmp_path, text, patient="patient")
