"""The page of a score card: whole by itself, honest about what it shows, and readable by more than its author."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scorecards import a_scorecard

from ctcml.scorecard_page import write_page
from ctcml.scorecard_pictures import OF_THRESHOLD, reliability_plot, subgroups_plot

TITLE = "Candidate <7> & champion"
PNGS = ("confusion.png", "subgroups.png", "reliability.png", "thresholds.png")


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    return a_scorecard()


@pytest.fixture(scope="module")
def folder(card: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    about = {"Model": "version 7", "Data version": "data-v3 <b>"}
    files = write_page(card, folder, title=TITLE, simulated=True, about=about)
    assert [file.name for file in files] == ["scorecard.json", "scorecard.html", *PNGS]
    assert all(file.parent == folder for file in files)
    return folder


class Checked(HTMLParser):
    """Every tag that is opened is closed in turn, and what a browser would fetch is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.alternatives: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        self.alternatives += [value or "" for name, value in attrs if name == "alt"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def read(folder: Path) -> Checked:
    page = Checked()
    page.feed((folder / "scorecard.html").read_text(encoding="utf-8"))
    assert not page.open
    return page


def test_the_page_needs_nothing_but_itself(folder: Path) -> None:
    page = read(folder)
    assert len(page.fetched) == len(PNGS)
    assert all(one.startswith("data:image/png;base64,") for one in page.fetched)
    assert all(page.alternatives)
    assert not re.search(r"https?://|@import|url\(|<script", (folder / "scorecard.html").read_text())


def test_the_page_says_what_was_simulated_and_that_it_is_for_research(folder: Path) -> None:
    assert "SIMULATED DATA: no figure on this page describes real patients" in read(folder).words
    assert "Research use only" in read(folder).words


def test_every_figure_of_the_card_is_on_the_page_with_its_interval(folder: Path, card: dict[str, Any]) -> None:
    words = " ".join(read(folder).words.split())
    for figure in (
        card["ctc_sensitivity"],
        card["accuracy"],
        card["count_error"]["share"],
        card["by"]["cluster"][2]["macro_f1"],
    ):
        assert f"{figure['value']:.1%} ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})" in words
    for figure in (
        card["kappa"]["model"]["kappa"],
        card["kappa"]["readers"]["kappa"],
        card["calibration"]["ece_after"],
    ):
        assert f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})" in words
    assert f"weakest look-alikes are {card['worst_cluster']['name']}" in words
    assert "cd45ev (unknown to the model)" in words
    assert "cd45ev: the model does not know this class" in words


def test_names_are_words_and_never_markup(folder: Path) -> None:
    page, text = read(folder), (folder / "scorecard.html").read_text()
    assert TITLE in page.words
    assert "cell line <SKBR-3> & more" in page.words
    assert "data-v3 <b>" in page.words
    assert "<SKBR-3>" not in text


def test_no_patient_is_named_in_any_of_the_files(folder: Path) -> None:
    for name in ("scorecard.html", "scorecard.json"):
        assert "patient-" not in (folder / name).read_text()


def test_the_json_beside_it_is_the_card_and_says_what_it_is_of(folder: Path, card: dict[str, Any]) -> None:
    found = json.loads((folder / "scorecard.json").read_text())
    assert (found["title"], found["simulated"], found["about"]["Model"]) == (TITLE, True, "version 7")
    assert {name: found[name] for name in card} == json.loads(json.dumps(card))


def test_the_pictures_are_sharp_and_told_apart_without_colour(folder: Path) -> None:
    for name in PNGS:
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 600
            assert np.asarray(picture.convert("L")).std() > 10
    _, _, marks, lines = zip(*OF_THRESHOLD.values(), strict=True)
    assert len(set(marks)) == len(set(lines)) == len(OF_THRESHOLD)


def test_the_stamp_is_in_the_picture_itself(card: dict[str, Any], tmp_path: Path) -> None:
    for stamped in (True, False):
        reliability_plot(card, tmp_path / f"{stamped}.png", simulated=stamped, title="T")
    with Image.open(tmp_path / "True.png") as one, Image.open(tmp_path / "False.png") as other:
        assert not np.array_equal(np.asarray(one.convert("L"))[:90], np.asarray(other.convert("L"))[:90])


def test_a_card_of_few_real_cells_is_drawn_too_and_not_called_simulated(tmp_path: Path) -> None:
    few = a_scorecard(12, simulated=False)
    assert few["worst_cluster"] is None
    write_page(few, tmp_path, title="Few", simulated=False, about={})
    assert "SIMULATED" not in read(tmp_path).words
    assert "No group of look-alikes has enough settled cells" in read(tmp_path).words


def test_the_same_card_gives_the_same_bytes(card: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    subgroups_plot(
        card, tmp_path / "subgroups.png", simulated=True, title=f"{TITLE}: the figures of each group of cells"
    )
    assert (tmp_path / "subgroups.png").read_bytes() == (folder / "subgroups.png").read_bytes()
