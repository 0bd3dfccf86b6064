"""Deliveries with exactly one thing wrong: a small healthy one, and every way of spoiling it that we could think of.

Each `Variant` damages a fresh copy of the healthy delivery and says what intake owes: what is set aside and under which
words, or that the whole is refused, or that the oddity is harmless. `tests/test_malformed.py` holds intake to it.
"""

import csv
import io
import os
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import openpyxl
import tifffile
from PIL import Image

Kind = Literal["thumbnail", "mask", "table", "clinical", "historic", "listed folder", "array", "cartridge", "layout"]
Damage = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """A row of refused.csv names `file` and gives a `reason` (a pattern); so many thumbnails and masks do not arrive."""

    file: str
    reason: str
    lost: int = 0
    masks_lost: int = 0


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """Nothing at all is written, and one line names `file` and gives a `reason` (a pattern)."""

    file: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Harmless:
    """Nothing is refused; `lost` thumbnails or masks are simply not there, `other` have pixels of their own."""

    lost: int = 0
    masks_lost: int = 0
    other: int = 0


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of being wrong; `damage` is given a copy of the healthy delivery."""

    name: str
    kind: Kind
    damage: Damage
    expected: SetAside | Stopped | Harmless
    needs_a_plain_user: bool = False  # root may read everything


# The healthy delivery.

SAMPLES = ("H-1.1", "H-2.1")
INDICES = (1, 2, 4, 10)  # with gaps, as ACCEPT leaves them
RESULTS = "export/Full Detection_0.1"
THUMBS = f"{RESULTS}/frames/H-1.1/Thumbs"
THUMBNAIL = f"{THUMBS}/H-1_1_thumb_2.tif"
MASK = f"{THUMBS}/H-1_1_thumb_2_segm.tif"
TABLE = f"{RESULTS}/output/H-1.1.xlsx"
LIST = "export/listed/manifest.csv"
ARRAY = "export/arrays/labelled.npz"
CARTRIDGE = "export/cartridges/K-1.1"
FRAME = f"{CARTRIDGE}/K-1.1-0-26.tif"  # shows one object
RECORD = f"{CARTRIDGE}/K-1.xml"
CLINICAL = "clinical.csv"
HISTORIC = "historic_labels.csv"
SHAPE = (4, 21, 17)
ROWS_OF_ARRAY = 4

CLINICAL_ROWS = (
    ("patient", "sample", "sample_kind", "cancer_type", "blood_volume_ml", "os_months", "os_event", "age"),
    ("Ada", "H-1.1", "patient", "breast", "7.5", "12.5", "1", "61"),
    ("Bea", "H-2.1", "patient", "breast", "7.5", "30", "0", "47"),
    ("Cid", "L-1", "patient", "prostate", "7.5", "", "", ""),
    ("Dan", "N-1", "benign", "none", "7.5", "", "", ""),
    ("Eve", "N-2", "cell_line", "none", "7.5", "", "", ""),
    ("Fox", "K-1.1", "patient", "breast", "7.5", "", "", ""),
)
HISTORIC_ROWS = (
    ("sample", "object_index", "label", "source"),
    ("H-1.1", "1", "ctc", "two experts"),
    ("H-1.1", "4", "wbc", "two experts"),
    ("H-2.1", "10", "tdev", "two experts"),
)
LIST_ROWS = (
    ("file", "sample", "object_index", "mask", "proposed", "label"),
    ("cell_1.tif", "L-1", "1", "cell_1_mask.tif", "yes", ""),
    ("more/cell_2.png", "L-1", "2", "", "no", ""),
    ("more/cell_3.tif", "L-1", "3", "", "", "CTC"),
)


def healthy_delivery(folder: Path, kind: Kind) -> Path:
    """Write what a variant of this kind damages, all in order, with the two tables, which also name what is not there."""
    if kind not in ("listed folder", "array", "cartridge"):
        accept_export(folder)
    if kind == "cartridge":
        cartridge(folder)
    if kind in ("listed folder", "layout"):
        put(folder, "export/listed/cell_1.tif", tiff(counts(201)))
        put(folder, "export/listed/cell_1_mask.tif", tiff(counts(201) > 2000))
        put(folder, "export/listed/more/cell_2.png", imagecodecs.png_encode(rgb(202)))
        put(folder, "export/listed/more/cell_3.tif", tiff(counts(203, (3, 9, 8))))
        put(folder, LIST, table(LIST_ROWS))
    if kind in ("array", "layout"):
        put(folder, ARRAY, npz())
    put(folder, CLINICAL, table(CLINICAL_ROWS))
    put(folder, HISTORIC, table(HISTORIC_ROWS if kind in ("historic", "layout") else HISTORIC_ROWS[:1]))
    return folder


def accept_export(folder: Path) -> None:
    """Two samples of four thumbnails with their masks and feature tables."""
    for number, sample in enumerate(SAMPLES):
        thumbs = folder / RESULTS / "frames" / sample / "Thumbs"
        thumbs.mkdir(parents=True)
        (thumbs / "ACCEPTThumbnails.txt").touch()
        for index in INDICES:
            stem = thumbs / f"{sample.replace('.', '_')}_thumb_{index}"
            Path(f"{stem}.tif").write_bytes(tiff(counts(100 * number + index)))
            Path(f"{stem}_segm.tif").write_bytes(tiff(counts(100 * number + index) > 2000))
        put(folder, f"{RESULTS}/output/{sample}.xlsx", workbook(feature_rows()))


def cartridge(folder: Path) -> None:
    """A hundred tiny frames, 10×10, of which every 25th shows an object, and the XML with an event for each of these."""
    for number in range(1, 101):
        put(folder, f"{CARTRIDGE}/K-1.1-0-{number}.tif", frame(number))
    put(folder, RECORD, record())


def frame(number: int, *, shows_one: bool | None = None, ends: Any = None, **how: Any) -> bytes:
    """One frame as CellTracks stores it: 8 bit a page, with private tags for the counts of the range's ends."""
    planes = np.random.default_rng(number).normal(100, 3, (4, 40, 40))
    if number % 25 == 1 if shows_one is None else shows_one:
        y, x = np.mgrid[:40, :40]
        planes[[0, 2]] += 1500 * np.exp(-((y - 20) ** 2 + (x - 18) ** 2) / 12)
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for plane in planes.round():
            low, high = ends or (int(plane.min()), int(plane.max()))
            stored = np.round((plane - plane.min()) / np.ptp(plane) * 255).astype(np.uint8)
            tags = [(754, 4, 1, 1, True), (755, 3, 1, low, True), (756, 3, 1, high, True)]
            more = {"photometric": "minisblack", "metadata": None, "software": False, "extratags": tags} | how
            file.write(stored, contiguous=False, **more)
    return buffer.getvalue()


def record(events: str = "", runs: str = "", filters: str = "") -> bytes:
    """A cartridge's XML; what is given stands for its own part."""
    given = "".join(
        f"<record><rid>{n}</rid><location>({x},{y}) ({x + 20},{y + 20})</location><assigned>true</assigned></record>"
        for n, (x, y) in enumerate([(8, 10), (208, 90), (368, 210), (168, 290)], start=1)
    )
    size = "<record><numrows>10</numrows><numcols>10</numcols><camxsize>40</camxsize><camysize>40</camysize></record>"
    names = "".join(f"<record><filtername>{one}</filtername></record>" for one in ("DNA", "FITC", "CK", "CD45"))
    return (
        f"<cartridge><events>{events or given}</events><runs>{runs or size}</runs>"
        f"<test_filters>{filters or names}</test_filters></cartridge>"
    ).encode()


def counts(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4300, shape, dtype=np.uint16)


def rgb(seed: int, height: int = 12, width: int = 11) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def feature_rows() -> list[list[Any]]:
    """ACCEPT's feature table: row i is object i."""
    header = ["CTC", "CellSearchIDs", "ThumbNr", "ch_1_MeanIntensity", "ch_2_Size"]
    return [header, *([0, 7 if row % 2 else 0, row % 3 + 1, 12.5 + row, 40.0] for row in range(max(INDICES)))]


# Tools: writing what no program should write.


