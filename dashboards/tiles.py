"""Thumbnails for a page: pictures inside the HTML, so that hundreds of them cost one message and no request.

All tiles of a page have one scale, so sizes can be compared. Encoded pictures are kept until a sample's shards change.
"""

import base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from ctcml.images import SIZE, Counts, Picture, encode_png, overlay, reader_panels, stretched
from ctcml.records import PLANES
from ctcml.shards import Packed, counts_of, read_pixels, shard_paths
from ctcml.workspace import Workspace
from dashboards.addresses import sample_address, sample_query

OVERLAY = "overlay"
CHANNELS = (OVERLAY, *PLANES)
CONTRASTS = {"auto": "each plane's own contrast", "fixed": "the same contrast for every cell"}
PIXEL, SIDE = 2, 96  # screen pixels a camera pixel, and a tile's side: 48 camera pixels, about 31 µm
WINDOW, STEP = SIZE, SIZE + 4  # of `images.reader_panels`
STYLE = f"""<style>
.ctcml-tiles {{display: flex; flex-wrap: wrap; gap: 6px; list-style: none; margin: 0 !important; padding: 0 !important}}
.ctcml-tiles li {{margin: 0 !important; padding: 0 !important; width: {SIDE}px}}
.ctcml-tiles a {{color: inherit; text-decoration: none; display: block}}
.ctcml-tiles a:hover .ctcml-pixels, .ctcml-tiles a:focus-visible .ctcml-pixels {{outline: 3px solid #E69F00}}
.ctcml-tiles .ctcml-chosen {{outline: 4px solid #D55E00}}
.ctcml-pixels {{width: {SIDE}px; height: {SIDE}px; background: #282828; overflow: hidden; display: flex;
 align-items: center; justify-content: center; color: #E0E0E0; font-size: 12px; text-align: center}}
.ctcml-pixels img {{flex: none; max-width: none; image-rendering: pixelated}}
.ctcml-tiles span {{font-size: 12px; line-height: 1.3; display: block; overflow: hidden; text-overflow: ellipsis;
 white-space: nowrap}}
.ctcml-panels {{display: flex; flex-wrap: wrap; gap: 8px; margin: 0}}
.ctcml-panels figure {{margin: 0; flex: 1 1 160px; max-width: 320px}}
.ctcml-panels img {{width: 100%; image-rendering: pixelated; display: block}}
.ctcml-panels figcaption {{font-size: 14px}}
</style>"""
STAY = """<script>
if (!window.ctcmlStays) {
  window.ctcmlStays = true
  document.addEventListener("click", (event) => {
    const link = event.target.closest(".ctcml-tiles a")
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return
    event.preventDefault()
    window.history.pushState({}, "", link.href)
    window.dispatchEvent(new PopStateEvent("popstate"))
  })
}
</script>"""
Stamp = tuple[tuple[str, int, int], ...]


def stay_in_session() -> None:
    """Let a click on a thumbnail change the page in place, as a step in the browser's history does, which takes a fraction
    of the time; without it, and with Ctrl or Shift, the link opens as any other."""
    st.html(STAY, unsafe_allow_javascript=True)


def tiles_html(
    workspace: Workspace,
    cells: pd.DataFrame,
    *,
    captions: Mapping[str, str] | None = None,
    link: Callable[[str, str], str] | None = None,
    channel: str = OVERLAY,
    chosen: str | None = None,
) -> str:
    """A list of thumbnails for `st.html`, in the order of `cells` (cell_uid, sample_uid), each a link to its cell.

    `captions` by cell_uid are escaped here. `link(cell_uid, sample_uid)` gives another address than the Sample page's,
    `chosen` is the cell that is framed. A cell whose sample has no shard on this machine gets a tile that says so.
    """
    pictures = pictures_of(workspace, cells, channel=channel)
    shown = []
    for uid, sample_uid in zip(cells["cell_uid"], cells["sample_uid"], strict=True):
        caption = (captions or {}).get(uid, "")
        address = (link or _to_cell)(uid, sample_uid)
        told = escape(f"Cell {uid[-8:]}{', ' + caption if caption else ''}", quote=True)
        framed = " ctcml-chosen" if uid == chosen else ""
        image = _img(pictures[uid], told) if uid in pictures else "no pixels here"
        shown.append(
            f'<li><a href="{escape(address, quote=True)}" title="{told}" target="_self">'
            f'<div class="ctcml-pixels{framed}">{image}</div><span>{escape(caption)}</span></a></li>'
        )
    return f'{STYLE}<ul class="ctcml-tiles">{"".join(shown)}</ul>'


def _to_cell(cell_uid: str, sample_uid: str) -> str:
    return sample_address(sample_query(sample_uid, {}, cell_uid=cell_uid))


def _img(found: tuple[str, int, int], told: str) -> str:
    source, height, width = found
    return f'<img src="{source}" width="{width * PIXEL}" height="{height * PIXEL}" alt="{told}">'


def pictures_of(
    workspace: Workspace, cells: pd.DataFrame, *, channel: str = OVERLAY
) -> dict[str, tuple[str, int, int]]:
    """Source, height and width (camera pixels) of each thumbnail, by cell_uid; without those whose sample has no shard here."""
    found = {}
    for sample_uid, members in cells.groupby("sample_uid", sort=False)["cell_uid"]:
        stamp = _stamp(workspace.shards, str(sample_uid))
        if stamp:
            found |= _encoded(workspace.shards, str(sample_uid), stamp, tuple(members), channel)
    return found


def _stamp(shards: Path, sample_uid: str) -> Stamp:
    """What changes when a sample gets another shard, or one is taken away."""
    files = [(path.name, path.stat()) for path in shard_paths(shards, sample_uid)]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in files)


@lru_cache(maxsize=512)  # a sample's gallery each; a gallery of 200 tiles takes about 1 MB
def _encoded(
    shards: Path, sample_uid: str, stamp: Stamp, cell_uids: tuple[str, ...], channel: str
) -> dict[str, tuple[str, int, int]]:
    pixels = read_pixels(shards, sample_uid, cell_uids)
    return {uid: (_source(_drawn(one, channel)), *one.shape[1:]) for uid, one in pixels.items()}


def _drawn(pixels: Counts, channel: str) -> Picture:
    return overlay(pixels) if channel == OVERLAY else stretched(pixels)[PLANES.index(channel)]


def _source(picture: Picture) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode("ascii")


def panels_html(one: Packed, *, contrast: str) -> str:
    """One cell as a reader sees it, for `st.html`: each plane and the overlay, 80 x 80 camera pixels, 10 µm bar.

    Planes beyond the three that the network sees are shown at their own contrast.
    """
    pixels = counts_of(one)
    row = reader_panels(pixels)[contrast][..., :3]
    windows = [row[:, place * STEP :][:, :WINDOW] for place in range(len(PLANES) + 1)]
    named = dict(zip((*PLANES, "Overlay: red CD45, green CK, blue DAPI"), windows, strict=True))
    named |= {name: _alone(pixels[place]) for place, name in enumerate(one.planes) if place >= len(PLANES)}
    figures = [
        f'<figure><img src="{_source(np.ascontiguousarray(picture))}" alt="{escape(f"{name} of the cell", quote=True)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, picture in named.items()
    ]
    return f'{STYLE}<div class="ctcml-panels">{"".join(figures)}</div>'


def _alone(plane: Counts) -> Picture:
    """A plane that no network sees, in the same window."""
    return reader_panels(np.stack([plane] * len(PLANES)))["auto"][:, :WINDOW, :3]
