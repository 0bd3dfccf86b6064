"""A simulated CellTracks cartridge, and how many of its planted objects a detection finds.

Frames are as the instrument stores them: 1384×1036 pixels, pages DAPI, FITC, CK, CD45 in 8 bit with the private tags that
restore the range, in snake order, beside an XML with the events that CellSearch would present. Nothing here describes a
real patient. The same seed gives the same bytes, whatever the number of processes.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from scipy.spatial import KDTree

from ctcml.cartridges import HIGH_TAG, LOW_TAG, MARK_TAG, layout_of
from ctcml.cells_in_silico import draw_object
from ctcml.celltracks_xml import Layout
from ctcml.errors import BadInput
from ctcml.frames_in_silico import (
    CLUMPED_SHARE,
    COUNTS_PER_ELECTRON,
    HIGHEST_COUNT,
    READ_VARIANCE,
    Crop,
    Stored,
    empty_field,
    place,
    store,
    through_camera,
)
from ctcml.pencil import CANVAS_PX, CD45, CK, DAPI, FITC, Stain, draw_stain
from ctcml.records import PIXEL_SIZE_UM

WIDTH_PX, HEIGHT_PX = 1384, 1036  # the CellTracks Analyzer II's camera
PAGES = {DAPI: "DNA", FITC: "FITC", CK: "CK", CD45: "CD45"}  # in the order of a frame's pages
KINDS = {"ctc": 0.08, "tdev": 0.24, "wbc": 0.32, "cd45ev": 0.2, "bare_nucleus": 0.085, "other": 0.075}
APART_PX = CANVAS_PX + 4  # of the middles of isolated objects: their canvases do not overlap
CLOSE_PX = (22, 34)  # of the middles of two objects in a clump
TRIES = 2000  # to place one more object before the frame counts as full
PRESENTED_ABOVE = 70.0  # counts of DAPI and of CK at which the simulated CellSearch presents an event
BRIGHTEST = 10  # pixels whose mean is an object's peak
MATCH_PX = 8.0
LEAST_UM, LEAST_SNR = 4.0, 5.0  # what a detection is held to: the field's smallest CTC, and Rose's criterion
COLUMNS = ("frame", "x", "y", "kind", "diameter_um", "snr", "isolated")


@dataclass(frozen=True, kw_only=True)
class Event:
    """What the simulated CellSearch presents: a box in mosaic pixels, and whether the operator called it a CTC."""

    left: int
    top: int
    right: int
    bottom: int
    assigned: bool


@dataclass(frozen=True, kw_only=True)
class DetectionQuality:
    """What a detection found of what was planted; shares of 0 objects are NaN.

    `found_share` is of the isolated objects of `LEAST_UM` and `LEAST_SNR` or more, `close_share` of such objects that lie
    beside another one, `small_or_dim_share` of all other isolated ones. `false_share` is of all detections, those that
    match no planted object of any size; `misplaced_share` such of them as do lie on one: pieces of it, or two as one.
    """

    planted: int
    found: int
    sought: int
    found_share: float
    close: int
    close_share: float
    small_or_dim: int
    small_or_dim_share: float
    false_share: float
    misplaced_share: float


def write_cartridge(
    folder: Path,
    *,
    frames: int = 175,
    objects_per_frame: int = 25,
    seed: int,
    isolated: bool = True,
    workers: int = 1,
) -> pd.DataFrame:
    """Write a SIMULATED cartridge below `folder` and return what was planted, one row an object, by `COLUMNS`.

    `frame` counts from 1, `x` and `y` are the middle of the object's box in its frame, `diameter_um` is that of a disc of
    its area, `snr` its peak over the noise, both in its best channel as archived. Unless all are `isolated`, 13 % lie
    beside another one. Raises `BadInput` when the objects do not fit into a frame.
    """
    stem, layout = folder.name.split(".")[0], layout_of(frames) or _small_layout(frames)
    (folder / "processed").mkdir(parents=True)
    seeds = np.random.SeedSequence(seed).spawn(frames + 1)
    draw = partial(
        _write_frame,
        folder=folder / "processed",
        layout=layout,
        stain=draw_stain(np.random.default_rng(seeds[0])),
        objects=objects_per_frame,
        isolated=isolated,
    )
    planted, events = list[pd.DataFrame](), list[Event]()
    for table, presented in _map(draw, range(1, frames + 1), seeds[1:], workers):
        planted.append(table)
        events += presented
    (folder / f"{stem}.xml").write_text(_xml(layout, events))
    (folder / "SIMULATED.txt").write_text("SIMULATED DATA. Nothing in this folder describes a real patient.\n")
    return pd.concat(planted, ignore_index=True)


def _small_layout(frames: int) -> Layout:
    """Two rows, so that a small cartridge of a test has a snake too; one when the number is odd."""
    return Layout(rows=1, columns=frames) if frames % 2 else Layout(rows=2, columns=frames // 2)


def _map(
    draw: "partial[tuple[pd.DataFrame, list[Event]]]", frames: range, seeds: list[np.random.SeedSequence], workers: int
) -> Iterator[tuple[pd.DataFrame, list[Event]]]:
    if workers == 1:
        yield from map(draw, frames, seeds)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(draw, frames, seeds, chunksize=4)


def _write_frame(
    number: int,
    seed: np.random.SeedSequence,
    *,
    folder: Path,
    layout: Layout,
    stain: Stain,
    objects: int,
    isolated: bool,
) -> tuple[pd.DataFrame, list[Event]]:
    rng = np.random.default_rng(seed)
    planted, crops, stored = _draw_frame(stain, objects, rng, isolated=isolated)
    with tifffile.TiffWriter(folder / f"{folder.parent.name}-{number:03d}.tif") as tiff:
        for plane in PAGES:
            tags = [
                (MARK_TAG, "H", 1, 1),
                (LOW_TAG, "d", 1, float(stored.low[plane])),
                (HIGH_TAG, "d", 1, float(stored.high[plane])),
            ]
            tiff.write(stored.img[plane], photometric="minisblack", metadata=None, software=False, extratags=tags)
    planted.insert(0, "frame", number)
    row, column = layout.place(number)
    events = [
        Event(
            left=column * WIDTH_PX + crop.columns.start,
            top=row * HEIGHT_PX + crop.rows.start,
            right=column * WIDTH_PX + crop.columns.stop,
            bottom=row * HEIGHT_PX + crop.rows.stop,
            assigned=kind == "ctc",
        )
        for crop, kind, presented in zip(crops, planted["kind"], planted.pop("presented"), strict=True)
        if presented
    ]
    return planted, events


def _draw_frame(
    stain: Stain, objects: int, rng: np.random.Generator, *, isolated: bool
) -> tuple[pd.DataFrame, list[Crop], Stored]:
    counts = empty_field(stain, rng, (HEIGHT_PX, WIDTH_PX))
    middles, alone = _scatter(objects, rng, isolated=isolated)
    kinds = rng.choice(list(KINDS), size=objects, p=list(KINDS.values()))
    crops, peaks, below = list[Crop](), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for kind, middle in zip(kinds, middles, strict=True):
        patch = draw_object(str(kind), 0.0, stain, rng)
        below.append(counts[:, middle[0], middle[1]].copy())
        brightest = np.sort(patch.reshape(len(patch), -1), axis=1)[:, -BRIGHTEST:].mean(axis=1)
        peaks.append(np.minimum(brightest, HIGHEST_COUNT - below[-1]))
        crops.append(place(counts, patch, middle))
    stored = store(through_camera(counts, rng))
    step = (stored.high - stored.low) / 255
    snr = np.array(peaks) / np.sqrt(COUNTS_PER_ELECTRON * np.array(below) + READ_VARIANCE + step**2 / 12)
    best = snr.argmax(axis=1)
    area = np.array([crop.mask[channel].sum() for crop, channel in zip(crops, best, strict=True)])
    x, y = zip(*(_middle(crop) for crop in crops), strict=True)
    peak = np.array(peaks)
    return (
        pd.DataFrame(
            {
                "x": x,
                "y": y,
                "kind": kinds,
                "diameter_um": 2 * np.sqrt(area / np.pi) * PIXEL_SIZE_UM,
                "snr": snr.max(axis=1),
                "isolated": alone,
                "presented": (peak[:, DAPI] > PRESENTED_ABOVE) & (peak[:, CK] > PRESENTED_ABOVE),
            }
        ),
        crops,
        stored,
    )


def _middle(crop: Crop) -> tuple[float, float]:
    """Column and row, in the frame, of the middle of an object's box."""
    seen: NDArray[np.bool_] = np.logical_or.reduce(crop.mask)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    return crop.columns.start + (columns[0] + columns[-1]) / 2, crop.rows.start + (rows[0] + rows[-1]) / 2


