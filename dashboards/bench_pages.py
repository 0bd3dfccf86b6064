"""`ctcml bench pages`: how long a person waits for the pages, beside the chart that comes to mind first, in one run.

The dashboard is started as everywhere, and looked at in headless Chromium; a page counts as there when nothing is being drawn
any more. Drawing by a processor, as headless Chromium does, is the slowest that a person can meet.
"""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import click

from ctcml.errors import BadInput
from ctcml.measuring import Figure, table_of
from ctcml.servers import streamlit_service
from ctcml.services import Services, free_port
from ctcml.telling import say
from ctcml.workspace import Workspace
from dashboards import screenshot

TIMES, PATIENCE_MS, TILES = 5, 60_000, 120
APP = Path(__file__).with_name("app.py")
Say = Callable[[str], None]

# What a user would write: pandas, plotly's express chart as it comes (SVG, names on hover), nothing kept between looks.
PLAIN = """
import sys
from pathlib import Path
import pandas as pd, plotly.express as px, streamlit as st
derived, most, way = Path(sys.argv[1]) / "derived", st.query_params["dots"], st.query_params["way"]
st.set_page_config(layout="wide")
scored = pd.concat(pd.read_parquet(one) for one in sorted((derived / "embeddings").glob("*.parquet")))
cells = pd.read_parquet(derived / "map.parquet").merge(scored[["cell_uid", "sample_uid", "predicted"]], on="cell_uid")
cells = cells.merge(pd.read_parquet(derived / "discovery.parquet")[["cell_uid", "cluster", "novelty"]], on="cell_uid")
cells = cells if most == "all" else cells.sample(int(most), random_state=0)
if way == "altair":
    import altair as alt
    alt.data_transformers.disable_max_rows()
    st.altair_chart(alt.Chart(cells).mark_circle(size=8).encode(x="tsne_x", y="tsne_y", color="predicted", tooltip=["predicted", "cluster"]), height=620)
else:
    st.plotly_chart(px.scatter(cells, x="tsne_x", y="tsne_y", color="predicted", hover_data=["cluster", "novelty"], height=620, render_mode="svg"))
st.write("drawn")
"""
# A click shows in the address before the server hears of it, so that its script was at work has to be seen.
WATCH = """() => {
    window.ctcmlRan = false;
    const state = () => document.querySelector('[data-test-script-state]')?.dataset.testScriptState;
    const seen = new MutationObserver(() => {
        if (state() !== 'notRunning') { window.ctcmlRan = true; seen.disconnect(); }
    });
    seen.observe(document.body, {subtree: true, attributes: true, attributeFilter: ['data-test-script-state']});
}"""
ALTAIR = """() => document.querySelector('[data-test-script-state="notRunning"]')
    && document.querySelector('[data-testid="stVegaLiteChart"] canvas, [data-testid="stVegaLiteChart"] svg')"""


def bench_pages(folder: Path, *, patients: int, cells: int, seed: int, say: Say) -> list[Figure]:
    """Time the pages of a SIMULATED laboratory of that size, and plain charts of the same cells, below `folder`."""
    from dashboards.bench_workspace import write_laboratory

    ws = Workspace(folder / "lab")
    say(f"a laboratory of {patients} SIMULATED patients, {cells:,} cells (not part of any figure)")
    write_laboratory(ws, patients=patients, cells=cells, seed=seed)
    plain = folder / "plain.py"
    plain.write_text(PLAIN, encoding="utf-8")
    with screenshot.browser() as chromium:
        with served(folder, APP, "--workspace", str(ws.root)) as address:
            say("the pages, each in a new window")
            ours = _times(chromium, address, say)
        with served(folder, plain, str(ws.root)) as address:
            say("plain charts of the same cells")
            peers = _plain_times(chromium, address)
    return figures_of(ours, peers, cells=cells)


def figures_of(ours: Mapping[str, Sequence[float]], peers: Mapping[str, float], *, cells: int) -> list[Figure]:
    """The rows of the table: medians of ours with the longest, and how many times as long the plain charts take."""
    asked = {
        "first page": "<= 3 s",
        "latent map, 20,000 dots": "<= 4 s",
        "latent map, all dots": "<= 8 s",
        "lasso until thumbnails": "<= 2.5 s",
    }
    cold, *rest = ours
    rows = [Figure(name=f"{cold}, once", value=f"{ours[cold][0]:.2f} s")]
    for name in rest:
        told = f"{median(ours[name]):.2f} s (longest {max(ours[name]):.2f} s)"
        rows.append(Figure(name=name, value=told, asked=asked.get(name, "<= 1 s" if ":" in name else "")))
    for name, seconds in peers.items():
        mine = median(ours["latent map, all dots" if "all" in name else "latent map, 20,000 dots"])
        rows.append(Figure(name=name, value=f"{seconds:.2f} s, {seconds / mine:.1f} x ours"))
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return [*rows, Figure(name="cells, and load of the machine meanwhile", value=f"{cells:,}; {load}")]


