"""Reading labelled arrays: an `.npz` of images with labels and groups, and the arrays that the paper's authors published.

Both hold pictures that already went through somebody's preprocessing, which `recipe` names. Nothing is ever unpickled,
and what a member declares is judged from its header before its values are unpacked. Nothing here writes.
"""

import hashlib
import os
import re
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from lzma import LZMAError
from math import prod
from pathlib import Path
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.records import PLANES, class_id_from_name
from ctcml.thumbnails import LARGEST_SIDE, RawThumbnail, Refused, UnfitFileError, in_our_order, one_line

LARGEST_IMAGES = 2 * 2**30  # bytes of all images when unpacked: 111,000 of 80×80×3
LARGEST_COLUMN = 256 * 2**20  # bytes of labels, groups or ids when unpacked
MOST_ROWS = 1_000_000
MOST_MEMBERS = 64
CHUNK = 2**20  # bytes read at a time where they are only passed over
FOREIGN = (
    OSError, EOFError, ValueError, TypeError, OverflowError, RuntimeError, MemoryError, SyntaxError,
    SystemError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error, LZMAError,
)  # fmt: skip  # what zipfile, the decompressors and numpy raise on files that are not sound

# The authors' sets (github.com/LeonieZ/DLofCTCs).
PUBLISHED = re.compile(r"(?P<what>[xy])(?P<part>train|val)_(?P<classes>[256])class_prepr\.npy")
PUBLISHED_ROWS = {
    ("train", "2"): 2072, ("train", "5"): 1556, ("train", "6"): 2074,
    ("val", "2"): 355, ("val", "5"): 276, ("val", "6"): 355,
}  # fmt: skip
PUBLISHED_SHA256 = {
    "xtrain_2class_prepr.npy": "a7dca69dcc26f5b7a34a43ceac1d084639c9b5d882ecf58388b38193eb3c5dda",
    "xtrain_5class_prepr.npy": "1a9db44c5e76e05f283a78e837701e0379aa6b163577dde0a7b93ce955aa9b02",
    "xtrain_6class_prepr.npy": "ba949e48fb0eb883f3ee4944eedfd99b2d4c782a5da96b6b7a2f71695a1f2716",
}
PUBLISHED_CLASSES = {  # by the authors' label id; their artefacts are our `other`, and "no CTC" is no class of ours
    "2": ("", "ctc"),
    "5": ("wbc", "ctc", "other", "bare_nucleus", "tdev"),
    "6": ("wbc", "cd45ev", "ctc", "other", "bare_nucleus", "tdev"),
}
# Nothing at hand says it: taken from ACCEPT's colours, red CD45, green CK, blue DAPI. Not verified on the arrays.
PUBLISHED_ORDER = ("CD45", "CK", "DAPI")
PublishedHash = Literal["known", "unknown", "mismatch"]
GREY_TOLERANCE = 1e-4  # a value so near to k/255 was the 8-bit value k; half a step is 2e-3
RANGE_TOLERANCE = 1e-6  # what float32 arithmetic may leave outside 0 to 1


@dataclass(frozen=True, kw_only=True)
class ArrayRow:
    """One picture of an array; `object_index` is its row in the file from 1 on, `label` empty without one."""

    object_index: int
    label: str
    given_id: str = ""


