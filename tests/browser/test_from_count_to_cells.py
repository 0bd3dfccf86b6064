"""From a count to its cells as a person goes that way in Chromium: at most two clicks, and the browser's own way back."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import dashboards
from browser.workspace_with_results import build
from ctcml.servers import streamlit_service
from ctcml.services import Services, free_port
from ctcml.workspace import Workspace
from dashboards import records, screenshot
from dashboards.views.cohort_filters import Counted, rows_of

APP = Path(dashboards.__file__).with_name("app.py")
POINTS = ".scatterlayer .trace .points path"
TILES = ".ctcml-tiles"


@pytest.fixture(scope="module")
def workspace(chromium_here: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def address(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("home")
    arguments = ("--workspace", str(workspace.root))
    server = streamlit_service(home, "127.0.0.1", free_port(), script=APP, arguments=arguments)
    with Services(home / "services.json") as services:
        services.start(server)
        yield server.url


@pytest.fixture(scope="module")
def opened(chromium_here: None) -> Iterator[Any]:
    with screenshot.browser() as chromium:
        yield chromium


def number_of_tiles(page: Any) -> int:
    """Thumbnails above the line that says what they are; those of other classes stand below it."""
    page.get_by_text("Other classes of this sample").wait_for()
    page.wait_for_function(screenshot.DRAWN)
    bins = page.get_by_text("Probability 0").or_(page.get_by_text("Probability 1")).count()
    return sum(page.locator(TILES).nth(place).locator("li").count() for place in range(bins))


def test_one_click_on_a_count_shows_as_many_cells_as_it_says(address: str, workspace: Workspace, opened: Any) -> None:
    counts = records.counts(workspace)
    chosen = rows_of(counts, Counted(class_id="ctc", denominator="proposed", threshold=0.0)).set_index("sample_uid")
    page = screenshot.open_page(opened, address, wait_for="Counts as CSV")
    assert page.locator(POINTS).count() == len(chosen)
    page.locator(POINTS).nth(len(chosen) - 1).click(force=True)  # of those drawn last: many cells
    page.wait_for_url("**/sample?sample=*")
    uid = page.url.partition("sample=")[2][:24]
    assert number_of_tiles(page) == chosen.loc[uid, "count"]
    page.close()


def test_a_second_click_shows_the_cell_in_the_same_session_and_the_browser_leads_back(
    address: str, workspace: Workspace, opened: Any
) -> None:
    counts = records.counts(workspace)
    rows = rows_of(counts, Counted(class_id="wbc", denominator="all", threshold=0.0)).sort_values("count")
    row = rows.iloc[-1]
    page = screenshot.open_page(
        opened, f"{address}/sample?sample={row['sample_uid']}&class=WBC&among=all+objects", wait_for="Other classes"
    )
    assert number_of_tiles(page) == row["count"]
    page.evaluate("() => { window.sameDocument = true }")
    page.locator(f"{TILES} a").nth(1).click()
    page.get_by_text("number 2 of").wait_for()
    page.get_by_text("Where it comes from").wait_for()
    assert page.evaluate("() => window.sameDocument")
    assert "&class=WBC" in page.url
    assert page.locator(".ctcml-panels img").count() == 4
    page.get_by_role("button", name="Next").click()
    page.get_by_text("number 3 of").wait_for()
    page.go_back()
    page.get_by_text("number 2 of").wait_for()
    page.go_back()
    page.get_by_text("number 2 of").wait_for(state="detached")
    page.close()


def test_a_thumbnail_opens_with_the_keyboard_too(address: str, workspace: Workspace, opened: Any) -> None:
    counts = records.counts(workspace)
    row = counts.sort_values("count").iloc[-1]
    page = screenshot.open_page(
        opened, f"{address}/sample?sample={row['sample_uid']}&among=all+objects", wait_for="Other classes"
    )
    first = page.locator(f"{TILES} a").first
    first.focus()
    page.keyboard.press("Enter")
    page.get_by_text("Where it comes from").wait_for()
    assert first.get_attribute("title").startswith("Cell ")
    page.close()


def test_the_filters_of_the_cohort_survive_a_reload(address: str, opened: Any) -> None:
    page = screenshot.open_page(
        opened, f"{address}/?show=Survival&site=A&site=B&cut=another+number&at=3", wait_for="Curves as SVG"
    )
    page.get_by_text("Site").first.wait_for()
    before = page.locator(".js-plotly-plot").first.inner_text()
    page.reload()
    page.get_by_text("Curves as SVG").wait_for()
    page.wait_for_function(screenshot.DRAWN)
    assert page.locator(".js-plotly-plot").first.inner_text() == before
    assert "< 3" in before
    page.close()
