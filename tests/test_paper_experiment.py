"""A report takes its place whole or not at all."""

from pathlib import Path

import pytest

from ctcml.errors import BadInput
from ctcml.paper_experiment import replaced_when_whole
from ctcml.paper_report import REPORT


def a_report(folder: Path, text: str) -> None:
    (folder / REPORT).write_text(text)


def test_a_new_report_replaces_the_former_one_only_when_it_is_whole(tmp_path: Path) -> None:
    out = tmp_path / "reports" / "paper"
    with replaced_when_whole(out) as folder:
        a_report(folder, "first")
        assert not out.exists()
    with pytest.raises(FileNotFoundError), replaced_when_whole(out) as folder:
        a_report(folder / "no such folder", "broken")
    assert (out / REPORT).read_text() == "first"
    with replaced_when_whole(out) as folder:
        a_report(folder, "second")
        assert (out / REPORT).read_text() == "first"
    assert (out / REPORT).read_text() == "second"
    assert [one.name for one in out.parent.iterdir()] == ["paper"]


def test_a_run_that_was_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "paper"
    former = tmp_path / ".paper.former"
    former.mkdir()
    a_report(former, "former")
    (tmp_path / ".paper.new-x").mkdir()  # of the killed run
    with pytest.raises(ZeroDivisionError), replaced_when_whole(out):
        raise ZeroDivisionError
    assert (out / REPORT).read_text() == "former"
    assert [one.name for one in tmp_path.iterdir()] == ["paper"]


@pytest.mark.parametrize("what", ["a file", "a folder of somebody's"])
def test_what_is_no_report_is_refused_and_stays(tmp_path: Path, what: str) -> None:
    out = tmp_path / "paper"
    if what == "a file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="expected a report of `ctcml reproduce` or nothing"), replaced_when_whole(out):
        pass
    assert out.exists()


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    with replaced_when_whole(tmp_path / "paper") as folder:
        a_report(folder, "whole")
    (tmp_path / "empty").mkdir()
    with replaced_when_whole(tmp_path / "empty") as folder:
        a_report(folder, "whole")
    assert (tmp_path / "empty" / REPORT).exists()
