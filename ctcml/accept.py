"""Reading what ACCEPT leaves on disk: a sample's thumbnails, their masks, and which events CellSearch itself presented.

The layout is that of ACCEPT's own source (version 1.0.0-beta); nothing here writes. Files come from outside, so each is
checked before it is decoded, and one that is not what it should be becomes a `Refused` with its reason, never an error.
"""

import io
import math
import os
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openpyxl
import tifffile
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.records import PLANES

MARKER = "ACCEPTThumbnails.txt"
# `<sample>_thumb_<i>.tif`, older and single-event `<i>_thumb.tif`, and CellSearch's own `<i>_thumb_prior.tif`.
THUMBNAIL = re.compile(
    r"(?:(?P<sample>.+)_thumb_(?P<late>\d{1,9})|(?P<early>\d{1,9})_thumb(?:_prior)?)\.tiff?", re.IGNORECASE
)
NOT_THUMBNAILS = re.compile(r"overview_.*|.*_segm?\.tiff?", re.IGNORECASE)  # pictures of whole frames, and masks
LARGEST_SIDE = 4096  # pixels; a header that declares more is a mistake or an attack
LARGEST_FILE = 64 * 2**20  # bytes
LARGEST_TABLE = 512 * 2**20  # bytes of a feature table when unzipped
MOST_PAGES = 16
LOSSLESS = {1, 2, 3, 4, 5, 8, 32773, 32946}  # TIFF codes: none, CCITT (three), LZW, deflate, PackBits, old deflate


