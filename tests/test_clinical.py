"""The clinical table is refused with its rows named, never corrected, and says nothing about a person."""

from pathlib import Path

import pytest
from factories import KEY

from ctcml.clinical import read_clinical
from ctcml.errors import BadInput

HEADER = "patient,sample,sample_kind,cancer_type,blood_volume_ml,os_months,os_event,age,ldh\n"
GOOD = "Jane Doe,S-1.1,patient,breast,7.5,12.5,1,61,210\n"


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "clinical.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_ids_become_pseudonyms_and_further_columns_are_kept_as_they_are(tmp_path: Path) -> None:
    table, uid_of = read_clinical(written(tmp_path, HEADER + GOOD), KEY)
    row = table.iloc[0]
    assert row["sample_uid"] == uid_of["S-1.1"]
    assert (row["os_months"], row["os_event"], row["covariate_ldh"]) == (12.5, 1.0, "210")
    assert "Jane" not in table.to_csv()
    assert "S-1.1" not in table.to_csv()


def test_the_same_person_has_the_same_pseudonym_in_every_table(tmp_path: Path) -> None:
    two = HEADER + GOOD + GOOD.replace("S-1.1", "S-1.2")
    table, _ = read_clinical(written(tmp_path, two), KEY)
    assert table["patient_uid"].nunique() == 1
    other, _ = read_clinical(written(tmp_path, two), b"x" * 32)
    assert set(other["patient_uid"]).isdisjoint(table["patient_uid"])


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("7.5", "0", "line 2: blood_volume_ml"),
        ("7.5", "much", "line 2: blood_volume_ml"),
        (",1,61", ",2,61", "line 2: os_event"),
        ("12.5", "-3", "line 2: os_months"),
        ("12.5", "nan", "line 2: os_months"),
        ("patient,breast", "dog,breast", "line 2: sample_kind"),
        ("breast", "", "line 2: cancer_type is empty"),
        (",61,", ",161,", "line 2: age"),
        (",1,61", ",0.5,61", "line 2: os_event is 0.5, expected a whole number"),
        ("12.5", "inf", "line 2: os_months"),
    ],
)
def test_an_impossible_value_names_its_line(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(BadInput, match=named):
        read_clinical(written(tmp_path, HEADER + GOOD.replace(old, new, 1)), KEY)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"2 mistake\(s\): line 2: .*; line 3:"):
        read_clinical(
            written(tmp_path, HEADER + GOOD.replace("7.5", "0") + GOOD.replace("S-1.1", "S-2").replace("7.5", "-1")),
            KEY,
        )


def test_a_patient_whose_survival_differs_between_samples_is_named(tmp_path: Path) -> None:
    other = GOOD.replace("S-1.1", "S-1.2").replace("12.5", "13.5")
    with pytest.raises(BadInput, match="lines 2, 3: one patient with more than one os_months") as caught:
        read_clinical(written(tmp_path, HEADER + GOOD + other), KEY)
    assert "Jane" not in str(caught.value)  # it goes into logs
    empty = GOOD.replace("S-1.1", "S-1.2").replace("12.5,1", ",")
    assert len(read_clinical(written(tmp_path, HEADER + GOOD + empty), KEY)[0]) == 2


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    table, _ = read_clinical(written(tmp_path, b"\xef\xbb\xbf" + (HEADER + GOOD).encode()), KEY)
    assert len(table) == 1


@pytest.mark.parametrize("again", ["age", "patient", ""])
def test_two_columns_of_one_name_or_none_are_refused_instead_of_renamed(tmp_path: Path, again: str) -> None:
    with pytest.raises(BadInput, match="name of its own"):
        read_clinical(written(tmp_path, HEADER.replace("ldh", again) + GOOD), KEY)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"a,b\n1,2,3\n", "patient,sample\nä,1\n".encode("latin-1")])
def test_a_file_that_is_no_clinical_table_is_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(BadInput, match=r"clinical\.csv") as caught:
        read_clinical(written(tmp_path, content), KEY)
    assert "\n" not in str(caught.value)


def test_a_doubled_sample_or_a_patient_with_two_cancers_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lines 2, 3 are about the same sample"):
        read_clinical(written(tmp_path, HEADER + GOOD + GOOD), KEY)
    with pytest.raises(BadInput, match="more than one cancer_type"):
        read_clinical(written(tmp_path, HEADER + GOOD + GOOD.replace("S-1.1,patient,breast", "S-2,patient,lung")), KEY)
