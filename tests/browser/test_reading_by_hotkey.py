"""A reader at work: logs in, reads ten cells by keys in a real browser, names a new class; the answers become readings."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reading_rooms import CLASSES, Room, open_rooms

from dashboards import screenshot
from labelstudio.client import open_reads, pull

KEYS = "123451234"  # the tenth cell is of a new class
WANTED = ["ctc", "tdev", "wbc", "bare_nucleus", "other", "ctc", "tdev", "wbc", "bare_nucleus", "new:cd45ev"]
QUESTION = "Which class is this object?"


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, chromium_here: None) -> Iterator[Room]:
    with open_rooms(tmp_path_factory.mktemp("rooms"), ["reader-a"], cells=12) as rooms:
        yield rooms["reader-a"]


def test_a_reader_reads_ten_cells_by_key_and_meets_nothing_but_pictures(room: Room, tmp_path: Path) -> None:
    outside: list[str] = []
    with screenshot.browser() as chromium:
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(60_000)
        page.on("request", lambda sent: outside.append(sent.url) if _leaves(sent.url, room) else None)
        _log_in(page, room)
        for done, key in enumerate(KEYS):
            _press(page, key)
            if done == 0:
                _keep(page, tmp_path / "reading.png")
            _submit(page, room, left=11 - done)
        _press(page, "n")
        page.keyboard.press("Control+Enter")
        page.get_by_text("Name the new class").wait_for()  # without a name it is refused
        page.get_by_role("button", name="OK").click()
        page.get_by_text("Name the new class").wait_for(state="hidden")
        _name_new_class(page, "CD45EV")
        _keep(page, tmp_path / "new_class.png")
        _submit(page, room, left=2)
    valid, rejected = pull(room.queue, CLASSES)
    assert rejected == []
    assert [{one.read_uid: one.label for one in valid}[uid] for uid in room.uids[:10]] == WANTED
    assert all(one.lead_time_s and one.lead_time_s > 0 for one in valid)
    assert outside == []


def _log_in(page: Any, room: Room) -> None:
    page.goto(room.queue.page)
    page.fill("input[name=email]", room.login.reader_email)
    page.fill("input[name=password]", room.login.reader_password)
    page.click("button[type=submit]")
    page.get_by_text(QUESTION).wait_for()


def _press(page: Any, key: str) -> None:
    _pictures_are_there(page)
    page.keyboard.press(key)
    page.locator("input[type=radio]:checked").wait_for(state="attached")


def _name_new_class(page: Any, name: str) -> None:
    page.get_by_placeholder("Name of the new class").fill(name)
    page.keyboard.press("Enter")


def _submit(page: Any, room: Room, *, left: int) -> None:
    with page.expect_response(lambda got: got.request.method == "POST" and "/annotations" in got.url):
        page.keyboard.press("Control+Enter")
    page.locator("input[type=radio]:checked").wait_for(state="detached")
    assert len(open_reads(room.queue)) == left


def _pictures_are_there(page: Any) -> None:
    page.wait_for_function(
        "() => { const seen = [...document.querySelectorAll('img[src*=\"-\"]')].filter(i => i.src.includes('local-files')"
        " || i.src.startsWith('blob:')); return seen.length >= 4 && seen.every(i => i.complete && i.naturalWidth > 0) }"
    )


def _keep(page: Any, path: Path) -> None:
    page.screenshot(path=path)


def _leaves(url: str, room: Room) -> bool:
    return not url.startswith((room.login.base_url, "data:", "blob:"))
