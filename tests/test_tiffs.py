"""The authority is tifffile: whatever the fast reader accepts, it must read exactly as tifffile does."""

import contextlib
import io
import struct
import tracemalloc
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ctcml.thumbnails import LARGEST_SIDE, UnfitFileError
from ctcml.tiffs import NotPlainError, any_pages, decode_mask, decode_thumbnail, plain_pages

ALL_KINDS = ("bool", "uint8", "uint16")


def counts(pages=4, height=21, width=34, dtype=np.uint16):
    return np.random.default_rng(7).integers(0, 4300, (pages, height, width)).astype(dtype)


def tiff(pages, *, byteorder="<", bigtiff=False, **more):
    """The bytes of a file with these pages."""
    file = io.BytesIO()
    options = {"photometric": "minisblack", "metadata": None, "software": False, "contiguous": False, **more}
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        for page in pages:
            writer.write(page, **options)
    return file.getvalue()


def by_tifffile(content):
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        return np.stack([page.asarray() for page in file.pages])


def read(content):
    return decode_thumbnail(content, minimum=3).pixels


def reason(content, decode=read):
    with pytest.raises(UnfitFileError) as refused:
        decode(content)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@st.composite
def files(draw):
    """A plain file as ACCEPT or any other writer may make it, and what it holds."""
    dtype = draw(st.sampled_from([np.bool_, np.uint8, np.uint16]))
    height, width, pages = draw(st.integers(1, 20)), draw(st.integers(1, 20)), draw(st.integers(1, 6))
    top = {np.bool_: 2, np.uint8: 256, np.uint16: draw(st.sampled_from([2, 300, 65536]))}[dtype]
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    stored = rng.integers(0, top, (pages, height, width)).astype(dtype)
    stored[:, : draw(st.integers(0, height))] = 0  # runs, as there are outside a cell
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=draw(st.sampled_from("<>"))) as writer:
        for page in stored:
            writer.write(
                page,
                compression=draw(st.sampled_from([None, "lzw", "packbits", "zlib"])),
                photometric=draw(st.sampled_from(["minisblack", "miniswhite"])),
                rowsperstrip=draw(st.integers(1, height)),
                metadata=None,
                software=False,
                contiguous=False,
            )
    return file.getvalue(), stored


# The fast reader against the authority


@given(files())
@settings(max_examples=300, deadline=None)
def test_the_fast_reader_gives_the_very_arrays_of_tifffile(made):
    content, stored = made
    fast, slow = plain_pages(content), any_pages(content, minimum=1, kinds=ALL_KINDS)
    np.testing.assert_array_equal(fast.planes, stored)
    np.testing.assert_array_equal(fast.planes, by_tifffile(content))
    assert (fast.planes.dtype, fast.white_is_zero) == (slow.planes.dtype, slow.white_is_zero)
    assert fast.planes.dtype == stored.dtype


@given(files(), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255), st.booleans()), min_size=1, max_size=3))
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_damaged_file_is_refused_or_read_as_tifffile_reads_it(made, damage):
    content = bytearray(made[0])
    for at, value, in_header in damage:
        content[at % min(len(content), 180 if in_header else len(content))] = value
    content = bytes(content)
    for decode in (read, decode_mask):
        with contextlib.suppress(UnfitFileError):
            decode(content)
    try:
        fast = plain_pages(content)
    except NotPlainError:
        return
    np.testing.assert_array_equal(fast.planes, by_tifffile(content))
    slow = any_pages(content, minimum=1, kinds=ALL_KINDS)  # the fast reader never takes what the other refuses
    np.testing.assert_array_equal(fast.planes, slow.planes)
    assert (fast.planes.dtype, fast.white_is_zero) == (slow.planes.dtype, slow.white_is_zero)


@given(files(), st.floats(0, 1, exclude_max=True))
@settings(max_examples=300, deadline=None)
def test_a_truncated_file_is_never_read(made, share):
    content = made[0][: int(share * len(made[0]))]
    with pytest.raises(NotPlainError):
        plain_pages(content)
    with pytest.raises(UnfitFileError):
        any_pages(content, minimum=1, kinds=ALL_KINDS)


