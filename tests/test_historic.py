"""Labels from before ctcml go into the ledger once, and one that contradicts another goes to people."""

from pathlib import Path

import pytest
from factories import NOON, a_ledger

from ctcml.errors import BadInput
from ctcml.historic import HistoricLabel, read_historic, record_historic
from ctcml.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return a_ledger(tmp_path / "ledger.jsonl")


def label(cell_uid: str, class_id: str, line: int = 2) -> HistoricLabel:
    return HistoricLabel(where=f"line {line}", cell_uid=cell_uid, label=class_id, source="two readers")


def test_a_label_is_written_once_however_often_it_comes(ledger: Ledger) -> None:
    for new in (1, 0):
        written, refused = record_historic([label("c1", "ctc"), label("c1", "ctc", 3)], {"c1"}, ledger, now=NOON)
        assert (written, refused) == (new, [])
    (event,) = ledger.events("historic_label")
    assert event.body == {"cell_uid": "c1", "class_id": "ctc", "source": "two readers"}


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (label("c1", "wbc", 3), "contradicts 'ctc'"),
        (label("c2", "ctc", 3), "no such thumbnail"),
        (label("c1", "G1", 3), "'G1' is not registered"),
        (label("", "ctc", 3), "no such thumbnail"),
    ],
)
def test_a_label_that_cannot_be_is_refused_with_its_line_and_the_others_count(
    ledger: Ledger, bad: HistoricLabel, why: str
) -> None:
    written, (refused,) = record_historic([label("c1", "ctc"), bad], {"c1"}, ledger, now=NOON)
    assert written == 1
    assert refused.file == "line 3"
    assert why in refused.reason


@pytest.mark.parametrize(
    "content", ["", "a,b\n", "sample,object_index,label\n", "sample,object_index,label,source,more\n"]
)
def test_a_table_of_another_shape_is_refused_whole(tmp_path: Path, content: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(BadInput, match=r"labels\.csv"):
        read_historic(path)
