"""The nouns refuse what cannot be."""

import pytest

from ctcml.errors import BadInput
from ctcml.records import PAPER_CLASSES, CellClass, Purpose, Reading, Sample, class_id_from_name


def test_the_registry_opens_with_the_papers_five_classes() -> None:
    assert [one.name for one in PAPER_CLASSES] == ["CTC", "tdEV", "WBC", "Bare nucleus", "Other object"]
    assert all(class_id_from_name(one.name) in (one.class_id, f"{one.class_id}_object") for one in PAPER_CLASSES)


@pytest.mark.parametrize("name", ["", "  ", "7up", "ß", "a" * 41])
def test_a_name_that_makes_no_class_id_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="type another name"):
        class_id_from_name(name)


def test_the_same_name_written_differently_is_one_class() -> None:
    assert {class_id_from_name(name) for name in ("CD45EV", "cd45ev", " Cd45EV. ")} == {"cd45ev"}


def test_a_class_needs_a_proper_id_and_a_name() -> None:
    with pytest.raises(BadInput):
        CellClass(class_id="CTC", name="CTC", definition="")
    with pytest.raises(BadInput):
        CellClass(class_id="ctc", name=" ", definition="")


def test_a_reading_without_reader_or_with_a_strange_label_is_refused() -> None:
    good = {
        "read_uid": "r",
        "cell_uid": "c",
        "reader": "a",
        "label": "new:cd45ev",
        "occasion": "o",
        "purpose": Purpose.TRAINING,
    }
    assert Reading(**good).label == "new:cd45ev"
    for change in ({"reader": ""}, {"label": "<script>"}, {"label": "new:"}):
        with pytest.raises(BadInput):
            Reading(**{**good, **change})


def test_a_tube_holds_a_possible_volume() -> None:
    with pytest.raises(BadInput, match="blood_volume_ml"):
        Sample(sample_uid="s", patient_uid="p", sample_kind="patient", cancer_type="breast", blood_volume_ml=0)
