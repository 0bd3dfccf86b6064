"""Where the files of a sample give a person away: its name, the paths of its files, TIFF tags, the feature table's cells.

Only the kind and the place are told, never the identifier itself.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctcml.accept import FEATURE, IDS
from ctcml.identifiers import OBJECT, search, search_tag, tiff_texts
from ctcml.sources import Source, files_of, folder_of
from ctcml.thumbnails import UnfitFileError, read_bytes

COUNTED = {"ThumbNr", IDS}  # columns of a feature table whose numbers are ACCEPT's own


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """A kind of identifier in one place, "date in the path of 12 files", and the first file that has it there."""

    what: str
    file: Path


def below(path: Path, root: Path) -> str:
    """A path below the folder that is examined, empty for the folder itself; the name alone of a file that lies outside.

    >>> below(Path("in/a/1.tif"), Path("in")), below(Path("output/a.xlsx"), Path("frames/a"))
    ('a/1.tif', 'a.xlsx')
    """
    return "" if path == root else path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def in_names(source: Source, root: Path) -> Iterator[Disclosure]:
    """Search the sample's name, and the paths of its files below `root` apart from that name and the object numbers."""
    for kind in sorted({one.kind for one in search(source.sample_id)}):
        yield Disclosure(what=f"{kind} in the name of the sample", file=folder_of(source))
    own = "|".join(re.escape(name) for name in (source.sample_id, source.sample_id.replace(".", "_")))
    own_name = re.compile(rf"(?<![0-9A-Za-z])(?:{own})(?![0-9A-Za-z])")
    kinds_of = dict[str, set[str]]()
    found = list[tuple[str, Path]]()
    for path in files_of(source):
        text = own_name.sub("", OBJECT.sub("", below(path, root)))
        if text not in kinds_of:  # but for their numbers, the names of a sample's files are mostly one
            kinds_of[text] = {one.kind for one in search(text)}
        found += [(f"{kind} in the path", path) for kind in kinds_of[text]]
    yield from _summed(found)


def in_tags(source: Source) -> Iterator[Disclosure]:
    """Search the texts of the TIFF tags of a sample's files; a file that cannot be read is passed over."""
    found = list[tuple[str, Path]]()
    folder = folder_of(source)
    for path in files_of(source):
        if path.suffix.lower() not in (".tif", ".tiff"):
            continue
        try:
            texts = tiff_texts(read_bytes(path, folder))
        except UnfitFileError:
            continue  # its reader says why
        found += [
            (f"{kind} in the TIFF tag {tag}", path) for tag, text in texts.items() for kind in search_tag(tag, text)
        ]
    yield from _summed(found)


def _summed(found: Sequence[tuple[str, Path]]) -> Iterator[Disclosure]:
    first = dict(reversed(found))
    for what, times in sorted(Counter(what for what, _ in found).items()):
        yield Disclosure(what=f"{what} of {times} files", file=first[what])


def in_table(rows: Sequence[Sequence[object]], path: Path) -> Iterator[Disclosure]:
    """Search the cells of a feature table, header first, but for features and ACCEPT's own numbers."""
    free = [place for place, name in enumerate(rows[0]) if not FEATURE.fullmatch(str(name)) and name not in COUNTED]
    found = Counter(
        f"{kind} in column {column + 1} of the feature table"
        for number, row in enumerate(rows)
        for column in free
        for kind in {one.kind for one in search(_text(row[column]), capitals_are_names=number > 0)}
    )
    for what, cells in sorted(found.items()):
        yield Disclosure(what=f"{what}, {cells} cells", file=path)


def _text(value: object) -> str:
    """A cell as text: whole numbers without `.0`, as they look in a sheet; dates in ISO form.

    >>> _text(1234567.0), _text(True)
    ('1234567', 'True')
    """
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
