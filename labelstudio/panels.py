"""The pictures of a read on disk, where a reader's own server looks for them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from ctcml.images import reader_panels
from ctcml.tables import atomic_path
from labelstudio.tasks import PICTURES, PICTURES_OF_A_READ, panel_file


def write_panels(pixels: NDArray[np.uint16], reads: dict[str, Path]) -> None:
    """Write the pictures of one object under each read's own name; `reads` gives document roots by `read_uid`.

    `pixels` is the native crop, uint16 (planes, height, width), CD45, DAPI, CK first. Existing pictures are kept; a
    picture is whole or not there.
    """
    missing = {
        name: paths
        for name in PICTURES_OF_A_READ
        if (paths := [path for uid, root in reads.items() if not (path := root / panel_file(uid, name)).exists()])
    }
    if not missing:
        return
    drawn = reader_panels(pixels)
    for name, paths in missing.items():
        _lay(_png(drawn[name]), paths)


def _lay(content: bytes, paths: Sequence[Path]) -> None:
    """Write one file under several names; on one disk they share it, for making a file costs more than drawing it."""
    first, *others = paths
    _write(content, first)
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.hardlink_to(first)
        except OSError:  # another disk, or one that knows no links
            _write(content, path)


def _write(content: bytes, path: Path) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content)
        os.utime(unfinished, (0, 0))  # a server shows the time, and a sample's cells are drawn one after the other


def _png(picture: NDArray[np.uint8]) -> bytes:
    """A PNG without filtering: camera noise gains nothing by it, and a round of thousands is written twice as fast."""
    return bytes(imagecodecs.png_encode(picture, level=1, filter=imagecodecs.PNG.FILTER.NO))


def panels_of(reads: Iterable[tuple[str, Path]]) -> list[Path]:
    """The pictures of reads, given as `read_uid` and document root; also what a killed writer left unfinished."""
    uids: dict[Path, set[str]] = {}
    for uid, root in reads:
        uids.setdefault(root, set()).add(uid)
    return [
        picture
        for root, wanted in uids.items()
        for picture in sorted((root / PICTURES).glob("*"))
        if picture.name.removeprefix(".").partition("-")[0] in wanted
    ]


def remove_panels(panels: Iterable[Path]) -> None:
    """Remove pictures, so that no server shows them any more."""
    for picture in panels:
        picture.unlink(missing_ok=True)