def _scatter(objects: int, rng: np.random.Generator, *, isolated: bool) -> tuple[list[tuple[int, int]], list[bool]]:
    """Middles of objects, far from the frame's border and from each other, but some beside the one before."""
    half = CANVAS_PX // 2 + 2
    middles, alone = list[tuple[int, int]](), list[bool]()
    for _ in range(objects):
        if not isolated and middles and rng.uniform() < CLUMPED_SHARE:
            angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(*CLOSE_PX)
            beside = (middles[-1][0] + away * np.sin(angle), middles[-1][1] + away * np.cos(angle))
            middles.append(
                (int(np.clip(beside[0], half, HEIGHT_PX - half)), int(np.clip(beside[1], half, WIDTH_PX - half)))
            )
            alone[-1:] = [False, False]
            continue
        for _ in range(TRIES):
            row, column = int(rng.integers(half, HEIGHT_PX - half)), int(rng.integers(half, WIDTH_PX - half))
            if all(
                (row - y) ** 2 + (column - x) ** 2 > (APART_PX if isolated else APART_PX + CLOSE_PX[1]) ** 2
                for y, x in middles
            ):
                break
        else:
            raise BadInput(f"{objects} objects do not fit into a frame {APART_PX} px apart; ask for fewer")
        middles.append((row, column))
        alone.append(True)
    return middles, alone


