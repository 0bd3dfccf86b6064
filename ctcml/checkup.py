"""The checkup of one sample for the import doctor: what a person should know of its files before they are taken in.

Each check is a function from the sample, as it was read, to its findings. Nothing here writes.
"""

import io
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import python_calamine
from numpy.typing import NDArray

from ctcml.accept import THUMBNAIL, ExportedSample
from ctcml.arrays import ArraySample
from ctcml.disclosures import Disclosure, below, in_names, in_table, in_tags
from ctcml.folders import ListedSample
from ctcml.images import FULL_SCALE, SIZE, to_camera_scale
from ctcml.records import CLASS_ID, PLANES
from ctcml.shards import content_hash
from ctcml.sources import Source, files_of, folder_of, kind_of, read_source
from ctcml.staining import Staining, staining_of
from ctcml.thumbnails import RawThumbnail, Refused, one_line, read_bytes

Level = Literal["error", "warning", "note"]

MANY = 0.1  # share of a sample's objects from which clipped or oversize ones are no longer those at a frame's edge
SATURATED_PIXELS = 0.01  # share of a thumbnail's pixels at the maximum
SATURATED_THUMBNAILS = 0.05  # share of a sample's thumbnails; a clump of dye saturates one in a hundred
MOST_STAININGS = 300  # thumbnails of a sample that are looked at for swapped channels
EXAMPLES = 5
CODE_OF_REASON = {  # what the readers' refusals are filed under; any other is "refused"
    "page-count": re.compile(r"\b[1-9]\d*(?: RGB)? pages, expected|pages differ"),
    "fewer-rows": re.compile(r"rows but object"),
    "px2-sizes": re.compile(r"px²"),
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong or odd; `sample` and `file` (a path below the folder examined) are empty for the whole."""

    level: Level
    code: str
    sample: str
    file: str
    message: str


@dataclass(frozen=True, kw_only=True)
class CheckupJob:
    """What a process needs to examine one sample below the folder `root`."""

    source: Source
    root: Path
    page_order: tuple[str, ...]
    workers: int = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedSample:
    """What is kept of a sample: findings, and what is compared across samples.

    `hashes`: object index and content hash of each thumbnail that shows anything. `orders` and `planes` count the
    thumbnails by their source's page order and by their number of planes. `staining` is None where it tells nothing.
    """

    sample_id: str
    kind: str
    place: str
    thumbnails: int
    findings: tuple[Finding, ...]
    hashes: tuple[tuple[int, bytes], ...]
    orders: Counter[str]
    planes: Counter[int]
    staining: Staining | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Read:
    """A sample as it was read; `constant` and `saturated` are bool (thumbnails, 3), one column a plane."""

    job: CheckupJob
    thumbnails: list[RawThumbnail]
    refused: list[Refused]
    constant: NDArray[np.bool_]
    saturated: NDArray[np.bool_]

    def finding(self, level: Level, code: str, message: str, file: str = "") -> Finding:
        return Finding(
            level=level, code=code, sample=self.job.source.sample_id, file=file or self.place, message=message
        )

    def disclosed(self, one: Disclosure) -> Finding:
        return self.finding("warning", "identifier", one.what, below(one.file, self.job.root))

    @property
    def place(self) -> str:
        return below(folder_of(self.job.source), self.job.root)

    def objects(self, which: Collection[bool]) -> str:
        """How many of all thumbnails are meant, and which, in a few words."""
        numbers = [one.object_index for one, meant in zip(self.thumbnails, which, strict=True) if meant]
        return f"{len(numbers)} of {len(self.thumbnails)} thumbnails ({first_few(numbers)})"


def first_few(things: Sequence[object]) -> str:
    """Name a few of many.

    >>> first_few([1, 2, 3, 4, 5, 6, 7])
    '1, 2, 3, 4, 5, …'
    """
    return ", ".join([*map(str, things[:EXAMPLES]), *(["…"] if len(things) > EXAMPLES else [])])


def check_up(job: CheckupJob) -> CheckedSample:
    """Read one sample, examine it, and forget its pixels; at module level, so that another process can be told to."""
    try:
        thumbnails, refused = read_source(job.source, page_order=job.page_order, workers=job.workers)
    except Exception as error:  # a reader's own fault is a finding like any other
        thumbnails = []
        refused = [
            Refused(file=".", reason=f"could not be read ({type(error).__name__}: {one_line(error)}); report it")
        ]
    read = _looked_at(job, thumbnails, refused)
    hashes = _hashes(read)
    return CheckedSample(
        sample_id=job.source.sample_id,
        kind=kind_of(job.source),
        place=read.place,
        thumbnails=len(thumbnails),
        findings=(*(one for check in CHECKS for one in check(read)), *_doubles(read, hashes)),
        hashes=hashes,
        orders=Counter(one.source_order for one in thumbnails),
        planes=Counter(len(one.planes) for one in thumbnails),
        staining=_staining(read),
    )


def findings_on_pixels(job: CheckupJob, thumbnails: list[RawThumbnail]) -> tuple[Finding, ...]:
    """What intake keeps of the checkup: findings on thumbnails that it has read anyway, in whose messages no name stands."""
    read = _looked_at(job, thumbnails, [])
    return (*(one for check in ON_PIXELS for one in check(read)), *_doubles(read, _hashes(read)))


def _looked_at(job: CheckupJob, thumbnails: list[RawThumbnail], refused: list[Refused]) -> _Read:
    return _Read(
        job=job,
        thumbnails=thumbnails,
        refused=refused,
        constant=np.array([_constant(one) for one in thumbnails], np.bool_).reshape(-1, len(PLANES)),
        saturated=np.array([_saturated(one) for one in thumbnails], np.bool_).reshape(-1, len(PLANES)),
    )


def _hashes(read: _Read) -> tuple[tuple[int, bytes], ...]:
    return tuple(
        (one.object_index, bytes.fromhex(content_hash(one.planes, one.pixels)))
        for one, blank in zip(read.thumbnails, read.constant, strict=True)
        if not blank.all()  # all empty thumbnails of one size are alike
    )


def _staining(read: _Read) -> Staining | None:
    """None where CellSearch's choice leaves too little CD45 to tell the channels apart."""
    if getattr(read.job.source, "events", "all") == "proposed":
        return None
    some = read.thumbnails[:: max(1, len(read.thumbnails) // MOST_STAININGS)]
    return staining_of(
        [
            to_camera_scale(
                one.pixels, bit_depth=one.source_bit_depth, restored=bool(one.restore_low), recipe=one.recipe
            )
            for one in some
        ]
    )


def _constant(one: RawThumbnail) -> NDArray[np.bool_]:
    planes = one.pixels[: len(PLANES)].reshape(len(PLANES), -1)
    constant: NDArray[np.bool_] = (planes == planes[:, :1]).all(axis=1)
    return constant


def _saturated(one: RawThumbnail) -> NDArray[np.bool_]:
    eight_bit = one.source_bit_depth == 8 and not one.restore_low
    maximum = 255 if eight_bit else np.iinfo(np.uint16).max if one.recipe else FULL_SCALE
    saturated: NDArray[np.bool_] = (one.pixels[: len(PLANES)] >= maximum).mean(axis=(1, 2)) > SATURATED_PIXELS
    return saturated


# The checks. What to do about each is said once a code, in `doctor.ADVICE`.


def _selections(read: _Read) -> Iterator[Finding]:
    source = read.job.source
    if not isinstance(source, ExportedSample):
        return
    if source.events == "selection":
        drawn = (
            f"exactly {len(read.thumbnails)}, as many as ACCEPT draws at most" if source.capped else "drawn at random"
        )
        yield read.finding("error", "selection", f"only a selection of the events was exported, {drawn}")
    if source.events == "proposed":
        yield read.finding("warning", "only-proposed", "only the events that CellSearch itself proposed were exported")


def _refusals(read: _Read) -> Iterator[Finding]:
    table = getattr(read.job.source, "feature_table", None)
    for one in read.refused:
        code = next((code for code, reason in CODE_OF_REASON.items() if reason.search(one.reason)), "refused")
        folder = table.parent if table and one.file == table.name else folder_of(read.job.source)
        yield read.finding("error", code, one.reason, below(folder / one.file, read.job.root))


def _empty_samples(read: _Read) -> Iterator[Finding]:
    if not read.thumbnails and not read.refused:
        yield read.finding("error", "empty-sample", "the sample has no thumbnail")


def _clipped(read: _Read) -> Iterator[Finding]:
    clipped = [one.mask is not None and _touches_border(one.mask) for one in read.thumbnails]
    if any(clipped):
        yield read.finding(
            _level(clipped), "clipped", f"{read.objects(clipped)}: the mask touches the thumbnail's border"
        )


def _touches_border(mask: NDArray[np.bool_]) -> bool:
    return bool(mask[:, [0, -1], :].any() or mask[:, :, [0, -1]].any())


def _oversize(read: _Read) -> Iterator[Finding]:
    large = [max(one.pixels.shape[1:]) > SIZE for one in read.thumbnails]
    if any(large):
        yield read.finding(_level(large), "oversize", f"{read.objects(large)} are larger than {SIZE}×{SIZE} px")


def _level(which: Sequence[bool]) -> Level:
    return "warning" if sum(which) > MANY * len(which) else "note"


def _gaps(read: _Read) -> Iterator[Finding]:
    there = _numbers(read.job.source)
    steps = [(low + 1, high - 1) for low, high in pairwise(sorted({0, *there})) if high > low + 1]
    if steps:
        missing = sum(high - low + 1 for low, high in steps)
        ranges = [str(low) if low == high else f"{low}-{high}" for low, high in steps]
        yield read.finding("note", "gaps", f"{missing} numbers below {max(there)} are missing ({first_few(ranges)})")


def _numbers(source: Source) -> set[int]:
    """The object numbers that a delivery should have in full, whether their files can be read or not."""
    if isinstance(source, ExportedSample):
        matches = [THUMBNAIL.fullmatch(path.name) for path in files_of(source)]
        return {int(one["late"] or one["early"]) for one in matches if one}
    if isinstance(source, ListedSample):
        return {row.object_index for row in source.rows}
    return set()  # rows of an array and objects of a frame are numbered otherwise


def _doubles(read: _Read, hashes: Sequence[tuple[int, bytes]]) -> Iterator[Finding]:
    by_content: dict[bytes, list[int]] = {}
    for number, content in hashes:
        by_content.setdefault(content, []).append(number)
    alike = [" = ".join(map(str, numbers)) for numbers in by_content.values() if len(numbers) > 1]
    if alike:
        yield read.finding("warning", "duplicates", f"objects of the same pixels: {first_few(alike)}")


def _channels(read: _Read) -> Iterator[Finding]:
    for plane, name in enumerate(PLANES):
        constant, saturated = read.constant[:, plane], read.saturated[:, plane]
        if constant.any():
            level: Level = "error" if constant.all() else "warning"
            yield read.finding(
                level, "empty-channel", f"{name} has one value only in {read.objects(constant.tolist())}"
            )
        bright = saturated & ~constant
        if bright.sum() > max(1, SATURATED_THUMBNAILS * len(bright)):
            yield read.finding("warning", "saturated", f"{name} is at its maximum in {read.objects(bright.tolist())}")


def _masks(read: _Read) -> Iterator[Finding]:
    blank = [one.mask is not None and not one.mask.any() for one in read.thumbnails]
    if any(blank):
        yield read.finding("warning", "blank-mask", f"nothing is marked in the mask of {read.objects(blank)}")
    without = [one.mask is None for one in read.thumbnails]
    expected = isinstance(read.job.source, ExportedSample) and read.job.source.events != "proposed"
    if any(without) and (expected or not all(without)):
        yield read.finding("note", "no-mask", f"there is no mask for {read.objects(without)}")


def _lossy(read: _Read) -> Iterator[Finding]:
    lossy = [one.lossy for one in read.thumbnails]
    if any(lossy):
        yield read.finding("warning", "lossy", f"JPEG has changed the pixels of {read.objects(lossy)}")


def _eight_bit(read: _Read) -> Iterator[Finding]:
    eight = [one.source_bit_depth == 8 and not one.restore_low and not one.recipe for one in read.thumbnails]
    if any(eight):
        yield read.finding(
            "warning", "eight-bit", f"{read.objects(eight)} hold 8 bit, and no tags that restore the range"
        )


def _feature_tables(read: _Read) -> Iterator[Finding]:
    source = read.job.source
    if not isinstance(source, ExportedSample) or source.events == "proposed":
        return
    if source.feature_table is None:
        yield read.finding(
            "note", "no-table", "there is no feature table, so which events CellSearch proposed is unknown"
        )
        return
    if not any(one.features or one.proposed is not None for one in read.thumbnails):
        return  # the reader refused it, and an XLSX file can be a trap
    content = read_bytes(source.feature_table, source.feature_table.parent)
    sheet = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0)
    rows = sheet.to_python(skip_empty_area=False)
    while all(value == "" for value in rows[-1]):  # cells with a format and nothing in them
        rows.pop()
    last = max(_numbers(source))
    if len(rows) - 1 > last:
        place = below(source.feature_table, read.job.root)
        yield read.finding("note", "more-rows", f"{len(rows) - 1} rows, but the last thumbnail is {last}", place)
    for one in in_table(rows, source.feature_table):
        yield read.disclosed(one)


def _identifiers(read: _Read) -> Iterator[Finding]:
    for one in (*in_names(read.job.source, read.job.root), *in_tags(read.job.source)):
        yield read.disclosed(one)


def _labels(read: _Read) -> Iterator[Finding]:
    odd = [bool(one.label) and not CLASS_ID.fullmatch(one.label) for one in read.thumbnails]
    if any(odd):
        yield read.finding("warning", "odd-label", f"the label of {read.objects(odd)} cannot be a class")


def _notes(read: _Read) -> Iterator[Finding]:
    if isinstance(read.job.source, ArraySample):
        for note in read.job.source.notes:
            yield read.finding("note", "published-array", note, below(read.job.source.path, read.job.root))


CHECKS: tuple[Callable[[_Read], Iterator[Finding]], ...] = (
    _selections,
    _refusals,
    _empty_samples,
    _clipped,
    _oversize,
    _gaps,
    _channels,
    _masks,
    _lossy,
    _eight_bit,
    _feature_tables,
    _identifiers,
    _labels,
    _notes,
)
# Not the refusals, which the quarantine tells, nor what reads a file again or quotes from it.
ON_PIXELS = tuple(one for one in CHECKS if one not in (_refusals, _feature_tables, _identifiers, _notes))
