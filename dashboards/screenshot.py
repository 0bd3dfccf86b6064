"""Pictures of a page as a person would see it: `python -m dashboards.screenshot URL FILE.png [TEXT TO WAIT FOR]`."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ctcml.errors import ServiceDown
from ctcml.tables import atomic_path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT, TALLEST = 1440, 900, 6000
DRAWN = """() => document.querySelector('[data-test-script-state="notRunning"]')
    && !document.querySelector('[data-testid="stSkeleton"], [data-stale="true"]')
    && document.querySelectorAll('[data-testid="stPlotlyChart"]').length
       === document.querySelectorAll('.js-plotly-plot .main-svg:first-child').length"""
SETTLED_MS = 700  # charts fade in


def find_chromium() -> str:
    """Path of an installed Chromium or Chrome; `ServiceDown` when there is none."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise ServiceDown(
        f"Chromium: none of {', '.join(NAMES)} is on the path; install one to take pictures of the dashboard"
    )


@contextmanager
def browser() -> Iterator[Any]:
    """A headless browser that makes no calls of its own; `ServiceDown` when it or Playwright is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ServiceDown(
            "Playwright: not installed; `pip install 'ctcml[browser]'` to take pictures of the dashboard"
        ) from None
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=find_chromium(), args=FLAGS)
        try:
            yield opened
        finally:
            opened.close()


def open_page(opened: Any, url: str, *, wait_for: str, timeout_s: float = 60) -> Any:
    """Open `url` and wait until the text `wait_for` is there and nothing is being drawn any more.

    Raises `ServiceDown` when the text does not come.
    """
    from playwright.sync_api import Error

    page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        page.goto(url, timeout=timeout_s * 1000)
        page.get_by_text(wait_for).first.wait_for(timeout=timeout_s * 1000)
        page.wait_for_function(DRAWN, timeout=timeout_s * 1000)
    except Error as error:
        page.close()
        raise ServiceDown(
            f"dashboard: {url} did not show {wait_for!r} ({str(error).splitlines()[0]}); look at the dashboard's log"
        ) from None
    page.wait_for_timeout(SETTLED_MS)
    return page


def save_page(page: Any, path: Path) -> None:
    """Save an open page from top to bottom as PNG."""
    height = page.evaluate("() => (document.querySelector('[data-testid=\"stMain\"]') || document.body).scrollHeight")
    page.set_viewport_size({"width": WIDTH, "height": min(max(int(height), HEIGHT), TALLEST)})
    page.wait_for_timeout(SETTLED_MS)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(page.screenshot())


def save_screenshot(url: str, path: Path, *, wait_for: str, timeout_s: float = 60) -> None:
    """Save the whole page at `url` as PNG once the text `wait_for` is shown; `ServiceDown` when it never is."""
    with browser() as opened:
        save_page(open_page(opened, url, wait_for=wait_for, timeout_s=timeout_s), path)


def main(arguments: list[str]) -> int:
    """Take one picture; what is missing is said in one line."""
    try:
        url, path, wait_for = [*arguments, "RESEARCH USE ONLY"][:3]
        save_screenshot(url, Path(path), wait_for=wait_for)
    except ValueError:
        print("usage: python -m dashboards.screenshot URL FILE.png [TEXT TO WAIT FOR]", file=sys.stderr)
        return 2
    except ServiceDown as missing:
        print(missing, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
