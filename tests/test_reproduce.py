"""`ctcml reproduce` from end to end on the SIMULATED laboratory, killed once on its way."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from labelled_laboratory import labelled_laboratory
from PIL import Image

from ctcml.checklists import UNKNOWN
from ctcml.cli import cli
from ctcml.tables import TRUTH, read_table
from ctcml.workspace import Workspace

SHORT = ["--epochs", "1,1,1"]


@dataclass(frozen=True)
class Ran:
    """A report, and what was said by the run that was killed and by the one that went on."""

    ws: Workspace
    folder: Path
    killed: list[str]
    there_after_the_kill: bool
    said: list[str]

    @property
    def report(self) -> Any:
        return json.loads((self.folder / "report.json").read_text())

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text()


def started(ws: Workspace) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ctcml", "reproduce", *SHORT, "--workspace", str(ws.root)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line.rstrip()


@pytest.fixture(scope="module")
def ran(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    ws = labelled_laboratory(laboratory, tmp_path_factory.mktemp("paper") / "lab")
    killed: list[str] = []
    with started(ws) as process:
        for line in lines_of(process):
            killed.append(line)
            if line.startswith("2/6"):
                process.kill()
                break
    there = ws.paper.exists()
    with started(ws) as process:
        said = list(lines_of(process))
    assert process.returncode == 0, said[-1]
    return Ran(ws=ws, folder=ws.paper, killed=killed, there_after_the_kill=there, said=said)


def test_a_killed_run_leaves_no_report_and_the_next_one_trains_no_finished_network_again(ran: Ran) -> None:
    assert not ran.there_after_the_kill
    states = [
        line.split(": ")[1].split(",")[0] for line in ran.said if line[:2] in ("1/", "2/", "3/", "4/", "5/", "6/")
    ]
    assert states[:2] == ["kept from a former run"] * 2
    assert all(one.startswith("trained in") for one in states[2:])
    assert len(states) == 6
    assert not list(ran.folder.parent.glob(".paper.*")), "unfinished folders are left"


def test_an_estimate_comes_before_the_first_training(ran: Ran) -> None:
    first = next(at for at, line in enumerate(ran.killed) if line.startswith("1/6"))
    assert any("0 kept from a former run; the others take about" in line for line in ran.killed[:first])


def test_what_was_run_and_what_was_left_out_is_said(ran: Ran) -> None:
    report = ran.report
    assert report["sets"][0]["name"] == "2 classes: CTC, no CTC"
    assert "without cd45ev" in report["sets"][1]["name"]
    assert any(note.startswith("other: ") for note in report["notes"]), "a class with 4 cells is too small to train on"
    assert "training patients that were held out" in report["judged_on"]
    assert "Sealed patients" in ran.page


def test_nobody_who_was_judged_on_was_trained_on_and_sealed_labels_were_never_there(ran: Ran) -> None:
    truth = read_table(ran.ws.truth, TRUTH)
    roles = json.loads(ran.ws.roles.read_text())
    assert {roles[uid] for uid in truth["patient_uid"]} == {"train"}
    judged = ran.report["sets"][0]["patients"]
    assert judged == truth["patient_uid"].nunique() // 5
    assert f"judged on cells of {judged} of {truth['patient_uid'].nunique()} training patients" in ran.said[0]


def test_every_figure_is_drawn_or_says_why_not_and_no_picture_is_empty(ran: Ran) -> None:
    figures = ran.report["figures"]
    assert {one["number"] for one in figures} == {"2", "3", "4", "5", "6", "S1"}
    drawn = [one for one in figures if not one["missing"]]
    assert len(drawn) >= 8
    for one in drawn:
        with Image.open(ran.folder / "figures" / f"{one['stem']}.png") as picture:
            assert min(picture.size) > 100
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 20, f"{one['stem']} shows nothing"
        assert "<svg" in (ran.folder / "figures" / f"{one['stem']}.svg").read_text()
    for one in figures:
        if one["missing"]:
            assert one["missing"].split()[0] in ran.page
    assert len(list((ran.folder / "figures").iterdir())) == 2 * len(drawn)


def test_the_page_is_one_file_stamped_and_for_research_alone(ran: Ran) -> None:
    page = ran.page
    assert "SIMULATED DATA" in page
    assert "Research use only" in page
    assert 'src="http' not in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == sum(not one["missing"] for one in ran.report["figures"])


def test_the_papers_figures_stand_beside_none_of_a_laboratory_with_other_classes(ran: Ran) -> None:
    rows = [one for each in ran.report["sets"] for one in each["figures"]]
    assert all(one[kind]["paper"] is None for one in rows for kind in ("standard", "autoencoder"))


def test_tables_are_csv_with_both_networks_and_their_difference(ran: Ran) -> None:
    with (ran.folder / "tables" / "figures.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracy = [one for one in rows if one["figure"] == "accuracy"]
    assert len(accuracy) == 3
    for one in accuracy:
        apart = float(one["autoencoder_value"]) - float(one["standard_value"])
        assert float(one["difference_value"]) == pytest.approx(apart)
    with (ran.folder / "tables" / "confusion.csv").open() as file:
        of_two = [one for one in csv.DictReader(file) if one["set"].startswith("2 ") and one["network"] == "standard"]
    assert sum(int(one["cells"]) for one in of_two) == ran.report["sets"][0]["cells"]


def test_the_report_says_what_it_was_made_of(ran: Ran) -> None:
    report = ran.report
    assert report["data_version"] == "data-v1"
    assert report["simulated"] is True
    assert report["parameters"]["seed"] == 20
    assert report["parameters"]["numbers"]["epochs"] == [1, 1, 1]
    assert len({one["weights_sha256"] for one in report["networks"]}) == 6
    assert report["durations_s"]["whole"] > 0
    assert "torch 2" in report["software"]


def test_checklists_know_patients_and_splits_and_leave_ethics_to_the_authors(ran: Ran) -> None:
    lists = ran.report["checklists"]
    assert {key: len(items) for key, items in lists.items()} == {"remark": 20, "tripod_ai": 52, "claim": 44}
    of_claim = {one["number"]: one for one in lists["claim"]}
    assert "16 patients" in of_claim["35"]["text"]
    assert of_claim["16"]["state"] == "UNKNOWN"  # nobody read a cell here
    assert of_claim["33"]["state"] == "UNKNOWN"  # external data
    for name in ("remark", "tripod-ai", "claim"):
        text = (ran.folder / f"checklist-{name}.md").read_text()
        assert UNKNOWN in text
        assert "SIMULATED DATA" in text
    assert UNKNOWN in ran.page


def test_pictures_of_patients_stay_out_of_git(ran: Ran) -> None:
    ignored = subprocess.run(
        ["git", "check-ignore", "reports/paper/report.html"], cwd=ran.ws.root, capture_output=True, text=True
    )
    assert ignored.returncode == 0


def test_a_folder_that_is_something_else_is_not_replaced(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    result = CliRunner().invoke(
        cli, ["reproduce", *SHORT, "--workspace", str(ran.ws.root), "--out", str(tmp_path / "thesis")]
    )
    assert "expected a report of `ctcml reproduce` or nothing" in str(result.exception)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--profile", "fast"], "profile 'fast' is not in params.yaml; name one of modern, paper"),
        (["--epochs", "1,1"], "--epochs has 2 numbers"),
        (["--epochs", "1,0,1"], "expected a whole number of epochs"),
        (["--epochs", "many"], "expected a whole number of epochs"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_line(ran: Ran, arguments: list[str], complaint: str) -> None:
    result = CliRunner().invoke(cli, ["reproduce", *arguments, "--workspace", str(ran.ws.root)])
    assert result.exit_code != 0
    said = result.output or str(result.exception)
    assert complaint in " ".join(said.split())


def test_a_workspace_without_data_or_labels_says_what_to_do(new_workspace: Path) -> None:
    result = CliRunner().invoke(cli, ["reproduce", "--workspace", str(new_workspace)])
    assert "no data yet; take in an export with `ctcml intake` first" in str(result.exception)
