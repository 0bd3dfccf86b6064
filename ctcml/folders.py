"""Reading a plain folder of thumbnails that a `manifest.csv` lists: one line a file, with its sample and object number.

For laboratories without ACCEPT. Files are TIFF (pages in the instrument's page order, or one RGB page) or PNG; in RGB
pictures red is CD45, green CK and blue DAPI, as people see them. Nothing here writes.
"""

import csv
import io
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.records import class_id_from_name
from ctcml.thumbnails import (
    LARGEST_SIDE,
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

MANIFEST = "manifest.csv"
REQUIRED = ("file", "sample", "object_index")
RGB_ORDER = ("CD45", "CK", "DAPI")  # red, green, blue
OBJECT_INDEX = re.compile(r"0{0,9}[1-9][0-9]{0,8}")
YES_OR_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False, "": None}
ANSWERS = ("proposed", "assigned")  # CellSearch presented the event; its operator called it a CTC
PNG_START = b"\x89PNG\r\n\x1a\n"
PNG_SAMPLES = {0: 1, 2: 3}  # PNG colour types that hold measured values: grey and RGB, without palette or transparency


@dataclass(frozen=True, kw_only=True)
class ListedRow:
    """One line of a manifest; `file` and `mask` (empty without one) are paths below the manifest's folder."""

    line: int
    file: str
    object_index: int
    mask: str = ""
    proposed: bool | None = None
    assigned: bool | None = None
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class ListedSample:
    """The lines of one manifest that name the same sample, in order of object index."""

    sample_id: str
    folder: Path
    rows: tuple[ListedRow, ...]


def find_samples(root: Path) -> tuple[list[ListedSample], list[Refused]]:
    """Find every folder at or below `root` with a `manifest.csv`, in order of path; links to folders are not followed.

    A line that is wrong is refused by its number and the others are kept; of two lines for one object or one file the
    first is kept. Columns other than ours are not read. A sample that stands in several manifests appears several
    times: the caller chooses.
    """
    samples, refused = [], []
    for place, folders, files in os.walk(root):
        folders.sort()
        if MANIFEST in files:
            listed, wrong = _read_manifest(Path(place), (Path(place) / MANIFEST).relative_to(root).as_posix())
            samples += listed
            refused += wrong
    return samples, refused


def read_sample(sample: ListedSample, *, page_order: tuple[str, ...]) -> tuple[list[RawThumbnail], list[Refused]]:
    """Read all thumbnails of a sample, and say which files were refused; a mask that is unfit is left out alone.

    `page_order` names the pages of a TIFF from the first on; one mask page stands for every plane. Raises `BadInput`
    only when `page_order` itself lacks CD45, DAPI or CK.
    """
    checked_page_order(page_order)
    thumbnails, refused = [], []
    for row in sample.rows:
        try:
            decoded = _read_picture(row.file, sample.folder, page_order)
        except UnfitFileError as unfit:
            refused.append(Refused(file=row.file, reason=str(unfit)))
            continue
        try:
            mask = _read_mask(row.mask, sample.folder, decoded.pixels.shape) if row.mask else None
        except UnfitFileError as unfit:
            refused.append(Refused(file=row.mask, reason=f"{unfit}; object {row.object_index} is taken without a mask"))
            mask = None
        names = RGB_ORDER if decoded.rgb else page_names(page_order, len(decoded.pixels))
        order = list(in_our_order(names))
        thumbnails.append(
            RawThumbnail(
                sample_id=sample.sample_id,
                object_index=row.object_index,
                planes=tuple(names[page] for page in order),
                pixels=np.ascontiguousarray(decoded.pixels[order]),
                mask=None if mask is None else np.ascontiguousarray(mask[order]),
                source_bit_depth=decoded.bit_depth,
                source_order=",".join(names),
                proposed=row.proposed,
                assigned=row.assigned,
                lossy=decoded.lossy,
                label=row.label,
            )
        )
    return thumbnails, refused