@dataclass(frozen=True, kw_only=True)
class ExportedSample:
    """One sample of an export; `all_events` is False for a selection folder: a capped random draw."""

    sample_id: str
    folder: Path
    feature_table: Path | None
    all_events: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class RawThumbnail:
    """One event as exported: `pixels` uint16 (planes, h, w), CD45, DAPI, CK first; `mask` bool of that shape or None.

    `proposed` says whether CellSearch itself presented the event; None when the export does not say.
    """

    sample_id: str
    object_index: int
    planes: tuple[str, ...]
    pixels: NDArray[np.uint16]
    mask: NDArray[np.bool_] | None
    source_bit_depth: int
    source_order: str
    proposed: bool | None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file that was not taken in, by its name in the export, and why, in one line."""

    file: str
    reason: str


class _UnfitFileError(Exception):
    """A file is not what it should be; the text becomes the reason of a `Refused`."""


def find_samples(root: Path) -> list[ExportedSample]:
    """Find every `frames/<sample>/Thumbs` below `root`, in order of path; links to other folders are not followed.

    Without `Thumbs` the first selection folder that holds ACCEPT's marker file is taken. A sample that several
    processors exported appears several times: the caller chooses.
    """
    found = []
    for place, folders, _ in os.walk(root):
        folders.sort()
        if Path(place).name == "frames":
            found += [sample for name in folders for sample in _sample_at(Path(place) / name)]
            folders.clear()
    return found


def _sample_at(folder: Path) -> Iterator[ExportedSample]:
    selections = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    marked = [path for path in selections if path.name == "Thumbs"] or [p for p in selections if (p / MARKER).is_file()]
    table = folder.parent.parent / "output" / f"{folder.name}.xlsx"
    if marked and not folder.is_symlink():
        yield ExportedSample(
            sample_id=folder.name,
            folder=marked[0],
            feature_table=table if table.is_file() else None,
            all_events=marked[0].name == "Thumbs",
        )


def read_sample(
    sample: ExportedSample, *, page_order: tuple[str, ...] = PLANES
) -> tuple[list[RawThumbnail], list[Refused]]:
    """Read all thumbnails of a sample in order of object index, and say which files were refused.

    `page_order` names the pages of the source from the first on; a page beyond it is `FITC` (the fourth) or `extra<n>`.
    Raises `BadInput` only when `page_order` itself lacks CD45, DAPI or CK.
    """
    if len(set(page_order)) != len(page_order) or not set(PLANES) <= set(page_order):
        raise BadInput(f"page order {page_order}: expected each of {PLANES} once; correct the instrument's page order")
    files, refused = _thumbnail_files(sample)
    proposed, table_refused = _proposed_events(sample, last_index=max(files, default=0))
    thumbnails = []
    for index, path in sorted(files.items()):
        try:
            pixels = _read_pages(path, sample.folder, minimum=len(page_order))
        except _UnfitFileError as unfit:
            refused.append(Refused(file=path.name, reason=str(unfit)))
            continue
        mask, mask_refused = _read_mask(path, sample.folder, shape=pixels.shape)
        names = _page_names(page_order, len(pixels))
        order = sorted(range(len(names)), key=lambda page: (_place(names[page]), page))
        thumbnails.append(
            RawThumbnail(
                sample_id=sample.sample_id,
                object_index=index,
                planes=tuple(names[page] for page in order),
                pixels=np.ascontiguousarray(pixels[order]),
                mask=None if mask is None else mask[order],
                source_bit_depth=16,
                source_order=",".join(names),
                proposed=None if proposed is None else proposed[index - 1],
            )
        )
        refused += mask_refused
    return thumbnails, refused + table_refused


def _page_names(page_order: tuple[str, ...], pages: int) -> tuple[str, ...]:
    """Name every page of a file.

    >>> _page_names(("CD45", "DAPI", "CK"), 5)
    ('CD45', 'DAPI', 'CK', 'FITC', 'extra5')
    """
    more = ["FITC" if page == 4 and "FITC" not in page_order else f"extra{page}" for page in range(1, pages + 1)]
    return (*page_order, *more[len(page_order) :])


def _place(name: str) -> int:
    return PLANES.index(name) if name in PLANES else len(PLANES)


def _thumbnail_files(sample: ExportedSample) -> tuple[dict[int, Path], list[Refused]]:
    """Return thumbnails by object index; the numbers have gaps and are not padded, so names never give the order."""
    files: dict[int, Path] = {}
    refused = []
    # ACCEPT writes '_' for '.', which cannot be undone: compare in the direction that works.
    written = sample.sample_id.replace(".", "_")
    for path in sorted(sample.folder.iterdir()):
        if not path.name.lower().endswith((".tif", ".tiff")) or NOT_THUMBNAILS.fullmatch(path.name):
            continue
        match = THUMBNAIL.fullmatch(path.name)
        index = int(match["late"] or match["early"]) if match else 0
        if match is None or index == 0:
            reason = "name is not <sample>_thumb_<i>.tif with i from 1; rename or remove it"
        elif match["sample"] not in (None, written, sample.sample_id):
            reason = f"named after another sample, expected {written}_thumb_<i>.tif; put it in its own folder"
        elif index in files:
            reason = f"object {index} is there twice, also as {files[index].name}; remove the wrong one"
        else:
            files[index] = path
            continue
        refused.append(Refused(file=path.name, reason=reason))
    return files, refused


def _read_mask(
    thumbnail: Path, folder: Path, *, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_] | None, list[Refused]]:
    """Read the mask beside a thumbnail; a missing one is no fault, a broken one costs the mask but not the pixels."""
    path = thumbnail.with_name(f"{thumbnail.stem}_segm{thumbnail.suffix}")
    if not os.path.lexists(path):
        return None, []
    try:
        mask = _read_pages(path, folder, minimum=1, mask=True)
        if mask.shape != shape:
            raise _UnfitFileError(
                f"mask has shape {mask.shape}, its thumbnail {shape}; the thumbnail is kept without a mask"
            )
        return mask.astype(bool), []
    except _UnfitFileError as unfit:
        return None, [Refused(file=path.name, reason=str(unfit))]


def _read_pages(path: Path, folder: Path, *, minimum: int, mask: bool = False) -> NDArray[np.uint16]:
    """Decode all pages of a TIFF as uint16 (pages, h, w); every declared size is checked before anything is decoded."""
    content = _content(path, folder, largest=LARGEST_FILE)
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            kinds = ("bool", "uint8") if mask else ("uint16",)
            pages = _checked_pages(tiff, content, minimum=minimum, kinds=kinds)
            planes = [page.asarray() for page in pages]
            # A mask whose 0 means white is stored upside down (TIFF 6.0, PhotometricInterpretation 0).
            planes = [p == 0 if mask and page.photometric == 0 else p for p, page in zip(planes, pages, strict=True)]
    except _UnfitFileError:
        raise
    except Exception as error:  # the decoders raise a dozen unrelated kinds on damaged files
        raise _UnfitFileError(f"not readable as TIFF ({_one_line(error)}); export it again") from None
    return np.stack(planes).astype(np.uint16)


def _checked_pages(
    tiff: tifffile.TiffFile, content: bytes, *, minimum: int, kinds: tuple[str, ...]
) -> list[tifffile.TiffPage]:
    pages: list[tifffile.TiffPage] = []
    for page in tiff.pages:
        if len(pages) == MOST_PAGES:
            raise _UnfitFileError(f"more than {MOST_PAGES} pages, expected one a channel; export it again")
        _check_page(page, len(content), kinds=kinds)
        pages.append(page)
    if len(pages) < minimum:
        raise _UnfitFileError(f"{len(pages)} pages, expected {minimum} or more, one a channel; export all channels")
    if len({page.shape for page in pages}) > 1:
        raise _UnfitFileError(f"pages differ in shape: {[page.shape for page in pages]}; export it again")
    if _next_page(tiff, pages[-1], content) != 0:
        raise _UnfitFileError(f"truncated: page {len(pages) + 1} is announced but missing; copy or export it again")
    return pages


def _next_page(tiff: tifffile.TiffFile, page: tifffile.TiffPage, content: bytes) -> int:
    """Return where a page says the next one begins, 0 for the last; tifffile stops silently where this is broken."""
    form = tiff.tiff
    (tags,) = struct.unpack_from(form.tagnoformat, content, page.offset)
    (following,) = struct.unpack_from(form.offsetformat, content, page.offset + form.tagnosize + tags * form.tagsize)
    return int(following)


def _check_page(page: tifffile.TiffPage, size: int, *, kinds: tuple[str, ...]) -> None:
    declared = (page.imagelength, page.imagewidth, page.samplesperpixel)
    if not (0 < declared[0] <= LARGEST_SIDE and 0 < declared[1] <= LARGEST_SIDE):
        raise _UnfitFileError(
            f"declares {declared[0]}×{declared[1]} pixels, expected 1 to {LARGEST_SIDE} a side; export it again"
        )
    if page.shape != declared[:2]:
        raise _UnfitFileError(f"a page has {declared[2]} samples a pixel, expected 1; export one page a channel")
    if str(page.dtype) not in kinds:
        raise _UnfitFileError(
            f"pixels are {page.dtype}, expected {' or '.join(kinds)}; export it with ACCEPT's thumbnail export"
        )
    if int(page.compression) not in LOSSLESS:
        raise _UnfitFileError(f"compression {int(page.compression)} is not a lossless one of ACCEPT's; export it again")
    # tifffile fills a missing strip with zeros: a truncated file would come out as a half-black thumbnail.
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    counted = {len(page.dataoffsets), len(page.databytecounts), math.prod(page.chunked)}
    if len(counted) > 1 or any(at == 0 or n == 0 or at + n > size for at, n in strips):
        raise _UnfitFileError("truncated: pixel data are missing; copy or export it again")


def _content(path: Path, folder: Path, *, largest: int) -> bytes:
    if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
        raise _UnfitFileError("is a link to another folder; put the file itself there")
    try:
        if not path.is_file():
            raise _UnfitFileError("is not a regular file; put the file itself there")
        if not 0 < path.stat().st_size <= largest:
            raise _UnfitFileError(f"has {path.stat().st_size} bytes, expected 1 to {largest}; export it again")
        return path.read_bytes()
    except OSError as error:
        raise _UnfitFileError(f"not readable ({error.strerror}); check the disk and the permissions") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _proposed_events(sample: ExportedSample, *, last_index: int) -> tuple[list[bool] | None, list[Refused]]:
    """Return for each row of the feature table whether CellSearch presented the event: row i is object i.

    `ThumbNr` restarts in every frame and is never used. A table with fewer rows than objects is another export's: it is
    refused whole, because a row would be given to the wrong object.
    """
    path = sample.feature_table
    if path is None:
        return None, []
    try:
        proposed = _read_cellsearch_ids(_content(path, path.parent, largest=LARGEST_FILE))
        if len(proposed) < last_index:
            raise _UnfitFileError(
                f"has {len(proposed)} rows but object {last_index} exists; export table and thumbnails together"
            )
        return proposed, []
    except _UnfitFileError as unfit:
        return None, [Refused(file=path.name, reason=str(unfit))]


def _read_cellsearch_ids(content: bytes) -> list[bool]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(part.file_size for part in archive.infolist()) > LARGEST_TABLE:
                raise _UnfitFileError(f"unzips to more than {LARGEST_TABLE} bytes; export it again")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MATLAB's workbooks have no default style, which openpyxl warns about
            book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
            sheet = book.worksheets[0]
            sheet.reset_dimensions()  # the declared size is not always the true one
            rows = [tuple(row) for row in sheet.iter_rows(values_only=True)]
            book.close()
    except _UnfitFileError:
        raise
    except Exception as error:  # zipfile, XML and openpyxl raise many unrelated kinds on damaged files
        raise _UnfitFileError(f"not readable as XLSX ({_one_line(error)}); export it again") from None
    header = list(rows[0]) if rows else []
    if "CellSearchIDs" not in header:
        raise _UnfitFileError("has no column CellSearchIDs; which events CellSearch presented is not known")
    while len(rows) > 1 and all(value is None for value in rows[-1]):
        rows.pop()
    column = header.index("CellSearchIDs")
    return [_is_id(row[column] if column < len(row) else None) for row in rows[1:]]


def _is_id(value: object) -> bool:
    """A CellSearch id is a positive number; MATLAB writes an absent one as an empty cell, NaN or 0.

    >>> [_is_id(value) for value in (17, "17", 0, None, "NaN", "")]
    [True, True, False, False, False, False]
    """
    try:
        return float(str(value)) > 0
    except ValueError:
        return False