@dataclass(frozen=True, kw_only=True)
class ArraySample:
    """The rows of a file that belong together (a group, or a whole set of the authors); `channels` is the last axis.

    `notes` say in one line each what a person should know before the pictures are used.
    """

    sample_id: str
    path: Path
    channels: tuple[str, ...]
    rows: tuple[ArrayRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What an `.npy` stream declares; `size` is the number of bytes of its values, which the file really has."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: int


def find_samples(root: Path) -> tuple[list[ArraySample], list[Refused]]:
    """Find the samples of one file, or of every `.npz` and `.npy` at or below a folder; links are not followed.

    A group of an `.npz` is a sample, and so is each x-file of the authors (by its name). A file that cannot be used as
    a whole, or a row without a group or with a label that is no label, is refused. A group that stands in several
    files appears several times: the caller chooses.
    """
    samples, refused = [], []
    for path in _files_below(root) if root.is_dir() else [root]:
        name = path.name if path == root else path.relative_to(root).as_posix()
        try:
            found, rows = _samples_of(path, name)
        except UnfitFileError as unfit:
            refused.append(Refused(file=name, reason=str(unfit)))
            continue
        samples += found
        refused += rows
    return samples, refused


def read_sample(sample: ArraySample) -> tuple[list[RawThumbnail], list[Refused]]:
    """Read a sample's pictures; a row that is no picture is refused by its number.

    The images are unpacked row by row to their end, so one sample is in memory and a file with six groups is unpacked
    six times: 58 MB take 0.3 s each.
    """
    order = list(in_our_order(sample.channels))
    thumbnails, refused = [], []
    try:
        with _sound(), _images(sample.path) as (stream, header):
            wanted = [row.object_index - 1 for row in sample.rows]
            for row, picture in zip(sample.rows, _pictures(stream, header, wanted), strict=True):
                try:
                    pixels, depth = _counts(picture)
                except UnfitFileError as unfit:
                    refused.append(Refused(file=_place(sample.path.name, row), reason=str(unfit)))
                    continue
                thumbnails.append(
                    RawThumbnail(
                        sample_id=sample.sample_id,
                        object_index=row.object_index,
                        planes=tuple(sample.channels[channel] for channel in order),
                        pixels=np.ascontiguousarray(pixels.transpose(2, 0, 1)[order]),
                        mask=None,
                        source_bit_depth=depth,
                        source_order=",".join(sample.channels),
                        proposed=None,
                        recipe=f"given:{'npz' if _is_npz(sample.path) else 'prepr'}-{header.dtype.name}",
                        label=row.label,
                    )
                )
    except UnfitFileError as unfit:  # damage shows itself at the end: then no row of the file can be trusted
        return [], [Refused(file=sample.path.name, reason=str(unfit))]
    return thumbnails, refused


def files_of(sample: ArraySample) -> list[Path]:
    """Return the file that holds the sample, and the file of its labels where that is another one."""
    published = PUBLISHED.fullmatch(sample.path.name)
    return [sample.path, _partner(sample.path)] if published else [sample.path]


def published_hash(path: Path) -> PublishedHash:
    """Say whether a file is the one that the authors published, by SHA-256; `unknown` where no hash was published."""
    if path.name not in PUBLISHED_SHA256:
        return "unknown"
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    return "known" if found == PUBLISHED_SHA256[path.name] else "mismatch"


def _files_below(root: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(root):
        folders.sort()
        for path in (Path(place) / name for name in sorted(files)):
            published = PUBLISHED.fullmatch(path.name)
            labels = published is not None and published["what"] == "y" and _partner(path).exists()
            if path.suffix.lower() in (".npz", ".npy") and not labels:
                yield path


def _samples_of(path: Path, name: str) -> tuple[list[ArraySample], list[Refused]]:
    if path.is_symlink() or not path.is_file():
        raise UnfitFileError("is not a regular file; put the file itself there")
    published = PUBLISHED.fullmatch(path.name)
    if _is_npz(path):
        return _grouped_samples(path, name)
    if published is None:
        raise UnfitFileError("is no array that we know; put images, labels and groups into an .npz")
    if published["what"] == "y":
        raise UnfitFileError(f"holds labels only; put {_partner(path).name} beside it and give that")
    return _published_sample(path, name, published["part"], published["classes"])


def _is_npz(path: Path) -> bool:
    return path.suffix.lower() == ".npz"


def _place(file: str, row: ArrayRow) -> str:
    return f"{file}, row {row.object_index}" + (f" ({row.given_id})" if row.given_id else "")


# An `.npz`.


def _grouped_samples(path: Path, name: str) -> tuple[list[ArraySample], list[Refused]]:
    with _sound(), _images(path) as (_, header), zipfile.ZipFile(path) as archive:
        count = header.shape[0]
        labels, groups = _column(archive, "labels", count), _column(archive, "groups", count)
        members = archive.namelist()
        ids = _column(archive, "ids", count) if "ids.npy" in members else [""] * count
        channels = tuple(_column(archive, "channels", len(PLANES))) if "channels.npy" in members else PLANES
    if "ids.npy" in members and len(set(ids)) != count:
        twice = Counter(ids).most_common(1)[0][0]
        raise UnfitFileError(f"ids: {twice[:60]!r} stands there twice, expected each id once; remove the double row")
    if sorted(channels) != sorted(PLANES):
        raise UnfitFileError(f"channels are {channels}, expected {PLANES} in any order; name the last axis of images")
    rows: dict[str, list[ArrayRow]] = {}
    refused = []
    for number, (label, group, given_id) in enumerate(zip(labels, groups, ids, strict=True), start=1):
        row = ArrayRow(object_index=number, label=_class_id(label), given_id=given_id)
        if not group or not (group + label + given_id).isprintable():
            reason = f"group {group[:60]!r}, label {label[:60]!r}: expected a group, and text in both; mend the row"
            refused.append(Refused(file=f"{name}, row {number}", reason=reason))
        else:
            rows.setdefault(group, []).append(row)
    return [
        ArraySample(sample_id=group, path=path, channels=channels, rows=tuple(of_group))
        for group, of_group in rows.items()
    ], refused


def _column(archive: zipfile.ZipFile, member: str, count: int) -> list[str]:
    """Return a member of `count` strings or integers as text."""
    info = _member(archive, member)
    with archive.open(info) as stream:
        header = _header(stream, info.file_size, member)
        if header.shape != (count,) or header.dtype.kind not in "USiu" or header.size > LARGEST_COLUMN:
            raise UnfitFileError(
                f"{member} are {header.dtype} {header.shape}, expected {count} strings or whole numbers; save it again"
            )
        values = np.frombuffer(_exactly(stream, header.size), header.dtype)
        _pass_over(stream)
    return [(one.decode() if isinstance(one, bytes) else str(one)).strip() for one in values.tolist()]


def _member(archive: zipfile.ZipFile, member: str) -> zipfile.ZipInfo:
    found = [info for info in archive.infolist() if info.filename == f"{member}.npy"]
    if len(found) != 1 or len(archive.infolist()) > MOST_MEMBERS:
        raise UnfitFileError(
            f"has {len(found)} members {member!r} among {archive.namelist()[:6]}, expected images, labels and groups,"
            " each once; save it again"
        )
    return found[0]


def _class_id(label: str) -> str:
    """Return the class that a label names; what cannot be a class (a bare number) stays as it is, for intake to judge.

    >>> _class_id("Bare nucleus"), _class_id("3")
    ('bare_nucleus', '3')
    """
    try:
        return class_id_from_name(label) if label else ""
    except BadInput:
        return label


# The authors' arrays.


def _published_sample(path: Path, name: str, part: str, classes: str) -> tuple[list[ArraySample], list[Refused]]:
    expected = PUBLISHED_ROWS[part, classes]
    with _sound(), _images(path) as (_, header):
        if header.shape != (expected, 80, 80, 3):
            raise UnfitFileError(f"has shape {header.shape}, the published set ({expected}, 80, 80, 3); get it again")
        found = published_hash(path)
    rows, refused = [], []
    for number, label in enumerate(_published_labels(_partner(path), expected), start=1):
        if label not in range(len(PUBLISHED_CLASSES[classes])):
            reason = f"label is {label:g}, expected 0 to {len(PUBLISHED_CLASSES[classes]) - 1}; get {_partner(path).name} again"
            refused.append(Refused(file=f"{name}, row {number}", reason=reason))
        else:
            rows.append(ArrayRow(object_index=number, label=PUBLISHED_CLASSES[classes][int(label)]))
    notes = [
        {
            "known": "sha256 is the published one",
            "unknown": "no sha256 is published for this file",
            "mismatch": "sha256 is not the published one: find out where this file comes from",
        }[found],
        f"channels taken as {', '.join(PUBLISHED_ORDER)} by ACCEPT's colours; not verified",
    ]
    if classes == "2":
        notes.append('"no CTC" is no class of ours: those thumbnails come without a label')
    sample = ArraySample(sample_id=path.stem, path=path, channels=PUBLISHED_ORDER, rows=tuple(rows), notes=tuple(notes))
    return [sample], refused


def _published_labels(path: Path, count: int) -> list[float]:
    if path.is_symlink() or not path.is_file():
        raise UnfitFileError(f"its labels {path.name} are not beside it; put that file there")
    with _sound(), path.open("rb") as stream:
        header = _header(stream, path.stat().st_size, path.name)
        if header.shape not in ((count,), (count, 1)) or header.dtype.kind not in "iuf":
            raise UnfitFileError(
                f"{path.name} is {header.dtype} {header.shape}, expected {count} numbers; get it again"
            )
        return [float(one) for one in np.frombuffer(_exactly(stream, header.size), header.dtype).tolist()]


def _partner(path: Path) -> Path:
    """The labels' file of a file of images, and the reverse."""
    return path.with_name(("y" if path.name.startswith("x") else "x") + path.name[1:])


# Streams.


@contextmanager
def _sound() -> Iterator[None]:
    """Turn what the libraries raise on a damaged or hostile file into `UnfitFileError`."""
    try:
        yield
    except FOREIGN as error:
        raise UnfitFileError(f"is damaged or no array file ({one_line(error)}); save it again") from None


@contextmanager
def _images(path: Path) -> Iterator[tuple[IO[bytes], _Header]]:
    """Open the images of a file, with the stream before the first of them; no value has been unpacked yet."""
    if _is_npz(path):
        with zipfile.ZipFile(path) as archive, archive.open(info := _member(archive, "images")) as stream:
            yield stream, _image_header(stream, info.file_size, kinds=("uint8", "uint16"))
    else:
        with path.open("rb") as file:
            yield file, _image_header(file, path.stat().st_size, kinds=("float32",))


def _image_header(stream: IO[bytes], size: int, *, kinds: tuple[str, ...]) -> _Header:
    header = _header(stream, size, "images")
    shape_fits = len(header.shape) == 4 and header.shape[3] == len(PLANES) and max(header.shape[1:3]) <= LARGEST_SIDE
    if header.dtype.name not in kinds or not shape_fits:
        raise UnfitFileError(
            f"images are {header.dtype} {header.shape}, expected {' or '.join(kinds)} (N, height, width, 3) of at most"
            f" {LARGEST_SIDE} pixels a side; save it again"
        )
    if header.shape[0] > MOST_ROWS or header.size > LARGEST_IMAGES:
        raise UnfitFileError(
            f"has {header.shape[0]} images of {header.size} bytes, expected at most {MOST_ROWS} and {LARGEST_IMAGES};"
            " split the file"
        )
    return header


def _header(stream: IO[bytes], size: int, what: str) -> _Header:
    """Read the header of an `.npy` stream of `size` bytes, and check that exactly what it declares follows."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise UnfitFileError(f"{what}: version {version} of the npy format, expected 1.0 or 2.0; save it again")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy warns of headers that Python 2 wrote; they are read all the same
        shape, fortran, dtype = read(stream)
    if dtype.kind not in "uifUS":
        raise UnfitFileError(f"{what}: dtype {dtype}, expected plain numbers or text and no objects; save it again")
    if fortran or not all(type(length) is int and length > 0 for length in shape):
        raise UnfitFileError(f"{what}: shape {shape}, Fortran order {fortran}, expected rows in C order; save it again")
    declared = prod(shape) * dtype.itemsize
    if stream.tell() + declared != size:
        raise UnfitFileError(
            f"{what}: the header declares {declared} bytes of values, {size - stream.tell()} follow; save it again"
        )
    return _Header(shape=shape, dtype=dtype, size=declared)


def _pictures(stream: IO[bytes], header: _Header, wanted: Sequence[int]) -> Iterator[NDArray[np.generic]]:
    """Give the rows `wanted` (from 0 on, rising), and read to the end: only there an archive's checksum is compared."""
    length = header.size // header.shape[0]
    at = 0
    for row in wanted:
        _pass_over(stream, (row - at) * length)
        yield np.frombuffer(_exactly(stream, length), header.dtype).reshape(header.shape[1:])
        at = row + 1
    _pass_over(stream)


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) != length:
        raise UnfitFileError("is cut off; copy it again")
    return content


def _pass_over(stream: IO[bytes], length: int | None = None) -> None:
    """Read on by `length` bytes, or to the end, in small steps so that little is held."""
    left = LARGEST_IMAGES if length is None else length
    while left and (passed := len(stream.read(min(CHUNK, left)))):
        left -= passed


def _counts(picture: NDArray[np.generic]) -> tuple[NDArray[np.uint16], int]:
    """Return a picture as uint16 and its bit depth; floats of 0 to 1 as the 8-bit values they were, else times 65535."""
    if picture.dtype.kind == "u":
        return picture.astype(np.uint16), 8 * picture.dtype.itemsize
    values = picture.astype(np.float64)
    # Written so that NaN fails as well.
    if not (values.min() >= -RANGE_TOLERANCE and values.max() <= 1 + RANGE_TOLERANCE):
        raise UnfitFileError(f"values from {values.min():g} to {values.max():g}, expected 0 to 1; remove the row")
    grey = np.round(values * 255)
    if np.abs(values - grey / 255).max() <= GREY_TOLERANCE:
        return grey.astype(np.uint16), 8
    return np.round(values.clip(0, 1) * 65535).astype(np.uint16), 16