def files_of(sample: ListedSample) -> list[Path]:
    """Return the manifest and every file and mask of the sample that is there, each once; links out are left out."""
    listed = dict.fromkeys(name for row in sample.rows for name in (row.file, row.mask) if name)
    paths = [sample.folder / name for name in (MANIFEST, *listed)]
    return [path for path in paths if _lies_in(path, sample.folder)]


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether `path` is a file that, with all links followed, lies in `folder`."""
    try:
        return path.is_file() and path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a name too long, a folder we may not enter, links in a circle
        return False


def _read_file(name: str, folder: Path) -> bytes:
    path = folder / name
    if not _lies_in(path, folder):
        raise UnfitFileError(f"is no file in the folder of {MANIFEST}; put the file itself there or correct its line")
    return read_bytes(path, folder)


# The manifest.


def _read_manifest(folder: Path, name: str) -> tuple[list[ListedSample], list[Refused]]:
    try:
        table = csv.reader(io.StringIO(_text(_read_file(MANIFEST, folder)), newline=""), strict=True)
        columns = _columns(next(table, []))
        lines = [(table.line_num, cells) for cells in table if any(cell.strip() for cell in cells)]
        if not lines:
            raise UnfitFileError("lists no file; expected one line a thumbnail")
    except UnfitFileError as unfit:
        return [], [Refused(file=name, reason=str(unfit))]
    except csv.Error as error:
        return [], [Refused(file=name, reason=f"is not a CSV table ({one_line(error)}); save it again")]
    rows: dict[str, dict[int, ListedRow]] = {}
    line_of: dict[str, int] = {}  # file -> the line that listed it first
    refused = []
    for line, cells in lines:
        try:
            sample, row = _row(line, cells, columns)
            _check_new(row, rows.get(sample, {}), line_of)
        except UnfitFileError as unfit:
            refused.append(Refused(file=f"{name}, line {line}", reason=str(unfit)))
            continue
        rows.setdefault(sample, {})[row.object_index] = row
        line_of[row.file] = line
    return [
        ListedSample(sample_id=sample, folder=folder, rows=tuple(row for _, row in sorted(of_sample.items())))
        for sample, of_sample in sorted(rows.items())
    ], refused


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")  # spreadsheets put a byte order mark in front
    except UnicodeDecodeError as error:
        raise UnfitFileError(f"is not UTF-8 (byte {error.start}); save it as CSV UTF-8") from None


def _columns(header: list[str]) -> list[str]:
    columns = [name.strip().lower() for name in header]
    known = [name for name in columns if name in (*REQUIRED, "mask", *ANSWERS, "label")]
    if not set(REQUIRED) <= set(columns) or len(set(known)) != len(known):
        raise UnfitFileError(
            f"has the columns {columns[:12]}, expected each of {list(REQUIRED)} once, separated by commas; mend line 1"
        )
    return columns


def _row(line: int, cells: list[str], columns: list[str]) -> tuple[str, ListedRow]:
    if len(cells) != len(columns):
        raise UnfitFileError(f"has {len(cells)} cells, expected {len(columns)} as in line 1; correct the line")
    given = {name: cell.strip() for name, cell in zip(columns, cells, strict=True)}
    sample, index = given["sample"], given["object_index"]
    if not sample or not sample.isprintable():
        raise UnfitFileError(f"sample is {sample[:60]!r}, expected the sample's name; correct the line")
    if not OBJECT_INDEX.fullmatch(index):
        raise UnfitFileError(f"object_index is {index[:60]!r}, expected 1 to 999999999; correct the line")
    for name in ANSWERS:
        if given.get(name, "").lower() not in YES_OR_NO:
            raise UnfitFileError(
                f"{name} is {given[name].lower()[:60]!r}, expected yes, no or nothing; correct the line"
            )
    mask = given.get("mask", "")
    return sample, ListedRow(
        line=line,
        file=_path_below(given["file"]),
        object_index=int(index),
        mask=_path_below(mask) if mask else "",
        proposed=YES_OR_NO[given.get("proposed", "").lower()],
        assigned=YES_OR_NO[given.get("assigned", "").lower()],
        label=_class_id(given.get("label", "")),
    )


def _path_below(text: str) -> str:
    r"""Return a path of a manifest with `/` between its parts; `UnfitFileError` when it does not stay below the folder.

    >>> _path_below(r"breast\cell 1.tif")
    'breast/cell 1.tif'
    """
    path = PureWindowsPath(text)  # knows both separators, and drives as well
    if path.anchor or ".." in path.parts or not path.parts or not text.isprintable():
        raise UnfitFileError(f"names the file {text[:60]!r}, expected a path below its own folder; correct the line")
    return path.as_posix()


def _class_id(label: str) -> str:
    try:
        return class_id_from_name(label) if label else ""
    except BadInput:
        raise UnfitFileError(f"label is {label[:60]!r}, expected the name of a class; correct the line") from None


def _check_new(row: ListedRow, of_sample: dict[int, ListedRow], line_of: dict[str, int]) -> None:
    if row.object_index in of_sample:
        other = of_sample[row.object_index].line
        raise UnfitFileError(
            f"object {row.object_index} of this sample stands in line {other} too; correct one of them"
        )
    if row.file in line_of:
        raise UnfitFileError(f"{row.file} stands in line {line_of[row.file]} too; a file is one object: correct one")


# The pictures.


def _read_picture(name: str, folder: Path, page_order: tuple[str, ...]) -> Decoded:
    """Decode a TIFF or a PNG; the pixels are in the file's own order."""
    content = _read_file(name, folder)
    if not content.startswith(PNG_START):
        return decode_thumbnail(content, minimum=len(page_order))
    pixels, depth = _decode_png(content)
    if len(pixels) != len(RGB_ORDER):
        raise UnfitFileError("is a grey PNG, expected RGB with R = CD45, G = CK, B = DAPI; export it again")
    return Decoded(pixels=pixels, bit_depth=depth, lossy=False, rgb=True)


