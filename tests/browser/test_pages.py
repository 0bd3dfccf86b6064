"""Each page as a person uses it: one click path a page, with the mouse, in light and in dark."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from browser.test_dashboard import PAGES
from browser.workspace_with_results import build
from ctcml.workspace import Workspace
from dashboards import screenshot
from dashboards.bench_pages import APP, draw_circle, served, settle_after, watch
from dashboards.palette import DARK_PAGE

TITLES = ("Cohort", "Sample", "Latent map", "Discovery", "Review", "Models", "Data")


@pytest.fixture(scope="module")
def opened(chromium_here: None) -> Iterator[Any]:
    with screenshot.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return build(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def address(lab: Workspace, tmp_path_factory: pytest.TempPathFactory, opened: Any) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("server"), APP, "--workspace", str(lab.root)) as url:
        yield url


def settled(page: Any) -> None:
    page.wait_for_function(screenshot.DRAWN, timeout=60_000)


def test_every_page_is_reached_through_the_navigation(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, address, wait_for="RESEARCH USE ONLY")
    for title in TITLES:
        page.get_by_role("link", name=title, exact=True).click()
        page.get_by_role("heading", name=title, exact=True).first.wait_for()
        assert page.locator("[data-testid=stException]").count() == 0
    page.close()


def test_a_lasso_drawn_with_the_mouse_brings_thumbnails_and_keeps_the_map(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/map", wait_for=PAGES["map"])
    drawn = page.locator(".js-plotly-plot").first.element_handle()
    draw_circle(page, radius=200)
    page.get_by_text("Selected cells").wait_for()
    page.locator(".ctcml-tiles img").first.wait_for()
    settled(page)
    assert drawn.is_visible()  # the very element: it was not drawn anew
    assert page.locator(".js-plotly-plot .selectionlayer path").count() >= 1
    shown = page.locator(".ctcml-tiles img").count()
    assert 0 < shown <= 120
    assert "area=" in page.url
    again = screenshot.open_page(opened, page.url, wait_for="Selected cells")
    assert again.locator(".ctcml-tiles img").count() == shown
    page.close()
    again.close()


def test_a_box_on_the_map_selects_other_cells_than_the_lasso_before(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/map?colour=novelty", wait_for=PAGES["map"])
    page.locator("[data-title='Box Select']").click()
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    seen = []
    for (left, top), (right, low) in (((0.02, 0.02), (0.45, 0.5)), ((0.98, 0.1), (0.5, 0.6))):
        watch(page)
        page.mouse.move(box["x"] + left * box["width"], box["y"] + top * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + right * box["width"], box["y"] + low * box["height"], steps=8)
        page.mouse.up()
        settle_after(page)
        page.get_by_text("Selected cells").wait_for()
        seen.append(page.url.split("area=")[1])
    assert seen[0] != seen[1]
    assert page.url.count("area=") == 1
    page.close()


def test_a_thumbnail_of_the_map_leads_to_its_cell(address: str, opened: Any) -> None:
    everything = "-1000+-1000+1000+-1000+1000+1000+-1000+1000"
    page = screenshot.open_page(opened, f"{address}/map?area={everything}", wait_for="Selected cells")
    link = page.locator(".ctcml-tiles a").first
    wanted = link.get_attribute("href").split("cell=")[1]
    link.click()
    page.wait_for_url("**/sample?**")
    page.get_by_role("heading", name="Sample", exact=True).first.wait_for()
    settled(page)
    assert wanted in page.url
    assert page.locator("[data-testid=stException]").count() == 0
    page.close()


def test_a_click_on_a_thumbnail_of_a_sample_frames_it(lab: Workspace, address: str, opened: Any) -> None:
    sample_uid = next(lab.shards.glob("*.parquet")).stem
    page = screenshot.open_page(opened, f"{address}/sample?sample={sample_uid}", wait_for="RESEARCH USE ONLY")
    page.locator(".ctcml-tiles a").first.wait_for()
    page.locator(".ctcml-tiles a").first.click()
    page.wait_for_url("**cell=*")
    page.locator(".ctcml-panels").first.wait_for()
    page.close()


def test_a_chosen_cluster_is_ringed_and_its_sheet_shown(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/discovery", wait_for=PAGES["discovery"])
    page.get_by_role("combobox", name="Cluster").click()
    watch(page)
    page.get_by_role("option").first.click()
    settle_after(page)
    assert "cluster=" in page.url
    assert page.locator(".js-plotly-plot .legendtext").filter(has_text="cluster").count() == 1
    page.close()


def test_the_data_page_tells_versions_and_why_a_ledger_does_not_verify(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/data", wait_for="Data versions")
    page.get_by_role("radio", name="site", exact=True).click()
    page.wait_for_url("**by=site*")
    page.get_by_role("button", name="Verify ledger and audit log").click()
    page.locator("[data-testid=stAlertContentError]").wait_for()
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_in_the_dark_theme_no_chart_is_white(name: str, address: str, opened: Any) -> None:
    pictures = {}
    for scheme in ("light", "dark"):
        window = opened.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)
        page = window.new_page()
        page.goto(f"{address}/{name}")
        page.get_by_text(PAGES[name]).first.wait_for(timeout=60_000)
        settled(page)
        page.wait_for_timeout(screenshot.SETTLED_MS)
        for chart in page.locator(".js-plotly-plot .main-svg:first-child").all():
            colour = chart.evaluate("one => getComputedStyle(one).backgroundColor")
            assert colour == ("rgb(255, 255, 255)" if scheme == "light" else _as_css(DARK_PAGE)), (name, scheme)
        pictures[scheme] = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), dtype=float)
        window.close()
    assert np.median(pictures["light"]) > 200
    assert np.median(pictures["dark"]) < 60


def _as_css(colour: str) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgb({red}, {green}, {blue})"


def test_a_broken_table_is_one_line_on_the_page_and_no_traceback(lab: Workspace, tmp_path: Path, opened: Any) -> None:
    import shutil

    ws = Workspace(tmp_path / "copy")
    shutil.copytree(lab.root, ws.root)
    for path in (ws.map, ws.counts, ws.clusters, ws.agreement, ws.drift):
        path.write_bytes(b"broken")
    with served(tmp_path / "server", APP, "--workspace", str(ws.root)) as url:
        for name in ("", "map", "discovery", "review", "data"):
            page = opened.new_page()
            page.goto(f"{url}/{name}")
            page.locator("[data-testid=stAlertContentError]").first.wait_for(timeout=60_000)
            assert page.locator("[data-testid=stException]").count() == 0
            assert "make it again" in page.locator("[data-testid=stAlertContentError]").first.inner_text()
            page.close()
