"""Reading a raw CellTracks cartridge: its frames in snake order, its XML, and every object that the frames show.

The layout on disk is what ACCEPT starts from. Files come from outside: one that is not what it should be becomes a
`Refused`, and the other frames are read. Nothing here writes.
"""

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from numpy.typing import NDArray

from ctcml.celltracks_xml import CartridgeRecord, CellSearchEvent, Layout, read_record
from ctcml.records import PLANES
from ctcml.thumbnails import (
    RawThumbnail,
    Refused,
    UnfitFileError,
    in_our_order,
    one_line,
    page_names,
    read_bytes,
)
from ctcml.tiffs import decode_thumbnail

if TYPE_CHECKING:
    from ctcml.detection import Detected

PAGE_ORDER = ("DAPI", "FITC", "CK", "CD45")  # of a frame, unless its XML names the filters
FEWEST_FRAMES = 100
MARK_TAG, LOW_TAG, HIGH_TAG = 754, 755, 756  # private TIFF tags: "stored in 8 bit", and the counts of the range's ends
NEAR_PX = 30.0  # CellSearch's event and our object are the same up to this distance of their middles
PER_FRAME = 10_000  # object_index = frame × 10,000 + place in the frame: a frame mended later renumbers no other
LISTED_RIDS = 50
MOST_PIXELS = 2**25  # of all pages of a frame together: six times a real one
BELOW = {"processed"}  # the folder that holds the frames when the cartridge's own folder does not
NOT_FRAMES = re.compile(r".*_thumb(_.*)?\.tiff?|.*_segm?\.tiff?|overview_.*", re.IGNORECASE)  # what ACCEPT leaves
NOT_A_CARTRIDGE = {"ACCEPTThumbnails.txt", "manifest.csv"}  # thumbnails: other readers take them
Progress = Callable[[int, int], None]  # frames done, of how many


LAYOUTS = tuple(
    Layout(rows=rows, columns=columns) for rows, columns in ((4, 35), (4, 36), (5, 34), (5, 35), (5, 36), (6, 35))
)