def _read_mask(name: str, folder: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    content = _read_file(name, folder)
    mask = _decode_png_mask(content) if content.startswith(PNG_START) else decode_mask(content)
    if mask.shape[1:] != shape[1:] or len(mask) not in (1, shape[0]):
        raise UnfitFileError(
            f"has shape {mask.shape} (pages, height, width), the thumbnail {shape}; export both together"
        )
    return mask if len(mask) == shape[0] else np.repeat(mask, shape[0], axis=0)


def _decode_png_mask(content: bytes) -> NDArray[np.bool_]:
    values, _ = _decode_png(content)
    if np.any((values != 0) & (values != values.max())) or values.max() not in (0, 1, 255):
        raise UnfitFileError(f"holds values up to {values.max()}, expected 0 and 1, or 0 and 255; export it as a mask")
    inside: NDArray[np.bool_] = values != 0
    return inside


def _decode_png(content: bytes) -> tuple[NDArray[np.uint16], int]:
    """Decode a grey or RGB PNG to uint16 (planes, h, w) and its bit depth; the header is judged before any pixel.

    Pillow would be the usual choice, but it gives 16-bit RGB back as 8 bit without a word.
    """
    chunks = _png_chunks(content)
    kind, header = next(chunks, (b"", b""))
    if kind != b"IHDR" or len(header) != 13:
        raise UnfitFileError("is cut off or is not a PNG file; export it again")
    width, height, bits, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise UnfitFileError(
            f"declares {height}×{width} pixels, expected at most {LARGEST_SIDE} a side; export it again"
        )
    transparent = any(kind == b"tRNS" for kind, _ in chunks)
    if colour not in PNG_SAMPLES or interlace or transparent:
        raise UnfitFileError(
            f"is a PNG of colour type {colour}, expected grey or RGB without palette, transparency or interlacing;"
            " export it again"
        )
    try:
        picture = np.asarray(imagecodecs.png_decode(content))
    except (imagecodecs.PngError, ValueError, MemoryError) as error:
        raise UnfitFileError(f"cannot be decoded ({one_line(error)}); export it again") from None
    planes = np.moveaxis(picture.reshape(height, width, PNG_SAMPLES[colour]), 2, 0)
    return planes.astype(np.uint16), max(8, bits)


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give the kind and the first bytes of each chunk of a PNG up to its pixels."""
    place, kind = len(PNG_START), b""
    while kind != b"IDAT" and place + 8 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind = content[place + 4 : place + 8]
        yield kind, content[place + 8 : place + 8 + min(length, 64)]
        place += 12 + length
