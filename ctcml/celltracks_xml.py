"""The XML beside a CellTracks cartridge: where its frames lie, which filters they show, what CellSearch presented.

Read by expat with every size and depth bounded; nothing here opens a frame.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from ctcml.errors import BadInput
from ctcml.thumbnails import LARGEST_SIDE, UnfitFileError, checked_page_order, one_line, read_bytes

LARGEST_XML = 32 * 2**20
DEEPEST_XML = 32
MOST_A_SIDE = 99  # frames
CORNER = r"\s*\(\s*(\d{1,7}(?:\.\d{0,6})?)\s*,\s*(\d{1,7}(?:\.\d{0,6})?)\s*\)\s*"
LOCATION = re.compile(CORNER + CORNER)  # "(x,y) (x,y)" in mosaic pixels
STAINS = {  # the stain that a filter of this name shows; the first that fits
    "CD45": re.compile(r"(?<![A-Z])(CD45|APC)"),
    "DAPI": re.compile(r"(?<![A-Z])(DAPI|DNA|HOECHST)"),
    "CK": re.compile(r"(?<![A-Z])(CK|CYTOKERATIN|PE(?![A-Z]))"),
    "FITC": re.compile(r"FITC"),
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the frames of a cartridge lie side by side: row by row, rows 2, 4, … from right to left.

    >>> [Layout(rows=2, columns=3).place(frame) for frame in (1, 3, 4, 6)]
    [(0, 0), (0, 2), (1, 2), (1, 0)]
    """

    rows: int
    columns: int

    def place(self, frame: int) -> tuple[int, int]:
        """Return row and column, from 0, of a frame that counts from 1."""
        row, along = divmod(frame - 1, self.columns)
        return row, self.columns - 1 - along if row % 2 else along


@dataclass(frozen=True, kw_only=True)
class CellSearchEvent:
    """What CellSearch presented to its operator; the middle of its box in mosaic pixels; `assigned`: called a CTC."""

    rid: str
    x_px: float
    y_px: float
    assigned: bool


@dataclass(frozen=True, kw_only=True)
class CartridgeRecord:
    """What a cartridge's XML says; `layout` and `camera` (width, height) None, `filters` empty, where it says nothing."""

    events: tuple[CellSearchEvent, ...]
    unreadable_events: int
    layout: Layout | None
    camera: tuple[int, int] | None
    filters: tuple[str, ...]


def read_record(path: Path, folder: Path) -> CartridgeRecord:
    """Read a cartridge's XML; `UnfitFileError` when it is not fit to be read, has a DOCTYPE, or contradicts itself."""
    sections = _records(read_bytes(path, folder, largest=LARGEST_XML))
    given = [_event(record) for record in sections["events"]]
    events = tuple(event for event in given if event)
    run = sections["runs"][0] if sections["runs"] else {}
    rows, columns = (_whole(run.get(name), name, most=MOST_A_SIDE) for name in ("numrows", "numcols"))
    width, height = (_whole(run.get(name), name, most=LARGEST_SIDE) for name in ("camxsize", "camysize"))
    return CartridgeRecord(
        events=events,
        unreadable_events=len(given) - len(events),
        layout=Layout(rows=rows, columns=columns) if rows and columns else None,
        camera=(width, height) if width and height else None,
        filters=_stains([record.get("filtername", "") for record in sections["test_filters"]]),
    )


def _records(content: bytes) -> dict[str, list[dict[str, str]]]:
    """The `record`s of the three sections that we read, by their fields.

    By expat itself and not by a tree: a DOCTYPE is refused when it begins, before any entity of it is known, and depth
    and memory stay bounded.
    """
    sections: dict[str, list[dict[str, str]]] = {"events": [], "runs": [], "test_filters": []}
    above, fields, text = list[str](), dict[str, str](), list[str]()

    def refuse_doctype(*_: object) -> None:
        raise UnfitFileError("has a DOCTYPE, which no CellTracks XML has; copy the instrument's own file")

    def start(name: str, _: Mapping[str, str]) -> None:
        if len(above) == DEEPEST_XML:
            raise UnfitFileError(f"is nested deeper than {DEEPEST_XML} elements; copy the instrument's own file")
        above.append(name)
        text.clear()
        if name == "record":
            fields.clear()

    def end(name: str) -> None:
        above.pop()
        if above[-1:] == ["record"]:
            fields[name] = "".join(text).strip()
        elif name == "record" and above and above[-1] in sections:
            sections[above[-1]].append(dict(fields))
        text.clear()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler, parser.EndElementHandler = refuse_doctype, start, end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two: an encoding that no one knows
        raise UnfitFileError(f"is not readable as XML ({one_line(error)}); copy the instrument's own file") from None
    return sections


def _event(record: Mapping[str, str]) -> CellSearchEvent | None:
    box = LOCATION.fullmatch(record.get("location", ""))
    if box is None:
        return None
    left, top, right, bottom = (float(number) for number in box.groups())
    rid = re.sub(r"\W", "", record.get("rid", ""))[:20] or "?"
    assigned = record.get("assigned", "").lower() == "true"
    return CellSearchEvent(rid=rid, x_px=(left + right) / 2, y_px=(top + bottom) / 2, assigned=assigned)


def _whole(text: str | None, name: str, *, most: int) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", text) or not 1 <= int(text) <= most:
        raise UnfitFileError(f"{name} is {text[:20]!r}, expected 1 to {most}; copy the instrument's own file")
    return int(text)


def _stains(filters: Sequence[str]) -> tuple[str, ...]:
    """Our names for the instrument's filters, in their order.

    >>> _stains(["DNA", "Marker-1", "CK-PE", "CD45-APC"])
    ('DAPI', 'Marker1', 'CK', 'CD45')
    """
    if not filters:
        return ()
    names = tuple(
        next((stain for stain, words in STAINS.items() if words.search(one.upper())), "") or re.sub(r"\W", "", one)[:20]
        for one in filters
    )
    try:
        return checked_page_order(names)
    except BadInput:
        raise UnfitFileError(
            f"names the filters {[one[:20] for one in filters[:8]]}, expected CD45, DAPI (DNA) and CK once each; correct them"
        ) from None