def _xml(layout: Layout, events: list[Event]) -> str:
    filters = "".join(f"<record><filtername>{name}</filtername></record>" for name in PAGES.values())
    listed = "\n".join(
        f"<record><rid>{rid}</rid><location>({one.left},{one.top}) ({one.right},{one.bottom})</location>"
        f"<assigned>{str(one.assigned).lower()}</assigned><numselected>{int(one.assigned)}</numselected></record>"
        for rid, one in enumerate(events, start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- SIMULATED DATA -->\n<archive>\n'
        f"<runs><record><numrows>{layout.rows}</numrows><numcols>{layout.columns}</numcols>"
        f"<camxsize>{WIDTH_PX}</camxsize><camysize>{HEIGHT_PX}</camysize></record></runs>\n"
        f"<test_filters>{filters}</test_filters>\n<events>\n{listed}\n</events>\n</archive>\n"
    )


def compare_detection(planted: pd.DataFrame, found: pd.DataFrame) -> DetectionQuality:
    """Match detections (`frame`, `x`, `y` within the frame) to planted objects within 8 px, the nearest first, each once."""
    matched = np.zeros(len(planted), bool)
    false, misplaced = 0, 0
    for frame, rows in found.groupby("frame"):
        here = np.flatnonzero(planted["frame"] == frame)
        there, seen = planted[["x", "y"]].to_numpy(float)[here], rows[["x", "y"]].to_numpy(float)
        pairs = _pairs(there, seen)
        matched[here[list(pairs)]] = True
        rest = np.delete(seen, list(pairs.values()), axis=0)
        false += len(rest)
        if len(there) and len(rest):
            misplaced += int((KDTree(there).query(rest)[0] <= CANVAS_PX / 2).sum())
    asked = (planted["diameter_um"] >= LEAST_UM) & (planted["snr"] >= LEAST_SNR)
    alone = planted["isolated"].to_numpy(bool)

    def share(these: pd.Series) -> float:
        return float(matched[these].mean()) if these.any() else float("nan")

    return DetectionQuality(
        planted=len(planted),
        found=len(found),
        sought=int((asked & alone).sum()),
        found_share=share(asked & alone),
        close=int((asked & ~alone).sum()),
        close_share=share(asked & ~alone),
        small_or_dim=int((~asked & alone).sum()),
        small_or_dim_share=share(~asked & alone),
        false_share=false / len(found) if len(found) else float("nan"),
        misplaced_share=misplaced / len(found) if len(found) else float("nan"),
    )


def _pairs(planted: NDArray[np.float64], found: NDArray[np.float64]) -> dict[int, int]:
    """Place among the planted -> place among the found."""
    pairs = dict[int, int]()
    if not len(planted):
        return pairs
    near = KDTree(planted).sparse_distance_matrix(KDTree(found), MATCH_PX, output_type="coo_matrix")
    for _, one, other in sorted(zip(near.data.tolist(), near.row.tolist(), near.col.tolist(), strict=True)):
        if one not in pairs and other not in pairs.values():
            pairs[one] = other
    return pairs
