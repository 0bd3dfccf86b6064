"""Nothing that a reader said is lost."""

from pathlib import Path

import pandas as pd
from factories import a_ledger, a_queued, a_reading, reading_draft

from ctcml.agreement import exact_agreement
from ctcml.opinions import opinions_of
from ctcml.records import Confidence, Duty, Purpose
from ctcml.tables import OPINIONS, check


def opinions(tmp_path: Path) -> pd.DataFrame:
    again = {"occasion": "round-2"}
    readings = [
        a_reading("c1", "anna", "ctc", confidence=Confidence.GUESS, reasons=("fragment", "debris"), lead_time_s=3.0),
        a_reading("c1", "ben", "wbc"),
        a_reading("c1", "cleo", "ctc", duty=Duty.ADJUDICATOR),
        a_reading("c2", "anna", "new:cd45ev"),
        a_reading("c2", "ben", "cd45ev"),
        a_reading("c3", "anna", "unreadable"),
        a_reading("c3", "ben", "unreadable"),
        a_reading("c1", "anna", "wbc", **again),
        a_reading("c1", "ben", "wbc", **again),
        a_reading("e1", "anna", "ctc", purpose=Purpose.EVALUATION),
        a_reading("gone", "anna", "ctc"),
    ]
    queued = [*a_queued("c1", "c2", "c3", "e1"), *a_queued("c1", occasion="round-2", reason="hidden repeat")]
    ledger = a_ledger(tmp_path / "l.jsonl", *queued, *map(reading_draft, readings))
    return opinions_of(ledger.events(), pd.Series({"c1": "p1", "c2": "p1", "c3": "p2", "e1": "p3"}))


def test_every_reading_of_a_cell_in_the_data_is_one_row(tmp_path: Path) -> None:
    table = opinions(tmp_path)
    check(table, OPINIONS, "opinions")
    assert len(table) == 10
    first = table.iloc[0]
    assert (first["patient_uid"], first["confidence"], first["reasons"], first["duty"]) == (
        "p1",
        "guess",
        "fragment debris",
        "reader",
    )
    assert table[table["repeat"]]["occasion"].unique().tolist() == ["round-2"]


def test_exact_agreement_leaves_out_what_neither_could_read(tmp_path: Path) -> None:
    table = opinions(tmp_path)
    assert exact_agreement(table, Purpose.TRAINING) == (0.5, 2)
    assert exact_agreement(table, Purpose.EVALUATION) == (None, 0)
