"""For whom a round waits, and that nobody retrains beside another."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import Timeout

from ctcml.assignments import Assignment
from ctcml.records import Duty, Purpose
from ctcml.settlement import Round
from ctcml.workspace import Workspace
from flows.loop import stands
from flows.retraining import one_at_a_time


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


HOLD = """
import sys
from pathlib import Path
from filelock import FileLock
with FileLock(Path(sys.argv[1]) / ".ctcml" / "retraining.lock"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_retrainings_never_run_at_once_and_one_that_was_killed_holds_nobody_up(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    ws.private.mkdir()
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Timeout), one_at_a_time(ws, wait_s=0):
            pytest.fail("both were let in")
        other.kill()
    with one_at_a_time(ws, wait_s=0):
        assert (ws.private / "retraining.lock").exists()
