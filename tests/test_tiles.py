"""Thumbnails as HTML: in order, escaped, linked, of one scale, and quick enough for hundreds."""

import base64
import io
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser.pixels import draw_models, thumbnail
from PIL import Image

from ctcml.images import overlay, stretched
from ctcml.records import PLANES
from ctcml.shards import Packed, pack_shard
from ctcml.workspace import Workspace
from dashboards.tiles import PIXEL, panels_html, pictures_of, tiles_html

SAMPLES, CELLS = 10, 40


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Packed]]:
    rng = np.random.default_rng(4)
    models = draw_models(["ctc"], rng)["ctc"]
    ws, found = Workspace(tmp_path_factory.mktemp("tiles")), {}
    for sample in range(SAMPLES):
        members = [thumbnail(f"cell-{sample}-{at}", f"tube{sample}", at + 1, models, rng) for at in range(CELLS)]
        pack_shard(members, ws.shards / f"tube{sample}.parquet")
        found |= {one.cell_uid: one for one in members}
    return ws, found


def cells_of(found: dict[str, Packed]) -> pd.DataFrame:
    return pd.DataFrame({"cell_uid": list(found), "sample_uid": [one.sample_uid for one in found.values()]})


def decoded(source: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,")))))


def test_a_tile_shows_the_overlay_that_a_reader_sees_and_a_channel_shows_that_plane(
    packed: tuple[Workspace, dict[str, Packed]],
) -> None:
    ws, found = packed
    cells = cells_of(found).head(3)
    for channel in ("overlay", *PLANES):
        for uid, (source, height, width) in pictures_of(ws, cells, channel=channel).items():
            pixels = found[uid].pixels
            expected = overlay(pixels) if channel == "overlay" else stretched(pixels)[PLANES.index(channel)]
            assert np.array_equal(decoded(source), expected)
            assert (height, width) == pixels.shape[1:]


def test_tiles_are_in_the_order_asked_for_each_linked_to_its_cell(packed: tuple[Workspace, dict[str, Packed]]) -> None:
    ws, found = packed
    cells = cells_of(found).sample(frac=1, random_state=3)
    links = re.findall(r'<a href="([^"]+)"', tiles_html(ws, cells))
    asked = zip(cells["sample_uid"], cells["cell_uid"], strict=True)
    assert links == [f"sample?sample={sample_uid}&amp;cell={uid}" for sample_uid, uid in asked]


def test_a_caption_cannot_bring_markup_into_the_page(packed: tuple[Workspace, dict[str, Packed]]) -> None:
    ws, found = packed
    cells = cells_of(found).head(1)
    uid = cells["cell_uid"].item()
    html = tiles_html(
        ws, cells, captions={uid: '<script>alert("x")</script>'}, link=lambda *_: '"><img src=x onerror=alert(1)>'
    )
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "&lt;script&gt;" in html


def test_every_tile_has_a_text_for_people_who_cannot_see_it(packed: tuple[Workspace, dict[str, Packed]]) -> None:
    ws, found = packed
    cells = cells_of(found).head(5)
    html = tiles_html(ws, cells, captions=dict.fromkeys(cells["cell_uid"], "0.97"))
    told = re.findall(r'<img [^>]*alt="([^"]+)"', html)
    assert told == [f"Cell {uid[-8:]}, 0.97" for uid in cells["cell_uid"]]


def test_all_tiles_have_one_scale_so_that_sizes_can_be_compared(packed: tuple[Workspace, dict[str, Packed]]) -> None:
    ws, found = packed
    cells = cells_of(found)
    shown = re.findall(r'width="(\d+)" height="(\d+)"', tiles_html(ws, cells))
    assert len({side for pair in shown for side in pair}) > 1
    true = [found[uid].pixels.shape[1:] for uid in cells["cell_uid"]]
    assert shown == [(str(width * PIXEL), str(height * PIXEL)) for height, width in true]


def test_the_chosen_cell_alone_is_framed(packed: tuple[Workspace, dict[str, Packed]]) -> None:
    ws, found = packed
    cells = cells_of(found).head(4)
    html = tiles_html(ws, cells, chosen=cells["cell_uid"].iloc[2])
    framed = ["ctcml-chosen" in one for one in html.split("<li>")[1:]]
    assert framed == [False, False, True, False]


def test_a_sample_whose_shard_is_not_here_says_so_instead_of_failing(
    packed: tuple[Workspace, dict[str, Packed]],
) -> None:
    ws, found = packed
    cells = pd.concat([cells_of(found).head(1), pd.DataFrame({"cell_uid": ["away"], "sample_uid": ["elsewhere"]})])
    html = tiles_html(ws, cells)
    assert html.count("<img") == 1
    assert html.count("no pixels here") == 1


def test_a_sample_that_gets_another_shard_is_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    models = draw_models(["wbc"], rng)["wbc"]
    ws = Workspace(tmp_path)
    first, second = (thumbnail(f"c{at}", "s", at, models, rng) for at in (1, 2))
    pack_shard([first], ws.shards / "s.parquet")
    assert set(pictures_of(ws, pd.DataFrame({"cell_uid": ["c1"], "sample_uid": ["s"]}))) == {"c1"}
    pack_shard([second], ws.shards / "s-2.parquet")
    both = pd.DataFrame({"cell_uid": ["c1", "c2"], "sample_uid": ["s", "s"]})
    assert set(pictures_of(ws, both)) == {"c1", "c2"}


def test_some_hundred_tiles_cost_less_than_a_blink_once_they_are_drawn(
    packed: tuple[Workspace, dict[str, Packed]],
) -> None:
    ws, found = packed
    cells = cells_of(found)
    tiles_html(ws, cells)
    began = time.perf_counter()
    assert tiles_html(ws, cells).count("<img") == SAMPLES * CELLS
    assert time.perf_counter() - began < 0.25  # measured: 0.01 s; without the cache 0.3 s and more


def test_a_cell_is_shown_plane_by_plane_with_planes_that_no_network_sees_too() -> None:
    pixels = np.full((4, 20, 20), 100, np.uint16)
    pixels[3, 8:12, 8:12] = 3000
    one = Packed(
        cell_uid="c",
        sample_uid="s",
        object_index=1,
        planes=(*PLANES, "FITC"),
        pixels=pixels,
        mask=None,
        source_bit_depth=12,
        source_order="FITC,DAPI,CK,CD45",
    )
    for contrast in ("auto", "fixed"):
        html = panels_html(one, contrast=contrast)
        captions = re.findall(r"<figcaption>([^<]+)</figcaption>", html)
        assert [caption.split(":")[0] for caption in captions] == [*PLANES, "Overlay", "FITC"]
        fitc = decoded(re.findall(r'src="([^"]+)"', html)[-1])
        assert fitc.max() == 255
        assert fitc.shape == (80, 80, 3)
