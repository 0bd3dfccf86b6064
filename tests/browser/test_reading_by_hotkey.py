"""A reader at work: logs in and reads ten cells by keys alone in a real browser; the answers become readings."""

import io
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reading_rooms import CLASSES, Room, open_rooms

from ctcml.records import Confidence
from dashboards import screenshot
from labelstudio.client import ensure_project, open_reads, pull, session
from labelstudio.protocol import instructions_html, show_examples, write_protocol
from labelstudio.tasks import Said

QUESTION = "Which class is this object?"
SURE, PROBABLE, DOUBTFUL, GUESS = Confidence
# What is pressed for a cell, and what that says.
PASS = [
    ("1a", Said(label="ctc", confidence=SURE)),
    ("2q", Said(label="tdev", reasons=("fragment",))),
    ("3sw", Said(label="wbc", confidence=PROBABLE, reasons=("cd45_positive",))),
    ("4eg", Said(label="bare_nucleus", reasons=("no_nucleus", "debris"))),
    ("5ftr", Said(label="other", confidence=GUESS, reasons=("misaligned", "out_of_focus"))),
    ("x", Said(label="unreadable")),
    ("xd1", Said(label="ctc", confidence=DOUBTFUL)),  # another mind
    ("3asqq", Said(label="wbc", confidence=PROBABLE)),  # and another; a key pressed twice takes back what it said
    ("4", Said(label="bare_nucleus")),
]
NAMED = Said(label="new:cd45ev", new_name="CD45EV")  # nearly each letter of it is a key, which must not act meanwhile
WINDOWS = {"a desk": (1440, 900), "a notebook": (1366, 768)}
PICTURES = "[...document.querySelectorAll('.reading img')]"
HANGS_S = 10.0


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, chromium_here: None) -> Iterator[Room]:
    with open_rooms(tmp_path_factory.mktemp("rooms"), ["reader-a"], cells=12) as rooms:
        yield rooms["reader-a"]


@pytest.fixture(scope="module")
def chromium(chromium_here: None) -> Iterator[Any]:
    with screenshot.browser() as opened:
        yield opened


def _open(chromium: Any, room: Room, *, width: int = 1440, height: int = 900) -> Any:
    """The labelling page as a reader finds it who just logged in."""
    page = chromium.new_page(viewport={"width": width, "height": height}, device_scale_factor=1)
    page.set_default_timeout(60_000)
    page.goto(room.queue.page)
    page.fill("input[name=email]", room.login.reader_email)
    page.fill("input[name=password]", room.login.reader_password)
    page.click("button[type=submit]")
    page.get_by_text(QUESTION).wait_for()
    _wait_for_pictures(page, other_than=[])
    return page


def _wait_for_pictures(page: Any, *, other_than: list[str]) -> None:
    """Wait until both pictures of a cell are drawn."""
    page.wait_for_function(
        f"""former => {{
            const seen = {PICTURES}.filter(one => one.complete && one.naturalWidth > 0);
            return seen.length === 2 && !seen.some(one => former.includes(one.src));
        }}""",
        arg=other_than,
    )


@pytest.mark.parametrize("window", WINDOWS)
def test_each_camera_pixel_is_a_square_of_one_colour(chromium: Any, room: Room, window: str) -> None:
    width, height = WINDOWS[window]
    page = _open(chromium, room, width=width, height=height)
    shown = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    for factor, picture in zip((4, 2), page.locator(".reading img").all(), strict=True):
        box = picture.bounding_box()
        assert (box["width"], box["height"]) == (332 * factor, 80 * factor)
        assert box["x"] == round(box["x"])
        assert box["y"] == round(box["y"])
        seen = shown[int(box["y"]) :, int(box["x"]) :][: 80 * factor, : 332 * factor]
        pixels = seen.reshape(80, factor, 332, factor, 3)
        assert (pixels == pixels[:, :1, :, :1]).all()
        assert len(np.unique(pixels)) > 50  # it is a picture
    page.close()


