"""Shards: the thumbnails of one sample in a Parquet file, written once, hashed by content, read back as arrays.

A shard keeps the native crop, so any recipe can be applied later; `read_inputs` applies one while it streams. What a later
intake adds to a sample is a shard of its own beside the first: `<sample_uid>.parquet`, `<sample_uid>-2.parquet`, …
`read_shard` gives the stored pixels; `read_pixels`, for people, and `read_inputs`, for the network, bring 8-bit frames
without restoring tags to the camera's 12-bit scale first.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml import tables
from ctcml.errors import BadInput, BadTable, BrokenRecord
from ctcml.images import SIZE, Counts, Picture, Recipe, overlay, to_camera_scale, to_given, to_inputs
from ctcml.records import PLANES

PIXEL_COLUMNS = ["cell_uid", "height", "width", "planes", "pixels", "source_bit_depth", "restore_low", "recipe"]
FILE_NAME = re.compile(r"(?P<sample_uid>.+?)(-(?P<number>[1-9][0-9]*))?\.parquet")


@dataclass(frozen=True, kw_only=True, eq=False)
class Packed:
    """One thumbnail of a shard; `pixels` is uint16 (planes, h, w), `mask` bool of the same shape or None.

    `recipe` names the preprocessing that the source already applied; empty for camera counts.
    """

    cell_uid: str
    sample_uid: str
    object_index: int
    planes: tuple[str, ...]
    pixels: Counts
    mask: NDArray[np.bool_] | None
    source_bit_depth: int
    source_order: str
    restore_low: tuple[float, ...] = ()
    restore_high: tuple[float, ...] = ()
    recipe: str = ""
    content_sha256: str = ""  # filled at birth when empty; a row read from a shard brings its own

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.pixels.dtype != np.uint16 or len(shape) != 3 or shape[0] != len(self.planes) or 0 in shape:
            raise BadInput(
                f"thumbnail {self.cell_uid}: pixels are {self.pixels.dtype} {shape} for planes {self.planes}, expected"
                " uint16 with one plane a name; read the export again"
            )
        if self.planes[: len(PLANES)] != PLANES:
            raise BadInput(
                f"thumbnail {self.cell_uid}: planes are {self.planes}, expected {PLANES} first; reorder them"
            )
        if self.mask is not None and (self.mask.dtype != np.bool_ or self.mask.shape != shape):
            raise BadInput(
                f"thumbnail {self.cell_uid}: mask is {self.mask.dtype} {self.mask.shape}, expected bool {shape}"
            )
        if not self.content_sha256:
            object.__setattr__(self, "content_sha256", content_hash(self.planes, self.pixels))


def content_hash(planes: Sequence[str], pixels: Counts) -> str:
    """Return the SHA-256 (hex) of plane names, shape and little-endian pixels: the same for the same picture.

    >>> content_hash(("CD45", "DAPI", "CK"), np.zeros((3, 2, 2), np.uint16))[:12]
    '6942c468d023'
    """
    head = f"{','.join(planes)}|{'x'.join(str(n) for n in pixels.shape)}|".encode()
    return hashlib.sha256(head + pixels.astype("<u2", copy=False).tobytes()).hexdigest()


def pack_shard(thumbnails: Sequence[Packed], path: Path) -> str:
    """Write the thumbnails of one sample as a shard and return the file's SHA-256 (hex).

    Packing the same thumbnails again changes nothing. Raises `BrokenRecord` when `path` holds other ones, `BadInput`
    when a cell appears twice or the thumbnails come from several samples.
    """
    rows = sorted(thumbnails, key=lambda one: one.object_index)
    for what in ("cell_uid", "object_index"):
        if len({getattr(one, what) for one in rows}) != len(rows):
            raise BadInput(f"shard {path.name}: a {what} appears twice; intake must give each object one")
    if len({one.sample_uid for one in rows}) > 1:
        raise BadInput(f"shard {path.name}: thumbnails of several samples; expected one sample a shard")
    if path.exists():
        if not _same(read_shard(path), rows):
            raise BrokenRecord(
                f"shard {path}: holds other thumbnails, and a shard is never changed; check which export is right"
            )
    else:
        tables.write_table(pd.DataFrame([_row(one) for one in rows], columns=list(tables.SHARD)), tables.SHARD, path)
    return file_hash(path)


def shard_paths(folder: Path, sample_uid: str) -> list[Path]:
    """Return the files of one sample in a folder of shards or manifests: the first, then its supplements by number."""
    found = [(_sample_and_number(path), path) for path in folder.glob(f"{sample_uid}*.parquet")]
    return [path for (sample, _), path in sorted(found) if sample == sample_uid]


def data_sha256(manifest: Path) -> str:
    """One hash of all thumbnails that a folder of manifests lists: the same pixels under the same names give the same."""
    listed = tables.read_folder(manifest, tables.MANIFEST, columns=["shard_sha256"])["shard_sha256"]
    return hashlib.sha256("\n".join(sorted(set(listed))).encode()).hexdigest()


def sample_uids(folder: Path) -> list[str]:
    """Return the samples that have files in a folder of shards or manifests, in order of name."""
    return sorted({_sample_and_number(path)[0] for path in folder.glob("*.parquet")})


def _sample_and_number(path: Path) -> tuple[str, int]:
    """
    >>> _sample_and_number(Path("0af3.parquet")), _sample_and_number(Path("0af3-12.parquet"))
    (('0af3', 1), ('0af3', 12))
    """
    match = FILE_NAME.fullmatch(path.name)
    return (match["sample_uid"], int(match["number"] or 1)) if match else (path.stem, 1)


def _existing(folder: Path, sample_uid: str) -> list[Path]:
    """The shards of a sample; without any, the name that a reader then misses."""
    return shard_paths(folder, sample_uid) or [folder / f"{sample_uid}.parquet"]


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same(old: Sequence[Packed], new: Sequence[Packed]) -> bool:
    return [_row(one) for one in old] == [_row(one) for one in new]


def _row(one: Packed) -> dict[str, Any]:
    return {
        "cell_uid": one.cell_uid, "sample_uid": one.sample_uid, "object_index": one.object_index,
        "height": one.pixels.shape[1], "width": one.pixels.shape[2],
        "planes": ",".join(one.planes), "source_order": one.source_order,
        "pixels": one.pixels.astype("<u2", copy=False).tobytes(),
        "mask": b"" if one.mask is None else np.packbits(one.mask).tobytes(),
        "source_bit_depth": one.source_bit_depth,
        "restore_low": list(one.restore_low), "restore_high": list(one.restore_high),
        "recipe": one.recipe,
        "content_sha256": one.content_sha256,
    }  # fmt: skip


def read_shard(path: Path, *, verify: bool = False) -> list[Packed]:
    """Read all thumbnails of a shard, in order of object index.

    With `verify` every picture is hashed again. Raises `BrokenRecord` when the file or a hash is not what was written.
    """
    found = [_unpack(row, path) for row in _rows(path, None)]
    for one in found if verify else ():
        if content_hash(one.planes, one.pixels) != one.content_sha256:
            raise BrokenRecord(
                f"shard {path}: cell {one.cell_uid} is not what its content_sha256 says; bring the shard back"
            )
    return found


def _rows(path: Path, columns: list[str] | None) -> list[dict[str, Any]]:
    try:
        table = tables.read_table(path, tables.SHARD, columns=columns)
    except BadTable as error:
        raise BrokenRecord(f"shard {error}; bring it back from its data version") from None
    return [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]


def _unpack(row: dict[str, Any], path: Path) -> Packed:
    planes, pixels = _pixels(row, path)
    bits = np.frombuffer(row["mask"], dtype=np.uint8)
    if bits.size not in (0, -(-pixels.size // 8)):
        raise BrokenRecord(f"shard {path}: mask of cell {row['cell_uid']} has the wrong length; bring the shard back")
    return Packed(
        cell_uid=row["cell_uid"],
        sample_uid=row["sample_uid"],
        object_index=int(row["object_index"]),
        planes=planes,
        pixels=pixels,
        mask=np.unpackbits(bits, count=pixels.size).reshape(pixels.shape).astype(bool) if bits.size else None,
        source_bit_depth=int(row["source_bit_depth"]),
        source_order=row["source_order"],
        restore_low=tuple(float(value) for value in row["restore_low"]),
        restore_high=tuple(float(value) for value in row["restore_high"]),
        recipe=row["recipe"],
        content_sha256=row["content_sha256"],
    )


def _pixels(row: dict[str, Any], path: Path) -> tuple[tuple[str, ...], Counts]:
    planes = tuple(row["planes"].split(","))
    shape = (len(planes), int(row["height"]), int(row["width"]))
    if len(row["pixels"]) != 2 * shape[0] * shape[1] * shape[2]:
        raise BrokenRecord(
            f"shard {path}: cell {row['cell_uid']} has {len(row['pixels'])} bytes for {shape}; bring it back"
        )
    return planes, np.frombuffer(row["pixels"], dtype="<u2").astype(np.uint16, copy=False).reshape(shape)


def counts_of(one: Packed) -> Counts:
    """Return a thumbnail's pixels on the camera's 12-bit scale (`images.to_camera_scale`)."""
    return to_camera_scale(
        one.pixels, bit_depth=one.source_bit_depth, restored=bool(one.restore_low), recipe=one.recipe
    )


def read_pixels(shards_folder: Path, sample_uid: str, cell_uids: Collection[str] | None = None) -> dict[str, Counts]:
    """Return the pixels of a sample's cells, all or those named, by `cell_uid`, on the camera's 12-bit scale.

    They are for readers and pictures; `read_shard` gives the stored pixels. Raises `BadInput` for unknown cells.
    """
    wanted = None if cell_uids is None else set(cell_uids)
    found = {
        row["cell_uid"]: _scaled(row, path)
        for path in _existing(shards_folder, sample_uid)
        for row in _rows(path, PIXEL_COLUMNS)
        if wanted is None or row["cell_uid"] in wanted
    }
    if wanted is not None and len(found) != len(wanted):
        raise BadInput(
            f"sample {sample_uid}: cells {sorted(wanted - set(found))[:3]} are not in its shards; check which sample they"
            " belong to"
        )
    return found


def rehashed(shards_folder: Path, sample_uid: str, cell_uids: Collection[str]) -> dict[str, str]:
    """The content hash of these cells of a sample, computed anew from the pixels that are stored now."""
    wanted = set(cell_uids)
    return {
        row["cell_uid"]: content_hash(*_pixels(row, path))
        for path in shard_paths(shards_folder, sample_uid)
        for row in _rows(path, PIXEL_COLUMNS)
        if row["cell_uid"] in wanted
    }


def read_overlays(folder: Path, cells: pd.DataFrame) -> dict[str, Picture]:
    """The picture that a person would look at of each of these cells (`cell_uid`, `sample_uid`); a shard is opened once."""
    return {
        uid: overlay(pixels)
        for sample_uid, members in cells.groupby("sample_uid")["cell_uid"]
        for uid, pixels in read_pixels(folder, str(sample_uid), set(members)).items()
    }


def _scaled(row: dict[str, Any], path: Path) -> Counts:
    depth, restored = int(row["source_bit_depth"]), len(row["restore_low"]) > 0
    try:
        return to_camera_scale(_pixels(row, path)[1], bit_depth=depth, restored=restored, recipe=row["recipe"])
    except BadInput as error:
        raise BrokenRecord(f"shard {path}: cell {row['cell_uid']}: {error}") from None


def read_inputs(
    shards_folder: Path,
    samples: Collection[str] | None = None,
    *,
    cell_uids: Collection[str] | None = None,
    recipe: Recipe,
    background_percentile: float,
    asinh_scale: float,
) -> tuple[list[str], Picture]:
    """Return `cell_uid`s and their network input, uint8 (N, 80, 80, 3), by sample, then file, then object index.

    `samples` None means every shard of the folder; `cell_uids` narrows the choice, and each of them must be found
    (`BadInput`). One shard at a time is held in memory beside the result. Nothing is transformed twice: `BadInput` when
    a cell came preprocessed and `recipe` is not `given`, or the reverse.
    """
    chosen_samples = sample_uids(shards_folder) if samples is None else sorted(set(samples))
    wanted = None if cell_uids is None else set(cell_uids)
    paths = [path for sample in chosen_samples for path in _existing(shards_folder, sample)]
    # The names first: then the result is allocated once instead of being joined, which would need twice the memory.
    names = [_names(path, wanted) for path in paths]
    total = sum(len(some) for some in names)
    if wanted is not None and total != len(wanted):
        raise BadInput(
            f"{len(wanted) - total} of {len(wanted)} cells are not in these shards; check the list of samples"
        )
    images = np.empty((total, SIZE, SIZE, len(PLANES)), dtype=np.uint8)
    filled = 0
    for path, chosen in zip(paths, names, strict=True):
        if chosen:
            keep = set(chosen)
            rows = [row for row in _rows(path, PIXEL_COLUMNS) if row["cell_uid"] in keep]
            images[filled : filled + len(rows)] = _inputs(rows, path, recipe, background_percentile, asinh_scale)
            filled += len(rows)
    return [name for some in names for name in some], images


def _inputs(
    rows: list[dict[str, Any]], path: Path, recipe: Recipe, background_percentile: float, asinh_scale: float
) -> Picture:
    for row in rows:
        if bool(row["recipe"]) != (recipe == "given"):
            what = f"came preprocessed ({row['recipe']})" if row["recipe"] else "holds camera counts"
            fitting = "given" if row["recipe"] else "asinh or paper"
            raise BadInput(
                f"shard {path.name}: cell {row['cell_uid']} {what}, expected what the recipe {recipe!r} takes; keep camera"
                f" counts and preprocessed images in workspaces of their own, with image.recipe {fitting} for this one"
            )
    if recipe == "given":
        return np.stack([_given(row, path) for row in rows])
    return to_inputs(
        [_scaled(row, path) for row in rows],
        recipe=recipe,
        background_percentile=background_percentile,
        asinh_scale=asinh_scale,
    )


def _given(row: dict[str, Any], path: Path) -> Picture:
    try:
        return to_given(_pixels(row, path)[1], bit_depth=int(row["source_bit_depth"]))
    except BadInput as error:
        raise BrokenRecord(f"shard {path}: cell {row['cell_uid']}: {error}") from None


def _names(path: Path, wanted: set[str] | None) -> list[str]:
    return [row["cell_uid"] for row in _rows(path, ["cell_uid"]) if wanted is None or row["cell_uid"] in wanted]
