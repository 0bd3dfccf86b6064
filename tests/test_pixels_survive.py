"""Whatever a laboratory measured comes back from the shards as the very same numbers, whichever way it was delivered."""

import csv
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from factories import KEY, NOON, a_ledger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ctcml.identity import pseudonym
from ctcml.intake import Taken, take_in
from ctcml.records import PLANES
from ctcml.shards import read_pixels, read_shard
from ctcml.tables import MANIFEST, read_table
from ctcml.workspace import Workspace

SAMPLE = "S-1.1"
NAMES = (*PLANES, "FITC", "extra5", "extra6")
RGB = ("CD45", "CK", "DAPI")  # red, green, blue
FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One thumbnail as it is delivered: `pages` (pages, h, w) in the source's order, or RGB (3, h, w) as R, G, B."""

    index: int
    pages: np.ndarray
    mask: np.ndarray | None
    rgb: bool
    compression: str | None
    preprocessed: bool = False

    def planes(self, page_order: Sequence[str]) -> dict[str, np.ndarray]:
        """What must come back, by the name of the plane."""
        names = RGB if self.rgb else (*page_order, *NAMES[len(page_order) :])
        return dict(zip(names, self.pages, strict=False))

    def for_people(self, plane: np.ndarray) -> np.ndarray:
        """A plane on the camera's 12-bit scale, as readers see it; camera counts are on it."""
        if self.pages.itemsize == 1:
            return plane.astype(np.uint16) * 16
        return plane // 16 if self.preprocessed else plane

    def mask_planes(self, page_order: Sequence[str]) -> dict[str, np.ndarray]:
        return dict(zip(self.planes(page_order), self.mask if self.mask is not None else (), strict=False))


@st.composite
def cells(draw: st.DrawFn, *, rgb: bool, masks: bool = True) -> list[Cell]:
    """One to four cells with numbers of their own; their depth, size and number of pages differ."""
    indices = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=4, unique=True))
    return [draw(_cell(index, rgb=rgb and draw(st.booleans()), masks=masks)) for index in indices]


@st.composite
def _cell(draw: st.DrawFn, index: int, *, rgb: bool, masks: bool) -> Cell:
    pages = 3 if rgb else draw(st.integers(3, 6))
    shape = (pages, draw(st.integers(1, 100)), draw(st.integers(1, 100)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16]))
    # A few corners drawn by hypothesis, the rest by a seed: large arrays of drawn numbers would take seconds each.
    pixels = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    corner = tuple(slice(0, min(3, side)) for side in shape)
    pixels[corner] = draw(hnp.arrays(dtype, pixels[corner].shape))
    with_mask = masks and draw(st.booleans())
    mask = (
        np.random.default_rng(draw(st.integers(0, 2**32))).random(shape) < draw(st.floats(0, 1)) if with_mask else None
    )
    compression = draw(st.sampled_from([None, "lzw", "packbits", "zlib"]))
    return Cell(index=index, pages=pixels, mask=mask, rgb=rgb, compression=compression)


page_orders = st.one_of(
    st.permutations(PLANES), st.permutations(("CD45", "DAPI", "CK", "FITC"))
).map(tuple)  # fmt: skip


def tiff(planes: np.ndarray, *, compression: str | None, rgb: bool = False) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for page in [np.moveaxis(planes, 0, 2)] if rgb else planes:
            how = "rgb" if rgb else "minisblack"
            file.write(page, compression=compression, photometric=how, metadata=None, contiguous=False)
    return buffer.getvalue()


def ccitt(mask: np.ndarray) -> bytes:
    """A mask as MATLAB writes it: one page after the other in CCITT group 4."""
    buffer = io.BytesIO()
    first, *others = [Image.fromarray(page) for page in mask]
    first.save(buffer, "TIFF", compression="group4", save_all=True, append_images=others)
    return buffer.getvalue()


