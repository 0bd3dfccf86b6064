"""Thumbnails as pictures: the recipe that makes the network's input, and the panels and sheets that a person looks at.

Raw pixels are uint16 counts of shape (planes, height, width) whose first three planes are CD45, DAPI, CK. An array that
already went through a recipe is uint8 of shape (80, 80, 3) and is refused here, so nothing is transformed twice.

The recipes, by the steps of Zeune et al. 2020 (Methods, "Image preprocessing" and "Training parameters and set-up"):

=========  ========================================  ==================  ====================  =================
recipe     background, over the true thumbnail       counts to 8 bit     window                source
=========  ========================================  ==================  ====================  =================
paper      each plane's 10th percentile subtracted   x >> 4              zeros around, or a    the paper, but for
                                                                         centre crop           the order (below)
asinh      the same                                  asinh, see          the same              ours, measured
                                                     `to_input`
given      none: the source did it                   none                the same              the source
=========  ========================================  ==================  ====================  =================

The paper casts and pads before it subtracts "the lowest 10 % of the intensity values present". A thumbnail with 10 % or
more of padding then has a background of 0 and nothing is subtracted, so here the background comes first.
"""

import io
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ctcml.errors import BadInput
from ctcml.records import PIXEL_SIZE_UM, PLANES

Counts = NDArray[np.uint16]
Picture = NDArray[np.uint8]
Recipe = Literal["asinh", "paper", "given"]

SIZE = 80  # pixels a side of the network's input (paper, Methods)
FULL_SCALE = 4095  # largest value of the 12-bit camera
SHEET_WINDOW = 64  # pixels a side of a contact sheet's tile: most objects fit, and they are larger on the screen
CONTRAST_FLOOR = 150.0  # counts above background: white is never less, or camera noise would look like a stain
OUTSIDE = 40  # grey of a reader's window where the thumbnail ends: no pixels there, not a dark background
GAP = 4  # pixels between the windows of a reader's row
SCALE_BAR_UM = 10.0


def recipe_tag(recipe: Recipe, *, background_percentile: float, asinh_scale: float) -> str:
    """Name a recipe with its numbers; a model stores this name and refuses images that carry another.

    >>> recipe_tag("asinh", background_percentile=10.0, asinh_scale=60.0)
    'asinh-v1(p10,60)'
    >>> recipe_tag("paper", background_percentile=10.0, asinh_scale=60.0)
    'paper-v1(p10)'
    >>> recipe_tag("given", background_percentile=10.0, asinh_scale=60.0)
    'given-v1'
    """
    if recipe == "given":
        return "given-v1"
    scale = f",{asinh_scale:g}" if recipe == "asinh" else ""
    return f"{recipe}-v1(p{background_percentile:g}{scale})"


def background(pixels: Counts, percentile: float) -> NDArray[np.uint16]:
    """Return the background of each plane, shape (planes,): its value at `percentile`, rounded down to one that occurs.

    >>> background(np.arange(100, dtype=np.uint16).reshape(1, 10, 10), 10.0).tolist()
    [9]
    """
    flat = pixels.reshape(len(pixels), -1)
    rank = int(percentile / 100 * (flat.shape[1] - 1))
    lowest: NDArray[np.uint16] = np.partition(flat, rank, axis=1)[:, rank]
    return lowest


def to_input(pixels: Counts, *, recipe: Recipe, background_percentile: float, asinh_scale: float) -> Picture:
    """Make one thumbnail the network's input: uint8 (80, 80, 3), planes CD45, DAPI, CK.

    Background is subtracted a plane over the true thumbnail, then the recipe's curve, then symmetric zero padding, or
    a centre crop where the thumbnail is larger (the manifest flags it as `oversize`). `asinh` =
    round(255·asinh(x/scale)/asinh(4095/scale)): linear below `scale` counts, logarithmic above, so dim CD45 keeps
    its grey levels. `paper` casts 12 bit to 8 bit (x >> 4). Camera counts have no recipe `given`: `BadInput`.
    """
    images = to_inputs([pixels], recipe=recipe, background_percentile=background_percentile, asinh_scale=asinh_scale)
    return images.squeeze(0)


def to_inputs(
    thumbnails: Sequence[Counts], *, recipe: Recipe, background_percentile: float, asinh_scale: float
) -> Picture:
    """Make many thumbnails the network's input, uint8 (N, 80, 80, 3), as `to_input` does one by one."""
    curve = _curve(recipe, asinh_scale)
    images = np.zeros((len(thumbnails), SIZE, SIZE, len(PLANES)), dtype=np.uint8)
    for image, pixels in zip(images, thumbnails, strict=True):
        planes = _three_planes(pixels)
        floor = background(planes, background_percentile)[:, None, None]
        inside, kept = _window(planes.shape[1:])
        crop = planes[:, kept[0], kept[1]]
        image[inside] = curve[crop - np.minimum(crop, floor)].transpose(1, 2, 0)
    return images