@dataclass(frozen=True, kw_only=True)
class Cartridge:
    """One cartridge on disk; `frames` in numeric order, `xml` None when there is none of the folder's name."""

    sample_id: str
    folder: Path
    xml: Path | None
    frames: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One frame in our plane order, `pixels` uint16 (planes, h, w) restored; `ends` (low, high) a plane, where stored."""

    planes: tuple[str, ...]
    pixels: NDArray[np.uint16]
    source_order: str
    bit_depth: int
    ends: tuple[tuple[float, float], ...]
    lossy: bool


@dataclass(frozen=True, kw_only=True)
class _FrameJob:
    """What a process needs to read one frame."""

    sample_id: str
    path: Path
    folder: Path
    number: int
    place: tuple[int, int]
    camera: tuple[int, int] | None
    filters: tuple[str, ...]


def find_samples(root: Path, *, fewest_frames: int = FEWEST_FRAMES) -> tuple[list[Cartridge], list[Refused]]:
    """Find every cartridge at or below `root`, in order of path; links to folders are not followed.

    A folder is one when it holds the XML of its own name up to the first dot, or without an XML `fewest_frames` frames,
    in it or in its `processed`. A cartridge with an XML and too few frames is refused.
    """
    found, refused = [], []
    for place, folders, files in os.walk(root):
        folders.sort()
        folder = Path(place)
        xml = folder / f"{_name(folder).split('.')[0]}.xml"
        if NOT_A_CARTRIDGE & set(files):
            continue
        frames = _frames_down(folder, fewest_frames) if xml.name in files else _frames_in(folder, files)
        if len(frames) < fewest_frames:
            if xml.name in files:
                reason = f"lies beside {len(frames)} frames, expected {fewest_frames} or more; copy the whole cartridge"
                refused.append(Refused(file=_below(xml, root), reason=reason))
                folders.clear()
            continue
        folders.clear()
        # A folder above with an XML would have been found before, so a `processed` that is met here has none.
        own = folder.parent if folder.name.lower() in BELOW and folder != root else folder
        found.append(
            Cartridge(sample_id=_name(own), folder=own, xml=xml if xml.name in files else None, frames=tuple(frames))
        )
    return found, refused


def files_of(cartridge: Cartridge) -> list[Path]:
    """Return the XML, where there is one, and the frames."""
    return [*([cartridge.xml] if cartridge.xml else []), *cartridge.frames]


def read_sample(
    cartridge: Cartridge, *, workers: int = 1, progress: Progress | None = None
) -> tuple[list[RawThumbnail], list[Refused]]:
    """Find and cut out every object of a cartridge, in order of frame, then of row and column; say what was refused.

    `object_index` is the frame's number × 10,000 + the object's place in it, whatever the number of `workers`. `x_px` and
    `y_px` are mosaic pixels. `proposed` tells whether one of CellSearch's events lies within 30 px, each counted once;
    None without an XML; `assigned` whether its operator called that event a CTC. `features` are ours, over the frame's background. A missing frame and events without an object
    are named among the refused.
    """
    record, refused = _record_of(cartridge)
    numbers = _frame_numbers(cartridge.frames)
    last = max(_of_one_run(numbers), default=0)
    layout = (record and record.layout) or layout_of(last)
    if layout is None:
        reason = f"frames go up to {last}, expected 100 to 210 without an XML; add the cartridge's XML"
        return [], [*refused, Refused(file=".", reason=reason)]
    jobs, misplaced = _jobs(cartridge, numbers, layout, record)
    refused += misplaced
    thumbnails = list[RawThumbnail]()
    for done, result in enumerate(_read_frames(jobs, workers), start=1):
        if isinstance(result, Refused):
            refused.append(result)
        else:
            thumbnails += result
        if progress:
            progress(done, len(jobs))
    if record is None:
        return thumbnails, refused
    matched = _matched(thumbnails, record.events)
    taken = set(matched.values())
    lost = [event for number, event in enumerate(record.events) if number not in taken]
    if (lost or record.unreadable_events) and cartridge.xml:
        refused.append(Refused(file=_below(cartridge.xml, cartridge.folder), reason=_about_lost(lost, record)))
    return [
        replace(
            one,
            proposed=number in matched,
            assigned=record.events[matched[number]].assigned if number in matched else None,
        )
        for number, one in enumerate(thumbnails)
    ], refused


def _of_one_run(numbers: Sequence[int]) -> list[int]:
    """The numbers that lie near the middle one, as those of one cartridge's frames do; a stray file's does not."""
    middle = float(np.median(numbers))
    return [number for number in numbers if abs(number - middle) <= 2 * len(numbers)]


def layout_of(frames: int) -> Layout | None:
    """Return the smallest of CellTracks' layouts with room for so many frames.

    >>> layout_of(174)
    Layout(rows=5, columns=35)
    """
    return next((one for one in LAYOUTS if FEWEST_FRAMES <= frames <= one.rows * one.columns), None)


# The folder.


def _name(folder: Path) -> str:
    return folder.name or folder.resolve().name  # `.` has no name


def _below(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _frames_down(folder: Path, fewest: int) -> list[Path]:
    """The frames in a folder, or in the first that has enough down its chain of single sub-folders."""
    best = list[Path]()
    for place, folders, files in os.walk(folder):
        frames = _frames_in(Path(place), files)
        best = max(best, frames, key=len)
        if len(best) >= fewest or len(folders) != 1:
            break
    return best


def _frames_in(folder: Path, files: Sequence[str]) -> list[Path]:
    frames = [
        folder / name
        for name in files
        if name.lower().endswith((".tif", ".tiff")) and not NOT_FRAMES.fullmatch(name) and re.search(r"\d", name)
    ]
    frames.sort(key=lambda path: path.name)
    order = _frame_numbers(frames)
    return [frame for _, frame in sorted(zip(order, frames, strict=True), key=lambda pair: pair[0])]


def _frame_numbers(frames: Sequence[Path]) -> list[int]:
    """The number of each frame, from 1: the number in its name, counted from the end, that tells most frames apart.

    A stray file may get a number that lies beyond the cartridge or is another frame's; the caller refuses those. Only names
    that do not count the frames at all are taken in their order.

    >>> _frame_numbers([Path("171651.1.2-0-9.tif"), Path("171651.1.2-0-10.tif")])
    [9, 10]
    >>> _frame_numbers([Path("f000_v2.tif"), Path("f001_v2.tif"), Path("f002_v2.tif"), Path("f999_v2.tif")])
    [1, 2, 3, 1000]
    """
    in_names = [[int(digits[-9:]) for digits in re.findall(r"\d+", frame.stem)][::-1] for frame in frames]
    columns = list(zip(*in_names, strict=False))
    counting = [len(set(_of_one_run(column))) for column in columns]
    if not columns or 2 * max(counting) <= len(frames):
        return list(range(1, len(frames) + 1))
    column = columns[counting.index(max(counting))]
    return [number + 1 for number in column] if 0 in column else list(column)


# The frames.


def _jobs(
    cartridge: Cartridge, numbers: Sequence[int], layout: Layout, record: CartridgeRecord | None
) -> tuple[list[_FrameJob], list[Refused]]:
    """What is to be read, and which frames lie beyond the layout, claim the same place, or are missing in it."""
    cells = range(1, layout.rows * layout.columns + 1)
    times = Counter(numbers)
    frames = {number: path for number, path in zip(numbers, cartridge.frames, strict=True) if times[number] == 1}
    twice = [
        Refused(
            file=_below(path, cartridge.folder),
            reason=f"is one of {times[number]} files for frame {number}; remove the wrong one",
        )
        for number, path in zip(numbers, cartridge.frames, strict=True)
        if times[number] > 1
    ]
    jobs = [
        _FrameJob(
            sample_id=cartridge.sample_id,
            path=path,
            folder=cartridge.folder,
            number=number,
            place=layout.place(number),
            camera=record.camera if record else None,
            filters=record.filters if record else (),
        )
        for number, path in frames.items()
        if number in cells
    ]
    reason = f"is none of the {layout.rows}×{layout.columns} frames of this cartridge; check which one it belongs to"
    refused = twice + [
        Refused(file=_below(path, cartridge.folder), reason=f"frame {number} {reason}")
        for number, path in frames.items()
        if number not in cells
    ]
    missing = [number for number in cells if number not in frames]
    if missing:
        reason = f"frames {_listed(missing)} are missing, expected 1 to {len(cells)}; copy the whole cartridge"
        refused.append(Refused(file=".", reason=reason))
    return jobs, refused


def _read_frames(jobs: Sequence[_FrameJob], workers: int) -> Iterator[list[RawThumbnail] | Refused]:
    if workers == 1 or len(jobs) < 2:
        yield from map(_read_frame, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_read_frame, jobs, chunksize=4)


def _read_frame(job: _FrameJob) -> list[RawThumbnail] | Refused:
    """Read one frame and cut out its objects; at module level, so that another process can be told to."""
    try:
        from ctcml.detection import detect  # scipy's filters, which an intake without a cartridge need not wait for

        frame = read_frame(job.path, job.folder, filters=job.filters)
        detected = detect(frame.pixels)
        if len(detected.objects) >= PER_FRAME:
            raise UnfitFileError(
                f"shows {len(detected.objects)} objects, expected fewer than {PER_FRAME}; check the focus"
            )
    except UnfitFileError as unfit:
        return Refused(file=_below(job.path, job.folder), reason=str(unfit))
    return _cut_out(job, frame, detected)


def _cut_out(job: _FrameJob, frame: Frame, detected: "Detected") -> list[RawThumbnail]:
    from ctcml.features import measure

    height, width = frame.pixels.shape[1:]
    left, top = (place * side for place, side in zip(job.place[::-1], job.camera or (width, height), strict=True))
    thumbnails = []
    for place, one in enumerate(detected.objects, start=1):
        pixels = frame.pixels[:, one.rows, one.columns].copy()
        thumbnails.append(
            RawThumbnail(
                sample_id=job.sample_id,
                object_index=job.number * PER_FRAME + place,
                planes=frame.planes,
                pixels=pixels,
                mask=one.mask,
                source_bit_depth=frame.bit_depth,
                source_order=frame.source_order,
                proposed=None,
                restore_low=tuple(low for low, _ in frame.ends),
                restore_high=tuple(high for _, high in frame.ends),
                lossy=frame.lossy,
                features=measure(pixels, one.mask, background=detected.background),
                frame=job.number,
                x_px=left + one.column,
                y_px=top + one.row,
            )
        )
    return thumbnails


def read_frame(path: Path, folder: Path, *, filters: tuple[str, ...] = ()) -> Frame:
    """Read one frame of the cartridge in `folder`; its pages are named by `filters`, or by `PAGE_ORDER`.

    16-bit pages without tags are taken as they are; 8-bit ones have lost their range. `UnfitFileError` says why not.
    """
    content = read_bytes(path, folder)
    decoded = decode_thumbnail(content, minimum=len(PLANES))
    stored, expected = decoded.pixels, len(filters or PAGE_ORDER)
    if decoded.rgb or (len(stored) != expected if filters else len(stored) < expected):
        found = "a colour picture" if decoded.rgb else f"{len(stored)} pages"
        raise UnfitFileError(
            f"is {found}, expected {expected} pages ({', '.join(filters or PAGE_ORDER)}); copy it again"
        )
    if stored.size > MOST_PIXELS:
        raise UnfitFileError(f"holds {stored.size} pixels, expected at most {MOST_PIXELS}; copy the archive's own file")
    ends = _range_ends(content, stored)
    if decoded.bit_depth == 8 and not ends:
        raise UnfitFileError(
            f"is stored in 8 bit without tags {LOW_TAG} and {HIGH_TAG}, so its range is lost; copy the archive's own file"
        )
    names = filters or page_names(PAGE_ORDER, len(stored))
    order = in_our_order(names)
    counts = restored(stored, ends) if ends else stored
    return Frame(
        planes=tuple(names[page] for page in order),
        pixels=np.stack([counts[page] for page in order]),
        source_order=",".join(names),
        bit_depth=decoded.bit_depth,
        ends=tuple(ends[page] for page in order) if ends else (),
        lossy=decoded.lossy,
    )


def restored(stored: NDArray[np.uint16], ends: Sequence[tuple[float, float]]) -> NDArray[np.uint16]:
    """Give stored pages their range back: low + img·(high − low)/max(img) a page (ACCEPT); a page of zeros is all low.

    >>> restored(np.array([[[0, 51, 255]]], np.uint16), [(10.0, 520.0)]).tolist()
    [[[10, 112, 520]]]
    """
    frame = np.empty_like(stored)
    for page, counts, (low, high) in zip(stored, frame, ends, strict=True):
        largest = int(page.max())
        curve = np.rint(low + np.arange(largest + 1) * ((high - low) / max(largest, 1))).astype(np.uint16)
        counts[:] = curve[page]  # at most 65,536 values: a table is exact and far faster than the formula
    return frame


def _range_ends(content: bytes, pages: NDArray[np.uint16]) -> list[tuple[float, float]]:
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as tiff:
            tags = [[page.tags.get(tag) for tag in (LOW_TAG, HIGH_TAG)] for page in tiff.pages]
            values = [None if tag is None else float(np.ravel(tag.value)[0]) for of_page in tags for tag in of_page]
    except Exception as error:  # a dozen unrelated kinds on damaged tags
        raise UnfitFileError(
            f"tags {LOW_TAG} and {HIGH_TAG} are not readable ({one_line(error)}); copy it again"
        ) from None
    if all(value is None for value in values):
        return []
    numbers = [value for value in values if value is not None and 0 <= value <= np.iinfo(np.uint16).max]
    ends = list(zip(numbers[::2], numbers[1::2], strict=False))
    if len(numbers) != 2 * len(pages) or any(low > high for low, high in ends):
        raise UnfitFileError(
            f"tags {LOW_TAG} and {HIGH_TAG} are {values} for {len(pages)} pages, expected 0 ≤ low ≤ high ≤ 65535 on each; copy"
            " the archive's own file"
        )
    return ends


def _record_of(cartridge: Cartridge) -> tuple[CartridgeRecord | None, list[Refused]]:
    if cartridge.xml is None:
        return None, []
    try:
        return read_record(cartridge.xml, cartridge.folder), []
    except UnfitFileError as unfit:
        reason = f"{unfit}; the frames are read in the order {', '.join(PAGE_ORDER)}, and no event is known as proposed"
        return None, [Refused(file=_below(cartridge.xml, cartridge.folder), reason=reason)]


# CellSearch's events.


def _matched(thumbnails: Sequence[RawThumbnail], events: Sequence[CellSearchEvent]) -> dict[int, int]:
    """Match events to objects within 30 px, the nearest pair first, each once: place of the object -> of the event."""
    matched, taken = dict[int, int](), set[int]()
    if not thumbnails or not events:
        return matched
    from scipy.spatial import KDTree  # half a second to import, for each process of an intake that meets no cartridge

    objects = KDTree([(one.x_px, one.y_px) for one in thumbnails])
    near = objects.sparse_distance_matrix(
        KDTree([(one.x_px, one.y_px) for one in events]), NEAR_PX, output_type="coo_matrix"
    )
    for _, one, event in sorted(zip(near.data.tolist(), near.row.tolist(), near.col.tolist(), strict=True)):
        if one not in matched and event not in taken:
            matched[one] = event
            taken.add(event)
    return matched


def _about_lost(lost: Sequence[CellSearchEvent], record: CartridgeRecord) -> str:
    total = len(record.events) + record.unreadable_events
    sentences = []
    if lost:
        assigned = sum(event.assigned for event in lost)
        sentences.append(
            f"{len(lost)} of CellSearch's {total} events have no detected object ({assigned} of them called a CTC): rid"
            f" {_listed([event.rid for event in lost])}; look at them in the frames"
        )
    if record.unreadable_events:
        sentences.append(f"{record.unreadable_events} of {total} events have no readable location; copy the XML again")
    return "; ".join(sentences)


def _listed(things: Sequence[object]) -> str:
    more = f" and {len(things) - LISTED_RIDS} more" if len(things) > LISTED_RIDS else ""
    return ", ".join(str(thing) for thing in things[:LISTED_RIDS]) + more