@contextmanager
def delivery() -> Iterator[tuple[Path, Workspace]]:
    """An empty folder for a delivery with its clinical table, and a workspace."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        text = f"patient,sample,sample_kind,cancer_type,blood_volume_ml\nAda,{SAMPLE},patient,breast,7.5\n"
        (folder / "clinical.csv").write_text(text)
        ws = Workspace(folder / "lab")
        a_ledger(ws.ledger)
        (folder / "export").mkdir()
        yield folder / "export", ws


def taken(export: Path, ws: Workspace, page_order: tuple[str, ...] = PLANES, *, verify: bool = False) -> Taken:
    return take_in(
        export, export.parent / "clinical.csv", None, ws, key=KEY, block=(5, 1, 2), seed=1, now=NOON,
        page_order=page_order, workers=1, verify=verify,
    )  # fmt: skip


def assert_the_very_pixels_are_in_the_shard(
    expected: Sequence[Cell], export: Path, ws: Workspace, page_order: tuple[str, ...] = PLANES
) -> None:
    """Take in twice and read back: pixels, masks, names, numbers, order; the second time brings nothing."""
    result = taken(export, ws, page_order)
    assert (result.samples, result.thumbnails, result.refused) == (1, len(expected), 0)
    sample_uid = pseudonym(KEY, "sample", SAMPLE)
    packed = read_shard(ws.shards / f"{sample_uid}.parquet", verify=True)
    by_number = sorted(expected, key=lambda one: one.index)
    assert [one.object_index for one in packed] == [one.index for one in by_number]
    pixels = read_pixels(ws.shards, sample_uid)
    for cell, found in zip(by_number, packed, strict=True):
        planes, masks = cell.planes(page_order), cell.mask_planes(page_order)
        assert found.planes[:3] == PLANES
        assert sorted(found.planes) == sorted(planes)
        assert found.source_order == ",".join(planes)
        assert found.source_bit_depth == 8 * cell.pages.itemsize
        assert found.cell_uid == pseudonym(KEY, "cell", SAMPLE, str(cell.index))
        assert found.pixels.dtype == pixels[found.cell_uid].dtype == np.uint16
        assert (found.mask is None) == (cell.mask is None)
        for number, name in enumerate(found.planes):
            np.testing.assert_array_equal(found.pixels[number], planes[name])
            np.testing.assert_array_equal(pixels[found.cell_uid][number], cell.for_people(planes[name]))
            if found.mask is not None:
                np.testing.assert_array_equal(found.mask[number], masks[name])
    manifest = read_table(ws.manifest / f"{sample_uid}.parquet", MANIFEST)
    assert list(manifest["cell_uid"]) == [one.cell_uid for one in packed]
    assert list(manifest["content_sha256"]) == [one.content_sha256 for one in packed]
    before = {file: file.read_bytes() for file in ws.data.rglob("*") if file.is_file()}
    for verify in (False, True):
        again = taken(export, ws, page_order, verify=verify)
        assert (again.anything_new, again.thumbnails, again.refused) == (False, 0, 0)
    assert {file: file.read_bytes() for file in ws.data.rglob("*") if file.is_file()} == before


@FEW
@given(cells=cells(rgb=True), page_order=page_orders, older=st.booleans(), matlab=st.booleans())
def test_an_accept_export_comes_back_pixel_by_pixel(
    cells: list[Cell], page_order: tuple[str, ...], older: bool, matlab: bool
) -> None:
    cells = [one for one in cells if one.rgb or len(one.pages) >= len(page_order)]
    with delivery() as (export, ws):
        folder = export / "Full Detection_0.1" / "frames" / SAMPLE / "Thumbs"
        folder.mkdir(parents=True)
        for cell in cells:
            stem = f"{cell.index}_thumb" if older else f"S-1_1_thumb_{cell.index}"
            (folder / f"{stem}.tif").write_bytes(tiff(cell.pages, compression=cell.compression, rgb=cell.rgb))
            if cell.mask is not None:
                mask = ccitt(cell.mask) if matlab else tiff(cell.mask, compression="packbits")
                (folder / f"{stem}_segm.tif").write_bytes(mask)
        if cells:
            assert_the_very_pixels_are_in_the_shard(cells, export, ws, page_order)


@FEW
@given(cells=cells(rgb=True), page_order=page_orders, png=st.booleans())
def test_a_listed_folder_comes_back_pixel_by_pixel(cells: list[Cell], page_order: tuple[str, ...], png: bool) -> None:
    cells = [one for one in cells if one.rgb or len(one.pages) >= len(page_order)]
    with delivery() as (export, ws):
        rows = [("file", "sample", "object_index", "mask")]
        for cell in cells:
            name, mask_name = f"{cell.index}.tif", ""
            content = tiff(cell.pages, compression=cell.compression, rgb=cell.rgb)
            if png and cell.rgb:
                name, content = f"{cell.index}.png", imagecodecs.png_encode(np.moveaxis(cell.pages, 0, 2).copy())
            if cell.mask is not None:
                mask_name = f"{cell.index}_mask.tif"
                (export / mask_name).write_bytes(tiff(cell.mask, compression=cell.compression))
            (export / name).write_bytes(content)
            rows.append((name, SAMPLE, str(cell.index), mask_name))
        with (export / "manifest.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        if cells:
            assert_the_very_pixels_are_in_the_shard(cells, export, ws, page_order)


@FEW
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 100), st.integers(1, 100), st.just(3)),
    dtype=st.sampled_from(["u1", "<u2", ">u2"]),
    seed=st.integers(0, 2**32),
    channels=st.one_of(st.none(), st.permutations(PLANES)),
    compressed=st.booleans(),
)
def test_a_labelled_array_comes_back_pixel_by_pixel(
    shape: tuple[int, ...], dtype: str, seed: int, channels: list[str] | None, compressed: bool
) -> None:
    images = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    with delivery() as (export, ws):
        more = {"channels": np.array(channels)} if channels else {}
        write = np.savez_compressed if compressed else np.savez
        write(export / "cells.npz", images=images, labels=np.array(["CTC"] * len(images)), groups=np.array([SAMPLE] * len(images)), **more)  # fmt: skip
        expected = [
            Cell(
                index=number, pages=np.moveaxis(image, 2, 0), mask=None, rgb=False, compression=None, preprocessed=True
            )
            for number, image in enumerate(images, start=1)
        ]
        # An array's channels are what a page order is for files.
        assert_the_very_pixels_are_in_the_shard(expected, export, ws, tuple(channels or PLANES))
