"""For whom a round waits."""

from typing import Any

import pytest

from ctcml.assignments import Assignment
from ctcml.records import Duty, Purpose
from ctcml.settlement import Round
from flows.loop import stands


def asked(cell: str, reader: str, duty: Duty = Duty.READER) -> Assignment:
    return Assignment(cell_uid=cell, occasion="round-1", purpose=Purpose.TRAINING, reader=reader, duty=duty)


def a_round(**more: Any) -> Round:
    nothing: dict[str, Any] = dict.fromkeys(("waiting", "third", "without_third", "left_out", "proposals"), ())
    return Round(**{"settled": 0, "unnamed": 0, **nothing, **more})


@pytest.mark.parametrize(
    ("standing", "waits_for", "open_cells"),
    [
        ({}, (), 0),
        ({"waiting": (asked("c1", "ben"), asked("c1", "anna"), asked("c2", "ben"))}, ("anna", "ben"), 2),
        ({"third": (asked("c1", "zoe", Duty.CHECK),)}, ("zoe",), 1),
        ({"waiting": (asked("c1", "ben"),), "third": (asked("c2", "zoe", Duty.ADJUDICATOR),)}, ("ben", "zoe"), 2),
        ({"proposals": ("cd45ev",)}, ("two experts",), 0),
        ({"third": (asked("c1", "zoe", Duty.CHECK),), "proposals": ("cd45ev",)}, ("zoe",), 1),
    ],
)
def test_people_who_read_come_before_experts_and_a_round_without_either_goes_on(
    standing: dict[str, Any], waits_for: tuple[str, ...], open_cells: int
) -> None:
    found = stands(a_round(**standing))
    assert (found.waits_for, found.open_cells) == (waits_for, open_cells)
