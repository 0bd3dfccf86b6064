"""The one place that knows every reader: what lies below a folder, as samples of any source, each thumbnail once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ctcml import accept, arrays, cartridges, folders
from ctcml.accept import ExportedSample
from ctcml.arrays import ArraySample
from ctcml.cartridges import Cartridge
from ctcml.folders import MANIFEST, ListedSample
from ctcml.thumbnails import RawThumbnail, Refused

Source = ExportedSample | ListedSample | ArraySample | Cartridge


def find_sources(root: Path) -> tuple[list[Source], list[Refused]]:
    """Find every sample at or below a folder, or in one `.npz` or `.npy`: ACCEPT, listed, arrays, cartridges, each by path.

    A thumbnail belongs to one source. ACCEPT's own folder comes before a `manifest.csv` that lists the same files, whose
    lines are then refused; of two manifests the upper one counts; frames are never what one of them holds. `Refused.file`
    is a path below `root`.
    """
    if not root.is_dir():
        found, refused = arrays.find_samples(root)
        return [*found], refused
    root = root.resolve()
    exported = accept.find_samples(root)
    listed, refused = folders.find_samples(root)
    in_arrays, not_arrays = arrays.find_samples(root)
    found_cartridges, not_cartridges = cartridges.find_samples(root)
    listed, doubled = _listed_once(listed, {one.folder for one in exported}, root)
    taken = {one.folder / name for one in listed for row in one.rows for name in (row.file, row.mask)}
    in_accept = [one.folder.parent if one.folder.parent.parent.name == "frames" else one.folder for one in exported]
    whole = [
        one
        for one in found_cartridges
        if not any(one.folder.is_relative_to(folder) for folder in in_accept) and taken.isdisjoint(one.frames)
    ]
    return [*exported, *listed, *in_arrays, *whole], [
        *accept.refused_links(root),
        *refused,
        *doubled,
        *not_arrays,
        *not_cartridges,
    ]


def _listed_once(
    listed: Sequence[ListedSample], accept_folders: set[Path], root: Path
) -> tuple[list[ListedSample], list[Refused]]:
    """Take out the lines whose file another source holds; a sample without lines left goes, too."""
    kept, refused = list[ListedSample](), list[Refused]()
    taken = set[Path]()
    for sample in listed:
        paths = {row: sample.folder / row.file for row in sample.rows}
        free = tuple(row for row, path in paths.items() if path not in taken and path.parent not in accept_folders)
        taken.update(paths.values())
        if free:
            kept.append(replace(sample, rows=free))
        if len(free) < len(paths):
            name = (sample.folder / MANIFEST).relative_to(root).as_posix()
            reason = (
                f"lists {len(paths) - len(free)} files of sample {sample.sample_id} that an ACCEPT export or the manifest of"
                " a folder above holds as well; they are read from there: remove them here"
            )
            refused.append(Refused(file=name, reason=reason))
    return kept, refused


def read_source(
    source: Source, *, page_order: tuple[str, ...], workers: int = 1, pixels_only: bool = False
) -> tuple[list[RawThumbnail], list[Refused]]:
    """Read all thumbnails of a sample and say what was refused.

    `page_order` names the pages of an export's or a listed TIFF; arrays and cartridges say their own. `workers` processes
    share a cartridge; any other sample is read by one. With `pixels_only` an export's masks and features stay unread. Raises `BadInput` only for an impossible `page_order`.
    """
    match source:
        case ExportedSample():
            return accept.read_sample(source, page_order=page_order, pixels_only=pixels_only)
        case ListedSample():
            return folders.read_sample(source, page_order=page_order)
        case ArraySample():
            return arrays.read_sample(source)
        case Cartridge():
            return cartridges.read_sample(source, workers=workers)


def files_of(source: Source) -> list[Path]:
    """Return every file that a sample consists of, in the reader's order."""
    match source:
        case ExportedSample():
            return accept.files_of(source)
        case ListedSample():
            return folders.files_of(source)
        case ArraySample():
            return arrays.files_of(source)
        case Cartridge():
            return cartridges.files_of(source)


def folder_of(source: Source) -> Path:
    """Return the folder that the `Refused.file` of a sample's reader are paths below."""
    return source.path.parent if isinstance(source, ArraySample) else source.folder


def kind_of(source: Source) -> str:
    """Name what a sample comes from, for people."""
    match source:
        case ExportedSample():
            return "ACCEPT export"
        case ListedSample():
            return "listed folder"
        case ArraySample():
            return "labelled array"
        case Cartridge():
            return "CellTracks cartridge"
