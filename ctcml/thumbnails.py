"""The thumbnail as it comes from any source, before it is packed: pixels in our plane order, and what the source knew of it.

Every reader (ACCEPT exports, listed folders, arrays, cartridges) gives `RawThumbnail`s and `Refused`s and nothing else, so
intake and the import doctor need not know which one they talk to. Files come from outside: each is checked here before its
bytes are read.
"""

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ctcml.errors import BadInput
from ctcml.records import PLANES

LARGEST_FILE = 64 * 2**20  # bytes of one thumbnail, mask or table
LARGEST_SIDE = 2048  # pixels, above any camera frame; a header that declares more is a mistake or an attack
MOST_PAGES = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class RawThumbnail:
    """One event: `pixels` uint16 (planes, h, w), CD45, DAPI, CK first; `mask` bool of that shape or None.

    `object_index` counts from 1 within the sample and never changes. `source_bit_depth` 8 means values 0 to 255 of an
    unknown scale, unless `restore_low` and `restore_high` say that the range was restored. `proposed` says whether
    CellSearch itself presented the event, `assigned` whether its operator called it a CTC; None when the source does not
    say. `recipe` names the preprocessing that the
    source already applied; empty for camera counts. `lossy` pixels went through JPEG. `label` is a class the source gives, empty without one; `features`
    what the source measured, by ACCEPT's names; `frame`, `x_px`, `y_px` where the object's middle lies, when known.
    """

    sample_id: str
    object_index: int
    planes: tuple[str, ...]
    pixels: NDArray[np.uint16]
    mask: NDArray[np.bool_] | None
    source_bit_depth: int
    source_order: str
    proposed: bool | None
    assigned: bool | None = None
    restore_low: tuple[float, ...] = ()
    restore_high: tuple[float, ...] = ()
    recipe: str = ""
    lossy: bool = False
    label: str = ""
    features: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    frame: int | None = None
    x_px: float | None = None
    y_px: float | None = None


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A file, or one object of a file, that was not taken in: its path below the source's folder, and why, in one line."""

    file: str
    reason: str


class UnfitFileError(Exception):
    """A file is not what it should be; the text becomes the reason of a `Refused`."""


def checked_page_order(page_order: tuple[str, ...]) -> tuple[str, ...]:
    """Return `page_order`; `BadInput` unless it names CD45, DAPI and CK, each name once.

    >>> checked_page_order(("DAPI", "FITC", "CK", "CD45"))
    ('DAPI', 'FITC', 'CK', 'CD45')
    """
    if len(set(page_order)) != len(page_order) or not set(PLANES) <= set(page_order):
        raise BadInput(f"page order {page_order}: expected each of {PLANES} once; correct the instrument's page order")
    return page_order


@cache
def page_names(page_order: tuple[str, ...], pages: int) -> tuple[str, ...]:
    """Name every page of a file; what lies beyond the known order is FITC (the fourth) or `extra<n>`.

    >>> page_names(("CD45", "DAPI", "CK"), 5)
    ('CD45', 'DAPI', 'CK', 'FITC', 'extra5')
    """
    more = ["FITC" if page == 4 and "FITC" not in page_order else f"extra{page}" for page in range(1, pages + 1)]
    return (*page_order, *more[len(page_order) :])


@cache
def in_our_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """Return the places of CD45, DAPI and CK among `names`, then those of the others as they come.

    >>> in_our_order(("DAPI", "FITC", "CK", "CD45"))
    (3, 0, 2, 1)
    """
    place = {name: number for number, name in enumerate(PLANES)}
    return tuple(sorted(range(len(names)), key=lambda page: (place.get(names[page], len(PLANES)), page)))


def read_bytes(path: Path, folder: Path, *, largest: int = LARGEST_FILE) -> bytes:
    """Read a file of at most `largest` bytes that really lies below `folder`; `UnfitFileError` says why not."""
    try:
        # A file that lies directly in its folder, as nearly all do, needs no look at every part of its path: opening it
        # fails if it is a link. A pipe is opened without waiting for a writer, and then refused.
        direct = path.parent == folder and not path.is_symlink()
        if not direct and not path.resolve().is_relative_to(folder.resolve()):
            raise UnfitFileError("is a link to another folder; put the file itself there")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if direct else 0)), "rb") as file:  # noqa: PTH123
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise UnfitFileError("is not a regular file; put the file itself there")
            if not 0 < about.st_size <= largest:
                raise UnfitFileError(f"has {about.st_size} bytes, expected 1 to {largest}; export it again")
            return file.read()
    except RuntimeError:  # a link that leads to itself
        raise UnfitFileError("is a link that leads nowhere; put the file itself there") from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or error
        raise UnfitFileError(f"not readable ({reason}); check the disk and the permissions") from None


def one_line(error: Exception) -> str:
    """The text of somebody else's error on one short line.

    >>> one_line(ValueError("a\\n  b"))
    'a b'
    """
    words = re.sub(r" at 0x[0-9a-f]+", "", " ".join(str(error).split()))  # an address differs each time
    return words[:160] or type(error).__name__