def test_ten_cells_are_read_by_keys_alone_and_the_reader_meets_nothing_but_pictures(
    chromium: Any, room: Room, figure: Callable[[str, str], None]
) -> None:
    page = _open(chromium, room)
    outside: list[str] = []
    page.on("request", lambda sent: outside.append(sent.url) if _leaves(sent.url, room) else None)
    took = []
    for done, (keys, _) in enumerate(PASS, start=1):
        for key in keys:
            page.keyboard.press(key)
        took.append(_submit(page))
        assert len(open_reads(room.queue)) == 12 - done
    page.keyboard.press("n")
    page.keyboard.press("Control+Enter")
    page.get_by_text("Name the new class (Esc").wait_for()  # without a name it is refused
    page.wait_for_function("document.activeElement.textContent.trim() === 'OK'")
    page.keyboard.press("Escape")
    page.get_by_text("Name the new class (Esc").wait_for(state="hidden")
    _name_new_class(page, "CD45EV")
    took.append(_submit(page))
    page.close()
    pulled = pull(room.queue, CLASSES)
    assert pulled.rejected == []
    said = {
        one.read_uid: Said(label=one.label, new_name=one.new_name, confidence=one.confidence, reasons=one.reasons)
        for one in pulled.valid
    }
    assert [said.get(uid) for uid in room.uids] == [*(said for _, said in PASS), NAMED, None, None]
    assert all(one.lead_time_s and one.lead_time_s > 0 for one in pulled.valid)
    assert outside == []
    figure("a person's pass: submit to next cell, median of 10", f"{median(took):.2f} s")
    figure("a person's pass: submit to next cell, longest of 10", f"{max(took):.2f} s")
    assert max(took) < HANGS_S


def _submit(page: Any) -> float:
    """Submit, wait until the next cell can be read, and return the seconds between."""
    former = page.evaluate(f"{PICTURES}.map(one => one.src)")
    started = time.perf_counter()
    page.keyboard.press("Control+Enter")
    _wait_for_pictures(page, other_than=former)
    page.locator(".reading input:checked").wait_for(state="detached")
    return time.perf_counter() - started


def _name_new_class(page: Any, name: str) -> None:
    field = page.get_by_placeholder("Name of the new class")
    for _ in range(10):
        page.keyboard.press("Tab")
        if field.evaluate("field => field === document.activeElement"):
            break
    page.keyboard.type(name)
    page.keyboard.press("Enter")
    field.wait_for(state="detached")


@pytest.mark.parametrize("window", WINDOWS)
def test_pictures_and_answers_are_on_one_screen(chromium: Any, room: Room, window: str) -> None:
    width, height = WINDOWS[window]
    page = _open(chromium, room, width=width, height=height)
    new_class = page.get_by_label("New class")
    if not new_class.is_checked():  # as it was left in the other window
        page.keyboard.press("n")
    page.get_by_placeholder("Name of the new class").wait_for()
    lowest = page.get_by_test_id("bottombar-submit-button").bounding_box()["y"]
    parts = page.locator(".reading h3, .reading h4, .reading img, .reading label, .reading input[type=text]").all()
    boxes = [box for one in parts if (box := one.bounding_box())]
    assert len(boxes) > 30
    assert all(box["y"] >= 0 and box["y"] + box["height"] <= lowest for box in boxes)
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    page.close()


def test_the_protocol_is_a_button_away_and_never_in_the_way(
    chromium: Any, room: Room, tmp_path_factory: pytest.TempPathFactory
) -> None:
    review, pictures = tmp_path_factory.mktemp("review"), room.server.pictures
    write_protocol(review, classes=CLASSES, examples={"wbc": [np.full((40, 40, 3), 90, np.uint8)]})
    html = instructions_html(CLASSES, show_examples(review, pictures))
    base_url, token = room.queue.base_url, room.queue.token
    ensure_project(base_url, token, title="Reading of cells", classes=CLASSES, pictures=pictures, instructions=html)
    with session(base_url, token, "reading the project") as http:
        kept = http.get(f"/api/projects/{room.queue.project_id}/").json()["expert_instruction"]
    assert kept == html  # as it was sent: else it would be sent again each time
    page = _open(chromium, room)
    assert not page.get_by_text("Two people read each object.").is_visible()
    page.get_by_role("button", name="Instructions").click()
    page.get_by_text("Two people read each object.").wait_for()
    page.wait_for_function("[...document.querySelectorAll('img[src*=example-wbc]')].some(one => one.naturalWidth > 0)")
    page.keyboard.press("Escape")
    page.get_by_text("Two people read each object.").wait_for(state="hidden")
    page.keyboard.press("2")
    assert page.locator(".reading input:checked").get_attribute("name") == "tdEV"
    page.close()


def _leaves(url: str, room: Room) -> bool:
    return not url.startswith((room.login.base_url, "data:", "blob:"))
