"""Reading what ACCEPT leaves on disk: a sample's thumbnails, their masks, and its table of features and CellSearch ids.

The layout is that of ACCEPT's own source (version 1.0.0-beta); nothing here writes. Files come from outside, so each is
checked before it is decoded, and one that is not what it should be becomes a `Refused` with its reason, never an error.
"""

import io
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import python_calamine
from numpy.typing import NDArray

from ctcml.records import PIXEL_SIZE_UM, PLANES
from ctcml.thumbnails import (
    RawThumbnail,
    Refused,
    UnfitFileError,
    checked_page_order,
    in_our_order,
    one_line,
    page_names,
    read_bytes,
)
from ctcml.tiffs import Decoded, decode_mask, decode_thumbnail

MARKER = "ACCEPTThumbnails.txt"
ALL_EVENTS, PROPOSED_EVENTS = "Thumbs", "priorThumbs"
CAPS = (200, 1000)  # ACCEPT draws at most so many thumbnails of a selection; 1000 in mid-2017
RGB_ORDER = ("CD45", "CK", "DAPI")  # red, green, blue of the field's overlays
# `<sample>_thumb_<i>.tif`, older and single-event `<i>_thumb.tif`, and CellSearch's own `<i>_thumb_prior.tif`.
THUMBNAIL = re.compile(
    r"(?:(?P<sample>.+)_thumb_(?P<late>\d{1,9})|(?P<early>\d{1,9})_thumb(?:_prior)?)\.tiff?", re.IGNORECASE
)
NOT_THUMBNAILS = re.compile(r"overview_.*|.*_segm?\.tiff?", re.IGNORECASE)  # pictures of whole frames, and masks
IDS = "CellSearchIDs"
FEATURE = re.compile(r"ch_\d+_\w+", re.ASCII)
LARGEST_TABLE = 256 * 2**20  # bytes of a feature table when unzipped
# calamine fills the whole rectangle from A1 to the furthest cell, 30 bytes a cell: one cell at XFD1048576 would ask for
# 500 GB and end the process. A table with anything beyond column CZ or row 99,999 is not ACCEPT's.
FAR_CELL = re.compile(rb"""\sr\s*=\s*["'](?:[A-Za-z]{3}|[D-Zd-z][A-Za-z]|[A-Za-z]{0,2}\d{6})""")


@dataclass(frozen=True, kw_only=True)
class ExportedSample:
    """One sample of an export; `events` says which of its events the folder holds.

    `selection` is a random draw, `capped` when it has as many thumbnails as ACCEPT draws at most. `proposed` holds what
    CellSearch itself presented, under numbers that are not those of the feature table.
    """

    sample_id: str
    folder: Path
    feature_table: Path | None
    events: Literal["all", "selection", "proposed"] = "all"
    capped: bool = False


@dataclass(frozen=True, kw_only=True)
class _FeatureTable:
    """The cells of a feature table: row i is object i. `ThumbNr` restarts in every frame and is never used.

    A column whose name stands there `twice` is not used: nobody knows which one is meant.
    """

    columns: Mapping[str, int]
    twice: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def number(self, name: str, index: int) -> float:
        return _number(self.rows[index - 1][self.columns[name]])


def find_samples(root: Path) -> list[ExportedSample]:
    """Find every `frames/<sample>` with thumbnails at or below `root`, in order of path; links are not followed.

    `root` may also be one `frames/<sample>` folder or the folder of thumbnails itself. `Thumbs` is preferred, then the
    first selection folder that holds ACCEPT's marker file, then `priorThumbs`, whose events are among those of the
    others. A sample that several processors exported appears several times: the caller chooses.
    """
    found, root = list[ExportedSample](), root.resolve()  # `.` has no name
    for place, folders, _ in os.walk(root):
        folders.sort()
        if Path(place).name == "frames":
            found += [sample for name in folders for sample in _sample_at(Path(place) / name)]
            folders.clear()
    if not found and root.is_dir() and (root.name in (ALL_EVENTS, PROPOSED_EVENTS) or (root / MARKER).is_file()):
        return [_sample(root.parent, root)]
    return found or list(_sample_at(root))


def refused_links(root: Path) -> list[Refused]:
    """Name the links that stand where a sample or its thumbnails should lie: they are not followed, nor passed in silence."""
    found = []
    for place, folders, _ in os.walk(root):
        folders.sort()
        if Path(place).name == "frames":
            samples = [Path(place) / name for name in folders]
            inside = [sample / name for sample in samples for name in (ALL_EVENTS, PROPOSED_EVENTS)]
            found += [path for path in [*samples, *inside] if path.is_symlink()]
            folders.clear()
    reason = "is a link to another folder, which is not followed; put the folder itself there"
    return [Refused(file=path.relative_to(root).as_posix(), reason=reason) for path in found]


