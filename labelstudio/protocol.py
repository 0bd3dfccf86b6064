"""The reading protocol: one text for the laboratory's folder and for the button "Instructions" of the labelling page.

It is derived from the class registry and from settled cells, and written anew when either changes.
"""

from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np
from markdown_it import MarkdownIt
from numpy.typing import NDArray

from ctcml.images import contact_sheet, encode_png
from ctcml.records import REASONS, CellClass
from ctcml.tables import atomic_path
from labelstudio.tasks import (
    CONFIDENCE_KEYS,
    NEW_CLASS_KEY,
    PICTURES,
    REASON_KEYS,
    UNREADABLE_KEY,
    key_of,
    offered,
)

Overlays = Mapping[str, Sequence[NDArray[np.uint8]]]
SHOWN = 8  # examples a class
COLUMNS, SCALE = 4, 2  # as wide as the window in which the labelling page shows instructions
NAME = "reading_protocol.md"
PLAIN = {"html": False, "xhtmlOut": False}  # a definition is text, never markup; tags as Label Studio stores them


def write_protocol(
    folder: Path,
    *,
    classes: Sequence[CellClass],
    examples: Overlays,
    proposed: Sequence[str] = (),
    rejected: Sequence[str] = (),
) -> bool:
    """Write the protocol with a sheet of examples a class; returns whether anything had changed.

    `examples` are overlays, uint8 (height, width, 3), by class_id; the first eight are shown. Sheets that nothing refers
    to any more are removed: they may show cells of a patient who withdrew.
    """
    sheets = example_sheets(classes, examples)
    addresses = {class_id: f"examples/{class_id}.png" for class_id in sheets}
    text = protocol_text(classes, addresses, proposed=proposed, rejected=rejected)
    wanted = {folder / addresses[class_id]: png for class_id, png in sheets.items()}
    changed = _make_so(wanted, among=(folder / "examples").glob("*.png"))
    return _make_so({folder / NAME: text.encode()}, among=()) or changed


def example_sheets(classes: Sequence[CellClass], examples: Overlays) -> dict[str, bytes]:
    """A PNG by class_id for each class on the page that has examples."""
    return {
        each.class_id: encode_png(contact_sheet(shown, columns=COLUMNS, scale=SCALE))
        for each in offered(classes)
        if (shown := list(examples.get(each.class_id, ()))[:SHOWN])
    }


def show_examples(folder: Path, pictures: Path) -> dict[str, str]:
    """Lay the sheets of the protocol in `folder` below a server's document root `pictures`; their addresses by class_id.

    Sheets that were laid there earlier and are no longer in the protocol are removed.
    """
    sheets = {sheet.stem: sheet.read_bytes() for sheet in sorted((folder / "examples").glob("*.png"))}
    names = {class_id: f"{PICTURES}/example-{class_id}.png" for class_id in sheets}
    wanted = {pictures / names[class_id]: png for class_id, png in sheets.items()}
    _make_so(wanted, among=(pictures / PICTURES).glob("example-*.png"))
    return {class_id: f"/data/local-files/?d={name}" for class_id, name in names.items()}


def instructions_html(classes: Sequence[CellClass], addresses: Mapping[str, str]) -> str:
    """The protocol as Label Studio shows it on the labelling page; `addresses` of example sheets by class_id.

    Label Studio drops pictures that are part of the text itself: they must have an address on the reader's server.
    """
    rendered: str = MarkdownIt("commonmark", PLAIN).render(protocol_text(classes, addresses))
    return rendered.split("</h1>", 1)[1].strip()


def protocol_text(
    classes: Sequence[CellClass],
    addresses: Mapping[str, str],
    *,
    proposed: Sequence[str] = (),
    rejected: Sequence[str] = (),
) -> str:
    """The protocol in Markdown, with the keys of the labelling page and an example sheet a class that has an address."""
    shown = offered(classes)
    template = Template(files("labelstudio").joinpath(NAME).read_text(encoding="utf-8"))
    return template.substitute(
        confidence=", ".join(f"{step} ({key})" for step, key in CONFIDENCE_KEYS.items()),
        reasons=", ".join(f"{REASONS[reason]} ({key})" for reason, key in REASON_KEYS.items()),
        unreadable=UNREADABLE_KEY,
        new=NEW_CLASS_KEY,
        classes="\n\n".join(_about(each, key_of(each, shown), addresses.get(each.class_id)) for each in shown),
        desk=_desk(proposed, rejected),
    )


def _about(cell_class: CellClass, key: str, address: str | None) -> str:
    heading = (
        f"**{cell_class.name}** ({f'key {key}' if key else 'its key stands on the page'}): {cell_class.definition}."
    )
    return f"{heading}\n\n" + (f"![Examples of {cell_class.name}]({address})" if address else "No examples yet.")


def _desk(proposed: Sequence[str], rejected: Sequence[str]) -> str:
    waiting = f"\nProposed and waiting for the experts: {', '.join(proposed)}.\n" if proposed else ""
    return waiting + (f"\nProposed and rejected: {', '.join(rejected)}.\n" if rejected else "")


def _make_so(wanted: Mapping[Path, bytes], *, among: Iterable[Path]) -> bool:
    """Write what differs and remove what of `among` is not wanted; returns whether there was anything to do."""
    stale = [path for path in among if path not in wanted]
    differing = {path: content for path, content in wanted.items() if not _holds(path, content)}
    for path in stale:
        path.unlink()
    for path, content in differing.items():
        with atomic_path(path) as unfinished:
            unfinished.write_bytes(content)
    return bool(stale or differing)


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content