def _times(chromium: Any, address: str, say: Say) -> dict[str, list[float]]:
    """Seconds of each wait, `TIMES` times; the very first look at a server that was just started stands alone."""
    found = {"the very first page of a new server": [_opened(chromium, address, "")[0]]}
    for name, page in {
        "first page": "",
        "latent map, 20,000 dots": "map",
        "latent map, all dots": "map?dots=all",
        "sample page": "sample",
        "discovery page": "discovery",
        "review page": "review",
        "models page": "models",
        "data page": "data",
    }.items():
        found[name] = [_opened(chromium, address, page)[0] for _ in range(TIMES)]
        say(f"{name}: {median(found[name]):.2f} s")
    found |= _clicks(chromium, address)
    return found


def _opened(chromium: Any, address: str, page: str) -> tuple[float, Any]:
    """Seconds until a page is drawn in a new window, which is closed again."""
    window = chromium.new_context(viewport={"width": screenshot.WIDTH, "height": screenshot.HEIGHT})
    try:
        return _load(window, f"{address}/{page}")
    finally:
        window.close()


def _load(window: Any, url: str, drawn: str = screenshot.DRAWN) -> tuple[float, Any]:
    opened = window.new_page()
    opened.set_default_timeout(PATIENCE_MS)
    begun = time.perf_counter()
    opened.goto(url)
    opened.get_by_text("RESEARCH USE ONLY" if drawn == screenshot.DRAWN else "drawn", exact=True).first.wait_for()
    _settle(opened, drawn)
    return time.perf_counter() - begun, opened


def _settle(page: Any, drawn: str = screenshot.DRAWN) -> None:
    """Wait until the script has ended, every chart stands, and the browser has painted."""
    page.wait_for_function(drawn)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def _clicks(chromium: Any, address: str) -> dict[str, list[float]]:
    """Seconds from a click until what it asks for is there."""
    window = chromium.new_context(viewport={"width": screenshot.WIDTH, "height": 1200})
    found: dict[str, list[float]] = {
        "lasso until thumbnails": [], "map: another colour": [], "map: thumbnails in another order": [], "cohort: a cancer type": [],
        "discovery: ring a cluster": [], "data: counted by site": [],
    }  # fmt: skip
    page = _load(window, f"{address}/map")[1]
    for at in range(TIMES):
        found["lasso until thumbnails"].append(_lasso(page, shift=12 * at))
    for at in range(TIMES):
        order = ("surest first", "most doubtful first")[at % 2]
        found["map: thumbnails in another order"].append(
            _click(page, order, lambda name: "order=" + name.replace(" ", "+"))
        )
    for at in range(TIMES):
        colour = ("cancer type", "novelty", "instrument", "cluster", "settled class")[at]
        found["map: another colour"].append(_click(page, colour, lambda name: "colour=" + name.replace(" ", "+")))
    page.close()
    page = _load(window, f"{address}/")[1]
    for at in range(TIMES):
        found["cohort: a cancer type"].append(_click(page, ("Breast", "Lung")[at % 2], lambda name: f"={name}"))
    page.close()
    page = _load(window, f"{address}/data")[1]
    for at in range(TIMES):
        found["data: counted by site"].append(_click(page, ("site", "set")[at % 2], lambda name: f"by={name}"))
    page.close()
    page = _load(window, f"{address}/discovery")[1]
    for at in range(TIMES):
        page.get_by_role("combobox", name="Cluster").click()
        watch(page)
        begun = time.perf_counter()
        page.get_by_role("option").nth(at).click()
        settle_after(page)
        found["discovery: ring a cluster"].append(time.perf_counter() - begun)
    window.close()
    return found


def _click(page: Any, label: str, in_address: Callable[[str], str]) -> float:
    """Choose one of a row of words; seconds until the address says so and the page is drawn."""
    button = page.get_by_role("radio", name=label, exact=True).first
    watch(page)
    begun = time.perf_counter()
    button.click()
    settle_after(page)
    seconds = time.perf_counter() - begun
    page.wait_for_function(f"() => location.href.toLowerCase().includes({in_address(label).lower()!r})")
    return seconds


