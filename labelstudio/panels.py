"""The four pictures of a read on disk, where a reader's own server looks for them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ctcml.images import encode_png, reader_panels
from ctcml.tables import atomic_path
from labelstudio.tasks import PANELS, panel_file


def write_panels(pixels: NDArray[np.uint16], reads: dict[str, Path], *, scale: int = 4) -> None:
    """Write the four pictures of one object under each read's own name; `reads` gives document roots by `read_uid`.

    `pixels` is the native crop, uint16 (planes, height, width), CD45, DAPI, CK first. Existing pictures are kept.
    """
    missing = {
        uid: root for uid, root in reads.items() if not all((root / panel_file(uid, name)).exists() for name in PANELS)
    }
    if not missing:
        return
    encoded = {name: encode_png(picture) for name, picture in reader_panels(pixels, scale=scale).items()}
    for uid, root in missing.items():
        for name in PANELS:
            with atomic_path(root / panel_file(uid, name)) as unfinished:
                unfinished.write_bytes(encoded[name])


def panels_of(reads: Iterable[tuple[str, Path]]) -> list[Path]:
    """The pictures that are there of reads, given as `read_uid` and document root."""
    places = (root / panel_file(uid, name) for uid, root in reads for name in PANELS)
    return [picture for picture in places if picture.exists()]


def remove_panels(panels: Iterable[Path]) -> None:
    """Remove pictures, so that no server shows them any more."""
    for picture in panels:
        picture.unlink(missing_ok=True)