def to_given(pixels: Counts, *, bit_depth: int) -> Picture:
    """Make a thumbnail that came preprocessed the network's input as it is: uint8 (80, 80, 3), padded or cropped only.

    Values of 8 bit stay; those of 16 bit, 65535 times the source's 0 to 1, become round(x / 257), which is exact for
    what was 8 bit once. Raises `BadInput` for another depth, or values above it.

    >>> to_given(np.full((3, 80, 80), 257 * 9, np.uint16), bit_depth=16).max()
    np.uint8(9)
    """
    planes = _three_planes(pixels)
    _check_depth(planes, bit_depth)
    grey = planes if bit_depth == 8 else np.round(planes / 257)
    image = np.zeros((SIZE, SIZE, len(PLANES)), dtype=np.uint8)
    inside, kept = _window(planes.shape[1:])
    image[inside] = grey[:, kept[0], kept[1]].transpose(1, 2, 0)
    return image


def to_camera_scale(pixels: Counts, *, bit_depth: int, restored: bool, recipe: str) -> Counts:
    """Return the pixels of any source on the camera's 12-bit scale, uint16 of the same shape.

    Camera counts, and 8-bit frames whose range was `restored` from their tags, are on it. Other 8-bit values are
    multiplied by 16: without the tags nothing better is known. Preprocessed pixels (`recipe` is not empty) are brought
    there for the eye alone: 8 bit times 16, 16 bit divided by 16. Raises `BadInput` for values above the depth.

    >>> to_camera_scale(np.full((3, 1, 1), 255, np.uint16), bit_depth=8, restored=False, recipe="").ravel().tolist()
    [4080, 4080, 4080]
    """
    if restored or (bit_depth != 8 and not recipe):
        return pixels
    _check_depth(pixels, bit_depth)
    return pixels * np.uint16(16) if bit_depth == 8 else pixels // np.uint16(16)


def _check_depth(pixels: Counts, bit_depth: int) -> None:
    if bit_depth not in (8, 16) or int(pixels.max(initial=0)) >> bit_depth:
        raise BadInput(
            f"pixels go up to {pixels.max(initial=0)} at {bit_depth} bit, expected 8 or 16 bit and values that fit; take"
            " the sample in again"
        )


@cache
def _curve(recipe: Recipe, asinh_scale: float) -> Picture:
    """The recipe's curve for every uint16 value: a table is exact and ten times as fast as the formula."""
    counts = np.arange(65536)
    if recipe == "asinh":
        bent = 255 * np.arcsinh(counts / asinh_scale) / np.arcsinh(FULL_SCALE / asinh_scale)
    elif recipe == "paper":
        bent = counts >> 4
    else:
        raise BadInput(
            f"recipe {recipe!r}: expected 'asinh' or 'paper' for camera counts; correct image.recipe in params.yaml"
        )
    curve: Picture = np.clip(np.round(bent), 0, 255).astype(np.uint8)
    return curve


def _three_planes(pixels: Counts) -> Counts:
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or len(pixels) < len(PLANES) or 0 in pixels.shape:
        raise BadInput(
            f"pixels are {pixels.dtype} {pixels.shape}, expected raw uint16 counts (3 planes or more, height, width);"
            " give the thumbnail from its shard, not an image that went through a recipe"
        )
    return pixels[: len(PLANES)]


