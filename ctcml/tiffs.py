"""Decoding thumbnail and mask TIFFs that come from outside: every declared size is checked before anything is decoded.

tifffile is the authority on what a file holds. It takes half a millisecond a thumbnail, most of it for generality that
ACCEPT's files do not need, so plain files (classic TIFF, one sample a pixel, strips, no predictor) are decoded by
`plain_pages`, which gives the same arrays or gives up; whatever it does not fully understand goes to `any_pages`.
"""

import io
import logging
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray

from ctcml.thumbnails import LARGEST_SIDE, MOST_PAGES, UnfitFileError, one_line

WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, FILL_ORDER = 256, 257, 258, 259, 262, 266  # numbers of TIFF tags
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_BYTES, PLANAR = 273, 277, 278, 279, 284
PREDICTOR, SAMPLE_FORMAT = 317, 339
ONE_IF_PLAIN = (SAMPLES, PLANAR, PREDICTOR, SAMPLE_FORMAT, FILL_ORDER)
READ = {WIDTH, LENGTH, BITS, COMPRESSION, PHOTOMETRIC, STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_BYTES, *ONE_IF_PLAIN}
NO_MATTER = {254, 274, 282, 283, 296}  # subfile type, orientation, resolution: they change no pixel
VALUE_SIZE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
MOST_TAGS = 64

CCITT_3, JPEG = 3, 7
CCITT = {2: imagecodecs.ccittrle_decode, 4: imagecodecs.ccittfax4_decode}
UNPACK: dict[int, Callable[..., bytes | bytearray]] = {  # the functions that tifffile itself uses, by TIFF code
    5: imagecodecs.lzw_decode,
    8: imagecodecs.deflate_decode,
    32946: imagecodecs.deflate_decode,
    32773: imagecodecs.packbits_decode,
}
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, YCBCR = 0, 1, 2, 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """A thumbnail's stored values, uint16 (pages, h, w); `rgb`: of one RGB page, whose samples became pages R, G, B."""

    pixels: NDArray[np.uint16]
    bit_depth: int
    lossy: bool
    rgb: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Pages:
    """All pages of a file as stored: `planes` bool, uint8 or uint16 (pages, h, w), and which of them call 0 white."""

    planes: NDArray[np.bool_] | NDArray[np.uint8] | NDArray[np.uint16]
    white_is_zero: tuple[bool, ...]
    lossy: bool = False
    rgb: bool = False


class NotPlainError(Exception):
    """The fast reader does not fully understand a file, or the file is damaged: tifffile decides."""


def decode_thumbnail(content: bytes, *, minimum: int) -> Decoded:
    """Decode a thumbnail of `minimum` or more 8- or 16-bit pages, or of one RGB page; `UnfitFileError` says why not."""
    pages = _pages(content, minimum=minimum, kinds=("uint16", "uint8"))
    return Decoded(
        pixels=pages.planes.astype(np.uint16, copy=False),
        bit_depth=8 * pages.planes.itemsize,
        lossy=pages.lossy,
        rgb=pages.rgb,
    )


def decode_mask(content: bytes) -> NDArray[np.bool_]:
    """Decode a mask to bool (pages, h, w): 1-bit pages, or 8-bit ones that hold 0 and 1, or 0 and 255.

    A page whose 0 means white is turned over (TIFF 6.0, PhotometricInterpretation 0).
    """
    pages = _pages(content, minimum=1, kinds=("bool", "uint8"))
    inside: NDArray[np.bool_] = pages.planes != 0
    largest = int(pages.planes.max())
    if largest not in (0, 1, 255) or np.any(inside & (pages.planes != largest)):
        raise UnfitFileError(f"mask holds values up to {largest}, expected 0 and 1, or 0 and 255; export it as a mask")
    if any(pages.white_is_zero):
        inside = inside ^ np.array(pages.white_is_zero)[:, None, None]
    return inside


def _pages(content: bytes, *, minimum: int, kinds: tuple[str, ...]) -> Pages:
    try:
        pages = plain_pages(content)
    except NotPlainError:
        return any_pages(content, minimum=minimum, kinds=kinds)
    if len(pages.planes) < minimum or pages.planes.dtype.name not in kinds:
        return any_pages(content, minimum=minimum, kinds=kinds)
    return pages