@given(st.binary(max_size=300), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
@settings(max_examples=300, deadline=None)
def test_rubbish_is_refused(rubbish, head):
    for decode in (read, decode_mask):
        with pytest.raises(UnfitFileError):
            decode(head + rubbish)


@pytest.mark.parametrize("compression", [None, "lzw", "packbits", "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_files_as_accept_writes_them_do_not_need_tifffile(monkeypatch, compression, byteorder):
    thumbnail = tiff(counts(), compression=compression, byteorder=byteorder)
    mask = tiff(counts() > 2000, compression=compression, byteorder=byteorder)
    monkeypatch.setattr(tifffile, "TiffFile", None)
    np.testing.assert_array_equal(read(thumbnail), counts())
    np.testing.assert_array_equal(decode_mask(mask), counts() > 2000)


@pytest.mark.parametrize(
    "options",
    [
        {"predictor": True, "compression": "lzw"},
        {"tile": (16, 16)},
        {"tile": (16, 32), "compression": "zlib"},
        {"bigtiff": True},
        {"description": "a cell"},
        {"software": "somebody's own"},
        {"extratags": [(65000, 3, 1, 5, True)]},
    ],
)
def test_what_the_fast_reader_does_not_know_is_left_to_tifffile(options):
    content = tiff(counts(), **options)
    with pytest.raises(NotPlainError):
        plain_pages(content)
    np.testing.assert_array_equal(read(content), counts())


@given(st.sampled_from(["tiff_ccitt", "group4"]), st.integers(1, 20), st.integers(1, 40), st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_fax_masks_as_libtiff_writes_them_are_read_as_tifffile_reads_them(compression, height, width, seed):
    inside = np.random.default_rng(seed).integers(0, 4, (3, height, width)) == 0
    pages, file = [Image.fromarray(page) for page in inside], io.BytesIO()
    pages[0].save(file, "TIFF", compression=compression, save_all=True, append_images=pages[1:])
    content = file.getvalue()
    np.testing.assert_array_equal(plain_pages(content).planes, inside)
    np.testing.assert_array_equal(by_tifffile(content), inside)
    with contextlib.suppress(UnfitFileError):  # the last byte may be padding
        np.testing.assert_array_equal(decode_mask(content[: seed % len(content)]), inside)


def test_a_strip_with_a_row_too_many_is_read_as_tifffile_reads_it():
    content = with_strip(imagecodecs.lzw_encode(counts(1, 22).tobytes()), compression=5)
    with pytest.raises(NotPlainError):
        plain_pages(content)
    np.testing.assert_array_equal(any_pages(content, minimum=1, kinds=ALL_KINDS).planes, counts(1, 22)[:, :21])


# Depths and colours


def test_stored_values_come_back_as_they_are_and_the_depth_beside_them():
    for dtype, bits in ((np.uint8, 8), (np.uint16, 16)):
        decoded = decode_thumbnail(tiff(counts(dtype=dtype)), minimum=3)
        np.testing.assert_array_equal(decoded.pixels, counts(dtype=dtype))
        assert (decoded.pixels.dtype, decoded.bit_depth, decoded.lossy, decoded.rgb) == (np.uint16, bits, False, False)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_the_samples_of_one_rgb_page_become_pages_red_green_blue(dtype, planar):
    stored = counts(3, dtype=dtype)
    page = np.moveaxis(stored, 0, 2) if planar == "contig" else stored
    decoded = decode_thumbnail(tiff([page], photometric="rgb", planarconfig=planar), minimum=3)
    np.testing.assert_array_equal(decoded.pixels, stored)
    assert (decoded.rgb, decoded.bit_depth) == (True, np.dtype(dtype).itemsize * 8)


def test_a_jpeg_comes_near_what_was_stored_and_is_called_lossy():
    y, x = np.mgrid[:40, :48]
    page = np.stack([5 * y, 5 * x, 100 + y - x], axis=2).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(page).convert("YCbCr").save(file, "TIFF", compression="jpeg")
    as_ycbcr = file.getvalue()
    assert tifffile.TiffFile(io.BytesIO(as_ycbcr)).pages[0].photometric == tifffile.PHOTOMETRIC.YCBCR
    as_rgb = tiff([page], photometric="rgb", compression="jpeg")
    as_pages = tiff(np.moveaxis(page, 2, 0), compression="jpeg")
    for content, rgb in ((as_ycbcr, True), (as_rgb, True), (as_pages, False)):
        decoded = decode_thumbnail(content, minimum=3)
        assert (decoded.lossy, decoded.rgb) == (True, rgb)
        assert np.abs(decoded.pixels.astype(int) - np.moveaxis(page, 2, 0)).mean() < 3


def test_an_alpha_sample_is_refused():
    page = np.zeros((20, 20, 4), np.uint8)
    assert "4 samples a pixel" in reason(tiff([page], photometric="rgb", extrasamples=["unassalpha"]))


def test_rgb_pages_are_only_taken_alone():
    page = np.zeros((20, 20, 3), np.uint8)
    assert "2 RGB pages" in reason(tiff([page, page], photometric="rgb"))


def test_the_numbers_of_a_palette_are_no_light():
    palette = {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}
    assert "photometric 3" in reason(tiff(counts(dtype=np.uint8), **palette))


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int16", "int8", "int32", "uint32", "complex64"])
def test_pixels_that_are_no_camera_counts_are_refused(dtype):
    assert f"pixels are {dtype}" in reason(tiff(counts(dtype=dtype)))


def test_pages_of_two_depths_are_refused():
    assert "shape or depth" in reason(tiff([*counts(3), counts(dtype=np.uint8)[0]]))


def test_a_thumbnail_is_no_mask_and_a_mask_no_thumbnail():
    assert "pixels are uint16" in reason(tiff(counts()), decode_mask)
    assert "pixels are bool" in reason(tiff(counts() > 2000))


# Masks


@pytest.mark.parametrize("top", [1, 255])
def test_masks_of_one_byte_a_pixel_are_read(top):
    inside = counts() > 2000
    np.testing.assert_array_equal(decode_mask(tiff((inside * top).astype(np.uint8))), inside)


@pytest.mark.parametrize("values", [(0, 2), (0, 1, 255), (3, 255)])
def test_a_picture_of_labels_is_no_mask(values):
    page = np.resize(np.array(values, np.uint8), (1, 6, 6))
    assert "mask holds values" in reason(tiff(page), decode_mask)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8])
def test_only_the_pages_whose_zero_is_white_are_turned_over(dtype):
    inside = counts(2) > 2000
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for page, photometric in ((inside[0], "minisblack"), (~inside[1], "miniswhite")):
            writer.write(page.astype(dtype), photometric=photometric, metadata=None, contiguous=False)
    np.testing.assert_array_equal(decode_mask(file.getvalue()), inside)


def test_an_empty_mask_is_a_mask():
    assert not decode_mask(tiff(np.zeros((4, 6, 6), bool))).any()


def test_a_mask_that_does_not_say_what_black_is_is_refused():
    content = tiff(counts() > 2000)
    unsaid = content.replace(struct.pack("<HHI", 262, 3, 1), struct.pack("<HHI", 260, 3, 1))
    assert "photometric" in reason(unsaid, decode_mask)


# Files that lie


def with_strip(strip, *, compression, height=21, width=34, bits=16):
    """A classic TIFF of one page whose only strip is `strip`, whatever the header says."""
    tags = [(256, width), (257, height), (258, bits), (259, compression), (262, 1), (273, 8 + 2 + 8 * 12 + 4)]
    tags += [(278, height), (279, len(strip))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip


BOMB = bytes(200 * 2**20)


def packed_bomb(compression):
    """Kilobytes that unpack to 200 MB of zeros."""
    if compression == 5:
        return imagecodecs.lzw_encode(BOMB)
    return zlib.compress(BOMB, 1) if compression == 8 else b"\x81\0" * (len(BOMB) // 128)


@pytest.mark.parametrize("compression", [5, 8, 32773])
def test_a_strip_that_unpacks_to_gigabytes_is_refused_before_it_does(compression):
    content = with_strip(packed_bomb(compression), compression=compression)
    tracemalloc.start()
    reason(content, lambda one: decode_thumbnail(one, minimum=1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(content) + 2**20


@pytest.mark.parametrize(("height", "width"), [(65535, 65535), (LARGEST_SIDE + 1, 5), (5, 2**31), (0, 5), (5, 0)])
def test_a_size_that_no_thumbnail_has_is_refused_before_anything_is_allocated(height, width):
    content = with_strip(b"\x81\0" * 5000, compression=32773, height=height, width=width)
    tracemalloc.start()
    for decode in (read, decode_mask):
        assert "declares" in reason(content, decode)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_jpeg_that_declares_a_huge_picture_inside_a_small_page_is_refused():
    content = tiff(counts(3, dtype=np.uint8), compression="jpeg")
    at = content.index(b"\xff\xc0") + 5
    huge = content[:at] + struct.pack(">HH", 65500, 65500) + content[at + 4 :]
    assert f"more than {LARGEST_SIDE}" in reason(huge)


def test_a_jpeg_without_its_end_is_refused_and_not_filled_with_grey():
    content = bytearray(tiff(counts(3, dtype=np.uint8), compression="jpeg"))
    end = content.rindex(b"\xff\xd9")
    content[end - 40 : end + 2] = bytes(42)
    assert "truncated" in reason(bytes(content))


def test_a_tile_larger_than_any_thumbnail_is_refused():
    content = tiff(counts(), tile=(16, 16))
    true, huge = (struct.pack("<HHII", 322, 4, 1, width) for width in (16, 2**20))  # tag TileWidth
    assert content.count(true) == 4
    assert "declares" in reason(content.replace(true, huge))


def test_pages_that_go_round_in_a_circle_are_refused():
    content = bytearray(tiff(counts(3)))
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, first)
    assert "more than 16 pages" in reason(bytes(content))


def test_sixteen_pages_are_read_and_seventeen_refused():
    np.testing.assert_array_equal(read(tiff(counts(16))), counts(16))
    assert "more than 16 pages" in reason(tiff(counts(17)))


def test_fewer_pages_than_channels_are_refused():
    assert "2 pages, expected 3" in reason(tiff(counts(2)))


def test_a_broken_chain_of_pages_is_refused_and_not_read_up_to_there():
    content = bytearray(tiff(counts(4)))
    at = struct.unpack_from("<I", content, 4)[0]
    for _ in range(3):
        end = at + 2 + 12 * struct.unpack_from("<H", content, at)[0]
        at = struct.unpack_from("<I", content, end)[0]
    struct.pack_into("<I", content, end, len(content) + 8)
    assert "page 4 is announced but missing" in reason(bytes(content))


def test_a_missing_strip_is_refused_and_not_read_as_black():
    content = tiff(counts(), rowsperstrip=7)
    offsets = struct.pack("<3I", *tifffile.TiffFile(io.BytesIO(content)).pages[1].dataoffsets)
    assert content.count(offsets) == 1
    assert "truncated" in reason(content.replace(offsets, offsets[:8] + bytes(4)))