def put(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def spoil(name: str, content: Callable[[], bytes]) -> Damage:
    """Write something else under a name of the delivery."""
    return lambda delivery: put(delivery, name, content())


def change(name: str, how: Callable[[bytes], bytes]) -> Damage:
    """Change the bytes of a file of the delivery."""
    return lambda delivery: put(delivery, name, how((delivery / name).read_bytes()))


def move(name: str, to: str | bytes) -> Damage:
    """Rename a file or folder of the delivery within its folder; `to` may be bytes, for names that are no text."""
    return lambda delivery: (delivery / name).rename((delivery / name).parent / os.fsdecode(to))


def replace_with(name: str, make: Callable[[Path], object]) -> Damage:
    """Remove a file of the delivery and put something that is no regular file in its place."""

    def damage(delivery: Path) -> None:
        (delivery / name).unlink()
        make(delivery / name)

    return damage


def link(target: str) -> Callable[[Path], None]:
    """Make a path a link to `target`, in which `{delivery}` stands for the delivery's own folder."""

    def make(path: Path) -> None:
        delivery = next(one for one in path.parents if (one / "export").is_dir())
        path.symlink_to(target.format(delivery=delivery))

    return make


def tiff(
    planes: Any, compression: tuple[str | None, ...] = ("lzw", "packbits"), *, head: Any = None, **how: Any
) -> bytes:
    """A TIFF with a page a plane; the last of `compression` goes for all further pages, `head` to the writer."""
    buffer = io.BytesIO()
    how = {"photometric": "minisblack", "metadata": None, "software": False, "contiguous": False} | how
    with tifffile.TiffWriter(buffer, **(head or {})) as file:
        for number, plane in enumerate(planes):
            file.write(plane, compression=compression[min(number, len(compression) - 1)], **how)
    return buffer.getvalue()


def directory(content: bytes, page: int) -> tuple[int, int]:
    """Where a page's directory begins in a little-endian TIFF, and how many tags it has."""
    (at,) = struct.unpack_from("<I", content, 4)
    for _ in range(page):
        (tags,) = struct.unpack_from("<H", content, at)
        (at,) = struct.unpack_from("<I", content, at + 2 + 12 * tags)
    return at, struct.unpack_from("<H", content, at)[0]


def tagged(content: bytes, tag: int, value: int | None = None, *, page: int = 0, kind: int = 4, count: int = 1,
           rename: int | None = None) -> bytes:  # fmt: skip
    """Give a tag of one page another value (of TIFF type `kind`), or another number."""
    at, tags = directory(content, page)
    places = [at + 2 + 12 * n for n in range(tags)]
    (place,) = [one for one in places if struct.unpack_from("<H", content, one)[0] == tag]
    entry = struct.pack("<HHIi" if value is not None and value < 0 else "<HHII", rename or tag, kind, count, value or 0)
    if value is None:
        entry = struct.pack("<H", rename or tag) + content[place + 2 : place + 12]
    return content[:place] + entry + content[place + 12 :]


def followed_by(content: bytes, page: int, following: int) -> bytes:
    """Let a page say that the next one begins at byte `following`."""
    at, tags = directory(content, page)
    place = at + 2 + 12 * tags
    return content[:place] + struct.pack("<I", following) + content[place + 4 :]


def strip(content: bytes, page: int, how: Callable[[bytes], bytes]) -> bytes:
    """Replace the coded pixels of one page by others, which are written to the end of the file."""
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        (at,), (length,) = file.pages[page].dataoffsets, file.pages[page].databytecounts
    other = how(content[at : at + length])
    moved = tagged(content, 273, len(content), page=page)
    return tagged(moved, 279, len(other), page=page) + other


def workbook(rows: list[list[Any]], finish: Callable[[Any], object] = lambda sheet: None) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    finish(book.active)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def repacked(content: bytes, part: str, how: Callable[[bytes], bytes] | None) -> bytes:
    """Change one part of a zip, or leave it out."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if name != part:
                new.writestr(name, old.read(name))
            elif how:
                new.writestr(name, how(old.read(name)))
    return buffer.getvalue()


def bomb(name: str, size: int) -> bytes:
    """A zip of a few kilobytes with one member of `size` zeros; its checksum is wrong, but nobody should get that far."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packed = chunk * (size // 2**20) + packer.flush()
    local = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0) + name.encode()
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 8, 0, 33, 0, len(packed), size, len(name), 0, 0, 0, 0, 0, 0
    )
    entry += name.encode()
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, len(entry), len(local) + len(packed), 0)
    return local + packed + entry + end


def table(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def with_cell(rows: Any, line: int, column: str, value: str) -> bytes:
    """A table with another value in one cell; line 1 is the header."""
    changed = [list(row) for row in rows]
    changed[line - 1][rows[0].index(column)] = value
    return table(changed)


def npy(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(values))
    return buffer.getvalue()


def npy_that_says(header: str, content: bytes = b"", version: bytes = b"\1\0") -> bytes:
    text = header.encode() + b" " * (63 - (len(header) + 10) % 64) + b"\n"
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text))
    return b"\x93NUMPY" + version + length + text + content


def npz(**other: Any) -> bytes:
    """Four pictures of two groups; a member of None is left out, one of bytes is written as it is."""
    members = {
        "images": np.random.default_rng(300).integers(0, 256, (ROWS_OF_ARRAY, 10, 12, 3), dtype=np.uint8),
        "labels": np.array(["CTC", "WBC", "", "tdEV"]),
        "groups": np.array(["N-1", "N-1", "N-1", "N-2"]),
        **other,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in members.items():
            if value is not None:
                file.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return buffer.getvalue()


# Thumbnails.

GOOD = tiff(counts(2))  # what THUMBNAIL holds
VICTIM = Path(THUMBNAIL).name
WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, OFFSETS, SAMPLES_A_PIXEL, ROWS_A_STRIP, LENGTHS = (
    256, 257, 258, 259, 262, 273, 277, 278, 279,
)  # fmt: skip  # TIFF 6.0's numbers of its tags
CUT = "truncated|not readable as TIFF"
UNFIT = f"{CUT}|pages|samples a pixel|pixels|compression|unpacks"  # several of these are true of one file
SPARE = 282  # the resolution, which nobody needs: its place can be given to another tag


def thumbnail(name: str, reason: str, content: Callable[[], bytes]) -> Variant:
    """A thumbnail that is lost, alone."""
    expected = SetAside(file=VICTIM, reason=reason, lost=1, masks_lost=1)
    return Variant(name=f"a thumbnail {name}", kind="thumbnail", damage=spoil(THUMBNAIL, content), expected=expected)


def harmless_thumbnail(name: str, content: Callable[[], bytes]) -> Variant:
    """A thumbnail that arrives with the very pixels of the healthy one."""
    damage = spoil(THUMBNAIL, content)
    return Variant(name=f"a thumbnail {name}", kind="thumbnail", damage=damage, expected=Harmless())


def other_thumbnail(name: str, content: Callable[[], bytes]) -> Variant:
    """A thumbnail that arrives with pixels of its own; its mask would no longer fit and is taken away."""

    def damage(delivery: Path) -> None:
        put(delivery, THUMBNAIL, content())
        (delivery / MASK).unlink()

    return Variant(
        name=f"a thumbnail {name}", kind="thumbnail", damage=damage, expected=Harmless(other=1, masks_lost=1)
    )


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (17, 21)).save(buffer, "JPEG")
    return buffer.getvalue()