# The fast reader. A thumbnail is one kind of page four times, so the pages are unpacked to bytes and become one array.


def plain_pages(content: bytes) -> Pages:
    """Decode a plain file; `NotPlainError` where it has anything that this reader does not know, or is damaged."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4], "")
    seen: list[int] = []
    pages: list[tuple[bytes, bool]] = []
    shapes: set[tuple[int, int, int]] = set()
    try:
        (at,) = struct.unpack_from(order + "I", content, 4)
        while at:
            if not order or at in seen or len(seen) == MOST_PAGES:
                raise NotPlainError
            seen.append(at)
            tags, at = _tags(content, at, order)
            shape, white = _described(tags)
            pages.append((_unpacked(content, tags, shape), white))
            shapes.add(shape)
        ((height, width, bits),) = shapes
    except (struct.error, LookupError, ValueError, RuntimeError):  # RuntimeError: the codecs' errors
        raise NotPlainError from None
    stored = np.frombuffer(b"".join([raw for raw, _ in pages]), order + "u2" if bits == 16 else np.uint8)
    stored = stored.reshape(len(pages), height, -1)
    planes = np.unpackbits(stored, axis=2, count=width).view(np.bool_) if bits == 1 else stored
    return Pages(
        planes=planes.astype(planes.dtype.newbyteorder("="), copy=False),
        white_is_zero=tuple(white for _, white in pages),
    )


def _tags(content: bytes, at: int, order: str) -> tuple[dict[int, tuple[int, ...]], int]:
    """Read one directory: the values of the tags that matter, and where the next directory begins (0: nowhere)."""
    (number,) = struct.unpack_from(order + "H", content, at)
    if number > MOST_TAGS:
        raise NotPlainError
    *entries, following = _directory(order, number).unpack_from(content, at + 2)
    tags: dict[int, tuple[int, ...]] = {}
    before = 0
    for code, kind, count, value in zip(entries[::4], entries[1::4], entries[2::4], entries[3::4], strict=True):
        size = count * VALUE_SIZE[kind]
        if code <= before or (size > 4 and value + size > len(content)):  # above 4 bytes, the field says where they lie
            raise NotPlainError
        before = code
        if code not in READ:
            if code not in NO_MATTER:
                raise NotPlainError
        elif count == 1 and kind in (3, 4):  # nearly all: the value is the field, or its first half
            tags[code] = (value if kind == 4 else value & 0xFFFF if order == "<" else value >> 16,)
        elif kind in (3, 4) and 0 < count <= LARGEST_SIDE:
            source, where = (content, value) if size > 4 else (struct.pack(order + "I", value), 0)
            tags[code] = struct.unpack_from(f"{order}{count}{'H' if kind == 3 else 'I'}", source, where)
        else:
            raise NotPlainError
    return tags, following


@cache
def _directory(order: str, number: int) -> struct.Struct:
    """The layout of a directory of so many tags: code, kind, count and value of each, then where the next one begins."""
    return struct.Struct(order + "HHII" * number + "I")


def _described(tags: dict[int, tuple[int, ...]]) -> tuple[tuple[int, int, int], bool]:
    """Return height, width and bits of a page, and whether its 0 is white; an error where it is not stored plainly."""
    (height,), (width,), (photometric,), (bits,) = tags[LENGTH], tags[WIDTH], tags[PHOTOMETRIC], tags.get(BITS, (1,))
    if not (
        all(tags.get(code, (1,)) == (1,) for code in ONE_IF_PLAIN)
        and 0 < height <= LARGEST_SIDE
        and 0 < width <= LARGEST_SIDE
        and bits in (1, 8, 16)
        and photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
    ):
        raise NotPlainError
    return (height, width, bits), photometric == WHITE_IS_ZERO


def _unpacked(content: bytes, tags: dict[int, tuple[int, ...]], shape: tuple[int, int, int]) -> bytes:
    """Unpack the strips of a page, each to exactly the bytes that its rows need, or give up."""
    height, width, bits = shape
    (code,), (rows,) = tags.get(COMPRESSION, (1,)), tags.get(ROWS_PER_STRIP, (height,))
    offsets, sizes = tags[STRIP_OFFSETS], tags[STRIP_BYTES]
    if rows == 0 or 0 in offsets or 0 in sizes or len(offsets) != -(-height // rows):
        raise NotPlainError
    unpacked: list[bytes | bytearray] = []
    for top, start, size in zip(range(0, height, rows), offsets, sizes, strict=True):
        high, row, strip = min(rows, height - top), (width * bits + 7) // 8, content[start : start + size]
        if bits == 1 and code in CCITT:
            unpacked.append(np.packbits(CCITT[code](strip, high, width), axis=1).tobytes())
        else:  # with room for one byte more, so that a strip which is too long shows
            unpacked.append(strip if code == 1 else UNPACK[code](strip, out=high * row + 1))
        if len(strip) != size or len(unpacked[-1]) != high * row:
            raise NotPlainError
    return b"".join(unpacked)


# The authority. tifffile forgives much that must not be forgiven here: it fills what is missing and stops where it likes.


def any_pages(content: bytes, *, minimum: int, kinds: tuple[str, ...]) -> Pages:
    """Decode any file that is fit, by tifffile; `kinds` are the dtypes wanted, RGB and JPEG only where uint16 is one."""
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it grumbles about comes back as our refusals
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            pages = _checked_pages(tiff, content, minimum=minimum, kinds=kinds)
            planes = [page.asarray(maxworkers=1) for page in pages]
            rgb = pages[0].samplesperpixel == 3
            if rgb:
                planes = list(planes[0] if pages[0].planarconfig == 2 else np.moveaxis(planes[0], 2, 0))
            return Pages(
                planes=np.stack(planes),
                white_is_zero=tuple(page.photometric == WHITE_IS_ZERO for page in pages),
                lossy=any(page.compression == JPEG for page in pages),
                rgb=rgb,
            )
    except UnfitFileError:
        raise
    except Exception as error:  # the decoders raise a dozen unrelated kinds on damaged files
        raise UnfitFileError(f"not readable as TIFF ({one_line(error)}); export it again") from None


def _checked_pages(
    tiff: tifffile.TiffFile, content: bytes, *, minimum: int, kinds: tuple[str, ...]
) -> list[tifffile.TiffPage]:
    pages, following = list[tifffile.TiffPage](), 0
    for page in tiff.pages:
        if len(pages) == MOST_PAGES:
            raise UnfitFileError(f"more than {MOST_PAGES} pages, expected one a channel; export it again")
        following = _next_page(tiff, page, content)
        _check_page(page, content, kinds=kinds)
        pages.append(page)
    if following != 0:  # tifffile stops silently where this is broken
        raise UnfitFileError(f"truncated: page {len(pages) + 1} is announced but missing; copy or export it again")
    if len({(page.shape, page.dtype) for page in pages}) > 1:
        found = [f"{page.dtype} {page.shape}" for page in pages]
        raise UnfitFileError(f"pages differ in shape or depth: {found}; export it again")
    if any(page.samplesperpixel == 3 for page in pages):
        if len(pages) > 1:
            raise UnfitFileError(f"{len(pages)} RGB pages, expected a single one; export one page a channel")
    elif len(pages) < minimum:
        raise UnfitFileError(f"{len(pages)} pages, expected {minimum} or more, one a channel; export all channels")
    return pages


def _next_page(tiff: tifffile.TiffFile, page: tifffile.TiffPage, content: bytes) -> int:
    """Return where a page says the next one begins, 0 for the last; a tag whose value lies beyond the end is refused."""
    form = tiff.tiff
    (tags,) = struct.unpack_from(form.tagnoformat, content, page.offset)
    end = page.offset + form.tagnosize + tags * form.tagsize
    for at in range(page.offset + form.tagnosize, end, form.tagsize):
        _, kind, count = struct.unpack_from(form.byteorder + ("HHI" if form.offsetsize == 4 else "HHQ"), content, at)
        (where,) = struct.unpack_from(form.offsetformat, content, at + form.tagsize - form.offsetsize)
        size = count * VALUE_SIZE.get(kind, 1)
        if size > form.offsetsize and where + size > len(content):
            raise UnfitFileError("truncated: the value of a tag is missing; copy or export it again")
    (following,) = struct.unpack_from(form.offsetformat, content, end)
    return int(following)


def _check_page(page: tifffile.TiffPage, content: bytes, *, kinds: tuple[str, ...]) -> None:
    sides = [page.imagelength, page.imagewidth, *([page.tilelength, page.tilewidth] if page.is_tiled else [])]
    if not all(0 < side <= LARGEST_SIDE for side in sides):
        raise UnfitFileError(
            f"declares {sides[0]}×{sides[1]} pixels, expected 1 to {LARGEST_SIDE} a side; export again"
        )
    samples, code, colour = page.samplesperpixel, int(page.compression), page.photometric
    jpeg = code == JPEG and "uint16" in kinds
    rgb = samples == 3 and "uint16" in kinds and (colour == RGB or (colour == YCBCR and jpeg))
    grey = samples == 1 and colour in (WHITE_IS_ZERO, BLACK_IS_ZERO) and PHOTOMETRIC in page.tags
    if not (rgb or grey) or math.prod(page.shape) != sides[0] * sides[1] * samples:
        raise UnfitFileError(
            f"a page has {samples} samples a pixel (photometric {int(colour)}), expected 1 in grey, or 3 on a single RGB"
            " page; export one page a channel"
        )
    if str(page.dtype) not in kinds:
        raise UnfitFileError(
            f"pixels are {page.dtype}, expected {' or '.join(kinds)}; export thumbnails and masks anew"
        )
    if not (code == 1 or code in UNPACK or code in CCITT or code == CCITT_3 or jpeg):
        raise UnfitFileError(
            f"compression {code}, expected LZW, PackBits, CCITT, deflate, JPEG or none; export it again"
        )
    depth = page.bitspersample
    if depth not in (1, 8, 16) or (depth > 1 and code in CCITT) or page.predictor not in (1, 2):
        raise UnfitFileError(
            f"{depth} bits a sample with compression {code} and predictor {int(page.predictor)} is none of ACCEPT's ways;"
            " export it again"
        )
    # tifffile fills a missing strip with zeros: a truncated file would come out as a half-black thumbnail.
    strips = list(zip(page.dataoffsets, page.databytecounts, strict=False))
    counted = {len(page.dataoffsets), len(page.databytecounts), math.prod(page.chunked)}
    if len(counted) > 1 or any(at <= 0 or n <= 0 or at + n > len(content) for at, n in strips):
        raise UnfitFileError("truncated: pixel data are missing; copy or export it again")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    for at, n in strips:
        _check_strip(content[at : at + n], code, most=2 * rows * (columns * samples * page.bitspersample + 7) // 8)


def _check_strip(strip: bytes, compression: int, *, most: int) -> None:
    """Refuse a strip that unpacks to far more than its page declares: kilobytes can stand for gigabytes."""
    if compression == 1 and len(strip) > most // 2:
        raise UnfitFileError("a strip is longer than its pixels need; export it again")
    if compression in UNPACK and len(UNPACK[compression](strip, out=most + 1)) > most:
        raise UnfitFileError("a strip unpacks to more than its page declares; export it again")
    if compression == JPEG:
        if not strip.rstrip(b"\0").endswith(b"\xff\xd9"):
            raise UnfitFileError("truncated: a JPEG strip has no end; copy or export it again")
        at = 2
        while strip[at + 1] not in (0xC0, 0xC1, 0xC2):  # start of frame: baseline, extended, progressive
            at += 2 + int.from_bytes(strip[at + 2 : at + 4], "big")
        if max(struct.unpack_from(">HH", strip, at + 5)) > LARGEST_SIDE:
            raise UnfitFileError(f"a JPEG strip declares more than {LARGEST_SIDE} pixels a side; export it again")
