"""The dashboard as its person sees it: started, opened in Chromium, each page looked at."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import dashboards
from browser.workspace_with_results import build
from ctcml.errors import ServiceDown
from dashboards import screenshot

APP = Path(dashboards.__file__).with_name("app.py")
PAGES = {
    "": "Cells per sample",
    "sample": "Choose a row to see the cells",
    "map": "An outline takes all cells",
    "discovery": "Typical, border and random thumbnails",
    "review": "Reading queue",
    "models": "Reconstructions",
    "data": "Data versions",
}
WITHOUT_CHART = ("sample", "data")


@pytest.fixture(scope="module")
def opened(chromium_here: None) -> Iterator[Any]:
    with screenshot.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, opened: Any) -> Iterator[str]:
    yield from _served(tmp_path_factory, build(tmp_path_factory.mktemp("results")).root)


@pytest.fixture(scope="module")
def empty_address(tmp_path_factory: pytest.TempPathFactory, opened: Any) -> Iterator[str]:
    yield from _served(tmp_path_factory, tmp_path_factory.mktemp("nothing"))


def _served(folders: pytest.TempPathFactory, workspace: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = folders.mktemp("home")
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(APP),
        f"--server.port={port}",
        "--",
        "--workspace",
        str(workspace),
    ]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, env=os.environ | {"HOME": str(home)})
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", home / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(health: str, log: Path) -> None:
    for _ in range(300):
        try:
            if httpx.get(health).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("name", PAGES)
def test_each_page_is_drawn_without_an_error_box(name: str, address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/{name}", wait_for=PAGES[name])
    assert page.locator("[data-testid=stException], [data-testid=stAlertContentError]").count() == 0
    assert page.get_by_text("RESEARCH USE ONLY", exact=True).is_visible()
    assert page.get_by_text("SIMULATED DATA", exact=True).is_visible()
    assert page.locator(".js-plotly-plot").count() >= (name not in WITHOUT_CHART)
    page.close()


@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_says_what_to_run_on_each_page(name: str, empty_address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{empty_address}/{name}", wait_for="not made yet")
    assert page.locator("[data-testid=stException]").count() == 0
    assert page.get_by_text("RESEARCH USE ONLY", exact=True).is_visible()
    assert page.get_by_text("SIMULATED DATA").count() == 0
    page.close()


def test_the_browser_calls_nobody_but_the_dashboard(address: str, opened: Any) -> None:
    page, called = opened.new_page(), []
    page.on("request", lambda request: called.append(request.url))
    for name, wait_for in PAGES.items():
        page.goto(f"{address}/{name}")
        page.get_by_text(wait_for).first.wait_for()
    page.wait_for_timeout(1000)
    page.close()
    own = (address, address.replace("http", "ws"), "data:", "blob:")
    assert called
    assert [url for url in called if not url.startswith(own)] == []


def test_a_chosen_filter_is_in_the_address_and_the_address_brings_it_back(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, address, wait_for=PAGES[""])
    page.get_by_role("radio", name="Breast").click()
    page.wait_for_url("**/?cancer=Breast")
    again = screenshot.open_page(opened, page.url, wait_for=PAGES[""])
    assert again.locator(".js-plotly-plot").first.get_by_text("Breast").count() == 1
    assert again.locator(".js-plotly-plot").first.get_by_text("Prostate").count() == 0
    page.close()
    again.close()


def test_an_expert_signs_a_new_class_with_a_mouse_and_a_password(address: str, opened: Any) -> None:
    page = screenshot.open_page(opened, f"{address}/review", wait_for="Reading queue")
    page.get_by_role("radio", name="carla", exact=True).click()
    page.get_by_role("radio", name="Accept", exact=True).click()
    page.get_by_role("textbox", name="Password").fill("of-carla")
    page.get_by_role("button", name="Sign").click()
    page.get_by_text("Signed as request").wait_for()
    page.get_by_text("Accept cd45ev").wait_for()  # it waits for the flow
    assert page.get_by_role("textbox", name="Password").input_value() == ""
    assert page.get_by_role("radio", name="carla", exact=True).count() == 0
    page.close()


def test_a_person_signs_a_promotion_after_looking_at_whose_counts_change(address: str, opened: Any) -> None:
    page = screenshot.open_page(
        opened, f"{address}/models?version=version+4", wait_for="What would change for patients"
    )
    form = page.get_by_test_id("stForm").filter(has_text="Promote version 4")
    form.get_by_role("radio", name="ben", exact=True).click()
    form.get_by_role("textbox", name="Reason").fill("fewer false CTCs")
    form.get_by_role("textbox", name="Password").fill("of-ben")
    form.get_by_role("button", name="Sign the promotion").click()
    page.get_by_text("Signed as request").wait_for()
    page.get_by_text("Promote version 4").wait_for()  # it waits for the flow
    assert page.get_by_role("button", name="Sign the promotion").count() == 0
    page.close()


def test_a_screenshot_holds_the_whole_page(address: str, opened: Any, tmp_path: Path) -> None:
    from PIL import Image

    page = screenshot.open_page(opened, f"{address}/models", wait_for="Reconstructions")
    screenshot.save_page(page, tmp_path / "models.png")
    page.close()
    with Image.open(tmp_path / "models.png") as picture:
        assert picture.width == screenshot.WIDTH
        assert picture.height > 1.5 * screenshot.HEIGHT


def test_a_page_that_never_shows_the_text_is_said_in_one_line(address: str, opened: Any) -> None:
    with pytest.raises(ServiceDown, match="did not show 'no such text'"):
        screenshot.open_page(opened, address, wait_for="no such text", timeout_s=3)