def _sample_at(folder: Path) -> Iterator[ExportedSample]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
        every = [path for path in inside if path.name == ALL_EVENTS]
        selected = [path for path in inside if path.name != PROPOSED_EVENTS and (path / MARKER).is_file()]
        places = every or selected or [path for path in inside if path.name == PROPOSED_EVENTS]
    except OSError:  # may not be entered: reading the sample says so
        places = [folder / ALL_EVENTS] if folder.parent.name == "frames" and folder.is_dir() else []
    if places and not folder.is_symlink():
        yield _sample(folder, places[0])


def _sample(folder: Path, thumbnails: Path) -> ExportedSample:
    table = folder.parent.parent / "output" / f"{folder.name}.xlsx"
    sample = ExportedSample(
        sample_id=folder.name, folder=thumbnails, feature_table=table if os.path.lexists(table) else None
    )
    if thumbnails.name == ALL_EVENTS:
        return sample
    if thumbnails.name == PROPOSED_EVENTS:
        return replace(sample, events="proposed", feature_table=None)
    return replace(sample, events="selection", capped=len(_thumbnail_files(sample)[0]) in CAPS)


def files_of(sample: ExportedSample) -> list[Path]:
    """Return every TIFF in the sample's folder, thumbnail or mask, in order of name, and its feature table."""
    paths = [sample.folder / name for name in _tiff_names(sample.folder)]
    return paths if sample.feature_table is None else [*paths, sample.feature_table]


def _tiff_names(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.name.lower().endswith((".tif", ".tiff")))
    except OSError:
        return []


def read_sample(
    sample: ExportedSample, *, page_order: tuple[str, ...] = PLANES, pixels_only: bool = False
) -> tuple[list[RawThumbnail], list[Refused]]:
    """Read all thumbnails of a sample in order of object index, and say which files were refused.

    `page_order` names the pages of the source from the first on; a page beyond it is `FITC` (the fourth) or `extra<n>`.
    With `pixels_only` neither masks nor the feature table are opened.
    Raises `BadInput` only when `page_order` itself lacks CD45, DAPI or CK.
    """
    checked_page_order(page_order)
    if not os.access(sample.folder, os.R_OK | os.X_OK):
        return [], [Refused(file=".", reason="the folder cannot be read; check the disk and the permissions")]
    files, refused = _thumbnail_files(sample)
    thumbnails = []
    for index, (name, mask_name) in sorted(files.items()):
        try:
            decoded = decode_thumbnail(read_bytes(sample.folder / name, sample.folder), minimum=len(page_order))
        except UnfitFileError as unfit:
            refused.append(Refused(file=name, reason=str(unfit)))
            continue
        mask = None
        try:
            mask = _read_mask(mask_name, sample.folder, decoded) if mask_name and not pixels_only else None
        except UnfitFileError as unfit:
            refused.append(Refused(file=mask_name, reason=f"{unfit}; the thumbnail is kept without a mask"))
        names = RGB_ORDER if decoded.rgb else page_names(page_order, len(decoded.pixels))
        order = in_our_order(names)
        # A copy costs as much as unpacking a page, and ACCEPT's order is ours already.
        turned = slice(None) if order == tuple(range(len(names))) else list(order)
        thumbnails.append(
            RawThumbnail(
                sample_id=sample.sample_id,
                object_index=index,
                planes=tuple(names[page] for page in order),
                pixels=decoded.pixels[turned],
                mask=None if mask is None else mask[turned],
                source_bit_depth=decoded.bit_depth,
                source_order=",".join(names),
                proposed=True if sample.events == "proposed" else None,
                lossy=decoded.lossy,
            )
        )
    if sample.feature_table is not None and not pixels_only:
        thumbnails, more = _joined(thumbnails, sample.feature_table, last_index=max(files, default=0))
        refused += more
    return thumbnails, refused


def _thumbnail_files(sample: ExportedSample) -> tuple[dict[int, tuple[str, str]], list[Refused]]:
    """Return the names of thumbnail and mask ("" without one) by object index, and what is not named like one.

    The numbers have gaps and are not padded, so names never give the order.
    """
    files: dict[int, tuple[str, str]] = {}
    refused = []
    names = _tiff_names(sample.folder)
    there = set(names)
    # ACCEPT writes '_' for '.', which cannot be undone: compare in the direction that works.
    written = sample.sample_id.replace(".", "_")
    for name in names:
        if NOT_THUMBNAILS.fullmatch(name):
            continue
        match = THUMBNAIL.fullmatch(name)
        index = int(match["late"] or match["early"]) if match else 0
        if match is None or index == 0:
            reason = "name is not <sample>_thumb_<i>.tif with i from 1; rename or remove it"
        elif match["sample"] not in (None, written, sample.sample_id):
            reason = f"named after another sample, expected {written}_thumb_<i>.tif; put it in its own folder"
        elif index in files:
            reason = f"object {index} is there twice, also as {files[index][0]}; remove the wrong one"
        else:
            stem, _, ending = name.rpartition(".")
            mask = f"{stem}_segm.{ending}"
            files[index] = (name, mask if mask in there else "")
            continue
        refused.append(Refused(file=name, reason=reason))
    return files, refused


