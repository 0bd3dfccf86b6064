"""The protocol says what the page does, shows what the classes look like, and is renewed when and only when it changed."""

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ctcml.images import contact_sheet
from ctcml.records import PAPER_CLASSES, CellClass
from labelstudio.protocol import instructions_html, protocol_text, show_examples, write_protocol
from labelstudio.tasks import CONFIDENCE_KEYS, REASON_KEYS

NEW = CellClass(class_id="cd45ev", name="CD45EV", definition="CD45+, CK−, DAPI−")


def _overlay(brightness: int) -> NDArray[np.uint8]:
    return np.full((30, 40, 3), brightness, np.uint8)


EXAMPLES = {"ctc": [_overlay(200), _overlay(100)], "wbc": [_overlay(50)]}


def _write(folder: Path, *, classes: tuple[CellClass, ...] = PAPER_CLASSES, **more: list[str]) -> bool:
    return write_protocol(folder, classes=classes, examples=EXAMPLES, **more)


def _text(folder: Path) -> str:
    return (folder / "reading_protocol.md").read_text(encoding="utf-8")


def test_each_class_is_explained_with_its_key_and_with_examples_where_there_are_any(tmp_path: Path) -> None:
    assert _write(tmp_path)
    classes = _text(tmp_path).split("## Classes")[1]
    for key, one in enumerate(PAPER_CLASSES, start=1):
        assert f"**{one.name}** (key {key}): {one.definition}." in classes
    assert classes.count("No examples yet.") == 3
    assert {path.name for path in (tmp_path / "examples").iterdir()} == {"ctc.png", "wbc.png"}
    assert "![Examples of CTC](examples/ctc.png)" in classes


def test_the_examples_shown_are_the_ones_given(tmp_path: Path) -> None:
    _write(tmp_path)
    with Image.open(tmp_path / "examples" / "ctc.png") as sheet:
        np.testing.assert_array_equal(np.asarray(sheet), contact_sheet(EXAMPLES["ctc"], columns=4, scale=2))


def test_every_key_of_the_page_is_in_the_protocol() -> None:
    text = protocol_text(PAPER_CLASSES, {})
    assert all(f"{step} ({key})" in text for step, key in CONFIDENCE_KEYS.items())
    assert all(f"({key})" in text for key in REASON_KEYS.values())
    assert "$" not in text


def test_the_protocol_is_written_once_and_again_when_a_class_is_added(tmp_path: Path) -> None:
    assert _write(tmp_path)
    before = (tmp_path / "reading_protocol.md").stat().st_mtime_ns
    assert not _write(tmp_path)
    assert (tmp_path / "reading_protocol.md").stat().st_mtime_ns == before
    assert _write(tmp_path, classes=(*PAPER_CLASSES, NEW))
    assert "**CD45EV** (key 6)" in _text(tmp_path)


def test_other_examples_of_the_same_classes_are_a_change(tmp_path: Path) -> None:
    _write(tmp_path)
    others = EXAMPLES | {"wbc": [_overlay(51)]}
    assert write_protocol(tmp_path, classes=PAPER_CLASSES, examples=others)


def test_a_sheet_that_nothing_refers_to_any_more_is_removed(tmp_path: Path) -> None:
    _write(tmp_path)
    assert write_protocol(tmp_path, classes=PAPER_CLASSES, examples={"ctc": EXAMPLES["ctc"]})
    assert [path.name for path in (tmp_path / "examples").iterdir()] == ["ctc.png"]


def test_a_retired_class_is_not_explained(tmp_path: Path) -> None:
    gone = CellClass(class_id="wbc", name="WBC", definition="d", retired=True)
    _write(tmp_path, classes=(PAPER_CLASSES[0], gone))
    assert "WBC" not in _text(tmp_path)
    assert not (tmp_path / "examples" / "wbc.png").exists()


def test_what_the_experts_have_and_have_not_decided_is_said(tmp_path: Path) -> None:
    _write(tmp_path)
    assert "Proposed and" not in _text(tmp_path)
    assert _write(tmp_path, proposed=["CD45EV", "Cluster"], rejected=["Ghost"])
    assert "waiting for the experts: CD45EV, Cluster." in _text(tmp_path)
    assert "rejected: Ghost." in _text(tmp_path)


def test_a_server_shows_the_sheets_of_the_protocol_and_forgets_former_ones(tmp_path: Path) -> None:
    _write(tmp_path / "review")
    (tmp_path / "cells").mkdir()
    for name in ("example-ghost.png", "0" * 24 + "-auto.png"):
        (tmp_path / "cells" / name).write_bytes(b"x")
    addresses = show_examples(tmp_path / "review", tmp_path)
    assert addresses == {one: f"/data/local-files/?d=cells/example-{one}.png" for one in ("ctc", "wbc")}
    for address in addresses.values():
        Image.open(io.BytesIO((tmp_path / address.split("?d=")[1]).read_bytes())).verify()
    assert {path.name for path in (tmp_path / "cells").iterdir()} == {
        "example-ctc.png",
        "example-wbc.png",
        "0" * 24 + "-auto.png",
    }


@pytest.mark.parametrize("addresses", [{}, {"ctc": "/data/local-files/?d=cells/example-ctc.png"}], ids=["none", "one"])
def test_the_instructions_are_the_protocol_with_pictures_that_have_an_address(addresses: dict[str, str]) -> None:
    html = instructions_html(PAPER_CLASSES, addresses)
    assert html.count("<img ") == len(addresses)
    assert all(f'src="{address}"' in html for address in addresses.values())
    assert "<strong>CTC</strong> (key 1)" in html


def test_a_definition_is_shown_as_text_and_never_run() -> None:
    odd = CellClass(class_id="odd", name="Odd <b>", definition="a < b <script>alert(1)</script>")
    html = instructions_html([odd], {})
    assert "<script" not in html
    assert "Odd &lt;b&gt;" in html