def truncated_thumbnails() -> Iterator[Variant]:
    ways: dict[str, tuple[str | None, ...]] = {
        "ACCEPT's way": ("lzw", "packbits"),
        "without compression": (None,),
        "with deflate": ("zlib",),
    }
    for way, compression in ways.items():
        content = tiff(counts(2), compression)
        for part in (0.1, 0.5, 0.9):
            cut = content[: max(1, int(part * len(content)))]
            yield thumbnail(f"written {way} and cut to {len(cut)} of {len(content)} bytes", CUT, lambda cut=cut: cut)
        yield thumbnail(f"written {way} that lacks its last byte", "truncated", lambda content=content: content[:-1])
    yield thumbnail("of which only three bytes are left", "not readable as TIFF", lambda: GOOD[:3])
    yield thumbnail("of which only the header is left", "0 pages", lambda: GOOD[:8])
    yield thumbnail("whose second half is zeros", UNFIT, lambda: GOOD[: len(GOOD) // 2] + bytes(len(GOOD) // 2))


def foreign_thumbnails() -> Iterator[Variant]:
    contents: dict[str, Callable[[], bytes]] = {
        "without a byte": lambda: b"",
        "of one byte": lambda: b"I",
        "of zeros": lambda: bytes(5000),
        "that is random bytes": lambda: np.random.default_rng(9).bytes(3000),
        "that is a text": lambda: b"see the other folder\n" * 20,
        "that is a web page": lambda: b"<!DOCTYPE html><title>404</title>",
        "that is a ZIP": npz,
        "that is a PNG": lambda: imagecodecs.png_encode(rgb(2)),
        "that is a JPEG": jpeg,
        "with the magic number 43 on a short header": lambda: b"II\x2b\0" + GOOD[4:],
        "with the magic number 44": lambda: b"II\x2c\0" + GOOD[4:],
        "whose header says big-endian over little-endian data": lambda: b"MM\0\x2a" + GOOD[4:],
        "with a byte put in front": lambda: b"\0" + GOOD,
        "with line ends translated": lambda: GOOD.replace(b"\0", b"\r\n"),
    }
    for name, content in contents.items():
        yield thumbnail(name, "not readable as TIFF|0 pages|0 bytes", content)


def thumbnails_of_other_pixels() -> Iterator[Variant]:
    def typed(dtype: str) -> Callable[[], bytes]:
        return lambda: tiff(counts(2).astype(dtype), (None,))

    for dtype in ("int8", "int16", "int32", "uint32", "uint64", "float16", "float64", "complex64"):
        yield thumbnail(f"of {dtype}", dtype, typed(dtype))
    for name, value in {"NaN": np.nan, "infinity": np.inf}.items():
        yield thumbnail(
            f"of floats with {name}", "float32", lambda value=value: tiff(np.full(SHAPE, value, "f4"), (None,))
        )
    yield thumbnail("of single bits", "bool", lambda: tiff(counts(2) > 2000, (None,)))
    mixed = [counts(2)[0], counts(2)[1].astype(np.uint8), *counts(2)[2:]]
    yield thumbnail("whose pages differ in depth", "pages differ", lambda: tiff(mixed))
    floats = [*counts(2)[:3], counts(2)[3].astype(np.float32)]
    yield thumbnail("whose last page is of floats", "float32", lambda: tiff(floats, (None,)))
    yield thumbnail(
        "whose pages differ in shape", "pages differ", lambda: tiff([counts(1)[0], counts(2)[0][:, :9], *counts(2)[2:]])
    )
    yield thumbnail(
        "whose last page is one row short", "pages differ", lambda: tiff([*counts(1)[:3], counts(2)[0][1:]])
    )
    yield thumbnail("without pages", "0 pages", lambda: b"II*\0\0\0\0\0")
    for pages in (1, 2, 17, 300):
        yield thumbnail(f"of {pages} pages", "pages", lambda pages=pages: tiff(counts(2, (pages, 5, 4)), (None,)))
    four = counts(2).transpose(1, 2, 0).copy()
    many: dict[str, Any] = {"planarconfig": "contig"}
    yield thumbnail("of one page with 4 samples a pixel", "4 samples", lambda: tiff([four], (None,), **many))
    yield thumbnail(
        "of one page with 2 samples a pixel", "2 samples", lambda: tiff([four[..., :2].copy()], (None,), **many)
    )
    yield thumbnail(
        "of one CMYK page", "4 samples", lambda: tiff([four.astype(np.uint8)], (None,), photometric="separated")
    )
    alpha = np.dstack([rgb(2), rgb(3)[..., :1]])
    yield thumbnail(
        "of RGB with transparency",
        "4 samples",
        lambda: tiff([alpha], (None,), photometric="rgb", extrasamples=["unassalpha"]),
    )
    yield thumbnail("of four RGB pages", "RGB", lambda: tiff([rgb(2)] * 4, (None,), photometric="rgb"))
    yield thumbnail("of one RGB page of floats", "float32",
                    lambda: tiff([rgb(2).astype("f4")], (None,), photometric="rgb"))  # fmt: skip
    yield thumbnail("with a palette", "photometric 3", lambda: tiff(
        rgb(2).transpose(2, 0, 1).copy(), (None,), photometric="palette", colormap=np.zeros((3, 256), np.uint16)))  # fmt: skip
    yield thumbnail(
        "of a volume a page",
        UNFIT,
        lambda: tiff([counts(2, (16, 16, 16))], (None,), volumetric=True, tile=(16, 16, 16)),
    )


def thumbnails_with_lying_tags() -> Iterator[Variant]:
    largest = 2**32 - 1
    for what, tag, values in [("width", WIDTH, (0, 65535)), ("height", LENGTH, (0, 4097, 65535, largest))]:
        for value in values:
            yield thumbnail(f"that declares a {what} of {value}", str(value), partial(tagged, GOOD, tag, value))
        last = partial(tagged, GOOD, tag, 65535, page=3)
        yield thumbnail(f"that declares a {what} of 65535 on its last page", "65535", last)
        more = partial(tagged, tiff(counts(2), (None,)), tag, 22)
        yield thumbnail(f"that declares a {what} one too large", UNFIT, more)
    yield thumbnail("that declares a height of -1", "-1", partial(tagged, GOOD, LENGTH, -1, kind=9))
    both = tagged(tagged(GOOD, WIDTH, 65535), LENGTH, 65535)
    yield thumbnail("that declares 65535×65535 pixels", "65535", lambda: both)
    yield thumbnail(
        "that declares 65535×65535 pixels in one strip", "65535", partial(tagged, both, ROWS_A_STRIP, 65535)
    )
    big = tiff(counts(2), (None,), head={"bigtiff": True})
    yield thumbnail("as BigTIFF with a directory beyond its end", UNFIT, lambda: big[:8] + b"\xff" * 8 + big[16:])
    yield thumbnail("as BigTIFF with 2⁶⁴−1 tags", UNFIT, lambda: big[:16] + b"\xff" * 8 + big[24:])
    lies: list[tuple[str, int, int, dict[str, Any]]] = [
        ("with 65535 samples a pixel", SAMPLES_A_PIXEL, 65535, {}),
        ("with 65535 bits a sample", BITS, 65535, {}),
        ("with 12 bits a sample over 16", BITS, 12, {}),
        ("with old JPEG said over LZW", COMPRESSION, 6, {}),
        ("with JPEG said over LZW", COMPRESSION, 7, {}),
        ("with PackBits said over LZW", COMPRESSION, 32773, {}),
        ("with deflate said over LZW", COMPRESSION, 8, {}),
        ("with CCITT said over LZW", COMPRESSION, 4, {}),
        ("with an unknown compression", COMPRESSION, 65000, {}),
        ("with no compression said over LZW", COMPRESSION, 1, {}),
        ("with an unknown photometric interpretation", PHOTOMETRIC, 65000, {}),
        ("with pixels at byte 0", OFFSETS, 0, {}),
        ("with pixels at byte −1", OFFSETS, -1, {"kind": 9}),
        ("with pixels beyond its end", OFFSETS, 10**6, {}),
        ("with a strip of no bytes", LENGTHS, 0, {}),
        ("with a strip of −1 bytes", LENGTHS, -1, {"kind": 9}),
        ("with a strip of 3 bytes", LENGTHS, 3, {}),
        ("with a strip of 3 bytes on its last page", LENGTHS, 3, {"page": 3}),
        ("with strips of one row but only one strip", ROWS_A_STRIP, 1, {}),
        ("with a million strips", OFFSETS, 8, {"count": 10**6}),
        ("with 2³²−1 strips", OFFSETS, 8, {"count": largest}),
        ("with an offset of an unknown type", OFFSETS, 8, {"kind": 200}),
        ("with predictor 3, which is for floats", SPARE, 3, {"rename": 317, "kind": 3}),
        ("with an unknown predictor", SPARE, 999, {"rename": 317, "kind": 3}),
        ("with a tile width of 0", SPARE, 0, {"rename": 322}),
        ("with a tile width of 65535", SPARE, 65520, {"rename": 322}),
    ]  # fmt: skip
    for name, tag, value, more in lies:
        yield thumbnail(name, UNFIT, partial(tagged, GOOD, tag, value, **more))
    for name, tag in {
        "width": WIDTH,
        "height": LENGTH,
        "bits a sample": BITS,
        "offsets": OFFSETS,
        "byte counts": LENGTHS,
    }.items():
        yield thumbnail(f"without the tag of its {name}", UNFIT, partial(tagged, GOOD, tag, rename=65100))
    tiled = tiff(counts(2, (4, 32, 48)), (None,), tile=(16, 16))
    for name, tag, value in [
        ("width", 322, 0),
        ("width", 322, 65520),
        ("height", 323, 0),
        ("offsets", 324, 0),
        ("byte counts", 325, 7),
    ]:
        yield thumbnail(f"in tiles with {value} as their {name}", UNFIT, partial(tagged, tiled, tag, value))


def thumbnails_with_broken_directories() -> Iterator[Variant]:
    at = [directory(GOOD, page)[0] for page in range(4)]
    for name, content in {
        "whose last page is followed by its first": followed_by(GOOD, 3, at[0]),
        "whose second page is followed by itself": followed_by(GOOD, 1, at[1]),
        "whose last page is followed by its third": followed_by(GOOD, 3, at[2]),
        "whose last page is followed by one beyond its end": followed_by(GOOD, 3, 10**6),
        "whose last page is followed by one at byte 2³²−1": followed_by(GOOD, 3, 2**32 - 1),
        "whose last page is followed by one in the header": followed_by(GOOD, 3, 4),
        "whose last page is followed by one in its pixels": followed_by(GOOD, 3, len(GOOD) - 20),
        "whose second page is the last": followed_by(GOOD, 1, 0),
        "whose first page lies beyond its end": GOOD[:4] + struct.pack("<I", 10**6) + GOOD[8:],
        "whose first page lies in the header": GOOD[:4] + struct.pack("<I", 4) + GOOD[8:],
        "whose first page lies at its very end": GOOD[:4] + struct.pack("<I", len(GOOD)) + GOOD[8:],
        "with a page of no tags": GOOD[: at[0]] + b"\0\0" + GOOD[at[0] + 2 :],
        "with a page of 65535 tags": GOOD[: at[0]] + b"\xff\xff" + GOOD[at[0] + 2 :],
        "with a last page of 65535 tags": GOOD[: at[3]] + b"\xff\xff" + GOOD[at[3] + 2 :],
        "with a directory of noise": GOOD[: at[1] + 2] + np.random.default_rng(3).bytes(120) + GOOD[at[1] + 122 :],
    }.items():
        yield thumbnail(name, UNFIT, lambda content=content: content)


def thumbnails_with_broken_pixels() -> Iterator[Variant]:
    noise = np.random.default_rng(5).bytes
    lzw, packbits, deflate = tiff(counts(2), ("lzw",)), tiff(counts(2), ("packbits",)), tiff(counts(2), ("zlib",))
    half = counts(2)[1][:10].tobytes()
    for name, content in {
        "with noise for LZW": strip(lzw, 1, lambda old: noise(len(old))),
        "with zeros for LZW": strip(lzw, 1, lambda old: bytes(len(old))),
        "with half of its LZW": strip(lzw, 2, lambda old: old[: len(old) // 2]),
        "with LZW of half of the rows": strip(lzw, 1, lambda old: imagecodecs.lzw_encode(half)),
        "with half of its PackBits": strip(packbits, 1, lambda old: old[: len(old) // 2]),
        "with PackBits that want to copy beyond their end": strip(packbits, 1, lambda old: b"\x7f" * 20),
        "with PackBits of half of the rows": strip(packbits, 1, lambda old: imagecodecs.packbits_encode(half)),
        "with PackBits that unpack to a megabyte": strip(packbits, 1, lambda old: b"\x81\0" * 8192),
        "with noise for deflate": strip(deflate, 1, lambda old: noise(len(old))),
        "with half of its deflate": strip(deflate, 1, lambda old: old[: len(old) // 2]),
        "with deflate of half of the rows": strip(deflate, 1, lambda old: zlib.compress(half)),
        "with deflate whose checksum is wrong": strip(deflate, 1, lambda old: old[:-1] + bytes([old[-1] ^ 1])),
        "with deflate that unpacks to 64 megabytes": strip(deflate, 1, lambda old: zlib.compress(bytes(2**26))),
    }.items():
        yield thumbnail(name, UNFIT, lambda content=content: content)


def harmless_thumbnails() -> Iterator[Variant]:
    planes = counts(2)
    yield harmless_thumbnail("of big-endian numbers", lambda: tiff(planes, head={"byteorder": ">"}))
    yield harmless_thumbnail("as BigTIFF", lambda: tiff(planes, head={"bigtiff": True}))
    yield harmless_thumbnail("without compression", lambda: tiff(planes, (None,)))
    yield harmless_thumbnail("with deflate", lambda: tiff(planes, ("zlib",)))
    yield harmless_thumbnail("with a predictor", lambda: tiff(planes, ("lzw",), predictor=True))
    yield harmless_thumbnail("in many strips", lambda: tiff(planes, rowsperstrip=2))
    yield harmless_thumbnail("whose white is 0", lambda: tiff(planes, photometric="miniswhite"))
    twice = planes[1].tobytes() * 2
    yield harmless_thumbnail(
        "whose LZW goes on", lambda: strip(tiff(planes, ("lzw",)), 1, lambda old: imagecodecs.lzw_encode(twice))
    )
    yield harmless_thumbnail("with the name of the program that wrote it", lambda: tiff(planes, software="Imager 3"))
    yield harmless_thumbnail("with bytes after its end", lambda: GOOD + b"\0" * 100)
    yield harmless_thumbnail("without the tag of samples a pixel", lambda: tagged(GOOD, SAMPLES_A_PIXEL, rename=65100))
    text = b'{"shape": [65535, 65535, 65535]}'
    yield harmless_thumbnail("whose description claims another shape", lambda: tiff(planes, description=text))
    yield other_thumbnail("of three pages", lambda: tiff(planes[:3]))
    yield other_thumbnail("of sixteen pages", lambda: tiff(counts(2, (16, 9, 9))))
    yield other_thumbnail("of one pixel", lambda: tiff(planes[:, :1, :1]))
    yield other_thumbnail("that is all black", lambda: tiff(np.zeros(SHAPE, np.uint16)))
    yield other_thumbnail("that is all white", lambda: tiff(np.full(SHAPE, 65535, np.uint16)))
    yield other_thumbnail("of 8 bit", lambda: tiff(planes.astype(np.uint8)))
    yield other_thumbnail("of one RGB page", lambda: tiff([rgb(2)], (None,), photometric="rgb"))
    yield other_thumbnail("larger than the network's window", lambda: tiff(counts(2, (4, 90, 130))))


# Names and files of an export.


def named(name: str, reason: str, to: str | bytes) -> Variant:
    """A thumbnail under another name; its mask stays behind."""
    expected = SetAside(file=os.fsdecode(to), reason=reason, lost=1, masks_lost=1)
    return Variant(name=f"a thumbnail named {name}", kind="thumbnail", damage=move(THUMBNAIL, to), expected=expected)


def thumbnails_with_wrong_names() -> Iterator[Variant]:
    rule = "name is not"
    yield named("with object number 0", rule, "H-1_1_thumb_0.tif")
    yield named("with an object number of 200 digits", rule, f"H-1_1_thumb_{'9' * 200}.tif")
    yield named("with a space at its end", rule, "H-1_1_thumb_2 .tif")
    yield named("of nothing but dots", rule, "...tif")
    yield named("as if it lay elsewhere", rule, "..\\..\\H-1_1_thumb_2 ..tif")
    yield named("with a line end", rule, "H-1_1\nthumb_2.tif")
    yield named("with a colour code of the terminal", rule, "H-1_1\x1b[31m_2.tif")
    yield named("with text that runs backwards", rule, "H-1_1\u202e2_bmuht.tif")
    yield named("with a cell and an emoji", rule, "Zelle 🧫.tif")
    yield named("in bytes that are no text", rule, b"H-1_1_\xff\xfe.tif")
    yield named("as long as the disk allows", rule, "n" * 250 + ".tif")
    yield named("with a comma and quotes", rule, 'H,"1",2.tif')
    yield named("after another sample", "another sample", "H-2_1_thumb_2.tif")
    yield named("after a part of the sample", "another sample", "1_1_thumb_2.tif")


def files_that_are_no_files() -> Iterator[Variant]:
    def odd(name: str, make: Callable[[Path], object], reason: str) -> Variant:
        expected = SetAside(file=VICTIM, reason=reason, lost=1, masks_lost=1)
        return Variant(
            name=f"a thumbnail that is {name}",
            kind="thumbnail",
            damage=replace_with(THUMBNAIL, make),
            expected=expected,
        )

    regular = "not a regular file|not readable"
    yield odd("a folder", Path.mkdir, regular)
    yield odd("a pipe", os.mkfifo, regular)
    yield odd("a link to nothing", link("{delivery}/nothing.tif"), "link|regular file|readable")
    yield odd("a link to itself", lambda path: path.symlink_to(path), "link|regular file|readable")
    yield odd("a link to a folder", link("{delivery}/export"), "link|regular file|readable")
    yield odd(
        "a link to another sample's thumbnail",
        link(f"{{delivery}}/{THUMBS.replace('H-1.1', 'H-2.1')}/H-2_1_thumb_2.tif"),
        "link",
    )
    yield odd("a link to the clinical table", link("{delivery}/clinical.csv"), "link")
    yield odd("a link to the system's users", link("/etc/passwd"), "link")
    yield odd("a link to a device without end", link("/dev/zero"), "link|regular file|readable")
    yield odd("a link to a pipe", _link_to_a_pipe, "link|regular file|readable")
    unreadable = SetAside(file=VICTIM, reason="not readable", lost=1, masks_lost=1)
    yield Variant(
        name="a thumbnail that may not be read", kind="thumbnail", expected=unreadable, needs_a_plain_user=True,
        damage=lambda delivery: (delivery / THUMBNAIL).chmod(0),
    )  # fmt: skip


def _link_to_a_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")


def doubled_thumbnails() -> Iterator[Variant]:
    for name, other in {
        "with a zero in front": "H-1_1_thumb_02.tif",
        "with the other suffix": "H-1_1_thumb_2.tiff",
        "in capitals": "H-1_1_thumb_2.TIF",
        "in the older way": "2_thumb.tif",
        "after the sample with its dots": "H-1.1_thumb_2.tif",
        "in digits of another script": "H-1_1_thumb_\u0662.tif",
    }.items():
        yield Variant(
            name=f"a thumbnail that is there twice, also {name}",
            kind="thumbnail",
            damage=lambda delivery, other=other: put(delivery, f"{THUMBS}/{other}", GOOD),
            # The first by name is kept; a mask is looked for beside it.
            expected=SetAside(file="tif", reason="object 2 is there twice", masks_lost=int(other < VICTIM)),
        )


# Masks.


def masks() -> Iterator[Variant]:
    lines = counts(2) > 2000
    whole = tiff(lines)

    def mask(name: str, content: Callable[[], bytes], reason: str = f"{UNFIT}|shape") -> Variant:
        expected = SetAside(file=Path(MASK).name, reason=reason, masks_lost=1)
        return Variant(name=f"a mask {name}", kind="mask", damage=spoil(MASK, content), expected=expected)

    for part in (0.02, 0.3, 0.6, 0.99):
        yield mask(f"cut to {part:.0%} of its bytes", lambda part=part: whole[: int(part * len(whole))])
    yield mask("without a byte", lambda: b"", "0 bytes")
    yield mask("that is a text", lambda: b"no mask was made")
    yield mask("of another shape", lambda: tiff(lines[:, :20]), "shape")
    yield mask("turned by 90°", lambda: tiff(lines.transpose(0, 2, 1).copy()), "shape")
    yield mask("of two pages", lambda: tiff(lines[:2]))
    yield mask("of five pages", lambda: tiff(np.concatenate([lines, lines[:1]])))
    yield mask("of 17 pages", lambda: tiff(np.repeat(lines[:1], 17, axis=0)))
    yield mask("of 16-bit counts", lambda: tiff(counts(2)), "uint16")
    yield mask("of floats with NaN", lambda: tiff(np.full(SHAPE, np.nan, "f4"), (None,)), "float32")
    yield mask("of RGB", lambda: tiff([rgb(2, 21, 17)], (None,), photometric="rgb"))
    yield mask("that declares 65535×65535 pixels", lambda: tagged(tagged(whole, WIDTH, 65535), LENGTH, 65535), "65535")
    yield mask("whose last page is followed by its first", lambda: followed_by(whole, 3, directory(whole, 0)[0]))
    yield mask("whose PackBits end early", lambda: strip(whole, 1, lambda old: old[: len(old) // 2]))
    yield mask("with pixels beyond its end", lambda: tagged(whole, OFFSETS, 10**6))
    for name, make in {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link to nothing": link("{delivery}/nothing.tif"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a link to another sample's mask": link(f"{{delivery}}/{MASK.replace('H-1', 'H-2')}"),
    }.items():
        expected = SetAside(file=Path(MASK).name, reason="regular file|readable|link", masks_lost=1)
        yield Variant(name=f"a mask that is {name}", kind="mask", damage=replace_with(MASK, make), expected=expected)
    yield Variant(
        name="a mask that is missing", kind="mask", damage=lambda delivery: (delivery / MASK).unlink(),
        expected=Harmless(masks_lost=1),
    )  # fmt: skip
    for name, content in {
        "that is blank": lambda: tiff(np.zeros(SHAPE, bool)),
        "of 8 bit with 0 and 255": lambda: tiff(lines.astype(np.uint8) * 255),
        "whose white is 0": lambda: tiff(~lines, (None,), photometric="miniswhite"),
    }.items():
        yield Variant(name=f"a mask {name}", kind="mask", damage=spoil(MASK, content), expected=Harmless())


# Feature tables.

SHEET = "xl/worksheets/sheet1.xml"
ENTITIES = (
    b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">'
    b'<!ENTITY e "&d;&d;&d;&d;&d;&d;&d;&d;&d;&d;"><!ENTITY f "&e;&e;&e;&e;&e;&e;&e;&e;&e;&e;">]>'
)


def tables() -> Iterator[Variant]:
    rows = feature_rows()
    whole = workbook(rows)
    column = rows[0].index
    twice = [[*row[:3], "CellSearchIDs" if row is rows[0] else 7] for row in rows]

    def refused(
        name: str, content: Callable[[], bytes], reason: str = "XLSX|rows|CellSearchIDs|unzips|cells"
    ) -> Variant:
        expected = SetAside(file="H-1.1.xlsx", reason=reason)
        return Variant(name=f"a feature table {name}", kind="table", damage=spoil(TABLE, content), expected=expected)

    def cell(row: int, name: str, value: Any) -> bytes:
        changed = [list(one) for one in rows]
        changed[row][column(name)] = value
        return workbook(changed)

    for part in (0.1, 0.5, 0.9):
        yield refused(f"cut to {part:.0%} of its bytes", lambda part=part: whole[: int(part * len(whole))])
    yield refused("without a byte", lambda: b"", "0 bytes")
    yield refused("that is a CSV", lambda: table(rows))
    yield refused("that is a web page", lambda: b"<html><table></table></html>")
    yield refused("that is an array", npz)
    yield refused("in a password's container", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000))
    yield refused("without rows", lambda: workbook([]))
    yield refused("with a header only", lambda: workbook(rows[:1]), "rows")
    yield refused("with fewer rows than objects", lambda: workbook(rows[:-2]), "rows")
    yield refused("without the column CellSearchIDs", lambda: workbook([row[2:] for row in rows]), "CellSearchIDs")
    yield refused("with two columns CellSearchIDs that differ", lambda: workbook(twice))
    yield refused("with its header in the second row", lambda: workbook([["exported by ACCEPT"], *rows]))
    yield refused("turned on its side", lambda: workbook([list(row) for row in zip(*rows, strict=True)]))
    yield refused("without its sheet", lambda: repacked(whole, SHEET, None))
    yield refused("without its workbook", lambda: repacked(whole, "xl/workbook.xml", None))
    yield refused(
        "whose sheet is noise", lambda: repacked(whole, SHEET, lambda old: np.random.default_rng(4).bytes(900))
    )
    yield refused("whose sheet ends early", lambda: repacked(whole, SHEET, lambda old: old[: len(old) // 2]))
    yield refused("whose checksum is wrong", lambda: whole.replace(whole[45:60], whole[45:60][::-1], 1))
    yield refused("that unpacks to a gigabyte", lambda: bomb(SHEET, 2**30))
    yield refused("with a cell in the last column of row 20000",
                  lambda: repacked(whole, SHEET, lambda old: old.replace(b'r="E11"', b'r="XFD20000"')))  # fmt: skip
    yield refused("with a cell in the sheet's last corner",
                  lambda: repacked(whole, SHEET, lambda old: old.replace(b'r="E11"', b'r="XFD1048576"')))  # fmt: skip
    for name, make in {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link out of the export": link("{delivery}/clinical.csv"),
        "a link to nothing": link("{delivery}/nothing.xlsx"),
    }.items():
        expected = SetAside(file="H-1.1.xlsx", reason="regular file|readable|link")
        yield Variant(
            name=f"a feature table that is {name}", kind="table", damage=replace_with(TABLE, make), expected=expected
        )
    for name, content in {
        "with more rows than objects": lambda: workbook([*rows, *rows[1:]]),
        "with empty rows at its end": lambda: workbook([*rows, [None] * 5, [None] * 5]),
        "with NaN for a measurement": lambda: cell(2, "ch_1_MeanIntensity", "NaN"),
        "with an empty cell": lambda: cell(2, "ch_1_MeanIntensity", None),
        "with a word for a measurement": lambda: cell(2, "ch_1_MeanIntensity", "much"),
        "with an error for a measurement": lambda: cell(2, "ch_1_MeanIntensity", "#DIV/0!"),
        "with a formula for a measurement": lambda: cell(2, "ch_1_MeanIntensity", "=1+1"),
        "with entities that grow": lambda: repacked(
            whole, SHEET, lambda old: ENTITIES + old.replace(b"<v>40</v>", b"<v>&f;</v>", 1)
        ),
        "without measurements": lambda: workbook([row[:3] for row in rows]),
        "with merged cells below": lambda: workbook(rows, lambda sheet: sheet.merge_cells("A20:E22")),
        "with a second sheet": lambda: workbook(rows, lambda sheet: sheet.parent.create_sheet("notes")),
    }.items():
        yield Variant(name=f"a feature table {name}", kind="table", damage=spoil(TABLE, content), expected=Harmless())
    yield Variant(
        name="a feature table that is missing", kind="table", expected=Harmless(),
        damage=lambda delivery: (delivery / TABLE).unlink(),
    )  # fmt: skip


# The clinical table.


def clinical_tables() -> Iterator[Variant]:
    rows = CLINICAL_ROWS
    whole = table(rows)

    def stopped(name: str, reason: str, content: Callable[[], bytes]) -> Variant:
        expected = Stopped(file=CLINICAL, reason=reason)
        return Variant(
            name=f"a clinical table {name}", kind="clinical", damage=spoil(CLINICAL, content), expected=expected
        )

    def without(column: str) -> bytes:
        place = rows[0].index(column)
        return table([row[:place] + row[place + 1 :] for row in rows])

    for name, content in {
        "in Latin-1": whole.decode().replace("breast", "Brüste").encode("latin-1"),
        "in UTF-16": whole.decode().encode("utf-16"),
        "in UTF-16 without its mark": whole.decode().encode("utf-16-le"),
        "with a NUL in a name": whole.replace(b"H-1.1", b"H-\x001.1"),
        "with a NUL at the end of a number": whole.replace(b",7.5,12.5", b",7.5\0,12.5"),
        "with half a character": whole[:-1] + b"\xc3",
        "without a byte": b"",
        "of empty lines": b"\n\n\n",
        "that is an XLSX": workbook([list(row) for row in rows]),
        "that is a web page": b"<!DOCTYPE html><title>Sign in</title>",
        "with a quote that never closes": whole.replace(b"Bea", b'"Bea'),
        "separated by semicolons": whole.replace(b",", b";"),
        "separated by tabs": whole.replace(b",", b"\t"),
        "without a header": table(rows[1:]),
        "with a line above its header": b"exported 2024\n" + whole,
        "whose third line has a cell too many": whole.replace(b"Bea,", b"Bea,Bea,"),
        "all of whose lines have a cell too many": table([rows[0], *((*row, "x") for row in rows[1:])]),
        "whose third line has three cells": whole.replace(b",breast,7.5,30,0,47", b""),
        "with a column without a name": whole.replace(b",age", b","),
        "with a column twice": whole.replace(b",age", b",os_months"),
        "with a required column twice": whole.replace(b",age", b",patient"),
        "with a column twice below an empty line": b"\n" + whole.replace(b",age", b",os_months"),
        "with a column twice, once with its prefix": whole.replace(b"os_months", b"ldh").replace(
            b"age", b"covariate_ldh"
        ),
        "with a sample twice": table([*rows, rows[1]]),
        "with a patient of two cancers": with_cell(rows, 3, "patient", "Ada").replace(
            b"H-2.1,patient,breast", b"H-2.1,patient,lung"
        ),
        "with a patient of two survival times": with_cell(rows, 3, "patient", "Ada"),
    }.items():
        yield stopped(name, "UTF-8|column|line", lambda content=content: content)
    for column in rows[0][:5]:
        yield stopped(f"without the column {column}", column, partial(without, column))
        yield stopped(f"with nothing for {column}", f"{column}", partial(with_cell, rows, 3, column, ""))
        yield stopped(f"with a space for {column}", f"{column}", partial(with_cell, rows, 3, column, " "))
    for column, value in [
        *(("blood_volume_ml", one) for one in ("0", "-7.5", "NaN", "inf", "1e999", "7,5", "7.5 ml", "0x7", "7_5", "٧", "7.5\u00a0", "9" * 400)),
        *(("os_months", one) for one in ("-1", "nan", "-inf", "2024-03-01", "12 months")),
        *(("os_event", one) for one in ("2", "yes", "-1", "0.5", "nan")),
        *(("age", one) for one in ("161", "-3", "old")),
        *(("sample_kind", one) for one in ("dog", "Patient", "patient ")),
    ]:  # fmt: skip
        yield stopped(f"with {value[:20]!r} for {column}", column, partial(with_cell, rows, 3, column, value))
    for name, make in {
        "a folder": Path.mkdir,
        "a link to nothing": link("{delivery}/nothing.csv"),
        "a link to itself": lambda path: path.symlink_to(path),
        "missing": lambda path: None,
    }.items():
        expected = Stopped(file=CLINICAL, reason="no such|not readable")
        yield Variant(
            name=f"a clinical table that is {name}",
            kind="clinical",
            damage=replace_with(CLINICAL, make),
            expected=expected,
        )
    for name, content in {
        "with a byte order mark": b"\xef\xbb\xbf" + whole,
        "with line ends of Windows": whole.replace(b"\n", b"\r\n"),
        "without a line end at its end": whole[:-1],
        "with all cells in quotes": "\n".join(",".join(f'"{cell}"' for cell in row) for row in rows).encode(),
        "with empty lines below": whole + b"\n\n",
        "with a row without a sample here": whole + b"Fay,F-1,control,none,7.5,,,\n",
        "with names of rows, as R writes them": table([rows[0], *((str(n), *row) for n, row in enumerate(rows[1:]))]),
        "with letters of many scripts": whole.replace(b"Ada", "Ådá-李".encode()),
        "with a million letters in a covariate": whole.replace(b"age", b"note").replace(b",61", b"," + b"n" * 10**6),
    }.items():
        yield Variant(
            name=f"a clinical table {name}",
            kind="clinical",
            damage=spoil(CLINICAL, lambda content=content: content),
            expected=Harmless(),
        )
    for name, content, lost in [
        ("without a row for a sample", table([rows[0], *rows[2:]]), 4),
        ("with a space in front of a sample", with_cell(rows, 2, "sample", " H-1.1"), 4),
        ("with the sample's name in other letters", with_cell(rows, 2, "sample", "h-1.1"), 4),
        ("with the sample's name as it stands in its files", with_cell(rows, 2, "sample", "H-1_1"), 4),
    ]:
        expected = SetAside(file="H-1.1", reason="no row in the clinical table", lost=lost, masks_lost=lost)
        yield Variant(
            name=f"a clinical table {name}",
            kind="clinical",
            damage=spoil(CLINICAL, lambda content=content: content),
            expected=expected,
        )


# Labels from before.


def historic_tables() -> Iterator[Variant]:
    rows = HISTORIC_ROWS
    whole = table(rows)

    def variant(name: str, content: bytes, expected: SetAside | Stopped | Harmless) -> Variant:
        return Variant(
            name=f"a table of old labels {name}",
            kind="historic",
            damage=spoil(HISTORIC, lambda: content),
            expected=expected,
        )

    for name, content in {
        "in Latin-1": whole.replace(b"two experts", "zwei für alle".encode("latin-1"), 1),
        "in UTF-16": whole.decode().encode("utf-16"),
        "without a byte": b"",
        "that is an XLSX": workbook([list(row) for row in rows]),
        "with a quote that never closes": whole.replace(b"wbc", b'"wbc'),
        "separated by semicolons": whole.replace(b",", b";"),
        "without a header": table(rows[1:]),
        "without labels": table([row[:2] + row[3:] for row in rows]),
        "with its columns in another order": table([row[::-1] for row in rows]),
        "with a column too many": table([(*row, "") for row in rows]),
        "with a column twice": whole.replace(b"source", b"label", 1),
        "one of whose lines has a cell too many": whole.replace(b"4,wbc", b"4,wbc,wbc"),
    }.items():
        yield variant(name, content, Stopped(file=HISTORIC, reason="not readable|columns"))
    for name, make in {
        "a folder": Path.mkdir,
        "a link to nothing": link("{delivery}/nothing.csv"),
        "missing": lambda path: None,
    }.items():
        expected = Stopped(file=HISTORIC, reason="not readable")
        yield Variant(
            name=f"a table of old labels that is {name}",
            kind="historic",
            damage=replace_with(HISTORIC, make),
            expected=expected,
        )
    for column, values, reason in [
        ("label", ("blast", "CTC", "", "ctc ", "new:blast", "c" * 5000, "c\ntc"), "not registered"),
        ("object_index", ("3", "0", "4.0", "04", "NaN", "", "٤"), "no such thumbnail"),
        ("sample", ("H-9.9", "h-1.1", ""), "no such thumbnail"),
    ]:
        for value in values:
            yield variant(
                f"with {value[:12]!r} for {column}",
                with_cell(rows, 3, column, value),
                SetAside(file="line 3", reason=reason),
            )
    shifted = table([rows[0], *((*row, "x") for row in rows[1:])])
    yield variant("all of whose lines have a cell too many", shifted, SetAside(file="line 2", reason="not registered"))
    yield variant(
        "with a NUL in a label", whole.replace(b"wbc", b"wbc\0?"), Stopped(file=HISTORIC, reason="NUL|not readable")
    )
    yield variant(
        "that contradicts itself", whole + b"H-1.1,4,ctc,a third\n", SetAside(file="line 5", reason="contradicts")
    )
    yield variant("whose last line is short", whole + b"H-1.1,2\n", SetAside(file="line 5", reason="not registered"))
    yield variant("that says a thing twice", whole + table(rows[1:2]), Harmless())
    yield variant("with a header only", table(rows[:1]), Harmless())
    yield variant("with a byte order mark", b"\xef\xbb\xbf" + whole, Harmless())
    yield variant("with line ends of Windows", whole.replace(b"\n", b"\r\n"), Harmless())


# Listed folders.


def listed_folders() -> Iterator[Variant]:
    rows = LIST_ROWS
    whole = table(rows)
    png = imagecodecs.png_encode(rgb(202))

    def variant(name: str, content: bytes, expected: SetAside | Harmless, file: str = LIST) -> Variant:
        return Variant(
            name=f"a listed folder {name}", kind="listed folder", damage=spoil(file, lambda: content), expected=expected
        )

    def whole_list(name: str, content: bytes) -> Variant:
        reason = "UTF-8|CSV|bytes|columns|lists no file|line"
        return variant(name, content, SetAside(file="manifest.csv", reason=reason, lost=3, masks_lost=1))

    for name, content in {
        "whose list is Latin-1": whole.replace(b"label", "Schlüssel".encode("latin-1"), 1),
        "whose list is UTF-16": whole.decode().encode("utf-16"),
        "whose list has no byte": b"",
        "whose list is an XLSX": workbook([list(row) for row in rows]),
        "whose list has a quote that never closes": whole.replace(b"yes", b'"yes'),
        "whose list is separated by semicolons": whole.replace(b",", b";"),
        "whose list has no header": table(rows[1:]),
        "whose list has only a header": table(rows[:1]),
        "whose list has a column twice": whole.replace(b"proposed", b"sample", 1),
        "whose list holds a field of 200,000 letters": whole.replace(b"yes", b"y" * 200_000),
        **{f"whose list has no column {one}": whole.replace(one.encode(), b"else", 1) for one in rows[0][:3]},
    }.items():
        yield whole_list(name, content)
    for column, values, reason in [
        ("file", ("../cell_1.tif", "more/../../x.tif", "/etc/passwd", "C:\\cells\\1.tif", "..\\cell_1.tif", "\\\\server\\cell.tif", "",
                  "cell\0.tif", "cell\n.tif", "cell\u202e.tif", ".", ".."), "names the file"),
        ("sample", ("", "L\0-1", "L\n-1", "L-\u202e1"), "sample is"),
        ("object_index", ("0", "-1", "1.5", "NaN", "", "1e3", "٢", "9" * 5000), "object_index is"),
        ("proposed", ("maybe", "2"), "proposed is"),
        ("label", ("7", "\u2623", "c" * 60), "label is"),
        ("mask", ("../cell_1_mask.tif", "/etc/passwd", "m\0.tif"), "names the file"),
    ]:  # fmt: skip
        for value in values:
            content = with_cell(rows, 3, column, value)
            yield variant(f"with {value[:20]!r} for {column}", content, SetAside(file="line", reason=reason, lost=1))
    yield variant(
        "with an object twice",
        with_cell(rows, 3, "object_index", "1"),
        SetAside(file="line 3", reason="object 1", lost=1),
    )
    yield variant(
        "with a file twice",
        with_cell(rows, 3, "file", "cell_1.tif"),
        SetAside(file="line 3", reason="line 2 too", lost=1),
    )
    yield variant(
        "with a line too short", whole.replace(b",,no,", b""), SetAside(file="line 3", reason="cells", lost=1)
    )
    yield variant(
        "with a line too long", whole.replace(b",no,", b",no,,,"), SetAside(file="line 3", reason="cells", lost=1)
    )
    for name in ("nothing.tif", "more", "n" * 300 + ".tif", "more/" * 300 + "x.tif", "cell_1.tif/x", "manifest.csv"):
        expected = SetAside(file=name[:40], reason="is no file|TIFF", lost=1)
        yield variant(f"that lists {name[:20]}, which is no picture", with_cell(rows, 3, "file", name), expected)
    for name in ("nothing.tif", "more", "cell_1.tif", "more/cell_2.png"):
        expected = SetAside(file=name, reason="without a mask", masks_lost=1)
        yield variant(f"that lists {name} as a mask", with_cell(rows, 2, "mask", name), expected)
    picture = "export/listed/more/cell_2.png"

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def headed(width: int, height: int, bits: int = 8, colour: int = 2, interlace: int = 0) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlace))
        return png[:8] + header + png[33:]

    for name, content in {
        "without a byte": b"",
        "of 65535×65535 pixels": headed(65535, 65535),
        "of 2³¹−1 rows": headed(11, 2**31 - 1),
        "of no width": headed(0, 12),
        "of one row more than it has": headed(11, 13),
        "with a palette": headed(11, 12, colour=3),
        "with transparency": imagecodecs.png_encode(np.dstack([rgb(202), rgb(1)[..., :1]])),
        "of 7 bit": headed(11, 12, bits=7),
        "interlaced": headed(11, 12, interlace=1),
        "in grey": imagecodecs.png_encode(rgb(202)[..., 0].copy()),
        "whose checksum is wrong": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "that is a JPEG": jpeg(),
        "that is a text": b"cell 2",
        **{f"cut to {part:.0%} of its bytes": png[: int(part * len(png))] for part in (0.03, 0.2, 0.5, 0.9)},
    }.items():
        yield variant(
            f"with a PNG {name}",
            content,
            SetAside(file="more/cell_2.png", reason="PNG|pixels|decoded|TIFF|bytes", lost=1),
            picture,
        )
    for name, make in {
        "a link out of it": link("{delivery}/clinical.csv"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a pipe": os.mkfifo,
        "a folder": Path.mkdir,
    }.items():
        expected = SetAside(file="more/cell_2.png", reason="is no file", lost=1)
        yield Variant(
            name=f"a listed folder with {name} for a PNG",
            kind="listed folder",
            damage=replace_with(picture, make),
            expected=expected,
        )
        whole_lost = SetAside(file="manifest.csv", reason="is no file", lost=3, masks_lost=1)
        if name != "a folder":  # then it is no list, and nothing says that there should be one
            yield Variant(
                name=f"a listed folder with {name} for a list",
                kind="listed folder",
                damage=replace_with(LIST, make),
                expected=whole_lost,
            )
    for name, content in {
        "whose list has a byte order mark": b"\xef\xbb\xbf" + whole,
        "whose list has line ends of Windows": whole.replace(b"\n", b"\r\n"),
        "whose list has backslashes": whole.replace(b"more/", b"more\\"),
        "whose list has more columns": table([(*row, "note") for row in rows]),
        "whose list has capital names of columns": whole.replace(b"object_index", b"Object_Index"),
        "whose list ends in empty lines": whole + b"\n,,,,,\n",
    }.items():
        yield variant(name, content, Harmless())
    yield variant("with a PNG that lacks only its end mark", png[:-12], Harmless(), picture)
    too_much = png[:33] + chunk(b"IDAT", zlib.compress(bytes(2**26))) + png[-12:]
    yield variant("with a PNG whose pixels go on for 64 megabytes", too_much, Harmless(other=1), picture)


# Arrays.


def arrays() -> Iterator[Variant]:
    whole = npz()
    images = np.random.default_rng(300).integers(0, 256, (ROWS_OF_ARRAY, 10, 12, 3), dtype=np.uint8)
    raw = images.tobytes()
    ones = np.ones(images.shape)

    def refused(
        name: str,
        content: Callable[[], bytes],
        reason: str = "images|labels|groups|ids|channels|damaged|cut off",
        lost: int = ROWS_OF_ARRAY,
    ) -> Variant:
        expected = SetAside(file="labelled.npz", reason=reason, lost=lost)
        return Variant(name=f"an array {name}", kind="array", damage=spoil(ARRAY, content), expected=expected)

    for part in (0.02, 0.25, 0.5, 0.75, 0.99):
        yield refused(f"cut to {part:.0%} of its bytes", lambda part=part: whole[: int(part * len(whole))])
    for name, content in {
        "without a byte": b"",
        "that is a text": b"images",
        "that is a pickle": b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
        "that is a single npy": npy(images),
        "that is an XLSX": workbook([[1]]),
        "that is an empty zip": b"PK\5\6" + bytes(18),
        "whose images are damaged": whole[:120] + bytes([whole[120] ^ 255]) + whole[121:],
        "with a gigabyte of zeros": bomb("images.npy", 2**30),
        "with its images twice": repacked(whole, "none", None)[:0] + _twice(whole),
    }.items():
        yield refused(name, lambda content=content: content)
    for name in ("images", "labels", "groups"):
        objects = npy(np.array([1, "a", None, {}], object))
        nothing = np.zeros((0, 10, 12, 3), np.uint8)
        yield refused(f"without {name}", partial(npz, **{name: None}), name)
        yield refused(f"with {name} that are Python objects", partial(npz, **{name: objects}))
        yield refused(f"with {name} of no rows", partial(npz, **{name: nothing}))
        yield refused(f"with {name} under a name in capitals", partial(npz, **{name: None, name.upper(): images}), name)
    yield refused("with images that are one number", partial(npz, images=np.uint8(3)))
    yield refused("with groups that are one text", partial(npz, groups=np.array("N-1")))
    yield refused("with labels that are dates", partial(npz, labels=np.array(["2024-03-01"] * 4, "M8[D]")))
    yield refused("with ids of two axes", partial(npz, ids=np.array([["a"], ["b"], ["c"], ["d"]])), "ids")
    for name in ("labels", "groups", "ids"):
        yield refused(f"with {name} too short", partial(npz, **{name: np.array(list("abc"))}), name)
        yield refused(f"with {name} too long", partial(npz, **{name: np.array(list("abcde"))}), name)
        yield refused(f"with {name} of floats", partial(npz, **{name: np.array([1, 2, 3, np.nan])}), name)
    yield refused("with an id twice", lambda: npz(ids=np.array(["a", "b", "a", "c"])), "twice")
    yield refused("with a channel twice", lambda: npz(channels=np.array(["CD45", "CD45", "CK"])), "channels")
    yield refused("with unknown channels", lambda: npz(channels=np.array(["red", "green", "blue"])), "channels")
    for dtype in ("bool", "int16", "uint32", "float32", "complex64", "S3"):
        yield refused(f"of {dtype}", lambda dtype=dtype: npz(images=images.astype(dtype)))
    yield refused("of floats with NaN", lambda: npz(images=ones * np.nan))
    yield refused("of floats with infinity", lambda: npz(images=ones * np.inf))
    yield refused("with fields", lambda: npz(images=np.zeros(images.shape, [("a", "u1"), ("b", "u1")])))
    for shape in ((4, 10, 12), (4, 10, 12, 4), (4, 3, 10, 12), (4, 1, 10, 12, 3), (4, 0, 12, 3), (4, 1, 5000, 3)):
        yield refused(f"of shape {shape}", lambda shape=shape: npz(images=np.zeros(shape, np.uint8)), "images")
    yield refused("in Fortran's order", lambda: npz(images=np.asfortranarray(images)))
    says = "{{'descr': {}, 'fortran_order': False, 'shape': {}, }}"
    for name, header, content in [
        ("that declares more rows than it has", says.format("'|u1'", "(5, 10, 12, 3)"), raw),
        ("that declares fewer rows than it has", says.format("'|u1'", "(3, 10, 12, 3)"), raw),
        ("that declares 2⁴⁰ rows", says.format("'|u1'", "(1099511627776, 10, 12, 3)"), raw),
        ("that declares 10³⁰ rows", says.format("'|u1'", f"({10**30}, 10, 12, 3)"), raw),
        ("that declares −1 rows", says.format("'|u1'", "(-1, 10, 12, 3)"), raw),
        ("that declares rows in floats", says.format("'|u1'", "(4.0, 10, 12, 3)"), raw),
        ("that declares true for a side", says.format("'|u1'", "(4, 10, 12, True)"), raw),
        ("that declares objects", says.format("'|O'", "(4, 10, 12, 3)"), raw),
        ("that declares an unknown type", says.format("'|x9'", "(4, 10, 12, 3)"), raw),
        ("whose header is a call", says.format("__import__('os').getcwd()", "(4, 10, 12, 3)"), raw),
        ("whose header nests without end", says.format("'|u1'", "(" * 5000 + ")" * 5000), raw),
        ("whose header is no dictionary", "[1, 2, 3]", raw),
        ("whose header lacks its shape", "{'descr': '|u1', 'fortran_order': False}", raw),
        ("whose header never ends", "{'descr': '|u1', ", raw),
    ]:
        yield refused(name, lambda header=header, content=content: npz(images=npy_that_says(header, content)))
    good = says.format("'|u1'", "(4, 10, 12, 3)")
    yield refused("of version 9 of the format", lambda: npz(images=npy_that_says(good, raw, b"\x09\0")))
    yield refused("with a header said to be 4 gigabytes", lambda: npz(images=b"\x93NUMPY\2\0\xff\xff\xff\xff" + raw))
    yield refused("without the format's magic", lambda: npz(images=raw))
    for name, group in {
        "no group": "",
        "a group with a line end": "N\n2",
        "a group that runs backwards": "N\u202e2",
    }.items():
        yield refused(
            f"one of whose rows has {name}",
            lambda group=group: npz(groups=np.array(["N-1"] * 3 + [group])),
            "group",
            lost=1,
        )
    for name, label in {"no class of ours": "blast", "a bare number": "3"}.items():
        expected = SetAside(file="N-2", reason="not registered")
        content = partial(npz, labels=np.array(["CTC", "WBC", "", label]))
        yield Variant(
            name=f"an array one of whose labels is {name}",
            kind="array",
            damage=spoil(ARRAY, content),
            expected=expected,
        )
    for name, file in {
        "an array under an unknown name": "export/arrays/cells.npy",
        "labels of the authors without their images": "export/arrays/ytrain_5class_prepr.npy",
        "images that are not those of the authors whose name they have": "export/arrays/xtrain_5class_prepr.npy",
    }.items():
        expected = SetAside(file=Path(file).name, reason="no array that we know|labels|published set")
        yield Variant(name=name, kind="array", damage=spoil(file, lambda: npy(images.astype("f4"))), expected=expected)
    for name, make in {
        "a folder": Path.mkdir,
        "a pipe": os.mkfifo,
        "a link out of it": link("{delivery}/clinical.csv"),
        "a link to itself": lambda path: path.symlink_to(path),
    }.items():
        expected = SetAside(file="labelled.npz", reason="regular file", lost=ROWS_OF_ARRAY)
        if name != "a folder":
            yield Variant(
                name=f"an array that is {name}", kind="array", damage=replace_with(ARRAY, make), expected=expected
            )
    for name, content, other in [
        ("with a member more", partial(npz, notes=np.array(["x"])), 0),
        ("of big-endian 16 bit", partial(npz, images=images.astype(">u2")), 0),
        ("with numbers for labels in its table's order", partial(npz, ids=np.arange(4)), 0),
        ("with its channels in another order", partial(npz, channels=np.array(["DAPI", "CK", "CD45"])), ROWS_OF_ARRAY),
        ("without labels in any row", partial(npz, labels=np.array([""] * 4)), 0),
        ("without compression", lambda: _stored(whole), 0),
    ]:
        yield Variant(
            name=f"an array {name}", kind="array", damage=spoil(ARRAY, content), expected=Harmless(other=other)
        )


def _twice(whole: bytes) -> bytes:
    """The archive with a second member of the first one's name; `writestr` would warn of it."""
    other = repacked(whole, "none", None)
    return other.replace(b"labels.npy", b"images.npy")


def _stored(whole: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return buffer.getvalue()


# Cartridges. Reading a hundred frames takes a quarter of a second, so these are fewer.


def cartridges() -> Iterator[Variant]:
    whole = frame(26)

    def one(name: str, reason: str, damage: Damage, *, file: str = Path(FRAME).name, lost: int = 1) -> Variant:
        expected = SetAside(file=file, reason=reason, lost=lost, masks_lost=lost)
        return Variant(name=f"a cartridge {name}", kind="cartridge", damage=damage, expected=expected)

    untagged = tagged(tagged(whole, 755, rename=65101), 756, rename=65102)
    for name, content, reason in [
        ("cut to a third", whole[: len(whole) // 3], CUT),
        ("of floats with NaN", tiff(np.full((4, 40, 40), np.nan, "f4"), (None,)), "float32"),
        ("of one page", tiff(counts(1, (1, 40, 40))), "1 pages"),
        ("of 65535×65535 pixels", tagged(tagged(whole, WIDTH, 65535), LENGTH, 65535), "65535"),
        ("whose range is lost on a page", untagged, "755 and 756"),
        ("whose range is upside down", frame(26, ends=(900, 100)), "755 and 756"),
        ("whose range is a text", tagged(whole, 755, 8, kind=2, count=4), "755 and 756"),
    ]:
        yield one(f"with a frame {name}", reason, spoil(FRAME, lambda content=content: content))
    yield one("with a link out of it for a frame", "link", replace_with(FRAME, link("{delivery}/clinical.csv")))
    yield one("with a frame of another cartridge's number", "frame 999", move(FRAME, "K-1.1-0-999.tif"), file="999")
    gone = replace_with(FRAME, lambda path: None)
    yield one("without one of its hundred frames", "lies beside 99 frames", gone, file="K-1.xml", lost=4)
    for name, content, reason in [
        ("with entities that grow", ENTITIES + record("&f;"), "DOCTYPE"),
        ("cut off", record()[:-20], "not readable as XML"),
        ("of 0 rows", record(runs="<record><numrows>0</numrows></record>"), "numrows"),
        ("of two filters of one name", record(filters="<record><filtername>CK</filtername></record>" * 4), "filters"),
        (
            "with an event without a place",
            record(events="<record><rid>1</rid><location>(nan,1)</location></record>"),
            "location",
        ),
        (
            "with an event where nothing is",
            record(events="<record><rid>9</rid><location>(300,300) (309,309)</location></record>"),
            "rid 9",
        ),
    ]:
        yield one(f"with an XML {name}", reason, spoil(RECORD, lambda content=content: content), file="K-1.xml", lost=0)


# The delivery as a whole.


def layouts() -> Iterator[Variant]:
    frames, first = f"{RESULTS}/frames", f"{RESULTS}/frames/H-1.1"

    def variant(name: str, damage: Damage, expected: SetAside | Stopped | Harmless) -> Variant:
        return Variant(name=name, kind="layout", damage=damage, expected=expected)

    gone = {"lost": 4, "masks_lost": 4}
    for name, to in {
        "without a row in the clinical table": "H-7.7",
        "that ends in a space": "H-1.1 ",
        "that ends in a dot": "H-1.1.",
        "with a line end": "H\n1.1",
        "that is hidden": ".H-1.1",
        "with text that runs backwards": "H\u202e1.1",
        "in bytes that are no text": b"H-\xff\xfe",
        "as long as the disk allows": "H" * 255,
        "as a spreadsheet's formula": "=1+1",
        "that looks like the way up": "..H-1.1",
        "with quotes": "H\"1,1'",
    }.items():
        expected = SetAside(file=os.fsdecode(to), reason="no row", **gone)
        yield variant(f"a sample with a name {name}", move(first, to), expected)

    def copied(source: str, to: str) -> Damage:
        return lambda delivery: _copy(delivery / source, delivery / to)

    twice = "exported 2 times"
    yield variant("a sample that two processors exported", copied(first, "export/Marker Characterization_0.1/frames/H-1.1"),
                  SetAside(file="H-1.1", reason=twice, **gone))  # fmt: skip
    yield variant(
        "a sample that is there in a copy of the export",
        copied(RESULTS, "export/copy"),
        SetAside(file="H-2.1", reason=twice, lost=8, masks_lost=8),
    )
    yield variant("a sample both exported and listed", change(LIST, lambda old: old.replace(b"L-1", b"H-1.1")),
                  SetAside(file="H-1.1", reason=twice, lost=7, masks_lost=5))  # fmt: skip
    yield variant("a sample both listed and in an array", change(LIST, lambda old: old.replace(b"L-1", b"N-2")),
                  SetAside(file="N-2", reason=twice, lost=4, masks_lost=1))  # fmt: skip
    yield variant(
        "a listed folder that is there twice",
        copied("export/listed", "export/listed again"),
        SetAside(file="L-1", reason=twice, lost=3, masks_lost=1),
    )
    yield variant(
        "an array that is there twice",
        copied(ARRAY, "export/arrays/again.npz"),
        SetAside(file="N-1", reason=twice, lost=4),
    )
    yield variant(
        "a sample of which only a selection was exported",
        move(THUMBS, "selected_Thumbs"),
        SetAside(file="H-1.1", reason="capped random draw", **gone),
    )
    yield variant(
        "a sample without its thumbnails' folder",
        move(THUMBS, "elsewhere"),
        SetAside(file="H-1.1", reason="capped random draw", **gone),
    )
    yield variant(
        "a sample that is a link out of the export", _moved_out(first), SetAside(file="H-1.1", reason="link", **gone)
    )
    yield variant(
        "thumbnails' folder that is a link out of the export",
        _moved_out(THUMBS),
        SetAside(file="", reason="link", **gone),
    )
    yield variant(
        "an export that holds a link to itself",
        lambda delivery: (delivery / "export/again").symlink_to(delivery / "export"),
        Harmless(),
    )
    yield variant(
        "an export that holds a link to the system",
        lambda delivery: (delivery / "export/root").symlink_to("/"),
        Harmless(),
    )
    yield variant(
        "an export with a pipe beside the samples", lambda delivery: os.mkfifo(delivery / frames / "pipe"), Harmless()
    )
    yield variant("an export with files of the operating system", _with_clutter, Harmless())
    yield variant(
        "an export with a summary that is noise",
        spoil(f"{RESULTS}/summaryTable.xlsx", lambda: b"\0\1\2" * 99),
        Harmless(),
    )
    yield variant(
        "an export with MATLAB's file of a sample",
        spoil(f"{RESULTS}/output/H-1.1.mat", lambda: b"MATLAB 5.0" * 99),
        Harmless(),
    )
    yield variant(
        "a sample without ACCEPT's marker",
        lambda delivery: (delivery / THUMBS / "ACCEPTThumbnails.txt").unlink(),
        Harmless(),
    )
    deep = "export/" + "/".join(["d" * 40] * 30)
    yield variant("an export thirty folders deep", lambda delivery: (delivery / deep).mkdir(parents=True), Harmless())

    def replaced(make: Callable[[Path], object]) -> Damage:
        def damage(delivery: Path) -> None:
            (delivery / "export").rename(delivery / "aside")
            make(delivery / "export")

        return damage

    for name, make in {
        "missing": lambda path: None,
        "an empty folder": Path.mkdir,
        "a link to nothing": lambda path: path.symlink_to("nothing"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a folder of folders without files": lambda path: (path / "frames" / "Thumbs").mkdir(parents=True),
    }.items():
        yield variant(f"an export that is {name}", replaced(make), Stopped(file="export", reason="name the folder"))
    for name, make in {
        "a text": lambda path: path.write_text("see the other disk"),
        "a pipe": os.mkfifo,
    }.items():
        expected = SetAside(file="export", reason="array|regular file", lost=15, masks_lost=9)
        yield variant(f"an export that is {name}", replaced(make), expected)


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to)
    else:
        shutil.copyfile(source, to)


def _moved_out(name: str) -> Damage:
    """Put a folder of the export beside the export, and a link in its place."""

    def damage(delivery: Path) -> None:
        (delivery / name).rename(delivery / "aside")
        (delivery / name).symlink_to(delivery / "aside")

    return damage


def _with_clutter(delivery: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "notes.txt", "overview_thumbnail.tif", "1_seg.tif"):
        put(delivery, f"{THUMBS}/{name}", b"clutter")


def variants() -> list[Variant]:
    """All ways of being wrong, and some of being odd that are none."""
    families = (
        truncated_thumbnails, foreign_thumbnails, thumbnails_of_other_pixels, thumbnails_with_lying_tags,
        thumbnails_with_broken_directories, thumbnails_with_broken_pixels, harmless_thumbnails, thumbnails_with_wrong_names,
        files_that_are_no_files, doubled_thumbnails, masks, tables, clinical_tables, historic_tables, listed_folders, arrays, cartridges, layouts,
    )  # fmt: skip
    return [variant for family in families for variant in family()]
