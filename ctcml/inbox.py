"""The inbox: deliveries that the laboratory's instruments or staff leave there, recognised by their clinical table."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

CLINICAL = "clinical.csv"
HISTORIC = "historic_labels.csv"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A folder with a `clinical.csv`; `arrived` says that nothing in it was written during the quiet minutes."""

    name: str
    folder: Path
    clinical: Path
    historic: Path | None
    arrived: bool


def deliveries(inbox: Path, *, quiet_minutes: int, now: datetime) -> list[Delivery]:
    """Find every delivery below `inbox`, in order of path; folders inside a delivery belong to it, links are not followed.

    A delivery without its clinical table has not arrived yet and is not listed.
    """
    found = []
    for place, folders, files in os.walk(inbox):
        folders.sort()
        if CLINICAL in files:
            folder = Path(place)
            age_s = now.timestamp() - _newest(folder)
            found.append(
                Delivery(
                    name=folder.relative_to(inbox.parent).as_posix(),
                    folder=folder,
                    clinical=folder / CLINICAL,
                    historic=folder / HISTORIC if HISTORIC in files else None,
                    arrived=age_s >= 60 * quiet_minutes,
                )
            )
            folders.clear()
    return found


def _newest(folder: Path) -> float:
    """When anything below the folder was last written, in seconds of the epoch."""
    return max(
        os.lstat(os.path.join(place, name)).st_mtime  # noqa: PTH118 - 120,000 files: a Path each would double the time
        for place, folders, files in os.walk(folder)
        for name in [".", *folders, *files]
    )