def watch(page: Any) -> None:
    """To be called before a click whose end `settle_after` waits for."""
    page.evaluate(WATCH)


def settle_after(page: Any) -> None:
    """Wait until the server has worked on the last click and the page is drawn again."""
    page.wait_for_function("() => window.ctcmlRan")
    _settle(page)


def _lasso(page: Any, *, shift: int) -> float:
    """Draw a circle around a part of the map; seconds from letting go until all thumbnails of it are painted."""
    before = page.url
    draw_circle(page, shift=shift)
    begun = time.perf_counter()
    page.wait_for_function("before => location.href !== before", arg=before)
    page.wait_for_function(
        """wanted => {
            const seen = [...document.querySelectorAll('.ctcml-tiles img')];
            return seen.length === wanted && seen.every(one => one.complete && one.naturalWidth > 0);
        }""",
        arg=TILES,
    )
    _settle(page)
    return time.perf_counter() - begun


def draw_circle(page: Any, *, shift: int = 0, radius: int = 110) -> None:
    """Draw a circle with the mouse around a part of the map, as a person with a lasso does."""
    box = page.locator(".js-plotly-plot .nsewdrag").first.bounding_box()
    x, y = box["x"] + box["width"] / 2 + 120 + shift, box["y"] + box["height"] / 2
    turns = [
        (x + radius * math.cos(at), y + radius * math.sin(at)) for at in (2 * math.pi * one / 30 for one in range(31))
    ]
    page.mouse.move(*turns[0])
    page.mouse.down()
    for place in turns[1:]:
        page.mouse.move(*place)
    page.mouse.up()


def _plain_times(chromium: Any, address: str) -> dict[str, float]:
    """Seconds of the plain charts, the median of three after one that does not count."""
    found = {}
    for name, query, drawn in (
        ("plain plotly, 20,000 dots", "dots=20000&way=plotly", screenshot.DRAWN),
        ("plain plotly, all dots", "dots=all&way=plotly", screenshot.DRAWN),
        ("plain altair, 20,000 dots", "dots=20000&way=altair", ALTAIR),
        ("plain altair, all dots", "dots=all&way=altair", ALTAIR),
    ):
        times = []
        for _ in range(4):
            window = chromium.new_context(viewport={"width": screenshot.WIDTH, "height": screenshot.HEIGHT})
            times.append(_plain_load(window, f"{address}/?{query}", drawn))
            window.close()
        found[name] = median(times[1:])
    return found


def _plain_load(window: Any, url: str, drawn: str) -> float:
    page = window.new_page()
    page.set_default_timeout(PATIENCE_MS)
    begun = time.perf_counter()
    page.goto(url)
    page.get_by_text("drawn", exact=True).first.wait_for()
    _settle(page, drawn)
    return time.perf_counter() - begun


@contextmanager
def served(folder: Path, script: Path, *arguments: str) -> Iterator[str]:
    """The address of the dashboard, or of another script, as the laboratory's services start it."""
    home = folder / f"home-{script.stem}"
    home.mkdir(parents=True, exist_ok=True)
    server = streamlit_service(home, "127.0.0.1", free_port(), script=script, arguments=arguments)
    with Services(home / "services.json") as services:
        services.start(server)
        yield server.url


@click.command("pages")
@click.option("--patients", default=300, show_default=True, type=click.IntRange(20), help="SIMULATED patients.")
@click.option("--cells", default=60_000, show_default=True, type=click.IntRange(2000), help="Cells of all patients.")
@click.option("--seed", default=0, show_default=True, help="Seed of the simulated laboratory.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    show_default="a temporary one",
    help="A new folder to work in; kept afterwards.",
)
def bench_pages_command(patients: int, cells: int, seed: int, folder: Path | None) -> None:
    """The dashboard's pages, the lasso and other clicks in headless Chromium, against plain charts of the same cells.

    Example: ctcml bench pages --patients 40 --cells 4000
    """
    if folder is not None and folder.exists():
        raise BadInput(f"{folder}: expected a folder that is not there yet; name another")
    place: AbstractContextManager[str | Path] = (
        nullcontext(folder) if folder else tempfile.TemporaryDirectory(prefix="ctcml-bench-")
    )
    with place as where:
        found = bench_pages(Path(where).absolute(), patients=patients, cells=cells, seed=seed, say=say)
        say(table_of(found))


BENCHES = {"pages": bench_pages_command}