def _read_mask(name: str, folder: Path, thumbnail: Decoded) -> NDArray[np.bool_]:
    mask, shape = decode_mask(read_bytes(folder / name, folder)), thumbnail.pixels.shape
    if thumbnail.rgb and len(mask) == 1:  # a thumbnail of one page has a mask of one page
        mask = np.repeat(mask, len(thumbnail.pixels), axis=0)
    if mask.shape != shape:
        raise UnfitFileError(f"mask has shape {mask.shape}, its thumbnail {shape}; export both together")
    return mask


def _joined(thumbnails: list[RawThumbnail], path: Path, *, last_index: int) -> tuple[list[RawThumbnail], list[Refused]]:
    """Give each thumbnail what its row of the feature table says, and say what of the table cannot be used.

    A table with fewer rows than objects is another export's: it is refused whole, because a row would be given to the
    wrong object.
    """
    try:
        table = _read_table(read_bytes(path, path.parent))
        if len(table.rows) < last_index:
            raise UnfitFileError(f"has {len(table.rows)} rows but object {last_index} exists; export both together")
    except UnfitFileError as unfit:
        return thumbnails, [Refused(file=path.name, reason=str(unfit))]
    reasons = []
    if table.twice:
        reasons.append(f"has more than one column {', '.join(table.twice)}, and none is used; export it again")
    if IDS not in table.columns and IDS not in table.twice:
        reasons.append(f"has no column {IDS}; which events CellSearch presented is not known")
    features = [name for name in table.columns if FEATURE.fullmatch(name)]
    if _sizes_are_pixels(thumbnails, table):
        reasons.append("has sizes in px² where ACCEPT's are µm²: they equal the masks; its Size columns are left out")
        features = [name for name in features if not name.endswith("_Size")]
    joined = [
        replace(
            one,
            proposed=table.number(IDS, one.object_index) > 0 if IDS in table.columns else None,
            features={name: value for name in features if math.isfinite(value := table.number(name, one.object_index))},
        )
        for one in thumbnails
    ]
    return joined, [Refused(file=path.name, reason=reason) for reason in reasons]


def _sizes_are_pixels(thumbnails: list[RawThumbnail], table: _FeatureTable) -> bool:
    """Whether the table's sizes are nearer to 1 than to 0.64² for each pixel of the masks, in the median over the sample.

    Thumbnails that ACCEPT itself imported again carry px² under the same name.
    """
    ratios = []
    for one in thumbnails:
        pages = PLANES if one.source_order == ",".join(RGB_ORDER) else one.source_order.split(",")
        for channel, name in enumerate(pages, start=1):
            column = f"ch_{channel}_Size"
            inside = 0 if one.mask is None else np.count_nonzero(one.mask[one.planes.index(name)])
            if inside and column in table.columns and (size := table.number(column, one.object_index)) > 0:
                ratios.append(size / inside)
    return bool(ratios) and PIXEL_SIZE_UM < float(np.median(ratios)) < 1 / PIXEL_SIZE_UM


def _read_table(content: bytes) -> _FeatureTable:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            if sum(part.file_size for part in archive.infolist()) > LARGEST_TABLE:
                raise UnfitFileError(f"unzips to more than {LARGEST_TABLE} bytes; export it again")
            if "xl/workbook.xml" not in names or {"xl/workbook.bin", "content.xml"} & set(names):
                raise UnfitFileError("is not an XLSX workbook; export it again")
            if any(FAR_CELL.search(archive.read(name)) for name in names if not name.endswith("/")):
                raise UnfitFileError("has cells beyond column CZ or row 99999; export it again")
        book = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content))
        rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
    except UnfitFileError:
        raise
    except Exception as error:  # zipfile, XML and calamine raise many unrelated kinds on damaged files
        raise UnfitFileError(f"not readable as XLSX ({one_line(error)}); export it again") from None
    while len(rows) > 1 and all(value == "" for value in rows[-1]):
        rows.pop()
    header = [str(name).strip() for name in (rows[0] if rows else [])]
    once = {name: place for place, name in enumerate(header) if header.count(name) == 1}
    twice = tuple(sorted({name for name in header if name not in once and (name == IDS or FEATURE.fullmatch(name))}))
    return _FeatureTable(columns=once, twice=twice, rows=rows[1:])


def _number(value: object) -> float:
    """The number in a cell, NaN where there is none: MATLAB writes an absent one as an empty cell, NaN or text.

    >>> [_number(value) for value in (17, "17", 0.5, "", "NaN", True)]
    [17.0, 17.0, 0.5, nan, nan, nan]
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except ValueError:
        return math.nan