def _window(shape: tuple[int, ...], size: int = SIZE) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a thumbnail lies in a square window, and which part of the thumbnail is kept there.

    >>> _window((20, 100))
    ((slice(30, 50, None), slice(0, 80, None)), (slice(0, 20, None), slice(10, 90, None)))
    """
    kept = [min(length, size) for length in shape]
    inside = [slice((size - n) // 2, (size - n) // 2 + n) for n in kept]
    source = [slice((length - n) // 2, (length - n) // 2 + n) for length, n in zip(shape, kept, strict=True)]
    return (inside[0], inside[1]), (source[0], source[1])


def stretched(pixels: Counts, *, background_percentile: float = 10.0) -> Picture:
    """Return the planes as grey pictures, uint8 (3, h, w), with the contrast a reader sees.

    Black is the plane's background; white is its 99.8th percentile, but at least 150 counts above black.
    """
    planes = _three_planes(pixels)
    black = background(planes, background_percentile).astype(np.float32)
    white = np.maximum(background(planes, 99.8).astype(np.float32), black + CONTRAST_FLOOR)
    grey = (planes - black[:, None, None]) / (white - black)[:, None, None]
    shown: Picture = np.round(255 * np.clip(grey, 0, 1)).astype(np.uint8)
    return shown


def overlay(pixels: Counts, *, background_percentile: float = 10.0) -> Picture:
    """Return the colour picture of a thumbnail at its own size, uint8 (h, w, 3): red CD45, green CK, blue DAPI."""
    cd45, dapi, ck = stretched(pixels, background_percentile=background_percentile)
    return np.stack([cd45, ck, dapi], axis=-1)


def reader_panels(
    pixels: Counts, *, background_percentile: float = 10.0, asinh_scale: float = 60.0
) -> dict[str, Picture]:
    """Return what a reader sees at two contrasts, each one row CD45 | DAPI | CK | overlay, uint8 (80, 332, 4).

    `auto` stretches each plane to its own contrast, so a faint stain shows; `fixed` is the recipe `asinh`, the same for
    every cell of the world, so brightness can be compared. Windows are those of the network's input, one pixel a camera
    pixel, grey outside the thumbnail, transparent between them (RGBA); the overlay has a 10 µm bar.
    """
    planes = _three_planes(pixels)
    floor = background(planes, background_percentile)[:, None, None]
    own = stretched(planes, background_percentile=background_percentile)
    common = _curve("asinh", asinh_scale)[planes - np.minimum(planes, floor)]
    return {"auto": _row(own), "fixed": _row(common)}


def _row(grey: Picture) -> Picture:
    """Lay the windows of three grey planes and of their overlay side by side."""
    row = np.zeros((SIZE, 4 * SIZE + 3 * GAP, 4), dtype=np.uint8)
    overlaid = grey[[0, 2, 1]].transpose(1, 2, 0)
    for place, picture in enumerate([*grey[..., None], overlaid]):
        window = row[:, place * (SIZE + GAP) :][:, :SIZE]
        window[..., :3], window[..., 3] = _in_window(picture), 255
    _draw_scale_bar(row)
    return row


def _in_window(picture: Picture, size: int = SIZE) -> Picture:
    inside, kept = _window(picture.shape[:2], size)
    window = np.full((size, size, *picture.shape[2:]), OUTSIDE, dtype=np.uint8)
    window[inside] = picture[kept]
    return window


def _enlarge(picture: Picture, scale: int) -> Picture:
    return picture.repeat(scale, axis=0).repeat(scale, axis=1)


def _draw_scale_bar(picture: Picture) -> None:
    """Draw 10 µm (15.6 pixels of 0.64 µm, so 16) in the lower right corner, in place."""
    length, margin = round(SCALE_BAR_UM / PIXEL_SIZE_UM), 2
    picture[-margin - 1 : -margin, -margin - length : -margin] = 255


def encode_png(picture: Picture) -> bytes:
    """Return `picture`, grey (h, w) or colour (h, w, 3), as a PNG file; the same picture gives the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def contact_sheet(
    overlays: Sequence[Picture], *, columns: int, captions: Sequence[str] | None = None, scale: int = 3
) -> Picture:
    """Lay pictures (h, w, 3) row by row on one sheet, each in a 64×64 window enlarged `scale` times, caption below.

    Raises `BadInput` when captions are given but not one a picture.
    """
    if captions is not None and len(captions) != len(overlays):
        raise BadInput(f"contact sheet: {len(captions)} captions for {len(overlays)} pictures; give one a picture")
    gap, side, strip = 4, SHEET_WINDOW * scale, 0 if captions is None else 14
    rows = max(1, -(-len(overlays) // columns))
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + strip + gap) + gap), (24, 24, 24))
    for place, picture in enumerate(overlays):
        x, y = gap + place % columns * (side + gap), gap + place // columns * (side + strip + gap)
        sheet.paste(Image.fromarray(_enlarge(_in_window(picture, SHEET_WINDOW), scale)), (x, y))
        if captions is not None:
            _write_caption(sheet, captions[place], x, y + side, side)
    return np.asarray(sheet)


def _write_caption(sheet: Image.Image, text: str, x: int, y: int, width: int) -> None:
    """Write `text` below a tile, shortened until it fits, so that it never runs into its neighbour's."""
    draw, font = ImageDraw.Draw(sheet), _font()
    shown = text
    while len(shown) > 1 and draw.textlength(shown, font=font) > width:
        shown = shown[:-2] + "…"
    draw.text((x, y + 1), shown, font=font, fill=(230, 230, 230))


@cache
def _font() -> Any:
    return ImageFont.load_default(size=11)
